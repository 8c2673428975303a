"""Degradation in a recipe: what a conditional model learns to restore, and the batches that teach it.

Each entry of `degradation` is a distribution of operators with a weight; several make one multi-task model, which is told
nothing of the task but the degraded image itself (Saharia et al. 2022, §5.6). DegradationSpec is drawn anew for every
image of every batch, from the seed and the step alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from scorefield import degradations
from scorefield.condition import Condition
from scorefield.degradations import DegradationFamily, Hole, OneOf, Shown, shown
from scorefield.training.settings import Section

ValueRange = tuple[float, float]
Share = Annotated[float, Field(gt=0, lt=1)]
Spread = Annotated[float, Field(ge=0)]


class _Degradation(Section):
    task: ClassVar[str]
    weight: Annotated[float, Field(gt=0)] = Field(default=1.0, description="its share, against the others'")
    loss: Annotated[float, Field(gt=0)] = Field(
        default=1.0,
        description="factor of its loss, so that a task of small errors counts beside one of large",
    )


class GreyDegradation(_Degradation):
    """See degradations.Grey."""

    task = "colorize"
    kind: Literal["grey"]

    def family(self, value_range: ValueRange) -> DegradationFamily:
        """The distribution of operators."""
        return degradations.Grey()


class MasksDegradation(_Degradation):
    """See degradations.FreeForm."""

    task = "inpaint"
    kind: Literal["masks"]
    brush: Annotated[float, Field(ge=0, le=1)] = Field(default=0.6, description="share of brush strokes")

    def family(self, value_range: ValueRange) -> DegradationFamily:
        """The distribution of operators."""
        return degradations.FreeForm(brush=self.brush)


class BoxDegradation(_Degradation):
    """See degradations.CenterBox."""

    task = "inpaint"
    kind: Literal["box"]
    share: Share = Field(default=0.5, description="its side over the image's")

    def family(self, value_range: ValueRange) -> DegradationFamily:
        """The distribution of operators."""
        return degradations.CenterBox(share=self.share)


class UncropDegradation(_Degradation):
    """See degradations.Uncropping."""

    task = "uncrop"
    kind: Literal["uncrop"]
    share: Share = Field(default=0.5, description="of the image that is to be drawn")

    def family(self, value_range: ValueRange) -> DegradationFamily:
        """The distribution of operators."""
        return degradations.Uncropping(share=self.share)


class JPEGDegradation(_Degradation):
    """See degradations.RandomJPEG."""

    task = "dejpeg"
    kind: Literal["jpeg"]
    quality: tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]] = (5, 30)
    decay: Annotated[float, Field(gt=0)] = Field(default=10.0, description="p(Q) ∝ e^(−Q/decay)")

    def family(self, value_range: ValueRange) -> DegradationFamily:
        """The distribution of operators."""
        return degradations.RandomJPEG(quality=self.quality, decay=self.decay, value_range=value_range)


class DownscaleDegradation(_Degradation):
    """See degradations.RandomDownscale."""

    task = "upscale"
    kind: Literal["downscale"]
    factors: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (2, 4)

    def family(self, value_range: ValueRange) -> DegradationFamily:
        """The distribution of operators."""
        return degradations.RandomDownscale(factors=self.factors)


class BlurDegradation(_Degradation):
    """See degradations.RandomBlur."""

    task = "deblur"
    kind: Literal["blur"]
    std: tuple[Spread, Spread] = Field(default=(0.5, 3.0), description="in pixels")

    def family(self, value_range: ValueRange) -> DegradationFamily:
        """The distribution of operators."""
        return degradations.RandomBlur(std=self.std)


class NoiseDegradation(_Degradation):
    """See degradations.RandomNoise."""

    task = "denoise"
    kind: Literal["noise"]
    std: tuple[Spread, Spread] = Field(default=(5.0, 50.0), description="in steps of 8 bits")

    def family(self, value_range: ValueRange) -> DegradationFamily:
        """The distribution of operators."""
        step = (value_range[1] - value_range[0]) / 255
        return degradations.RandomNoise(std=(self.std[0] * step, self.std[1] * step))


class ScratchesDegradation(_Degradation):
    """See degradations.Scratches."""

    task = "descratch"
    kind: Literal["scratches"]

    def family(self, value_range: ValueRange) -> DegradationFamily:
        """The distribution of operators."""
        return degradations.Scratches(value_range=value_range)


class PairedDegradation(_Degradation):
    """Images before and after, from a folder of pairs: the second is to be made of the first."""

    task = "paired"
    kind: Literal["paired"]


MadeDegradation = (
    GreyDegradation
    | MasksDegradation
    | BoxDegradation
    | UncropDegradation
    | JPEGDegradation
    | DownscaleDegradation
    | BlurDegradation
    | NoiseDegradation
    | ScratchesDegradation
)
AnyDegradation = Annotated[MadeDegradation | PairedDegradation, Field(discriminator="kind")]


def tasks_of(degradation: Sequence[MadeDegradation | PairedDegradation]) -> tuple[str, ...]:
    """What a model learns from it, each once."""
    return tuple(dict.fromkeys(entry.task for entry in degradation))


def jpeg_up_to(degradation: Sequence[MadeDegradation | PairedDegradation]) -> int | None:
    """The highest quality of JPEG that a model learns from; None where it learns from none."""
    return max((entry.quality[1] for entry in degradation if isinstance(entry, JPEGDegradation)), default=None)


@dataclass(frozen=True, kw_only=True)
class Degraded:
    """What a conditional model is told of each image, and how much the image counts.

    Args:
        condition: source, (B, C, H, W), and mask, (B, 1, H, W), 1 where the image is to be predicted.
        weights: factors of the losses, (B,).
    """

    condition: Condition
    weights: Tensor


@dataclass(frozen=True, kw_only=True)
class DegradationDistribution:
    """The distribution of a recipe's entries; not for pairs.

    Args:
        entries: each with its weight.
        value_range: of the images.
        hole: what is shown in holes.
    """

    entries: Sequence[MadeDegradation]
    value_range: ValueRange
    hole: Hole = 1.0

    @cached_property
    def family(self) -> OneOf:
        """The distribution of operators."""
        families = tuple(entry.family(self.value_range) for entry in self.entries)
        return OneOf(families=families, weights=tuple(entry.weight for entry in self.entries))

    def __call__(self, x0: Tensor, *, generator: Generator) -> Degraded:
        """Each image degraded by an operator of its own.

        Args:
            x0: clean images, (B, C, H, W), in the value range, on the CPU.
            generator: of the operators, and of the noise that fills holes.
        """
        seen: list[Shown] = []
        weights: list[float] = []
        for image in x0.split(1):
            chosen = self.family.choose(generator)
            degradation = self.family.families[chosen].draw(image.shape, generator=generator)
            seen.append(shown(degradation, degradation(image), generator=generator))
            weights.append(self.entries[chosen].loss)
        whole = Shown(source=torch.cat([s.source for s in seen]), fill=torch.cat([s.fill for s in seen]))
        whole = whole.holed(self.hole)  # of all at once: a smooth guess takes many small steps
        condition = Condition(source=whole.source, mask=whole.fill)
        return Degraded(condition=condition, weights=torch.tensor(weights))


def told_pairs(pairs: Tensor) -> tuple[Tensor, Degraded]:
    """Clean images, and what is told of them, of pairs laid upon each other, (B, 2C, H, W)."""
    x0, source = pairs.chunk(2, 1)
    condition = Condition(source=source, mask=torch.ones_like(x0[:, :1]))
    return x0, Degraded(condition=condition, weights=torch.ones(len(x0)))
