"""The parts of RefineNet: residual blocks on the way down, RefineNet's own kind of block on the way up.

A RefineNet block (Lin et al. 2017) adapts each of its inputs by residual units, brings all to one size and
adds them, pools over 5×5 windows once and again ("chained residual pooling") and ends in residual units. NCSN
normalizes before each activation and each pooling; `norm` below makes what stands there.

References:
    Song & Ermon (2019), App. A. https://arxiv.org/abs/1907.05600
    Lin et al. (2017), §3.2. https://arxiv.org/abs/1611.06612
"""

from collections.abc import Callable

from torch import Tensor, channels_last, nn
from torch.nn.functional import avg_pool2d, conv2d, elu, interpolate, max_pool2d, pad

from scorefield.kernels import winograd as rows
from scorefield.kernels.prepacked import Conv3x3

MakeNorm = Callable[[int], nn.Module]
"""From a number of channels to a module that is called as `norm(x, noise level, active=False)`."""


class RowsConv(Conv3x3):
    """A 3×3 convolution by fewer products where images are laid in rows."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(N, C, H, W) to (N, out, H, W)."""
        if not rows.laid(input):
            return nn.Conv2d.forward(self, input)
        gap = int(self.dilation[0])
        if not self.may_keep(input):
            return rows.conv3x3(input, rows.kernels(self.weight), self.bias, dilation=gap)
        kernels = self.keep(
            "rows", input.shape, lambda: rows.packed(rows.kernels(self.weight), input.shape, dilation=gap)
        )
        return rows.conv3x3(input, kernels, self.bias, dilation=gap)


class HalvingConv(nn.Conv2d):
    """A convolution and the mean over squares of 2×2 after it, as one of stride 2.

    Its kernel is that of the convolution averaged over the four places of a square: 4×4 taps at a quarter of
    the places for 3×3 at all.
    """

    def __init__(self, into: int, out: int, size: int) -> None:
        super().__init__(into, out, size, padding=size // 2)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(N, C, H, W) to (N, out, H/2, W/2), H and W even."""
        kernel = avg_pool2d(pad(self.weight, (1, 1, 1, 1)), 2, stride=1)
        if not rows.laid(input):
            return conv2d(input, kernel, self.bias, stride=2, padding=self.padding)
        x = input.contiguous(memory_format=channels_last)
        return rows.lay(conv2d(x, kernel, self.bias, stride=2, padding=self.padding))


class ResidualBlock(nn.Module):
    """Norm, ELU, 3×3 convolution, twice, beside a shortcut (Song & Ermon 2019, App. A.1: pre-activation).

    Args:
        into: channels at the input and between the convolutions.
        out: channels at the output.
        norm: makes the normalizations.
        dilation: of the convolutions.
        halve: whether the side is halved.
        change: whether the shortcut is a convolution; it is the identity otherwise.
    """

    def __init__(
        self,
        into: int,
        out: int,
        norm: MakeNorm,
        *,
        dilation: int = 1,
        halve: bool = False,
        change: bool = False,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(into), norm(into)
        self.conv1 = RowsConv(into, into, dilation=dilation)
        self.conv2 = HalvingConv(into, out, 3) if halve else RowsConv(into, out, dilation=dilation)
        self.shortcut: nn.Module = nn.Identity()
        if change:
            self.shortcut = HalvingConv(into, out, 1) if halve else RowsConv(into, out, dilation=dilation)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(N, into, H, W) to (N, out, H, W) or half the side."""
        hidden = self.conv1(self.norm1(x, level, active=True))
        hidden = self.conv2(self.norm2(hidden, level, active=True))
        return self.shortcut(x) + hidden


class ResidualUnits(nn.Module):
    """`count` times x ← x + two of (norm, ELU, 3×3 convolution without bias)."""

    def __init__(self, features: int, count: int, norm: MakeNorm) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm(features) for _ in range(2 * count))
        self.convs = nn.ModuleList(RowsConv(features, features, bias=False) for _ in range(2 * count))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        hidden = x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            hidden = conv(norm(hidden, level, active=True))
            if i % 2:
                hidden = x = x + hidden
        return x


class Fusion(nn.Module):
    """Multi-resolution fusion: norm and 3×3 convolution of each input, all at the first one's size, added."""

    def __init__(self, inputs: int, features: int, out: int, norm: MakeNorm) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm(features) for _ in range(inputs))
        self.convs = nn.ModuleList(RowsConv(features, out) for _ in range(inputs))

    def forward(self, xs: list[Tensor], level: Tensor) -> Tensor:
        """(N, C, H_i, W_i) to (N, out, H_0, W_0)."""
        parts = [conv(norm(x, level)) for x, norm, conv in zip(xs, self.norms, self.convs, strict=True)]
        fused = parts[0]
        for part in parts[1:]:
            fused = fused + resize(part, fused.shape[-2], fused.shape[-1])
        return fused


class PoolingChain(nn.Module):
    """Chained residual pooling: ELU(x) plus p_1 + p_2, each p the one before pooled and convolved.

    Args:
        features: channels.
        norm: makes the normalization before each pooling.
        mean: pool by the mean over 5×5 (NCSN) or by the greatest (NCSNv2).
    """

    def __init__(self, features: int, norm: MakeNorm, *, mean: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm(features) for _ in range(2))
        self.convs = nn.ModuleList(RowsConv(features, features, bias=False) for _ in range(2))
        self.pool = mean5x5 if mean else max5x5

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        path = x = elu(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            path = conv(self.pool(norm(path, level)))
            x = x + path
        return x


class RefineBlock(nn.Module):
    """The module's second paragraph.

    Args:
        inputs: how many.
        features: channels of each.
        out: channels of the output.
        units: residual units at the end.
        norm: makes the normalizations.
        mean: of `PoolingChain`.
    """

    def __init__(self, inputs: int, features: int, out: int, *, units: int, norm: MakeNorm, mean: bool) -> None:
        super().__init__()
        self.adapt = nn.ModuleList(ResidualUnits(features, 2, norm) for _ in range(inputs))
        self.fusion = Fusion(inputs, features, out, norm) if inputs > 1 else None
        self.pooling = PoolingChain(out, norm, mean=mean)
        self.output = ResidualUnits(out, units, norm)

    def forward(self, xs: list[Tensor], level: Tensor) -> Tensor:
        """(N, C, H_i, W_i) to (N, out, H_0, W_0)."""
        adapted = [adapt(x, level) for adapt, x in zip(self.adapt, xs, strict=True)]
        fused = adapted[0] if self.fusion is None else self.fusion(adapted, level)
        return self.output(self.pooling(fused, level), level)


def mean5x5(x: Tensor) -> Tensor:
    """The mean over 5×5, zeros beyond the edge counted in; shape of x."""
    if rows.laid(x):
        return rows.map_columns(rows.map_rows(x, rows.window(x.shape[2])), rows.window(x.shape[3]))
    if x.device.type == "cpu" and max(x.shape[-2:]) <= rows.HIGHEST:  # ten times as fast as the pooling
        in_rows, in_columns = (rows.window(size).to(x.dtype) for size in x.shape[-2:])
        return in_rows @ (x @ in_columns)
    return avg_pool2d(x, 5, 1, 2)


def max5x5(x: Tensor) -> Tensor:
    """The greatest over 5×5; shape of x."""
    return rows.greatest(x, 2) if rows.laid(x) else max_pool2d(x, 5, 1, 2)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear between corners that stay where they are; the identity at equal sizes."""
    if (height, width) == tuple(x.shape[-2:]):
        return x
    if rows.laid(x):
        in_rows, in_columns = rows.stretch(x.shape[2], height), rows.stretch(x.shape[3], width)
        return rows.map_rows(rows.map_columns(x, in_columns), in_rows)
    return interpolate(x, size=(height, width), mode="bilinear", align_corners=True)
