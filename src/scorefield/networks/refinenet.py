"""RefineNet: the networks of NCSN and NCSNv2.

Down go stages of two residual blocks each, of which some halve the image and the last two only dilate their
convolutions; up comes one RefineNet block for each stage, the lowest first, which joins the stage's output to
what came from below. All before an activation is normalized (see `instance_norm`).

NCSN tells every normalization the noise level, by a table, and its blocks pool by the mean. NCSNv2 tells no
noise level (its output is divided by σ: `parameterization.NCSNv2`), pools by the greatest and normalizes
in the residual blocks alone.

The weights have the shapes of the authors' programs and give the same function; the arithmetic is our own:
see `rows`, `instance_norm` and `refine_layers`.

References:
    Song & Ermon (2019), App. A. https://arxiv.org/abs/1907.05600
    Song & Ermon (2020), App. B. https://arxiv.org/abs/2006.09011
    Lin et al. (2017). https://arxiv.org/abs/1611.06612
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from scorefield.errors import UserError, did_you_mean
from scorefield.kernels import winograd as rows
from scorefield.kernels.instance_norm import InstanceNorm, NoNorm
from scorefield.kernels.prepacked import ready
from scorefield.networks.refine_layers import RefineBlock, ResidualBlock

_AT_ONCE = 64 * 28 * 28
"""Pixels that go through at once on a processor: fewer pay for kernels too often, more leave its caches."""


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
"""Made for sides of 28 to 64 (NCSN, NCSNv2), 96 to 128 (NCSNv2 deeper) and 256 (deepest)."""


class RefineNet(nn.Module):
    """(B, C, H, W) to (B, C, H, W); H and W divide by 2 (small), 4 (deeper) or 8 (deepest).

    Args:
        channels: C of the image.
        source_channels: further input channels that a condition lays beside it.
        width: channels at full size; the authors take 64 for MNIST, else 128.
        levels: noise levels of the tables, which are told by their index: NCSN. None tells none: NCSNv2.
        form: small, deeper or deepest.
        means: InstanceNorm++; without, plain instance normalization (NCSN's own deeper form).
        centre: pixels come in [0, 1] and are seen as 2x − 1; else they are seen as they come.

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
        """See that the network takes images of this size.

        Raises:
            UserError: a side does not divide, or nothing but one pixel would be left to normalize.
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
            label: index of the noise level, (B,), rounded; not looked at where `levels` is None.
            source: (B, source_channels, H, W), in the range of x.
        """
        self.check_size(x.shape[-2], x.shape[-1])
        if source is not None:
            x = torch.cat([x, source], 1)
        if self.centre:
            x = 2 * x - 1
        level = label.round().long()
        if x.device.type != "cpu":
            return self._run(x, level)
        count = max(1, _AT_ONCE // (x.shape[-2] * x.shape[-1]))
        parts = zip(x.split(count), level.split(count), strict=True)
        with ready(self):
            return torch.cat([self._run(*part) for part in parts])

    def _run(self, x: Tensor, level: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden = rows.lay(hidden) if rows.pays(hidden) else hidden.contiguous()
        left: list[Tensor] = []
        for stage in self.stages:
            for block in cast(nn.ModuleList, stage):
                hidden = block(hidden, level)
            left.append(hidden)
        below: list[Tensor] = []
        for refine, beside in zip(self.refine, reversed(left), strict=True):
            below = [refine([beside, *below], level)]
        return self.last(self.norm(below[0], level, active=True))
