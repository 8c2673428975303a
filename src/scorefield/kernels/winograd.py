"""3×3 convolutions with less than half the multiplications, and other fixed linear maps, along rows.

m outputs of a filter w of three taps are 3m products as they stand, and n = m + 2 as the transpose of a
product of two polynomials, taken at n points (Toom–Cook; Winograd 1980, ch. V):

    y = V_mᵀ ((V_3 w) ⊙ V_n⁻ᵀ x),

where row p of V_k holds 1, a_p, …, a_p^(k−1), and 0, …, 0, 1 for the point at infinity. Taken along the rows
alone, each cut into tiles of m ≤ 7, a 3×3 convolution becomes one matrix product on the way in (zeros beyond
the edge included), a 3×1 convolution for each point, and one matrix product on the way out; a dilation is
another pair of matrices. At m = 7 that is 9 products for 21, with a relative error of 4e-6 in float32, where
the plain sum errs by 2e-7 and m = 4 by 6e-7. Two dimensions at once would save more and cost more accuracy.

The speed is a matter of what lies where in memory. A row and its channels are one piece, (W, C), so that the
products on the way in and out are small and many; what a row has at the points is as many groups of channels,
which one call convolves. It is the faster the more rows stand beside each other: `lay` puts the same row of
all images there, (H, N, W, C).

References:
    Winograd (1980), Arithmetic complexity of computations. https://doi.org/10.1137/1.9781611970364
    Lavin & Gray (2016), Fast algorithms for convolutional neural networks. https://arxiv.org/abs/1509.09308
"""

from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, pad

HIGHEST = 32
"""The rows above which the matrices, which are dense, cost more than they save."""

_TILE = 7  # 28 and 14 columns are four and two of them
_POINTS = (float("inf"), 0.0, 1.0, -1.0, 0.5, -2.0, -0.5, 2.0, -0.75)  # a tile of m takes the first m + 2
_ONE = _POINTS.index(1)
_NARROWEST, _GRAIN = 64, 16  # channels below which it takes longer, and what they must divide by
_FEWEST = 16 * 28 * 28  # pixels below which it takes longer: the kernels are made for too little


def pays(x: Tensor) -> bool:
    """Whether images like x are faster in rows: in float32 by oneDNN, small, wide and many."""
    return (
        x.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and x.dtype == torch.float32
        and max(x.shape[-2:]) <= HIGHEST
        and x.shape[1] >= _NARROWEST
        and x[:, 0].numel() >= _FEWEST
        and x.shape[1] % _GRAIN == 0
        and not torch.is_autocast_enabled("cpu")
        and not transformed()
    )


def transformed() -> bool:
    """Whether a transform of torch.func (or batched gradients) is under way."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]


def lay(x: Tensor) -> Tensor:
    """X in memory as (H, N, W, C); its shape stays (N, C, H, W)."""
    return _image(_lines(x).contiguous())


def laid(x: Tensor) -> bool:
    """Whether x is one that `lay` gave, or came of one."""
    plain = x.device.type != "cpu" or x.dtype != torch.float32 or transformed()
    return not plain and _lines(x).is_contiguous()


def _lines(x: Tensor) -> Tensor:
    """(N, C, H, W) as (H, N, W, C)."""
    return x.permute(2, 0, 3, 1)


def _image(lines: Tensor) -> Tensor:
    """(H, N, W, C) as (N, C, H, W)."""
    return lines.permute(1, 3, 0, 2)


def map_rows(x: Tensor, matrix: Tensor) -> Tensor:
    """(N, C, H, W) laid in rows by (R, H) to (N, C, R, W)."""
    lines = _lines(x)
    return _image((matrix @ lines.flatten(1)).view(-1, *lines.shape[1:]))


def map_columns(x: Tensor, matrix: Tensor) -> Tensor:
    """(N, C, H, W) laid in rows by (R, W) to (N, C, H, R)."""
    lines = _lines(x)
    return _image(_along(lines, matrix).view(*lines.shape[:2], len(matrix), -1))


def _along(lines: Tensor, matrix: Tensor) -> Tensor:
    """(A, B, W, C) by (R, W) to (A·B, R, C)."""
    each = lines.flatten(0, 1)
    return matrix.expand(len(each), -1, -1).bmm(each)


def greatest(x: Tensor, reach: int) -> Tensor:
    """The greatest within `reach` places to each side, of x laid in rows; its shape."""
    n, c, h, w = x.shape
    down = _greatest_down(_lines(x).reshape(1, h, n * w, c), reach)
    along = _greatest_down(down.view(h * n, w, 1, c), reach)
    return _image(along.view(h, n, w, c))


def _greatest_down(strips: Tensor, reach: int) -> Tensor:
    """(A, H, L, C) to the same, by windows along H."""
    pooled = max_pool2d(strips.permute(0, 3, 1, 2), (2 * reach + 1, 1), 1, (reach, 0))
    return pooled.permute(0, 2, 3, 1).contiguous()


def kernels(weight: Tensor) -> Tensor:
    """V_3 w, the kernels of 3×1 taps at each point, (9, O, C, 3), of a weight (O, C, 3, 3)."""
    points = _powers(_POINTS, 3).to(weight)
    return torch.einsum("pk,ochk->poch", points, weight)


def packed(at_points: Tensor, shape: torch.Size, *, dilation: int = 1) -> Tensor:
    """What `kernels` made, in the processor's order for images of this shape; has no gradient."""
    n, channels, height, width = shape
    scheme = _scheme(width, dilation)
    taps = _taps(at_points[: scheme.points])
    seen = [1, scheme.points * channels, height, n * len(scheme.into) // scheme.points]
    return torch.ops.mkldnn._reorder_convolution_weight(taps, [dilation, 0], [1, 1], [dilation, 1], scheme.points, seen)


def conv3x3(x: Tensor, at_points: Tensor, bias: Tensor | None = None, *, dilation: int = 1) -> Tensor:
    """`conv2d` of 3×3 taps that keeps the size of x, (N, C, H, W) laid in rows.

    Args:
        x: images.
        at_points: what `kernels` made of the weight, or `packed` of that.
        bias: (O,).
        dilation: between taps.
    """
    lines = _lines(x)
    scheme = _scheme(x.shape[3], dilation)
    shown = _along(lines, scheme.into).view(len(lines), -1, scheme.points, x.shape[1])
    if at_points.is_mkldnn:
        given = _at_points(shown, at_points, bias, dilation)
    else:
        given = cast(Tensor, _AtPoints.apply(shown, at_points[: scheme.points], bias, dilation))
    answer = _along(given.view(*lines.shape[:2], -1, given.shape[-1]), scheme.back)
    return _image(answer.view(*lines.shape[:3], -1))


class _AtPoints(torch.autograd.Function):
    """A 3×1 convolution at each of P points: (H, L, P, C) by (P, O, C, 3) to (H, L, P, O).

    The gradient of the kernels is a matrix product for each tap, in half the time of `conv2d`'s own.
    """

    @staticmethod
    def forward(ctx: Any, shown: Tensor, kernels: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
        ctx.save_for_backward(shown, kernels)
        ctx.dilation = dilation
        return _at_points(shown, _taps(kernels), bias, dilation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (shown, kernels), gap, (g,) = ctx.saved_tensors, ctx.dilation, grads
        d_shown = d_kernels = d_bias = None
        if ctx.needs_input_grad[0]:
            d_shown = _at_points(g, _taps(kernels.flip(3).transpose(1, 2)), None, gap)
        if ctx.needs_input_grad[1]:
            inner = max(len(g) - gap, 0)
            pairs = (g[gap:], shown[:inner]), (g, shown), (g[:inner], shown[gap:])
            d_kernels = torch.stack([_products(*pair) for pair in pairs], 3)
        if ctx.needs_input_grad[2]:
            d_bias = g[:, :, _ONE].sum((0, 1))
        return d_shown, d_kernels, d_bias, None


def _taps(kernels: Tensor) -> Tensor:
    """(P, O, C, 3) as the weight of a convolution in P groups, (P · O, C, 3, 1)."""
    return kernels.flatten(0, 1).unsqueeze(3)


def _at_points(shown: Tensor, taps: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """The equation of `_AtPoints`; the bias at the point 1, whose value every output adds up once."""
    height, length, points, channels = shown.shape
    if bias is not None:
        bias = pad(bias, (_ONE * len(bias), (points - _ONE - 1) * len(bias)))
    image = shown.view(1, height, length, points * channels).permute(0, 3, 1, 2)
    if taps.is_mkldnn:
        given = torch.ops.mkldnn._convolution_pointwise(
            image, taps, bias, [dilation, 0], [1, 1], [dilation, 1], points, "none", [], ""
        )
    else:
        given = conv2d(image, taps, bias, padding=(dilation, 0), dilation=(dilation, 1), groups=points)
    return given.permute(0, 2, 3, 1).reshape(height, length, points, -1)


def _products(g: Tensor, shown: Tensor) -> Tensor:
    """Σ g shownᵀ over all places, at each point: (…, P, O) and (…, P, C) to (P, O, C)."""
    return g.flatten(0, 1).permute(1, 2, 0).bmm(shown.flatten(0, 1).transpose(0, 1))


class _Scheme(NamedTuple):
    """The matrices for one width and dilation; between them a tile has a value at each point."""

    into: Tensor  # (tiles · points, W)
    back: Tensor  # (W, tiles · points)
    points: int


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve training too
def _scheme(width: int, dilation: int) -> _Scheme:
    """Every dilation-th column is a signal of its own; each is cut into tiles of nearly the same size."""
    tiles: list[range] = []
    for first in range(min(dilation, width)):
        signal = range(first, width, dilation)
        count = -(-len(signal) // _TILE)
        tiles += [signal[k * len(signal) // count : (k + 1) * len(signal) // count] for k in range(count)]
    size = max(len(tile) for tile in tiles)
    points = _POINTS[: size + 2]
    taken, given = torch.linalg.inv(_powers(points, size + 2)).T, _powers(points, size)
    into = torch.zeros(len(tiles), len(points), width, dtype=torch.float64)
    back = torch.zeros(width, len(tiles), len(points), dtype=torch.float64)
    for k, tile in enumerate(tiles):
        for i, column in enumerate((tile[0] - dilation, *tile, tile[-1] + dilation)):
            if 0 <= column < width:
                into[k, :, column] = taken[:, i]
        for i, column in enumerate(tile):
            back[column, k] = given[:, i]
    return _Scheme(into.flatten(0, 1).float(), back.flatten(1).float(), len(points))


def _powers(points: tuple[float, ...], count: int) -> Tensor:
    """V_count: 1, a, …, a^(count−1) for each point a, and 0, …, 0, 1 for infinity."""
    infinite = [*[0.0] * (count - 1), 1.0]
    rows = [[a**k for k in range(count)] if abs(a) != float("inf") else infinite for a in points]
    return torch.tensor(rows, dtype=torch.float64)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def window(size: int, reach: int = 2) -> Tensor:
    """The (size, size) matrix of a mean over `reach` places to each side, with zeros beyond the ends."""
    place = torch.arange(size)
    return ((place[:, None] - place).abs() <= reach).float() / (2 * reach + 1)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def stretch(size: int, to: int) -> Tensor:
    """The (to, size) matrix of linear interpolation between ends that stay where they are."""
    place = torch.linspace(0, size - 1, to, dtype=torch.float64)
    return (1 - (place[:, None] - torch.arange(size)).abs()).clamp_min(0).float()
