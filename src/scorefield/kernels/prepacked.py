"""3×3 convolutions whose weights are brought into the processor's order once for many evaluations.

A convolution on a processor first copies its weights into blocks that fill the processor's registers, in half
precision after rounding them, and does so at every call. Where the weights are many and the image is small
this takes as long as the convolution. While a network does not change — along one chain of a sampler, say —
the copy may be kept: within `ready(network)` every `Conv3x3` makes it at its first call and holds it.

A 3×3 convolution w of an image whose pixels were repeated twice along both sides sees each of them by up to
four taps at once. It is the transposed convolution of stride 2 with the 4×4 kernel

    K = S wᵀ Sᵀ,   S_ur = 1 where u + r = 2 or 3, else 0   (u = 0…3, r = 0…2),

which is 16 products for 36.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, interpolate

from scorefield.kernels import winograd as rows

_UNIT, _EDGE = [1, 1], [1, 1]


def lay(x: Tensor) -> Tensor:
    """X in the order in memory that is fastest for what follows; values and shape stay."""
    if x.device.type != "cpu" or rows.transformed():
        return x
    return x.contiguous(memory_format=torch.channels_last)


def doubled(x: Tensor) -> Tensor:
    """Every pixel repeated along both sides."""
    return interpolate(x, scale_factor=2.0, mode="nearest")


class Conv3x3(nn.Conv2d):
    """A 3×3 convolution that keeps the size, of an image or of one whose pixels are repeated."""

    def __init__(self, into: int, out: int, *, dilation: int = 1, bias: bool = True) -> None:
        super().__init__(into, out, 3, padding=dilation, dilation=dilation, bias=bias)
        self.kept: dict[str, tuple[Any, Any]] | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(B, C, H, W) to (B, out, H, W)."""
        if not self.may_keep(input):
            return super().forward(input)
        x, shape = self._cast(input)
        gap = list(self.dilation)
        kernel = self.keep(
            "plain",
            (x.dtype, *shape),
            lambda: _packed()._reorder_convolution_weight(self.weight.to(x.dtype), gap, _UNIT, gap, 1, shape),
        )
        return _packed()._convolution_pointwise(x, kernel, self._bias(x), gap, _UNIT, gap, 1, "none", [], "")

    def doubled(self, input: Tensor) -> Tensor:  # noqa: A002
        """The same of `doubled(input)`, by the module's equation; (B, C, H, W) to (B, out, 2H, 2W)."""
        if input.device.type != "cpu":
            return super().forward(doubled(input))
        if not self.may_keep(input):
            return conv_transpose2d(input, self._doubled_kernel(), self.bias, stride=2, padding=1)
        x, shape = self._cast(input)
        kernel = self.keep(
            "doubled",
            (x.dtype, *shape),
            lambda: _packed()._reorder_convolution_transpose_weight(
                self._doubled_kernel().to(x.dtype), _EDGE, [0, 0], [2, 2], _UNIT, 1, shape
            ),
        )
        return _packed()._convolution_transpose_pointwise(
            x, kernel, self._bias(x), _EDGE, [0, 0], [2, 2], _UNIT, 1, "none", [], ""
        )

    def may_keep(self, x: Tensor) -> bool:
        """Whether the weights may be held, and would serve."""
        if self.kept is None or torch.is_grad_enabled() or x.device.type != "cpu" or rows.transformed():
            return False
        return _precision(x) in _precisions()

    def keep(self, name: str, key: object, make: Callable[[], Any]) -> Any:
        """What `make` gave for this key, the last one alone."""
        assert self.kept is not None
        if name not in self.kept or self.kept[name][0] != key:
            self.kept[name] = (key, make())
        return self.kept[name][1]

    def _doubled_kernel(self) -> Tensor:
        """K, (C, out, 4, 4); summed in float32."""
        with torch.autocast(self.weight.device.type, enabled=False):
            seen = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]).to(self.weight)
            taps = self.weight.flatten(2).permute(1, 2, 0)  # (C, 9, out)
            return (torch.kron(seen, seen) @ taps).unflatten(1, (4, 4)).permute(0, 3, 1, 2)

    def _cast(self, x: Tensor) -> tuple[Tensor, list[int]]:
        x = lay(x.to(_precision(x)))
        return x, list(x.shape)

    def _bias(self, x: Tensor) -> Tensor | None:
        return None if self.bias is None else self.bias.to(x.dtype)


@contextmanager
def ready(network: nn.Module) -> Generator[None]:
    """Within, the network keeps what it makes of its weights, which must not change.

    The copies take as much memory as the weights in the precision in use, in rows three times that. What
    needs a gradient or is on another device goes as ever.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, Conv3x3) and layer.kept is None]
    try:
        for layer in layers:
            layer.kept = {}
        yield
    finally:
        for layer in layers:
            layer.kept = None


def _precision(x: Tensor) -> torch.dtype:
    """The number format of a convolution of x."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _precisions() -> tuple[torch.dtype, ...]:
    """The formats whose packed weights the processor takes."""
    if not torch.backends.mkldnn.is_available():
        return ()
    half = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if half else (torch.float32,)


def _packed() -> Any:
    """The convolutions that take packed weights, as compiled programs of torch use them."""
    return torch.ops.mkldnn
