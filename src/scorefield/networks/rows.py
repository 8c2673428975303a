"""3×3 convolutions with less than half the multiplications, and other fixed linear maps, along rows.

m outputs of a filter w of three taps are 3m products as they stand, and n = m + 2 as the transpose of a
product of two polynomials, taken at n points (Toom–Cook; Winograd 1980, ch. V):

    y = V_mᵀ ((V_3 w) ⊙ V_n⁻ᵀ x),

where row p of V_k holds 1, a_p, …, a_p^(k−1), and 0, …, 0, 1 for the point at infinity. Taken along the rows
alone, in tiles of m ≤ 7, a 3×3 convolution becomes one matrix product on the way in (zeros beyond the edge
included), a 1×3 convolution for each point, and one matrix product on the way out; a dilation is another pair
of matrices. At m = 7 that is 9 products for 21, with a relative error of 3e-6 in float32, where the plain sum
errs by 2e-7 and m = 4 by 6e-7. Two dimensions at once would save more and cost more accuracy.

All works on pictures that lie in memory channels last, as (N, H, W, C): a product along the rows is then one
small matrix product for each picture, which threads share well, and what a point has of a picture's rows is
one piece.

References:
    Winograd (1980), Arithmetic complexity of computations. https://doi.org/10.1137/1.9781611970364
    Lavin & Gray (2016), Fast algorithms for convolutional neural networks. https://arxiv.org/abs/1509.09308
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d

HIGHEST = 32
"""The rows above which the matrices, which are dense, cost more than they save."""

_TILE = 7  # 28 and 14 rows are four and two of them
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0, -0.5, 2.0, -0.75, float("inf"))


def pays(x: Tensor) -> bool:
    """Whether pictures like x are faster in rows: in float32 on a processor, and not too high."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[-2] <= HIGHEST
        and not torch.is_autocast_enabled("cpu")
        and not transformed()
    )


def transformed() -> bool:
    """Whether a transform of torch.func (or batched gradients) is under way."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]


def lay(x: Tensor) -> Tensor:
    """X in memory as (N, H, W, C); its shape stays (N, C, H, W)."""
    return x.contiguous(memory_format=torch.channels_last)


def laid(x: Tensor) -> bool:
    """Whether x is one that `lay` gave, or came of one."""
    plain = x.device.type != "cpu" or x.dtype != torch.float32 or transformed()
    return not plain and x.is_contiguous(memory_format=torch.channels_last)


def map_rows(x: Tensor, matrix: Tensor) -> Tensor:
    """(N, C, H, W) by (R, H) to (N, C, R, W)."""
    n, c, h, w = x.shape
    mapped = matrix.expand(n, -1, -1).bmm(x.permute(0, 2, 3, 1).reshape(n, h, w * c))
    return mapped.view(n, len(matrix), w, c).permute(0, 3, 1, 2)


def map_columns(x: Tensor, matrix: Tensor) -> Tensor:
    """(N, C, H, W) by (R, W) to (N, C, H, R)."""
    n, c, h, w = x.shape
    mapped = matrix.expand(n * h, -1, -1).bmm(x.permute(0, 2, 3, 1).reshape(n * h, w, c))
    return mapped.view(n, h, len(matrix), c).permute(0, 3, 1, 2)


def kernels(weight: Tensor) -> Tensor:
    """V_3 w, the 1×3 kernels at each point, (9, O, C, 1, 3), of a weight (O, C, 3, 3)."""
    points = _powers(_POINTS, 3).to(weight)
    return torch.einsum("pk,ockl->pocl", points, weight).unsqueeze(-2)


def conv3x3(x: Tensor, at_points: Tensor, bias: Tensor | None = None, *, dilation: int = 1) -> Tensor:
    """`conv2d` of 3×3 taps that keeps the size of x, (N, C, H, W) laid in rows.

    Args:
        x: pictures.
        at_points: what `kernels` made of the weight.
        bias: (O,).
        dilation: between taps.
    """
    scheme = _scheme(x.shape[2], dilation)
    parts: list[Tensor] = []
    shown = map_rows(x, scheme.into).split(scheme.counts, 2)
    for lines, kernel, point in zip(shown, at_points, _POINTS, strict=True):
        if lines.shape[2]:
            added = bias if point == 1 else None  # every output adds up that point's rows once
            parts.append(conv2d(lines, kernel, added, padding=(0, dilation), dilation=(1, dilation)))
    return map_rows(torch.cat(parts, 2), scheme.back)


class _Scheme(NamedTuple):
    """The matrices for one height and dilation; the R rows between them go point by point."""

    into: Tensor  # (R, H)
    back: Tensor  # (H, R)
    counts: list[int]  # rows at each point


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve training too
def _scheme(height: int, dilation: int) -> _Scheme:
    """Every dilation-th row is a signal of its own; each is cut into tiles."""
    into: dict[float, list[Tensor]] = {point: [] for point in _POINTS}
    back: dict[float, list[Tensor]] = {point: [] for point in _POINTS}
    for first in range(min(dilation, height)):
        rows = list(range(first, height, dilation))
        count = -(-len(rows) // _TILE)
        for k in range(count):
            tile = rows[k * len(rows) // count : (k + 1) * len(rows) // count]
            points = (*_POINTS[: len(tile) + 1], _POINTS[-1])
            inverse = torch.linalg.inv(_powers(points, len(points))).T
            needed = [tile[0] - dilation, *tile, tile[-1] + dilation]
            inside = [i for i, row in enumerate(needed) if 0 <= row < height]
            for point, taken, given in zip(points, inverse, _powers(points, len(tile)), strict=True):
                into[point].append(_at(height, [needed[i] for i in inside], taken[inside]))
                back[point].append(_at(height, tile, given))
    return _Scheme(
        into=torch.stack([row for point in _POINTS for row in into[point]]).float(),
        back=torch.stack([row for point in _POINTS for row in back[point]], 1).float(),
        counts=[len(into[point]) for point in _POINTS],
    )


def _powers(points: tuple[float, ...], count: int) -> Tensor:
    """V_count: 1, a, …, a^(count−1) for each point a, and 0, …, 0, 1 for infinity."""
    infinite = [*[0.0] * (count - 1), 1.0]
    rows = [[a**k for k in range(count)] if abs(a) != float("inf") else infinite for a in points]
    return torch.tensor(rows, dtype=torch.float64)


def _at(length: int, places: list[int], values: Tensor) -> Tensor:
    """A row of zeros with `values` at `places`."""
    row = torch.zeros(length, dtype=torch.float64)
    row[places] = values
    return row


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
