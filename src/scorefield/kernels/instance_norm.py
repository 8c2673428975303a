"""Conditional instance normalization with the means put back ("InstanceNorm++"), and ELU after it.

With μ, s the mean and spread of each channel over the image, and m, v those of the μ over the channels
(Song & Ermon 2019, App. A.1),

    y = γ ((x − μ)/s + α (μ − m)/v) + β.

Noise level i has γ, α, β of its own, row i of a table. (The paper has γ in the first term alone; the authors'
programs are as above, and so are the published weights.)

References:
    Song & Ermon (2019), App. A.1. https://arxiv.org/abs/1907.05600
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, elu_, embedding, group_norm

from scorefield.kernels import winograd as rows

_EPSILON = 1e-5


class InstanceNorm(nn.Module):
    """The module's equation; without α, conditional instance normalization alone.

    Args:
        features: channels C.
        levels: rows of the table; None where the noise level is not told, which makes one row for all.
        means: whether the means are put back, the α of the equation.
    """

    def __init__(self, features: int, levels: int | None, *, means: bool = True) -> None:
        super().__init__()
        self.features, self.told = features, levels is not None
        scale, shift = torch.empty(levels or 1, features), torch.zeros(levels or 1, features)
        parts = [torch.empty_like(scale).normal_(1, 0.02) for _ in range(2)] if means else [scale.uniform_()]
        self.table = nn.Parameter(torch.cat([*parts, shift], 1))

    def forward(self, x: Tensor, level: Tensor, *, active: bool = False) -> Tensor:
        """The normalized x, (N, C, H, W), at noise levels `noise level`, (N,) int64; ELU of it if `active`."""
        row = embedding(level, self.table) if self.told else self.table.expand(len(x), -1)
        gamma, *alpha, beta = row.split(self.features, 1)
        return normalize(x, gamma, alpha[0] if alpha else None, beta, active=active)


class NoNorm(nn.Module):
    """Stands where NCSNv2 has no normalization."""

    def forward(self, x: Tensor, level: Tensor, *, active: bool = False) -> Tensor:
        """X, or ELU of it if `active`."""
        return elu(x) if active else x


def normalize(x: Tensor, gamma: Tensor, alpha: Tensor | None, beta: Tensor, *, active: bool = False) -> Tensor:
    """The module's equation for x (N, C, H, W) and γ, α, β (N, C); ELU of it if `active`.

    Statistics are float32 whatever the precision of x.
    """
    if rows.laid(x):
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
    """`_normalize` for images laid in rows, in few passes over them.

    With N pixels, x̂ = (x − μ)/s, μ̂ = (μ − m)/v and the gradient g at y, sums over pixels,

        ∂x = γ/s (g − Σg/N − x̂ Σ(g x̂)/N) + (q − mean(q) − μ̂ Σ_c(q μ̂)/(C − 1)) / (v N),   q = γ α Σg.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, alpha: Tensor | None, beta: Tensor, active: bool) -> Tensor:
        pixels = x.shape[-2] * x.shape[-1]
        mean = _sum(x) / pixels
        y = x - _over(mean)
        inverse = (_sum(y * y) / pixels + _EPSILON).rsqrt()
        shift = beta if alpha is None else torch.addcmul(beta, gamma * alpha, _standardized(mean)[0])
        torch.addcmul(_over(shift), y, _over(gamma * inverse), out=y)
        if active:  # ELU(y) = max(y, exp(min(y, 0)) − 1), a quarter less time than `elu`
            torch.maximum(y, y.clamp(max=0).exp_().sub_(1), out=y)
        ctx.active = active
        ctx.save_for_backward(x, gamma, alpha, beta, y, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, alpha, beta, y, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled() or rows.transformed():
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
        d_x = torch.addcmul(_over(level), x, _over(bend)).addcmul_(g, _over(slope))
        return d_x, d_gamma, d_alpha, total, None


def _gradients(
    x: Tensor, gamma: Tensor, alpha: Tensor | None, beta: Tensor, active: bool, g: Tensor
) -> list[Tensor | None]:
    """The gradients at y carried back through `_normalize`, in a way that can be differentiated again."""
    with torch.enable_grad():
        given = (x, gamma, alpha, beta)
        wanted = [value for value in given if value is not None and value.requires_grad]
        found = torch.autograd.grad(_normalize(*given, active), wanted, g, create_graph=True)
    each = iter(found)
    return [next(each) if value is not None and value.requires_grad else None for value in given]


def _sum(x: Tensor) -> Tensor:
    """Over the pixels of x, (N, C, H, W) laid in rows: by whole rows first, which lie one after the other."""
    return x.permute(2, 0, 3, 1).sum(0).sum(1)


def _over(values: Tensor) -> Tensor:
    """(N, C) over every pixel."""
    return values[..., None, None]
