"""A network made the gradient field of a scalar, so that its density is known up to a constant.

A score network need not be the gradient of anything. Here the inner network f gives a scalar, and the
field is its slope,

    E(x) = ⟨x, f(x)⟩        or        E(x) = ½ ‖x − f(x)‖²,        F(x) = −∇ₓ E(x).

The first, the default, takes either sign, so that it serves every parameterization; F = 0 where f = 0, as
our networks start; and it leaves nothing out: a smooth E with E(0) = 0 is ⟨x, f(x)⟩ with
f(x) = ∫₀¹ ∇E(tx) dt, and a constant is free. The second is an auto-encoder's error: f may look like a
denoiser, but E never falls below 0, which suits F = score alone (the ncsn, ncsnv2 and edm
parameterizations). A scalar read off a U-Net's output keeps its skip connections, which a network with one
number at its end lacks.

References:
    Salimans & Ho (2021), "Should EBMs model the energy or the score?" https://openreview.net/forum?id=9AS-TF2jRNb
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scorefield.errors import UserError, did_you_mean


@runtime_checkable
class HasEnergy(Protocol):
    """A network that is the field −∇E of a scalar it can tell."""

    def energy(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """E, (B,)."""
        ...


def _inner(x: Tensor, f: Tensor) -> Tensor:
    return (x * f).flatten(1).sum(1)


def _distance(x: Tensor, f: Tensor) -> Tensor:
    return (x - f).square().flatten(1).sum(1) / 2


_FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"inner": _inner, "distance": _distance}


class Energy(nn.Module):
    """F = −∇ₓE of the module's equations, from a network f; shapes are f's own.

    Each image's energy must depend on it alone, as it does without batch normalization. One evaluation
    costs about three of f; training costs a second derivative, which every network of ours has.

    Args:
        network: f, any network of this library.
        form: "inner", E = ⟨x, f(x)⟩, or "distance", E = ½‖x − f(x)‖².

    Raises:
        UserError: an unknown form.
    """

    def __init__(self, network: nn.Module, *, form: str = "inner") -> None:
        super().__init__()
        if form not in _FORMS:
            raise UserError("network.form", f"no such energy {form!r}.", did_you_mean(form, _FORMS))
        self.settings: dict[str, Any] = {"network": network, "form": form}
        self.network = network
        self.form = form

    def energy(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """E(x, label, source), (B,), float32 or wider; arguments as the network takes them."""
        f = self.network(x, label, source)
        return _FORMS[self.form](x, f.to(x.dtype))

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """F(x, label, source) = −∇ₓE; the shape of x.

        Under `torch.no_grad` the result carries no graph, like any network's. Otherwise it can be
        differentiated again, in the weights and in x.
        """
        keep = torch.is_grad_enabled()
        # The fused attention kernels have no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            if not (keep and x.requires_grad):
                x = x.detach().requires_grad_()
            energy = self.energy(x, label, source).sum()
            (slope,) = torch.autograd.grad(energy, x, create_graph=keep)
        return -slope
