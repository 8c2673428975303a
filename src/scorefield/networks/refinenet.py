"""RefineNet: the networks of NCSN and NCSNv2.

On the way down stand stages of two residual blocks each, of which some halve the image and the last two dilate
their convolutions. On the way up stands one RefineNet block for each stage, the lowest first, which joins the
stage's output with the result from below. NCSN normalizes before every activation and pooling.

A RefineNet block (Lin et al. 2017) adapts each of its inputs by residual units, resizes all to one size and adds
them, pools over 5×5 windows twice ("chained residual pooling") and ends in residual units.

NCSN conditions every normalization on the noise level by a table, and pools by the mean. NCSNv2 is not
conditioned (its output is divided by σ: `parameterization.NCSNv2`), pools by the maximum and normalizes in the
residual blocks alone.

The weights have the shapes of the authors' programs and give the same function. On a CPU the arithmetic differs:
see `kernels.rows`, `kernels.winograd` and `kernels.instance_norm`.

References:
    Song & Ermon (2019), App. A. https://arxiv.org/abs/1907.05600
    Song & Ermon (2020), App. B. https://arxiv.org/abs/2006.09011
    Lin et al. (2017), §3.2. https://arxiv.org/abs/1611.06612
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, elu, embedding, pad

from scorefield.errors import UserError, did_you_mean
from scorefield.kernels import enabled, rows, winograd
from scorefield.kernels.instance_norm import instance_norm
from scorefield.kernels.prepacked import prepacked
from scorefield.networks.layers import check_bounds

__all__ = ["FORMS", "RefineNet", "Stage"]

_AT_ONCE = 64 * 28 * 28
"""Pixels in one pass on a CPU: with fewer the weights are read too often, with more the images leave the caches."""

_MakeNorm = Callable[[int], nn.Module]
"""From a number of channels to a module that is called as `norm(x, level, active=False)`."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Two residual blocks.

    Args:
        width: channels of the output, in units of the network's width.
        halve: whether the first block halves the image.
        dilation: of the convolutions.
    """

    width: int
    halve: bool = False
    dilation: int = 1


FORMS: dict[str, tuple[Stage, ...]] = {
    "small": (
        Stage(width=1),
        Stage(width=2, halve=True),
        Stage(width=2, dilation=2),
        Stage(width=2, dilation=4),
    ),
    "deeper": (
        Stage(width=1),
        Stage(width=2, halve=True),
        Stage(width=2, halve=True),
        Stage(width=4, dilation=2),
        Stage(width=4, dilation=4),
    ),
    "deepest": (
        Stage(width=1),
        Stage(width=2, halve=True),
        Stage(width=2, halve=True),
        Stage(width=2, halve=True),
        Stage(width=4, dilation=2),
        Stage(width=4, dilation=4),
    ),
}
"""For sides of 28 to 64 (NCSN, NCSNv2), 96 to 128 (NCSNv2 deeper) and 256 (deepest)."""


class InstanceNorm(nn.Module):
    """Conditional instance normalization: `kernels.instance_norm` with γ, α and β of the noise level.

    Args:
        features: channels C.
        levels: rows of the table, one for each noise level; None makes one row for all.
        means: whether the means are put back, the α of the equation.
    """

    def __init__(self, features: int, levels: int | None, *, means: bool = True) -> None:
        super().__init__()
        self.features, self.conditional = features, levels is not None
        scale, shift = torch.empty(levels or 1, features), torch.zeros(levels or 1, features)
        parts = [torch.empty_like(scale).normal_(1, 0.02) for _ in range(2)] if means else [scale.uniform_()]
        self.table = nn.Parameter(torch.cat([*parts, shift], 1))

    def forward(self, x: Tensor, level: Tensor, *, active: bool = False) -> Tensor:
        """The normalized x, (N, C, H, W), at the noise levels `level`, (N,) int64; ELU of it if `active`."""
        row = embedding(level, self.table) if self.conditional else self.table.expand(len(x), -1)
        gamma, *alpha, beta = row.split(self.features, 1)
        return instance_norm(x, gamma, alpha[0] if alpha else None, beta, active=active)


class NoNorm(nn.Module):
    """In place of a normalization where NCSNv2 has none."""

    def forward(self, x: Tensor, level: Tensor, *, active: bool = False) -> Tensor:
        """X, or ELU of it if `active`."""
        return elu(x) if active else x


class RowsConv(nn.Conv2d):
    """A 3×3 convolution that keeps the size, by fewer products where images are in rows."""

    def __init__(self, into: int, out: int, *, dilation: int = 1, bias: bool = True) -> None:
        super().__init__(into, out, 3, padding=dilation, dilation=dilation, bias=bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(N, C, H, W) to (N, out, H, W)."""
        return winograd.conv3x3(input, self.weight, self.bias, dilation=int(self.dilation[0]))


class HalvingConv(nn.Conv2d):
    """A convolution followed by the mean over squares of 2×2, as one convolution of stride 2.

    Its kernel is that of the convolution averaged over the four places of a square: 4×4 taps at a quarter of
    the places instead of 3×3 at all.
    """

    def __init__(self, into: int, out: int, size: int) -> None:
        super().__init__(into, out, size, padding=size // 2)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(N, C, H, W) to (N, out, H/2, W/2), H and W even."""
        kernel = avg_pool2d(pad(self.weight, (1, 1, 1, 1)), 2, stride=1)
        return rows.strided_conv(input, kernel, self.bias, padding=int(cast(int, self.padding[0])))


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
        norm: _MakeNorm,
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
    """`count` residual units: x plus two of (norm, ELU, 3×3 convolution without bias)."""

    def __init__(self, features: int, count: int, norm: _MakeNorm) -> None:
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
    """Multi-resolution fusion: norm and 3×3 convolution of each input, resized to the first one, added."""

    def __init__(self, inputs: int, features: int, out: int, norm: _MakeNorm) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm(features) for _ in range(inputs))
        self.convs = nn.ModuleList(RowsConv(features, out) for _ in range(inputs))

    def forward(self, xs: list[Tensor], level: Tensor) -> Tensor:
        """(N, C, H_i, W_i) to (N, out, H_0, W_0)."""
        parts = [conv(norm(x, level)) for x, norm, conv in zip(xs, self.norms, self.convs, strict=True)]
        fused = parts[0]
        for part in parts[1:]:
            fused = fused + rows.resize(part, fused.shape[-2], fused.shape[-1])
        return fused


class PoolingChain(nn.Module):
    """Chained residual pooling: ELU(x) plus p_1 + p_2, each p the one before pooled and convolved.

    Args:
        features: channels.
        norm: makes the normalization before each pooling.
        mean: pool by the mean over 5×5 (NCSN) or by the maximum (NCSNv2).
    """

    def __init__(self, features: int, norm: _MakeNorm, *, mean: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm(features) for _ in range(2))
        self.convs = nn.ModuleList(RowsConv(features, features, bias=False) for _ in range(2))
        self.pool = rows.mean_pool if mean else rows.max_pool

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        path = x = elu(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            path = conv(self.pool(norm(path, level), 2))
            x = x + path
        return x


class RefineBlock(nn.Module):
    """Joins its inputs at the size of the first: the module's second paragraph.

    Args:
        inputs: how many.
        features: channels of each.
        out: channels of the output.
        units: residual units at the end.
        norm: makes the normalizations.
        mean: of `PoolingChain`.
    """

    def __init__(self, inputs: int, features: int, out: int, *, units: int, norm: _MakeNorm, mean: bool) -> None:
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


class RefineNet(nn.Module):
    """(B, C, H, W) to (B, C, H, W); H and W divide by 2 (small), 4 (deeper) or 8 (deepest).

    Args:
        channels: C of the image.
        source_channels: further input channels, of a condition.
        width: channels at full size; the authors take 64 for MNIST, else 128.
        levels: how many noise levels the tables have; the label is an index (NCSN). None is no conditioning
            (NCSNv2).
        form: small, deeper or deepest.
        means: InstanceNorm++; without, plain instance normalization (NCSN's own deeper form).
        centre: pixels are in [0, 1] and the network computes with 2x − 1; else it takes them as they are.

    Raises:
        UserError: no such form, or a number that is not positive.
    """

    def __init__(
        self,
        *,
        channels: int,
        source_channels: int = 0,
        width: int = 128,
        levels: int | None = 10,
        form: Literal["small", "deeper", "deepest"] = "small",
        means: bool = True,
        centre: bool = True,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise UserError("network.form", f"no such form {form!r}.", did_you_mean(form, FORMS))
        if min(channels, width, source_channels + 1, 1 if levels is None else levels) < 1:
            raise UserError("network", "channels, width and levels must be positive.")
        check_bounds("channels", [channels, source_channels], 64)
        check_bounds("width", [width], 2**12)
        check_bounds("levels", [levels or 0], 100_000)
        self.settings: dict[str, Any] = {
            "channels": channels,
            "source_channels": source_channels,
            "width": width,
            "levels": levels,
            "form": form,
            "means": means,
            "centre": centre,
        }
        self.form, self.centre = form, centre
        self.multiple = 2 ** sum(stage.halve for stage in FORMS[form])

        def norm(features: int) -> nn.Module:
            return InstanceNorm(features, levels, means=means)

        def inner(features: int) -> nn.Module:
            return NoNorm() if levels is None else norm(features)

        stages = FORMS[form]
        widths = [stage.width * width for stage in stages]
        self.first = nn.Conv2d(channels + source_channels, width, 3, padding=1)
        self.stages = nn.ModuleList()
        for index, (stage, (into, out)) in enumerate(zip(stages, pairwise([width, *widths]), strict=True)):
            dilation = stage.dilation
            first = ResidualBlock(into, out, norm, dilation=dilation, halve=stage.halve, change=index > 0)
            self.stages.append(nn.ModuleList([first, ResidualBlock(out, out, norm, dilation=dilation)]))
        self.refine = nn.ModuleList(
            RefineBlock(
                inputs=1 if index == len(stages) - 1 else 2,
                features=widths[index],
                out=widths[max(index - 1, 0)],
                units=1 if index else 3,
                norm=inner,
                mean=levels is not None,
            )
            for index in reversed(range(len(stages)))
        )
        self.norm = norm(width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def check_size(self, height: int, width: int) -> None:
        """Check that the network takes images of this size.

        Raises:
            UserError: a side does not divide, or a single pixel would be left to normalize.
        """
        if height % self.multiple or width % self.multiple or height * width <= self.multiple**2:
            raise UserError(
                "network",
                f"a {self.form} RefineNet takes sides that divide by {self.multiple}, got {height}×{width}.",
                "Choose another size of the images (data.size), or another form.",
            )

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """F(x, label): the score itself for NCSN; for NCSNv2 the score times σ.

        Args:
            x: images, (B, C, H, W).
            label: index of the noise level, (B,), rounded; unused where `levels` is None.
            source: (B, source_channels, H, W), in the range of x.
        """
        self.check_size(x.shape[-2], x.shape[-1])
        if source is not None:
            x = torch.cat([x, source], 1)
        if self.centre:
            x = 2 * x - 1
        level = label.round().long()
        if x.device.type != "cpu" or not enabled():
            return self._run(x, level)
        count = max(1, _AT_ONCE // (x.shape[-2] * x.shape[-1]))
        parts = zip(x.split(count), level.split(count), strict=True)
        with prepacked():
            return torch.cat([self._run(*part) for part in parts])

    def _run(self, x: Tensor, level: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden = rows.to_rows(hidden) if rows.is_faster(hidden) else hidden.contiguous()
        skips: list[Tensor] = []
        for stage in self.stages:
            for block in cast(nn.ModuleList, stage):
                hidden = block(hidden, level)
            skips.append(hidden)
        below: list[Tensor] = []
        for refine, skip in zip(self.refine, reversed(skips), strict=True):
            below = [refine([skip, *below], level)]
        return self.last(self.norm(below[0], level, active=True))
