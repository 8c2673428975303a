"""A network that is the gradient of a scalar, so that its density is known up to a constant.

A score network need not be the gradient of anything. Here a network f defines a scalar E, and the output is its
negative gradient,

    E(x) = ⟨x, f(x)⟩        or        E(x) = ½ ‖x − f(x)‖²,        F(x) = −∇ₓ E(x).

The first is the default. It takes either sign, so it serves every parameterization. F = 0 where f = 0, which is
how our networks start. It is general: every smooth E with E(0) = 0 is ⟨x, f(x)⟩ with f(x) = ∫₀¹ ∇E(tx) dt, and a
constant is free. The second is an auto-encoder's error, in which f resembles a denoiser. Its E is never negative,
which suits F = score alone (the ncsn, ncsnv2 and edm parameterizations). A scalar computed from a U-Net's output
keeps the skip connections, which a network with a single output number lacks.

References:
    Salimans & Ho (2021), "Should EBMs model the energy or the score?" https://openreview.net/forum?id=9AS-TF2jRNb
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from scorefield.errors import UserError, did_you_mean
from scorefield.kernels.attention import twice_differentiable

__all__ = ["Energy", "HasEnergy"]


@runtime_checkable
class HasEnergy(Protocol):
    """A network that is −∇E of a scalar E, which it also computes."""

    def energy(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """E, (B,)."""
        ...


def _inner(x: Tensor, f: Tensor) -> Tensor:
    return (x * f).flatten(1).sum(1)


def _distance(x: Tensor, f: Tensor) -> Tensor:
    return (x - f).square().flatten(1).sum(1) / 2


_FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"inner": _inner, "distance": _distance}


class Energy(nn.Module):
    """F = −∇ₓE of the module's equations, from a network f; shapes are those of f.

    The energy of an image must depend on that image alone, as it does without batch normalization. One
    evaluation costs about three of f. Training takes a second derivative, which every network of this library has.

    Args:
        network: f.
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

        Under `torch.no_grad` the result has no graph, as with any network. Otherwise it can be differentiated
        again, in the weights and in x.
        """
        keep = torch.is_grad_enabled()
        with torch.enable_grad(), twice_differentiable(self.network):
            if not (keep and x.requires_grad):
                x = x.detach().requires_grad_()
            energy = self.energy(x, label, source).sum()
            (slope,) = torch.autograd.grad(energy, x, create_graph=keep)
        return -slope
