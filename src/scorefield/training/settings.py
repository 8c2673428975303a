"""The sections of a recipe: every setting with its type, its bounds and its default.

A section is frozen and closed: a key that it does not know is an error, and nothing is converted but whole
numbers to floats. Where a section comes in several kinds, `kind` says which.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    model_validator,
)
from torch import Tensor

from scorefield import schedules

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str | float) -> float:
    """Seconds from `90`, `90s`, `3m`, `1.5h`, `1h30m` or `2d`.

    Raises:
        ValueError: not a duration.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    text = str(text)
    parts = re.fullmatch(r"(?:\d+(?:\.\d+)?[smhd])+|\d+(?:\.\d+)?", text.strip())
    if not parts:
        raise ValueError(f"{text!r} is no duration; write for example 90s, 3m or 1h30m")
    pairs = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in pairs)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0),
    PlainSerializer(lambda s: f"{Decimal(repr(s)).normalize():f}s"),
]
Positive = Annotated[int, Field(ge=1)]
Zoom = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def _kind_or(default: str) -> Discriminator:
    """Chooses a section's alternative by its `kind`, which may be left out for the usual one."""

    def kind(given: Any) -> str:
        if isinstance(given, dict):
            return str(cast(dict[str, Any], given).get("kind", default))
        return str(getattr(given, "kind", default))

    return Discriminator(cast(Callable[[Any], str], kind))


class Section(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(Section):
    """What is trained on."""

    source: str = Field(default="", description="folder, IDX, CIFAR, npz, npy or bundled name; --data wins")
    size: Positive | tuple[Positive, Positive] | None = Field(
        default=None, description="H, W; by default the data's own"
    )
    crop: Positive | None = Field(
        default=None, description="side of the square cut from the middle before an image is reduced"
    )
    channels: Annotated[int, Field(ge=1, le=4)] | None = Field(default=None, description="by default the data's own")
    window: Positive | None = Field(
        default=None,
        description="side of the square cut anew each time from images of any size",
    )
    zoom: tuple[Zoom, Zoom] | Literal["whole"] = Field(
        default="whole", description="least and greatest factor by which a window reduces what it shows"
    )
    hole: Annotated[float, Field(ge=0)] | Literal["smooth"] = Field(
        default=1.0,
        description="what holes of degraded images show: noise of that deviation, or a smooth guess",
    )
    flip: bool = Field(default=False, description="mirror half of the images")
    dequantize: bool = Field(default=False, description="add U/256, as NCSN does")
    labels: bool = Field(default=False, description="tell the network each image's class")
    value_range: tuple[float, float] = Field(default=(-1.0, 1.0), description="what black and white become")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError("value_range must rise from black to white")
        if self.window is not None and (isinstance(self.size, tuple) or self.crop is not None or self.labels):
            raise ValueError("a window goes with one size at most, and with neither crop nor labels")
        if self.zoom != "whole" and self.zoom[0] > self.zoom[1]:
            raise ValueError("zoom must rise")
        longest = max(self.size) if isinstance(self.size, tuple) else self.size
        if self.crop is not None and longest is not None and longest > self.crop:
            raise ValueError(f"size = {longest} is more than crop = {self.crop} leaves of an image")
        return self


class UNetSettings(Section):
    """See networks.UNet; channels follow the data."""

    kind: Literal["unet"] = "unet"
    widths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 64)
    blocks: Positive = 1
    attention: tuple[Annotated[int, Field(ge=0)], ...] = ()
    patch: Positive = 1
    head_width: Positive = 32
    dropout: Fraction = 0.0
    groups: Positive | None = Field(
        default=None, description="groups of channels in every normalization; by default by the width"
    )
    resample: Literal["conv", "residual"] = "conv"
    middle: Literal["plain", "attention"] = "plain"
    attention_pieces: Positive = 1
    linear: bool = Field(default=False, description="add a linear map of each pixel, by the noise level")
    checkpointing: bool = Field(
        default=False, description="compute blocks anew for their gradients: less memory, a third more time"
    )
    energy: bool = Field(default=False, description="the score is the gradient of a scalar: networks.Energy")


class ResUNetSettings(Section):
    """See networks.ResUNet; channels follow the data."""

    kind: Literal["resunet"]
    widths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (64, 96, 128)
    blocks: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(3, 2, 2), description="residual blocks at each size, down and again up"
    )
    attention: bool = Field(default=True, description="self-attention at the smallest size")
    patch: Positive = 2
    head_width: Positive = 32
    energy: bool = Field(default=False, description="the score is the gradient of a scalar: networks.Energy")


class RefineNetSettings(Section):
    """See networks.RefineNet; channels follow the data, levels follow the schedule."""

    kind: Literal["refinenet"]
    width: Positive = 128
    form: Literal["small", "deeper", "deepest"] = "small"
    conditional: bool = Field(
        default=True, description="normalize by a table of each noise level, as NCSN; false: told nothing, as NCSNv2"
    )
    energy: bool = Field(default=False, description="the score is the gradient of a scalar: networks.Energy")


Network = Annotated[
    Annotated[UNetSettings, Tag("unet")]
    | Annotated[ResUNetSettings, Tag("resunet")]
    | Annotated[RefineNetSettings, Tag("refinenet")],
    _kind_or("unet"),
]


class EDMSettings(Section):
    """See parameterization.EDM."""

    kind: Literal["edm"] = "edm"
    sigma_data: Annotated[float, Field(gt=0)] = 0.5
    input: Literal["unit", "wiener"] = Field(
        default="unit", description="how the network sees x: at unit variance, or as the best guess from x"
    )
    residual: bool = Field(
        default=False,
        description="learn what is to be added to the degraded image; sigma_data is its spread",
    )


class PredictionSettings(Section):
    """See parameterization.NoisePrediction, DataPrediction, VelocityPrediction; their schedule is `noise`'s."""

    kind: Literal["noise", "data", "velocity"]
    told: Literal["gamma", "index", "time"] = Field(
        default="gamma", description="the label: γ, the step of `noise`'s schedule, or 999 t of the VP equation"
    )


class RegressionSettings(Section):
    """See parameterization.Regression."""

    kind: Literal["regression"]
    residual: bool = Field(default=False, description="learn what is to be added to the degraded image")


class NCSNv2Settings(Section):
    """See parameterization.NCSNv2; its schedule is `noise`'s, where that has one."""

    kind: Literal["ncsnv2"]


class NCSNSettings(Section):
    """See parameterization.NCSN; its schedule is `noise`'s."""

    kind: Literal["ncsn"]


class LogNormalDistribution(Section):
    """See noise_distributions.LogNormal."""

    kind: Literal["log-normal"] = "log-normal"
    mean: float = -1.2
    std: Annotated[float, Field(gt=0)] = 1.2


class LogUniformDistribution(Section):
    """See noise_distributions.LogUniform; between sigma_min and sigma_max."""

    kind: Literal["log-uniform"]


class LevelsDistribution(Section):
    """See noise.Noise levels; a geometric schedule between sigma_max and sigma_min."""

    kind: Literal["levels"]
    levels: Annotated[int, Field(ge=2)] = 10


class LinearBetaDistribution(Section):
    """Every noise level of schedules.linear_beta alike, as DDPM trains."""

    kind: Literal["linear-beta"]
    first: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    last: Annotated[float, Field(gt=0, lt=1)] = 0.02
    steps: Annotated[int, Field(ge=2)] = 1000

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"first = {self.first:g} must not lie above last = {self.last:g}")
        return self

    def schedule(self) -> Tensor:
        """The noise levels, falling."""
        return schedules.linear_beta(self.first, self.last, self.steps)


class CosineDistribution(Section):
    """Every noise level of schedules.cosine alike."""

    kind: Literal["cosine"]
    steps: Annotated[int, Field(ge=2)] = 1000

    def schedule(self) -> Tensor:
        """The noise levels, falling."""
        return schedules.cosine(self.steps)


class PaletteDistribution(Section):
    """Every noise level of schedules.palette_training alike."""

    kind: Literal["palette"]

    def schedule(self) -> Tensor:
        """The noise levels, falling."""
        return schedules.palette_training()


ScheduleDistribution = LinearBetaDistribution | CosineDistribution | PaletteDistribution
"""Distributions whose noise levels are known without ends; sigma_max and sigma_min are theirs."""


def _own_end(which: int, usual: float) -> Callable[[dict[str, Any]], float]:
    """The default of a section's end: that of its distribution's schedule, where it has one."""

    def end(given: dict[str, Any]) -> float:
        distribution = given.get("distribution")
        return float(distribution.schedule()[which]) if isinstance(distribution, ScheduleDistribution) else usual

    return end


class Noise(Section):
    """The noise levels that the model learns."""

    distribution: Annotated[
        LogNormalDistribution | LogUniformDistribution | LevelsDistribution | ScheduleDistribution,
        Field(discriminator="kind"),
    ] = LogNormalDistribution()
    sigma_min: Annotated[float, Field(gt=0)] = Field(default_factory=_own_end(-1, 0.002))
    sigma_max: Annotated[float, Field(gt=0)] = Field(default_factory=_own_end(0, 80.0))

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if not self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min = {self.sigma_min:g} must lie below sigma_max = {self.sigma_max:g}")
        if isinstance(self.distribution, ScheduleDistribution):
            schedule = self.distribution.schedule()
            for name, given, own in (
                ("sigma_max", self.sigma_max, float(schedule[0])),
                ("sigma_min", self.sigma_min, float(schedule[-1])),
            ):
                if not math.isclose(given, own, rel_tol=1e-6):
                    raise ValueError(f"{name} = {given:g} is not the schedule's own {own:g}; leave it out")
        return self


def _noise_kind(given: Any) -> str:
    return "auto" if isinstance(given, str) else "set"


NoiseLevels = Annotated[
    Annotated[Noise, Tag("set")] | Annotated[Literal["auto"], Tag("auto")], Discriminator(_noise_kind)
]
"""`auto` is the schedule of Song & Ermon (2020), Techniques 1 and 2, found from the data at the start."""


class DenoisingObjective(Section):
    """See objectives.denoising_score_matching."""

    kind: Literal["denoising"] = "denoising"
    p: Annotated[float, Field(ge=1)] = Field(default=2, description="power of the norm")
    weight: Literal["uniform", "output"] = Field(
        default="output",
        description="uniform: λ = σ² as NCSN, and with p = 2 DDPM's L_simple; "
        "output: the network's raw error alike at every σ",
    )


class SlicedObjective(Section):
    """See objectives.sliced_score_matching; on noisy images, with λ = σ²."""

    kind: Literal["sliced"]
    projections: Positive = Field(default=1, description="random directions an image")
    distribution: Literal["rademacher", "gaussian", "sphere"] = Field(default="rademacher", description="of them")
    variance_reduced: bool = Field(default=True, description="½|s|² whole instead of its projection")


class ExplicitObjective(Section):
    """See objectives.explicit_score_matching; on noisy images, with λ = σ²."""

    kind: Literal["explicit"]


Objective = Annotated[
    Annotated[DenoisingObjective, Tag("denoising")]
    | Annotated[SlicedObjective, Tag("sliced")]
    | Annotated[ExplicitObjective, Tag("explicit")],
    _kind_or("denoising"),
]


class Optimizer(Section):
    """Adam (Kingma & Ba 2015) and its learning rate."""

    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    batch: Positive = 128
    warmup: Annotated[int, Field(ge=0)] = Field(default=100, description="steps of linear warm-up")
    decay_after: Annotated[int, Field(ge=0)] = Field(
        default=0, description="from this step on the rate falls as 1/√step; 0 = constant"
    )
    clip: Annotated[float, Field(ge=0)] = Field(default=1.0, description="greatest norm of the gradient; 0 = none")


class Average(Section):
    """The average of weights over training that sampling uses."""

    decay: Fraction = Field(default=0.9999, description="0 = no average: the last weights themselves")
    span: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1,
        description="until `decay` is reached, the average covers about this share of the steps made",
    )


class Training(Section):
    """Length, and what is written on the way."""

    steps: Positive = 200_000
    init: str = Field(default="", description="a model whose weights are those to begin with, instead of random")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    log_every: Positive = Field(default=50, description="steps")
    save_every: Duration = 60.0
    sample_every: Duration = 60.0
    sample_count: Positive = 36
    drop_class: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.1, description="share of images whose class is not told, where data.labels is true"
    )
