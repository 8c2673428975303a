"""Conditional instance normalization with the means put back ("InstanceNorm++"), and ELU after it.

With μ, s the mean and standard deviation of each channel over the image, and m, v those of the μ over the
channels (Song & Ermon 2019, App. A.1),

    y = γ ((x − μ)/s + α (μ − m)/v) + β.

The paper has γ in the first term alone. The authors' programs, and so the published weights, have the equation
above.

References:
    Song & Ermon (2019), App. A.1. https://arxiv.org/abs/1907.05600
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import elu_, group_norm

from scorefield.kernels.prepacked import in_transform
from scorefield.kernels.rows import in_rows

__all__ = ["instance_norm"]

_EPSILON = 1e-5


def instance_norm(x: Tensor, gamma: Tensor, alpha: Tensor | None, beta: Tensor, *, active: bool = False) -> Tensor:
    """The module's equation, followed by ELU if `active`; in the layout of x.

    Statistics are float32 whatever the precision of x.

    Args:
        x: images, (N, C, H, W).
        gamma: (N, C).
        alpha: (N, C); None leaves the term of the means out.
        beta: (N, C).
        active: whether ELU follows.
    """
    if in_rows(x):
        return cast(Tensor, _NormalizeRows.apply(x, gamma, alpha, beta, active))
    return _normalize(x, gamma, alpha, beta, active)


def _normalize(x: Tensor, gamma: Tensor, alpha: Tensor | None, beta: Tensor, active: bool) -> Tensor:
    """As one group normalization in which each channel of each image is a group."""
    n, c, h, w = x.shape
    if alpha is not None:
        mean = x.mean((2, 3), dtype=gamma.dtype)
        beta = torch.addcmul(beta, gamma * alpha, _standardized(mean)[0])
    y = group_norm(x.reshape(1, n * c, h, w), n * c, gamma.reshape(-1), beta.reshape(-1), _EPSILON)
    return (elu_(y) if active else y).view(n, c, h, w)


def _standardized(mean: Tensor) -> tuple[Tensor, Tensor]:
    """(μ − m)/v over the channels, (N, C), and 1/v, (N, 1)."""
    variance, middle = torch.var_mean(mean, 1, keepdim=True)
    inverse = (variance + _EPSILON).rsqrt()
    return (mean - middle) * inverse, inverse


class _NormalizeRows(torch.autograd.Function):
    """`_normalize` for images in rows, in few passes over them.

    With N pixels, x̂ = (x − μ)/s, μ̂ = (μ − m)/v and the gradient g at y, sums over pixels,

        ∂x = γ/s (g − Σg/N − x̂ Σ(g x̂)/N) + (q − mean(q) − μ̂ Σ_c(q μ̂)/(C − 1)) / (v N),   q = γ α Σg.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, alpha: Tensor | None, beta: Tensor, active: bool) -> Tensor:
        pixels = x.shape[-2] * x.shape[-1]
        mean = _sum(x) / pixels
        y = x - _expand(mean)
        inverse = (_sum(y * y) / pixels + _EPSILON).rsqrt()
        shift = beta if alpha is None else torch.addcmul(beta, gamma * alpha, _standardized(mean)[0])
        torch.addcmul(_expand(shift), y, _expand(gamma * inverse), out=y)
        if active:  # ELU(y) = max(y, exp(min(y, 0)) − 1), a quarter less time than `elu`
            torch.maximum(y, y.clamp(max=0).exp_().sub_(1), out=y)
        ctx.active = active
        ctx.save_for_backward(x, gamma, alpha, beta, y, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, alpha, beta, y, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled() or in_transform():
            return (*_gradients(x, gamma, alpha, beta, ctx.active, grads[0]), None)
        g = torch.ops.aten.elu_backward(grads[0], 1, 1, 1, True, y) if ctx.active else grads[0]
        pixels = x.shape[-2] * x.shape[-1]
        total = _sum(g)
        along = (_sum(g * x) - mean * total) * inverse  # Σ(g x̂)
        slope = gamma * inverse
        bend = -slope * inverse * along / pixels
        level = -slope * total / pixels - bend * mean
        d_gamma, d_alpha = along, None
        if alpha is not None:
            standard, unit = _standardized(mean)
            d_gamma, d_alpha = along + alpha * standard * total, gamma * standard * total
            q = gamma * alpha * total
            inner = (q * standard).sum(1, keepdim=True) / (q.shape[1] - 1)
            level = level + (q - q.mean(1, keepdim=True) - standard * inner) * unit / pixels
        d_x = torch.addcmul(_expand(level), x, _expand(bend)).addcmul_(g, _expand(slope))
        return d_x, d_gamma, d_alpha, total, None


def _gradients(
    x: Tensor, gamma: Tensor, alpha: Tensor | None, beta: Tensor, active: bool, g: Tensor
) -> list[Tensor | None]:
    """The gradient g at y pulled back through `_normalize`; the result can be differentiated again."""
    with torch.enable_grad():
        inputs = (x, gamma, alpha, beta)
        wanted = [value for value in inputs if value is not None and value.requires_grad]
        found = torch.autograd.grad(_normalize(*inputs, active), wanted, g, create_graph=True)
    each = iter(found)
    return [next(each) if value is not None and value.requires_grad else None for value in inputs]


def _sum(x: Tensor) -> Tensor:
    """Sum over the pixels of x, (N, C, H, W) in rows; over H first, along contiguous memory."""
    return x.permute(2, 0, 3, 1).sum(0).sum(1)


def _expand(values: Tensor) -> Tensor:
    """(N, C) as (N, C, 1, 1)."""
    return values[..., None, None]
