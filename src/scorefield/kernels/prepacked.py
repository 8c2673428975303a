"""3×3 convolutions that reorder their weights once for many evaluations.

oneDNN copies the weights of a convolution into blocks that fill the registers, in half precision after
rounding them, and does so at every call. Where the weights are many and the image is small, the copy takes as
long as the convolution. Within `prepacked()`, each weight is copied at its first use and the copy is kept until
the block ends.

The copies belong to the block. They are not stored on the network, so any number of threads may use one network,
each with copies of its own. A copy is used only while its weight is unchanged, by the weight's version counter.

A 3×3 convolution w of an upsampled image, whose pixels are repeated twice along both sides, weighs each pixel by
up to four taps. It equals the transposed convolution of stride 2 with the 4×4 kernel

    K = S wᵀ Sᵀ,   S_ur = 1 where u + r = 2 or 3, else 0   (u = 0…3, r = 0…2),

which takes 16 products instead of 36.
"""

from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, interpolate

from scorefield.kernels import enabled

__all__ = ["applies", "channels_last", "conv3x3", "keeps", "packed", "prepacked", "upsample", "upsampled_conv3x3"]


class _Copy(NamedTuple):
    """A packed weight and what it was made of."""

    weight: Tensor
    state: Hashable
    value: Tensor


_copies: ContextVar[dict[tuple[int, str], _Copy] | None] = ContextVar("scorefield_prepacked", default=None)

_UNIT, _EDGE, _STRIDE = [1, 1], [1, 1], [2, 2]


@contextmanager
def prepacked() -> Generator[None]:
    """Within the block, convolutions of this thread keep their packed weights; a block inside shares them.

    The copies take as much memory as the weights in the precision in use, in rows three times that. A convolution
    that needs a gradient, or runs on another device, is not affected.
    """
    if _copies.get() is not None:
        yield
        return
    token = _copies.set({})
    try:
        yield
    finally:
        _copies.reset(token)


def keeps(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution of x may use a packed copy of the weight."""
    return (
        _copies.get() is not None
        and isinstance(weight, nn.Parameter)
        and not torch.is_grad_enabled()
        and applies(x)
        and _precision(x) in _precisions()
    )


def packed(weight: Tensor, name: str, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
    """What `make` gives, from the block's copies where the weight and the key are the same as last time.

    Args:
        weight: what the copy is made of.
        name: which copy of this weight.
        key: what else the copy depends on. One copy of each name is kept, that of the last key.
        make: packs the weight.
    """
    copies = _copies.get()
    assert copies is not None
    # An inference tensor has no version counter. `.data = …` changes the address and not the version.
    version = 0 if weight.is_inference() else weight._version
    place, state = (id(weight), name), (version, weight.data_ptr(), key)
    copy = copies.get(place)
    if copy is None or copy.weight is not weight or copy.state != state:
        copy = _Copy(weight, state, make())
        copies[place] = copy
    return copy.value


def applies(x: Tensor) -> bool:
    """Whether CPU kernels may take x: they are on, x is on the CPU, and no transform of torch.func is under way."""
    return enabled() and x.device.type == "cpu" and not in_transform()


def in_transform() -> bool:
    """Whether a transform of torch.func (or batched gradients) is under way."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]


def channels_last(x: Tensor) -> Tensor:
    """x with channels last in memory, which oneDNN's convolutions take without reordering; equal values and shape."""
    return x.contiguous(memory_format=torch.channels_last) if applies(x) else x


def upsample(x: Tensor) -> Tensor:
    """Every pixel repeated along both sides."""
    return interpolate(x, scale_factor=2.0, mode="nearest")


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, dilation: int = 1) -> Tensor:
    """`conv2d` of 3×3 taps that keeps the size: (B, C, H, W) to (B, out, H, W)."""
    if not keeps(x, weight):
        return conv2d(x, weight, bias, padding=dilation, dilation=dilation)
    x = channels_last(x.to(_precision(x)))
    gap, shape = [dilation, dilation], list(x.shape)
    kernel = packed(
        weight,
        "plain",
        (x.dtype, *shape, dilation),
        lambda: _onednn()._reorder_convolution_weight(weight.to(x.dtype), gap, _UNIT, gap, 1, shape),
    )
    return _onednn()._convolution_pointwise(x, kernel, _cast(bias, x), gap, _UNIT, gap, 1, "none", [], "")


def upsampled_conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`conv3x3` of `upsample(x)`, by the module's equation: (B, C, H, W) to (B, out, 2H, 2W)."""
    if not enabled() or x.device.type != "cpu":
        return conv2d(upsample(x), weight, bias, padding=1)
    if not keeps(x, weight):
        return conv_transpose2d(x, _upsampled_kernel(weight), bias, stride=2, padding=1)
    x = channels_last(x.to(_precision(x)))
    shape = list(x.shape)
    kernel = packed(
        weight,
        "upsampled",
        (x.dtype, *shape),
        lambda: _onednn()._reorder_convolution_transpose_weight(
            _upsampled_kernel(weight).to(x.dtype), _EDGE, [0, 0], _STRIDE, _UNIT, 1, shape
        ),
    )
    return _onednn()._convolution_transpose_pointwise(
        x, kernel, _cast(bias, x), _EDGE, [0, 0], _STRIDE, _UNIT, 1, "none", [], ""
    )


def _upsampled_kernel(weight: Tensor) -> Tensor:
    """K, (C, out, 4, 4), of a weight (out, C, 3, 3); summed in float32."""
    with torch.autocast(weight.device.type, enabled=False):
        s = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]).to(weight)
        taps = weight.flatten(2).permute(1, 2, 0)  # (C, 9, out)
        return (torch.kron(s, s) @ taps).unflatten(1, (4, 4)).permute(0, 3, 1, 2)


def _cast(bias: Tensor | None, x: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(x.dtype)


def _precision(x: Tensor) -> torch.dtype:
    """The number format of a convolution of x."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _precisions() -> tuple[torch.dtype, ...]:
    """The formats in which oneDNN takes packed weights."""
    if not torch.backends.mkldnn.is_available():
        return ()
    half = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if half else (torch.float32,)


def _onednn() -> Any:
    """The operators that take packed weights, as torch's compiled programs use them."""
    return torch.ops.mkldnn
