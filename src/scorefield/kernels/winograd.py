"""3×3 convolutions along rows with less than half the multiplications.

Direct computation of m outputs of a filter w with three taps takes 3m products. As the transpose of a product of
two polynomials, evaluated at n = m + 2 points, it takes n (Toom–Cook; Winograd 1980, ch. V):

    y = V_mᵀ ((V_3 w) ⊙ V_n⁻ᵀ x),

where row p of V_k holds 1, a_p, …, a_p^(k−1), and 0, …, 0, 1 for the point at infinity. Each row of an image is cut
into tiles of m ≤ 7 outputs. A 3×3 convolution then becomes one matrix product on the way in (zeros beyond the edge
included), a 3×1 convolution for each point, and one matrix product on the way out. Another dilation takes another
pair of matrices. At m = 7 that is 9 products instead of 21, with a relative error of 4e-6 in float32; direct
summation has 2e-7, m = 4 has 6e-7. Tiles in two dimensions would save more and lose more accuracy.

Speed depends on the memory layout, see `rows`. The values of a row at the points are as many groups of channels,
which one grouped convolution takes.

References:
    Winograd (1980), Arithmetic complexity of computations. https://doi.org/10.1137/1.9781611970364
    Lavin & Gray (2016), Fast algorithms for convolutional neural networks. https://arxiv.org/abs/1509.09308
"""

from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from scorefield.kernels.prepacked import keeps, packed
from scorefield.kernels.rows import along, as_images, as_lines, in_rows

__all__ = ["conv3x3"]

_TILE = 7  # 28 and 14 columns are four and two tiles
_POINTS = (float("inf"), 0.0, 1.0, -1.0, 0.5, -2.0, -0.5, 2.0, -0.75)  # a tile of m takes the first m + 2
_ONE = _POINTS.index(1)


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, dilation: int = 1) -> Tensor:
    """`conv2d` of 3×3 taps that keeps the size: (N, C, H, W) to (N, out, H, W), in the layout of x."""
    if not in_rows(x):
        return conv2d(x, weight, bias, padding=dilation, dilation=dilation)
    if keeps(x, weight):
        taps = packed(weight, "rows", (x.shape, dilation), lambda: _pack(_at_points(weight), x.shape, dilation))
    else:
        taps = _at_points(weight)
    lines = as_lines(x)
    scheme = _scheme(x.shape[3], dilation)
    into = along(lines, scheme.into).view(len(lines), -1, scheme.points, x.shape[1])
    if taps.is_mkldnn:
        out = _convolve(into, taps, bias, dilation)
    else:
        out = cast(Tensor, _ConvolveAtPoints.apply(into, taps[: scheme.points], bias, dilation))
    y = along(out.view(*lines.shape[:2], -1, out.shape[-1]), scheme.back)
    return as_images(y.view(*lines.shape[:3], -1))


def _at_points(weight: Tensor) -> Tensor:
    """V_3 w, the kernels of 3×1 taps at each point, (9, O, C, 3), of a weight (O, C, 3, 3)."""
    return torch.einsum("pk,ochk->poch", _powers(_POINTS, 3).to(weight), weight)


def _pack(at_points: Tensor, shape: torch.Size, dilation: int) -> Tensor:
    """The kernels at the points in oneDNN's order for images of this shape; it has no gradient."""
    n, channels, height, width = shape
    scheme = _scheme(width, dilation)
    taps = _grouped(at_points[: scheme.points])
    size = [1, scheme.points * channels, height, n * len(scheme.into) // scheme.points]
    return torch.ops.mkldnn._reorder_convolution_weight(taps, [dilation, 0], [1, 1], [dilation, 1], scheme.points, size)


class _ConvolveAtPoints(torch.autograd.Function):
    """A 3×1 convolution at each of P points: (H, L, P, C) by (P, O, C, 3) to (H, L, P, O).

    The gradient of the kernels is a matrix product for each tap, in half the time of `conv2d`'s own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
        ctx.save_for_backward(x, kernels)
        ctx.dilation = dilation
        return _convolve(x, _grouped(kernels), bias, dilation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, kernels), gap, (g,) = ctx.saved_tensors, ctx.dilation, grads
        d_x = d_kernels = d_bias = None
        if ctx.needs_input_grad[0]:
            d_x = _convolve(g, _grouped(kernels.flip(3).transpose(1, 2)), None, gap)
        if ctx.needs_input_grad[1]:
            inner = max(len(g) - gap, 0)
            pairs = (g[gap:], x[:inner]), (g, x), (g[:inner], x[gap:])
            d_kernels = torch.stack([_products(*pair) for pair in pairs], 3)
        if ctx.needs_input_grad[2]:
            d_bias = g[:, :, _ONE].sum((0, 1))
        return d_x, d_kernels, d_bias, None


def _grouped(kernels: Tensor) -> Tensor:
    """(P, O, C, 3) as the weight of a convolution in P groups, (P · O, C, 3, 1)."""
    return kernels.flatten(0, 1).unsqueeze(3)


def _convolve(x: Tensor, taps: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """The equation of `_ConvolveAtPoints`. The bias enters at the point 1, which every output adds up once."""
    height, length, points, channels = x.shape
    if bias is not None:
        bias = pad(bias, (_ONE * len(bias), (points - _ONE - 1) * len(bias)))
    image = x.view(1, height, length, points * channels).permute(0, 3, 1, 2)
    if taps.is_mkldnn:
        y = torch.ops.mkldnn._convolution_pointwise(
            image, taps, bias, [dilation, 0], [1, 1], [dilation, 1], points, "none", [], ""
        )
    else:
        y = conv2d(image, taps, bias, padding=(dilation, 0), dilation=(dilation, 1), groups=points)
    return y.permute(0, 2, 3, 1).reshape(height, length, points, -1)


def _products(g: Tensor, x: Tensor) -> Tensor:
    """Σ g xᵀ over all places, at each point: (…, P, O) and (…, P, C) to (P, O, C)."""
    return g.flatten(0, 1).permute(1, 2, 0).bmm(x.flatten(0, 1).transpose(0, 1))


class _Scheme(NamedTuple):
    """The matrices for one width and dilation; between them a tile has a value at each point."""

    into: Tensor  # (tiles · points, W)
    back: Tensor  # (W, tiles · points)
    points: int


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # training uses the cached tensors too
def _scheme(width: int, dilation: int) -> _Scheme:
    """Every dilation-th column is a signal of its own; each is cut into tiles of nearly the same size."""
    tiles: list[range] = []
    for first in range(min(dilation, width)):
        signal = range(first, width, dilation)
        count = -(-len(signal) // _TILE)
        tiles += [signal[k * len(signal) // count : (k + 1) * len(signal) // count] for k in range(count)]
    size = max(len(tile) for tile in tiles)
    points = _POINTS[: size + 2]
    enter, leave = torch.linalg.inv(_powers(points, size + 2)).T, _powers(points, size)
    into = torch.zeros(len(tiles), len(points), width, dtype=torch.float64)
    back = torch.zeros(width, len(tiles), len(points), dtype=torch.float64)
    for k, tile in enumerate(tiles):
        for i, column in enumerate((tile[0] - dilation, *tile, tile[-1] + dilation)):
            if 0 <= column < width:
                into[k, :, column] = enter[:, i]
        for i, column in enumerate(tile):
            back[column, k] = leave[:, i]
    return _Scheme(into.flatten(0, 1).float(), back.flatten(1).float(), len(points))


def _powers(points: tuple[float, ...], count: int) -> Tensor:
    """V_count: 1, a, …, a^(count−1) for each point a, and 0, …, 0, 1 for infinity."""
    infinite = [*[0.0] * (count - 1), 1.0]
    rows = [[a**k for k in range(count)] if abs(a) != float("inf") else infinite for a in points]
    return torch.tensor(rows, dtype=torch.float64)
