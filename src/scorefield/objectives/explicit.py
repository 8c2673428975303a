"""Explicit score matching, and what it takes: products of a score's Jacobian with vectors, and its exact trace."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from scorefield.errors import UserError
from scorefield.kernels.attention import twice_differentiable
from scorefield.model import Denoiser, PredictsScore, score

__all__ = ["check_levels", "exact_trace", "explicit_score_matching", "half_square", "pulled_back", "score_and_leaf"]


def explicit_score_matching(
    model: Denoiser, x: Tensor, sigma: Tensor, *, chunk: int | None = None, memory: int = 2**30
) -> Tensor:
    """Tr ∇s(x; σ) + ½ ‖s(x; σ)‖² (Hyvärinen 2005, eq. 4; Song & Ermon 2019, eq. 1).

    The D products eⱼᵀ ∇s share one evaluation of the network and are computed `chunk` at a time. If, in training,
    their graphs would exceed `memory`, the value is computed without graphs and the backward pass rebuilds one
    chunk's graph at a time.

    Args:
        model: a ScoreModel, a ScoreNetwork or a density.
        x: noisy images of level σ, (B, …).
        sigma: noise levels, (B,); σ = 0 needs a ScoreNetwork or a density.
        chunk: products at a time; by default as many as fit `memory`.
        memory: bytes for the graphs of the products.

    Returns:
        Losses, (B,); one may be negative.

    Raises:
        UserError: σ < 0, σ = 0 of a model without a score there, or chunk < 1.
    """
    if chunk is not None and chunk < 1:
        raise UserError("chunk", f"at least one product at a time, got {chunk}.")
    s, x = score_and_leaf(model, x, sigma)
    return exact_trace(s, x, chunk=chunk, memory=memory) + half_square(s)


def check_levels(model: Denoiser, sigma: Tensor) -> None:
    """Check that the model has a score at every σ.

    Raises:
        UserError: σ < 0, or σ = 0 and the model divides by it.
    """
    lowest = float(sigma.min())
    if lowest < 0 or (lowest == 0 and not isinstance(model, PredictsScore)):
        raise UserError(
            "sigma",
            f"the model has no score at σ = {lowest:g}.",
            "Noise levels are positive; for clean data at σ = 0 wrap the network in a ScoreNetwork.",
        )


def half_square(s: Tensor) -> Tensor:
    """½ ‖s‖² per image, (B,)."""
    return s.square().flatten(1).sum(1) / 2


def score_and_leaf(model: Denoiser, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """s(x; σ), and the leaf x of its graph."""
    check_levels(model, sigma)
    with torch.enable_grad(), twice_differentiable(model):
        x = x.detach().requires_grad_()
        return score(model, x, sigma), x


def pulled_back(s: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """(∇s)ᵀ v for K directions at once, v and result (K, B, …)."""
    if len(v) == 1:
        return _product(s, x, v[0], batched=False)[None]
    try:
        return _product(s, x, v, batched=True)
    except RuntimeError:  # torch 2.13 cannot batch the second derivative of GroupNorm
        return torch.stack([_product(s, x, one, batched=False) for one in v])


def _product(s: Tensor, x: Tensor, v: Tensor, *, batched: bool) -> Tensor:
    if not s.requires_grad:  # a constant
        return torch.zeros_like(v)
    (product,) = torch.autograd.grad(
        s,
        x,
        v,
        create_graph=torch.is_grad_enabled(),
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
        is_grads_batched=batched,
    )
    return product.expand_as(v)


class _Remade(torch.autograd.Function):
    """A part of the trace without a graph; the backward pass recomputes it with one, then frees it."""

    @staticmethod
    def forward(ctx: Any, place: tuple[Tensor, Tensor, int, int], *leaves: Tensor) -> Tensor:
        ctx.place, ctx.leaves = place, leaves
        return _diagonal(*place)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        with torch.enable_grad():
            part = _diagonal(*ctx.place)
        if not part.requires_grad:
            return None, *[None for _ in ctx.leaves]
        return None, *torch.autograd.grad(part, ctx.leaves, gradients, retain_graph=True, allow_unused=True)


def _leaves(s: Tensor, x: Tensor) -> list[Tensor]:
    """The leaves of the graph of s, without x."""
    seen: set[Any] = set()
    nodes, found = [s.grad_fn], list[Tensor]()
    while nodes:
        node: Any = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [before for before, _ in node.next_functions]
        weight = getattr(node, "variable", None)
        if weight is not None and weight is not x:
            found.append(weight)
    return found


class _Held:
    """Counts the bytes that a graph saves, without the weights."""

    def __init__(self) -> None:
        self.storages: dict[int, int] = {}

    def see(self, tensor: Tensor) -> Tensor:
        if not (tensor.is_leaf and tensor.requires_grad):
            storage = tensor.untyped_storage()
            self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self.storages.values())


def exact_trace(s: Tensor, x: Tensor, *, chunk: int | None, memory: int) -> Tensor:
    """The trace of ∇s by D products, (B,). The first measures the memory that one product needs."""
    d, held, training = x[0].numel(), _Held(), torch.is_grad_enabled()
    with torch.enable_grad(), saved_tensors_hooks(held.see, lambda tensor: tensor):
        trace = _diagonal(s, x, 0, 1)
    one = held.bytes + 2 * x.nbytes
    chunk = chunk or max(1, memory // one)
    trace = trace if training else trace.detach()
    leaves = _leaves(s, x) if training and one * d > memory else []
    for start in range(1, d, chunk):
        place = (s, x, start, min(start + chunk, d))
        part = _Remade.apply(place, *leaves) if leaves else _diagonal(*place)
        trace = trace + part
    return trace


def _diagonal(s: Tensor, x: Tensor, start: int, stop: int) -> Tensor:
    """Σ_j ∂s_j/∂x_j for start ≤ j < stop, (B,)."""
    each = torch.arange(stop - start, device=x.device)
    basis = x.new_zeros(len(each), x[0].numel())
    basis[each, start + each] = 1
    v = basis.reshape(-1, 1, *x.shape[1:]).expand(-1, *x.shape)
    return pulled_back(s, x, v).flatten(2)[each, :, start + each].sum(0)
