"""Recipes: everything that a training run depends on.

A `Recipe` is made of frozen dataclasses, those that the library itself computes with: an `EDM`, a `LogNormal`,
a `RandomJPEG`. `read_recipe` (training.reading) builds one from a TOML file, where `kind` names the class. In
Python any object that plays the part stands in for them: a distribution of σ, a family of degradations, an
objective of one's own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any, Literal, cast

import tomli_w
from pydantic import ConfigDict, TypeAdapter
from torch import nn

from scorefield import degradations, networks, noise_distributions
from scorefield.errors import UserError
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.noise_distributions import LogNormal, OnLevels
from scorefield.parameterization import (
    EDM,
    NCSN,
    NCSNv2,
    Parameterization,
    Regression,
    Score,
    VariancePreserving,
    predicts_residual,
)
from scorefield.training.losses import DenoisingObjective, ExplicitObjective, Objective, SlicedObjective
from scorefield.training.settings import (
    Average,
    Data,
    NetworkSettings,
    Noise,
    Optimizer,
    Pairs,
    Training,
    TrainingTask,
    network_section,
)

NETWORKS: dict[str, Any] = {
    "unet": network_section("unet", networks.UNet),
    "resunet": network_section("resunet", networks.ResUNet),
    "refinenet": network_section("refinenet", networks.RefineNet, conditional=True),
}


def network_kinds() -> dict[str, Any]:
    """The settings of networks by kind: `NETWORKS`, and those that `networks.register` added."""
    return {**NETWORKS, **{kind: _own_section(kind, cls) for kind, cls in networks.registered().items()}}


_own_section = cache(network_section)  # one dataclass for each class, so that recipes can be compared

PARAMETERIZATIONS: dict[str, Any] = {
    "edm": EDM,
    "variance-preserving": VariancePreserving,
    "score": Score,
    "regression": Regression,
    "ncsn": NCSN,
    "ncsnv2": NCSNv2,
}
DISTRIBUTIONS: dict[str, Any] = {
    "log-normal": LogNormal,
    "log-uniform": noise_distributions.LogUniform,
    "levels": noise_distributions.GeometricLevels,
    "sigmas": noise_distributions.DiscreteLevels,
    "linear-beta": noise_distributions.LinearBeta,
    "cosine": noise_distributions.Cosine,
    "palette": noise_distributions.PaletteTraining,
}
OBJECTIVES: dict[str, Any] = {
    "denoising": DenoisingObjective,
    "sliced": SlicedObjective,
    "explicit": ExplicitObjective,
}
DEGRADATIONS: dict[str, Any] = {
    "grey": degradations.Grey,
    "masks": degradations.FreeForm,
    "box": degradations.CenterBox,
    "uncrop": degradations.Uncropping,
    "jpeg": degradations.RandomJPEG,
    "downscale": degradations.RandomDownscale,
    "blur": degradations.RandomBlur,
    "noise": degradations.RandomNoise,
    "scratches": degradations.Scratches,
    "paired": Pairs,
}
"""The classes that a recipe's `kind` names, section by section."""

TASKS = {
    "grey": "colorize",
    "masks": "inpaint",
    "box": "inpaint",
    "uncrop": "uncrop",
    "jpeg": "dejpeg",
    "downscale": "upscale",
    "blur": "deblur",
    "noise": "denoise",
    "scratches": "descratch",
    "paired": "paired",
}
"""Kind of degradation → the task that undoes it."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training run.

    Args:
        data: what the model is trained on.
        degradation: the tasks of a restoration model; none for a generative one.
        network: settings of the network, from `NETWORKS`.
        parameterization: what the network's output means; its schedule, where it needs one, is that of `noise`.
        noise: the noise levels; "auto" finds a schedule from the images (Song & Ermon 2020, Techniques 1 and 2).
        objective: losses of a batch.
        optimizer: Adam's settings.
        average: the moving average of the weights.
        training: length, precision, and what is written on the way.

    Raises:
        ValueError: sections that contradict each other.
    """

    data: Data = field(default_factory=Data)
    degradation: tuple[TrainingTask, ...] = ()
    network: NetworkSettings = field(default_factory=NETWORKS["unet"])
    parameterization: Parameterization = field(default_factory=EDM)
    noise: Noise | Literal["auto"] = field(default_factory=Noise)
    objective: Objective = field(default_factory=DenoisingObjective)
    optimizer: Optimizer = field(default_factory=Optimizer)
    average: Average = field(default_factory=Average)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if self.paired and len(self.degradation) > 1:
            raise ValueError('pairs are the only task: degradation = [{ kind = "paired" }]')
        if self.degradation and isinstance(self.objective, SlicedObjective | ExplicitObjective):
            raise ValueError('a restoration model learns by denoising: objective.kind = "denoising"')
        if self.degradation and not _takes_source(self.network.kind):
            raise ValueError('only a U-Net takes a degraded image: network.kind = "unet" or "resunet"')
        if isinstance(self.parameterization, Regression) and not self.degradation:
            raise ValueError("a regression needs a degraded image: `degradation`")
        if predicts_residual(self.parameterization) and not self.degradation:
            raise ValueError("a residual is the difference to a degraded image: `degradation`")
        for task in self.degradation:
            given = getattr(task.family, "value_range", self.data.value_range)
            if given != self.data.value_range:
                raise ValueError(f"degradation: value_range = {given} is not data.value_range")

    @property
    def noise_levels(self) -> Noise:
        """The noise levels as numbers.

        Raises:
            UserError: they are `auto`, and not yet found from data.
        """
        if isinstance(self.noise, Noise):
            return self.noise
        raise UserError("noise", "`auto` is found from images, when training starts.", "Give sigma_max ….")

    @property
    def paired(self) -> bool:
        """Whether the images come in pairs, before and after."""
        return any(isinstance(task.family, Pairs) for task in self.degradation)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks, each once."""
        names = [task.name or TASKS.get(kind_of(task.family, DEGRADATIONS), "custom") for task in self.degradation]
        return tuple(dict.fromkeys(names))

    def to_dict(self) -> dict[str, Any]:
        """Every setting as plain data, as TOML and JSON hold it; None is left out."""
        plain: dict[str, Any] = {
            name: _plain(getattr(self, name)) for name in ("data", "optimizer", "average", "training")
        }
        plain["degradation"] = [_plain_task(task) for task in self.degradation]
        plain["network"] = _plain(self.network, network_kinds())
        plain["parameterization"] = _plain(self.parameterization, PARAMETERIZATIONS)
        plain["noise"] = "auto" if self.noise == "auto" else plain_noise(self.noise)
        plain["objective"] = _plain(self.objective, OBJECTIVES)
        return {name.name: plain[name.name] for name in fields(self)}

    def to_toml(self) -> str:
        """The recipe as a TOML file; `read_recipe` reads it back, but for objects that no `kind` names."""
        return tomli_w.dumps(self.to_dict())


def kind_of(value: object, kinds: Mapping[str, Any]) -> str:
    """The name of an object's class in a recipe; of a class or a function of one's own, its Python name."""
    known = next((kind for kind, cls in kinds.items() if type(value) is cls), None)
    if known is not None:
        return known
    named: Any = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


@cache
def adapter(cls: type) -> TypeAdapter[list[Any]]:
    """Pydantic's reader and writer of a dataclass: unknown keys are errors, and nothing is converted.

    The list is what carries the configuration, which pydantic takes for no dataclass directly.
    """
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return TypeAdapter(cast(Any, list)[cls], config=strict)


def _plain(section: object, kinds: Mapping[str, Any] | None = None) -> dict[str, Any]:
    cls = type(section)
    if kinds is not None and cls not in kinds.values():
        own = {"settings": repr(section)} if hasattr(cls, "__dataclass_fields__") else {}
        return {"kind": kind_of(section, kinds), **own}
    values = adapter(cls).dump_python([section], mode="json", exclude_none=True)[0]
    values = {name: value for name, value in cast(dict[str, Any], values).items() if name != "kind"}
    return values if kinds is None else {"kind": kind_of(section, kinds), **values}


def plain_noise(noise: Noise) -> dict[str, Any]:
    """The section `noise` as plain data; the range stands there, not in the distribution too."""
    distribution = _plain(noise.distribution, DISTRIBUTIONS)
    distribution = {name: value for name, value in distribution.items() if name not in {"sigma_min", "sigma_max"}}
    return {"distribution": distribution, "sigma_min": noise.sigma_min, "sigma_max": noise.sigma_max}


def _plain_task(task: TrainingTask) -> dict[str, Any]:
    family = _plain(task.family, DEGRADATIONS)
    family.pop("value_range", None)  # that of data
    name = {"name": task.name} if task.name else {}
    return {**family, "weight": task.weight, "loss": task.loss, **name}


def build_model(recipe: Recipe, shape: tuple[int, int, int], classes: int = 0) -> ScoreModel:
    """The untrained model that a recipe describes.

    Args:
        recipe: what is built.
        shape: (C, H, W) of the images.
        classes: how many the labels number; used where the recipe says `data.labels`.

    Raises:
        UserError: a parameterization or a network that needs a schedule the recipe does not have, or noise levels
            that are not found yet.
    """
    noise = recipe.noise_levels
    schedule = noise.distribution.sigmas if isinstance(noise.distribution, OnLevels) else None
    regression = isinstance(recipe.parameterization, Regression)
    jpeg = [task.family.quality[1] for task in recipe.degradation if isinstance(task.family, degradations.RandomJPEG)]
    restoration = RestorationSpec(
        tasks=recipe.tasks, masked_input=recipe.data.masked_input, max_jpeg_quality=max(jpeg, default=None)
    )
    spec = ModelSpec(
        shape=shape,
        value_range=recipe.data.value_range,
        sigma_range=(1.0, 1.0) if regression else (noise.sigma_min, noise.sigma_max),
        restoration=restoration if recipe.tasks else None,
    )
    network = _build_network(recipe, shape[0], classes, 0 if schedule is None else len(schedule))
    return ScoreModel(network, _with_schedule(recipe.parameterization, schedule), spec)


def _with_schedule(parameterization: Parameterization, schedule: tuple[float, ...] | None) -> Parameterization:
    """The parameterization on the schedule of the recipe's noise, where it counts its levels."""
    by_index = isinstance(parameterization, VariancePreserving) and parameterization.conditioning == "index"
    indexed = isinstance(parameterization, NCSN) or by_index
    if indexed and schedule is None:
        raise UserError(
            "noise.distribution",
            f"the {parameterization.kind} parameterization counts the levels of a schedule.",
            'Set kind = "levels", "linear-beta", "cosine" or "palette".',
        )
    if indexed or (isinstance(parameterization, NCSNv2) and schedule is not None):
        return replace(cast(NCSN, parameterization), sigmas=schedule)
    return parameterization


def _takes_source(kind: str) -> bool:
    """Whether a network of this kind takes a degraded image."""
    own = networks.registered().get(kind)
    return kind in {"unet", "resunet"} or (own is not None and "source_channels" in signature(own).parameters)


def _build_network(recipe: Recipe, channels: int, classes: int, levels: int) -> nn.Module:
    section = recipe.network
    card: dict[str, Any] = {"kind": section.kind, **asdict(cast(Any, section)), "channels": channels}
    energy = card.pop("energy")
    if section.kind == "refinenet":
        conditional = card.pop("conditional")
        if conditional and not isinstance(recipe.parameterization, NCSN):
            raise UserError(
                "network.conditional",
                "its tables need the index of a noise level, which only the ncsn parameterization gives.",
                'Set parameterization.kind = "ncsn", or conditional = false.',
            )
        # The authors' networks map [0, 1] to 2x − 1; images in [−1, 1] need no change.
        card |= {"levels": levels if conditional else None, "centre": recipe.data.value_range == (0.0, 1.0)}
    if recipe.data.labels:
        if energy or section.kind != "unet":
            raise UserError(
                "data.labels",
                "only a plain U-Net takes a class.",
                'Set network.kind = "unet" and energy = false, or labels = false.',
            )
        card |= {"classes": classes}
    if recipe.degradation:
        card |= {"source_channels": channels}
    network = networks.from_card(card)
    return networks.Energy(network) if energy else network


def bundled_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(__file__).parent.parent / "assets" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


__all__ = [
    "DEGRADATIONS",
    "DISTRIBUTIONS",
    "NETWORKS",
    "OBJECTIVES",
    "PARAMETERIZATIONS",
    "TASKS",
    "Recipe",
    "build_model",
    "bundled_recipes",
    "kind_of",
    "network_kinds",
    "plain_noise",
]
