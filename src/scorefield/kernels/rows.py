"""Images in memory as (H, N, W, C), the row layout, and the linear maps that are fast there.

A row and its channels are one piece of memory, and the same row of all images lies side by side. A linear map of
the rows is then one matrix product, a linear map of the columns is many small ones. `winograd` convolves in this
layout. The shape of a tensor stays (N, C, H, W); only its strides tell the layout, which every function here
preserves. Images in another layout take torch's own functions.
"""

from functools import lru_cache

import torch
from torch import Tensor, channels_last
from torch.nn.functional import avg_pool2d, conv2d, interpolate, max_pool2d

from scorefield.kernels import enabled
from scorefield.kernels.prepacked import applies

__all__ = [
    "along",
    "as_images",
    "as_lines",
    "in_rows",
    "is_faster",
    "max_pool",
    "mean_pool",
    "resize",
    "strided_conv",
    "to_rows",
]

_HIGHEST = 32  # rows above which the matrices, which are dense, cost more than they save
_NARROWEST = 64  # channels below which it takes longer
_GRAIN = 16  # what the channels must divide by: the floats of a 512-bit register
_FEWEST = 16 * 28 * 28  # pixels below which it takes longer: packing the weights costs more than it saves


def is_faster(x: Tensor) -> bool:
    """Whether images like x are faster in rows: float32 by oneDNN, small, wide and many."""
    return (
        applies(x)
        and torch.backends.mkldnn.is_available()
        and x.dtype == torch.float32
        and max(x.shape[-2:]) <= _HIGHEST
        and x.shape[1] >= _NARROWEST
        and x[:, 0].numel() >= _FEWEST
        and x.shape[1] % _GRAIN == 0
        and not torch.is_autocast_enabled("cpu")
    )


def to_rows(x: Tensor) -> Tensor:
    """X, (N, C, H, W), in the row layout."""
    return as_images(as_lines(x).contiguous())


def in_rows(x: Tensor) -> bool:
    """Whether x is in the row layout, and may be computed with there."""
    return applies(x) and x.dtype == torch.float32 and as_lines(x).is_contiguous()


def as_lines(x: Tensor) -> Tensor:
    """(N, C, H, W) as (H, N, W, C)."""
    return x.permute(2, 0, 3, 1)


def as_images(lines: Tensor) -> Tensor:
    """(H, N, W, C) as (N, C, H, W)."""
    return lines.permute(1, 3, 0, 2)


def along(lines: Tensor, matrix: Tensor) -> Tensor:
    """(A, B, W, C) by (R, W) to (A·B, R, C)."""
    each = lines.flatten(0, 1)
    return matrix.expand(len(each), -1, -1).bmm(each)


def strided_conv(x: Tensor, kernel: Tensor, bias: Tensor | None = None, *, padding: int) -> Tensor:
    """`conv2d` of stride 2, (N, C, H, W) to (N, out, H/2, W/2), in the layout of x."""
    if not in_rows(x):
        return conv2d(x, kernel, bias, stride=2, padding=padding)
    x = x.contiguous(memory_format=channels_last)
    return to_rows(conv2d(x, kernel, bias, stride=2, padding=padding))


def mean_pool(x: Tensor, reach: int) -> Tensor:
    """The mean over `reach` pixels to each side, zeros beyond the edge counted in; the shape of x."""
    if in_rows(x):
        return _map_columns(_map_rows(x, _mean_matrix(x.shape[2], reach)), _mean_matrix(x.shape[3], reach))
    if enabled() and x.device.type == "cpu" and max(x.shape[-2:]) <= _HIGHEST:  # ten times as fast as avg_pool2d
        rows, columns = (_mean_matrix(size, reach).to(x.dtype) for size in x.shape[-2:])
        return rows @ (x @ columns)
    return avg_pool2d(x, 2 * reach + 1, 1, reach)


def max_pool(x: Tensor, reach: int) -> Tensor:
    """The maximum over `reach` pixels to each side; the shape of x."""
    if not in_rows(x):
        return max_pool2d(x, 2 * reach + 1, 1, reach)
    n, c, h, w = x.shape
    down = _max_down(as_lines(x).reshape(1, h, n * w, c), reach)
    across = _max_down(down.view(h * n, w, 1, c), reach)
    return as_images(across.view(h, n, w, c))


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear interpolation that keeps the corner pixels in place; the identity at equal sizes."""
    if (height, width) == tuple(x.shape[-2:]):
        return x
    if in_rows(x):
        rows, columns = _resize_matrix(x.shape[2], height), _resize_matrix(x.shape[3], width)
        return _map_rows(_map_columns(x, columns), rows)
    return interpolate(x, size=(height, width), mode="bilinear", align_corners=True)


def _map_rows(x: Tensor, matrix: Tensor) -> Tensor:
    """(N, C, H, W) by (R, H) to (N, C, R, W)."""
    lines = as_lines(x)
    return as_images((matrix @ lines.flatten(1)).view(-1, *lines.shape[1:]))


def _map_columns(x: Tensor, matrix: Tensor) -> Tensor:
    """(N, C, H, W) by (R, W) to (N, C, H, R)."""
    lines = as_lines(x)
    return as_images(along(lines, matrix).view(*lines.shape[:2], len(matrix), -1))


def _max_down(strips: Tensor, reach: int) -> Tensor:
    """(A, H, L, C) to the same, by windows along H."""
    pooled = max_pool2d(strips.permute(0, 3, 1, 2), (2 * reach + 1, 1), 1, (reach, 0))
    return pooled.permute(0, 2, 3, 1).contiguous()


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # training uses the cached tensors too
def _mean_matrix(size: int, reach: int) -> Tensor:
    """The (size, size) matrix of a mean over `reach` places to each side, with zeros beyond the ends."""
    place = torch.arange(size)
    return ((place[:, None] - place).abs() <= reach).float() / (2 * reach + 1)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _resize_matrix(size: int, to: int) -> Tensor:
    """The (to, size) matrix of linear interpolation between fixed end points."""
    place = torch.linspace(0, size - 1, to, dtype=torch.float64)
    return (1 - (place[:, None] - torch.arange(size)).abs()).clamp_min(0).float()
