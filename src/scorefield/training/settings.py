"""The sections of a recipe that belong to training alone: data, noise range, optimizer, average, length.

Each is a frozen dataclass with a bound on every number. The other sections are the library's own dataclasses:
see `training.recipe`.
"""

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Literal, Protocol, Union, cast, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, Field, PlainSerializer
from torch import nn

from scorefield.degradations import DegradationFamily
from scorefield.noise_distributions import LogNormal, NoiseDistribution, sigma_range

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
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=1, le=2**14)]  # pixels
Count = Annotated[int, Field(ge=1, le=2**16)]  # of images at once
Sigma = Annotated[float, Field(ge=1e-9, le=1e12)]  # Palette's schedule ends at 1.2e10
PositiveFloat = Annotated[float, Field(gt=0)]
Zoom = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the model is trained on.

    Args:
        source: a folder, IDX, CIFAR, npz or npy file, or a bundled name.
        size: (H, W), or the side of a square; the data's own by default.
        crop: side of the square cut from the middle before an image is reduced.
        channels: 1 to 4; the data's own by default.
        window: side of a square cut at random from images of any size.
        zoom: smallest and largest factor by which a window is reduced, or "whole": the largest square.
        masked_input: how masked pixels enter the network: Gaussian noise of this std, or "smooth" (interpolated
            from the border).
        flip: mirror half of the images.
        grey: share of color images that are made grey, so that a restoration model leaves grey images grey.
        dequantize: (v + U[0, 1)) / 256 instead of v / 255, as NCSN's code does.
        labels: condition the network on each image's class.
        value_range: what black and white become.

    Raises:
        ValueError: settings that contradict each other.
    """

    source: str = ""
    size: Side | tuple[Side, Side] | None = None
    crop: Side | None = None
    channels: Annotated[int, Field(ge=1, le=4)] | None = None
    window: Side | None = None
    zoom: tuple[Zoom, Zoom] | Literal["whole"] = "whole"
    masked_input: Annotated[float, Field(ge=0, le=1e6)] | Literal["smooth"] = 1.0
    flip: bool = False
    grey: Annotated[float, Field(ge=0, le=1)] = 0.0
    dequantize: bool = False
    labels: bool = False
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        if not -1e6 <= self.value_range[0] < self.value_range[1] <= 1e6:  # as `ModelSpec` asks
            raise ValueError("value_range must rise from black to white, within ±1e6")
        if self.window is not None and (isinstance(self.size, tuple) or self.crop is not None or self.labels):
            raise ValueError("window goes with at most one size, and with neither crop nor labels")
        if self.zoom != "whole" and self.zoom[0] > self.zoom[1]:
            raise ValueError("zoom must rise")
        longest = max(self.size) if isinstance(self.size, tuple) else self.size
        if self.crop is not None and longest is not None and longest > self.crop:
            raise ValueError(f"size = {longest} is larger than crop = {self.crop}")


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise levels that the model learns.

    A schedule and a log-uniform distribution have a range of their own, which `Noise.of` copies.

    Args:
        distribution: of σ in training.
        sigma_min: the smallest σ; smaller ones are raised to it.
        sigma_max: the largest σ; larger ones are lowered to it.

    Raises:
        ValueError: an empty range, or one that is not the distribution's own.
    """

    distribution: NoiseDistribution = field(default_factory=LogNormal)
    sigma_min: Sigma = 0.002
    sigma_max: Sigma = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min = {self.sigma_min:g} must lie below sigma_max = {self.sigma_max:g}")
        own = sigma_range(self.distribution)
        if own is None:
            return
        for name, given, end in zip(("sigma_min", "sigma_max"), (self.sigma_min, self.sigma_max), own, strict=True):
            if not math.isclose(given, end, rel_tol=1e-6):
                raise ValueError(f"{name} = {given:g} is not the distribution's own {end:g}; leave it out")

    @classmethod
    def of(cls, distribution: NoiseDistribution) -> "Noise":
        """The distribution over its own range, or over the default one if it has none."""
        own = sigma_range(distribution)
        return cls(distribution=distribution) if own is None else cls(
            distribution=distribution, sigma_min=own[0], sigma_max=own[1]
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Images before and after, from a folder of pairs: the network predicts the second from the first."""


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """One task of a restoration model.

    Args:
        family: the random degradation to undo.
        weight: the task's share of the images, relative to the other tasks.
        loss: factor of its loss, which balances tasks of small errors against those of large ones.
        name: the task as the model's card lists it; by default that of the degradation's kind.
    """

    family: DegradationFamily | Pairs
    weight: PositiveFloat = 1.0
    loss: PositiveFloat = 1.0
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Adam (Kingma & Ba 2015) and its learning rate.

    Args:
        lr: the learning rate.
        betas: decay rates of the moments.
        eps: added to the root of the second moment.
        batch: images per step.
        warmup: steps of linear warm-up.
        decay_after: the step after which the rate falls as 1/√step; 0 keeps it constant.
        cooldown: last share of the steps, over which the rate falls to 0 as half a cosine.
        clip: largest norm of the gradient; 0 does not clip.
    """

    lr: PositiveFloat = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    eps: PositiveFloat = 1e-8
    batch: Count = 128
    warmup: Natural = 100
    decay_after: Natural = 0
    cooldown: Fraction = 0.0
    clip: Annotated[float, Field(ge=0)] = 1.0


@dataclass(frozen=True, kw_only=True)
class Average:
    """The moving average of the weights, which sampling uses.

    Args:
        decay: 0 uses the last weights themselves.
        span: until `decay` is reached, the average covers about this share of the steps made.
    """

    decay: Fraction = 0.9999
    span: Annotated[float, Field(gt=0, le=1)] = 0.1


@dataclass(frozen=True, kw_only=True)
class Training:
    """Length, precision, and what is written on the way.

    Args:
        steps: to make.
        init: a model whose weights training starts from; random weights by default.
        seed: of weights, batches and noise.
        precision: inside the network.
        log_every: steps between two rows of the log.
        save_every: time between two checkpoints.
        sample_every: time between two sample grids.
        sample_count: images of a grid.
        drop_class: share of images whose class is hidden, where `data.labels` is true.
        patience: steps in a row that may be skipped, as their loss or gradient is not finite.
    """

    steps: Positive = 200_000
    init: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    log_every: Positive = 50
    save_every: Duration = 60.0
    sample_every: Duration = 60.0
    sample_count: Count = 36
    drop_class: Annotated[float, Field(ge=0, le=1)] = 0.1
    patience: Positive = 10


class NetworkSettings(Protocol):
    """The section `network`: the network's own keywords, and `energy`."""

    @property
    def kind(self) -> str:
        """Its name in a recipe and in a model's card."""
        ...

    @property
    def energy(self) -> bool:
        """Whether the score is the gradient of a scalar: `networks.Energy`."""
        ...


FOLLOWED = frozenset({"channels", "source_channels", "classes", "levels", "centre"})
"""Keywords of networks that follow from the data and the noise, so that a recipe has no say in them."""


def network_section(kind: str, network: type[nn.Module], **extra: bool) -> Callable[..., NetworkSettings]:
    """A frozen dataclass of what a recipe can set of a network: its constructor's keywords and defaults.

    Args:
        kind: its name.
        network: the class.
        extra: further switches, with their defaults.
    """
    hints = get_type_hints(network.__init__, include_extras=True)
    fields: list[Any] = [
        (name, _tuples_only(hints.get(name, Any)), field(default=parameter.default))
        for name, parameter in inspect.signature(network).parameters.items()
        if name not in FOLLOWED
    ]
    fields += [(name, bool, field(default=default)) for name, default in {**extra, "energy": False}.items()]
    made = make_dataclass(f"{network.__name__}Settings", fields, frozen=True, kw_only=True, namespace={"kind": kind})
    made.__doc__ = f"Settings of `networks.{network.__name__}`."
    return cast(Callable[..., NetworkSettings], made)


def _tuples_only(annotation: Any) -> Any:
    """`tuple | list` without the list, which only JSON's cards have."""
    if get_origin(annotation) not in (UnionType, Union):
        return annotation
    kept = tuple(kind for kind in get_args(annotation) if get_origin(kind) is not list)
    return Union[kept]  # noqa: UP007 - made of a tuple at run time


__all__ = [
    "FOLLOWED",
    "Average",
    "Data",
    "Duration",
    "NetworkSettings",
    "Noise",
    "Optimizer",
    "Pairs",
    "Training",
    "TrainingTask",
    "network_section",
    "parse_duration",
]
