"""Recipes: everything that a training run depends on, in one checked TOML file.

Settings win in this order: what is passed as an override, the file, the default. A key that is unknown or of
the wrong type is an error that names it, its line and the nearest right one. Nothing is converted but whole
numbers to floats: `steps = "100"` is an error. The settings themselves stand in `training.settings`.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, cast, get_args

import tomli_w
from pydantic import Field, ValidationError, model_validator
from torch import nn

from scorefield import networks, noise_distributions, parameterization, schedules
from scorefield.errors import UserError, did_you_mean
from scorefield.model import ScoreModel
from scorefield.noise_distributions import NoiseDistribution
from scorefield.training.degradation_settings import AnyDegradation, PairedDegradation, jpeg_up_to, tasks_of
from scorefield.training.settings import (
    Average,
    Data,
    DenoisingObjective,
    EDMSettings,
    LogNormalDistribution,
    LogUniformDistribution,
    NCSNSettings,
    NCSNv2Settings,
    Network,
    Noise,
    NoiseLevels,
    Objective,
    Optimizer,
    PredictionSettings,
    RefineNetSettings,
    RegressionSettings,
    ResUNetSettings,
    ScheduleDistribution,
    Section,
    Training,
    UNetSettings,
)


class Recipe(Section):
    """A whole training run."""

    data: Data = Data()
    degradation: tuple[AnyDegradation, ...] = ()
    network: Network = UNetSettings()
    parameterization: Annotated[
        EDMSettings | PredictionSettings | RegressionSettings | NCSNSettings | NCSNv2Settings,
        Field(discriminator="kind"),
    ] = EDMSettings()
    noise: NoiseLevels = Noise()
    objective: Objective = DenoisingObjective()
    optimizer: Optimizer = Optimizer()
    average: Average = Average()
    training: Training = Training()

    @model_validator(mode="after")
    def _restores(self) -> Self:
        if any(isinstance(entry, PairedDegradation) for entry in self.degradation) and len(self.degradation) > 1:
            raise ValueError('pairs are learned alone: degradation = [{ kind = "paired" }]')
        if self.degradation and not isinstance(self.objective, DenoisingObjective):
            raise ValueError('a model that restores learns by denoising: objective.kind = "denoising"')
        if self.degradation and not isinstance(self.network, UNetSettings | ResUNetSettings):
            raise ValueError('only a U-Net can be shown a degraded image: network.kind = "unet" or "resunet"')
        if isinstance(self.parameterization, RegressionSettings) and not self.degradation:
            raise ValueError("a regression needs something to go by: `degradation`")
        if getattr(self.parameterization, "residual", False) and not self.degradation:
            raise ValueError("a residual is one of degraded images: `degradation`")
        return self

    def to_toml(self) -> str:
        """The recipe as a TOML file that repeats it."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    @property
    def noise_levels(self) -> Noise:
        """The noise levels as numbers.

        Raises:
            UserError: they are `auto`, still to be found from data.
        """
        if isinstance(self.noise, Noise):
            return self.noise
        raise UserError("noise", "`auto` is found from images, when training starts.", "Give sigma_max ….")

    def noise_distribution(self) -> NoiseDistribution:
        """The distribution of σ in training.

        Raises:
            UserError: the noise levels are `auto`, still to be found from data.
        """
        section = self.noise_levels
        distribution = section.distribution
        if isinstance(distribution, LogNormalDistribution):
            return noise_distributions.LogNormal(mean=distribution.mean, std=distribution.std)
        if isinstance(distribution, LogUniformDistribution):
            return noise_distributions.LogUniform(sigma_min=section.sigma_min, sigma_max=section.sigma_max)
        levels = (
            distribution.schedule()
            if isinstance(distribution, ScheduleDistribution)
            else schedules.geometric(section.sigma_max, section.sigma_min, distribution.levels)
        )
        return noise_distributions.DiscreteLevels(sigmas=tuple(levels.tolist()))


def build_model(recipe: Recipe, shape: tuple[int, int, int], classes: int = 0) -> ScoreModel:
    """The untrained model that a recipe describes, for images of `shape` (C, H, W).

    Args:
        recipe: what is built.
        shape: of the images.
        classes: how many classes their labels number; they count where the recipe says `data.labels`.

    Raises:
        UserError: a parameterization that is told a noise level without a schedule, a network's tables without its
            noise levels, or noise levels that are still to be found.
    """
    levels, distribution = recipe.noise_levels, recipe.noise_distribution()
    schedule = distribution.sigmas if isinstance(distribution, noise_distributions.DiscreteLevels) else None
    described = recipe.parameterization.model_dump()
    indexed = described["kind"] == "ncsn" or described.get("told") == "index"
    if indexed and schedule is None:
        raise UserError(
            "noise.distribution",
            f"the {recipe.parameterization.kind} parameterization that is told a noise level trains on a schedule.",
            'Set kind = "levels", "linear-beta", "cosine" or "palette".',
        )
    if (indexed or described["kind"] == "ncsnv2") and schedule is not None:
        described["sigmas"] = schedule
    regression = isinstance(recipe.parameterization, RegressionSettings)
    return ScoreModel(
        _build_network(recipe, shape[0], classes, 0 if schedule is None else len(schedule)),
        parameterization.from_card(described),
        shape=shape,
        value_range=recipe.data.value_range,
        sigma_range=(1.0, 1.0) if regression else (levels.sigma_min, levels.sigma_max),
        tasks=tasks_of(recipe.degradation),
        hole=recipe.data.hole,
        jpeg_up_to=jpeg_up_to(recipe.degradation),
    )


def _build_network(recipe: Recipe, channels: int, classes: int, levels: int) -> nn.Module:
    section = recipe.network
    card = {**section.model_dump(exclude={"energy", "conditional"}), "channels": channels}
    if isinstance(section, RefineNetSettings):
        if section.conditional and recipe.parameterization.kind != "ncsn":
            raise UserError(
                "network.conditional",
                "its tables need a noise level's number, which the ncsn parameterization alone tells.",
                'Set parameterization.kind = "ncsn", or conditional = false.',
            )
        # The authors' networks double pixels of [0, 1] and take 1 off; those of [−1, 1] come so already.
        centre = recipe.data.value_range == (0.0, 1.0)
        card |= {"levels": levels if section.conditional else None, "centre": centre}
    if recipe.data.labels:
        if section.energy or not isinstance(section, UNetSettings):
            raise UserError(
                "data.labels",
                "only a plain U-Net can be told a class.",
                'Set network.kind = "unet" and energy = false, or labels = false.',
            )
        card |= {"classes": classes}
    if recipe.degradation:
        card |= {"source_channels": channels}
    network = networks.from_card(card)
    return networks.Energy(network) if section.energy else network


def bundled_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(__file__).parent.parent / "assets" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a file or of a bundled name, with overrides laid over it.

    Args:
        source: a TOML file, or a name in `bundled_recipes`.
        overrides: texts `section.key=value`, the value in TOML (a bare word is a string).

    Raises:
        UserError: no such recipe, bad TOML, or a key that is unknown or ill-typed, with its line.
    """
    path = Path(source)
    if not path.is_file():
        known = bundled_recipes()
        if str(source) not in known:
            raise UserError(source, "no such recipe.", did_you_mean(str(source), known))
        path = known[str(source)]
    try:
        text = path.read_text(encoding="utf-8")
        settings = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(path, f"not valid TOML: {error}.") from error
    for override in overrides:
        _lay_over(settings, override)
    try:
        return Recipe.model_validate_json(json.dumps(settings, default=str))  # JSON, since TOML has no tuples
    except ValidationError as error:
        raise _explain(error, path, text, overrides) from error


def _lay_over(settings: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise UserError(f"--set {override}", "not of the form section.key=value.")
    try:
        parsed = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in keys[:-1]:
        inner: Any = settings.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {override}", f"`{part}` is a value, not a section.")
        settings = cast(dict[str, Any], inner)
    settings[keys[-1]] = parsed


def _explain(error: ValidationError, path: Path, text: str, overrides: Sequence[str]) -> UserError:
    first = error.errors()[0]
    if not first["loc"]:  # sections that do not go together
        return UserError(path, f"{first['msg'].removeprefix('Value error, ')}.")
    unknown = first["type"] == "extra_forbidden"
    *inner, last = [str(key) for key in first["loc"]]
    keys = [key for i, key in enumerate(inner) if i == 0 or not _is_tag(key)]
    keys += [last] if unknown or not keys or not _is_tag(last) else []
    dotted = ".".join(keys)
    given = [o for o in overrides if f"{dotted}.".startswith(o.partition("=")[0].replace(" ", "") + ".")]
    kindless = first["type"].startswith("union_tag")
    line = _line_of(text, [*keys, "kind"] if kindless else keys)
    where = f"--set {given[-1]}" if given else f"{path}{line}: {dotted}"
    if unknown:
        return UserError(where, "no such setting.", did_you_mean(last, _fields_at(first["loc"][:-1])))
    if kindless:
        context = first.get("ctx", {})
        kinds = str(context.get("expected_tags", "")).replace("'", "").split(", ")
        if tag := context.get("tag"):
            return UserError(where, f"no such kind {tag!r}.", did_you_mean(str(tag), kinds))
        return UserError(where, "lacks `kind`.", 'Write kind = "…" first, see the default recipe.')
    message = first["msg"].removeprefix("Value error, ")
    message = message.replace("valid array", "list of the right length").replace("an object", "a section")
    given_value = repr(first["input"])
    got = "" if isinstance(first["input"], dict) or given_value in message else f", got {given_value}"
    return UserError(where, f"{message[0].lower()}{message[1:]}{got}.")


def _is_tag(key: str) -> bool:
    """Whether pydantic put this into an error's place, to tell which alternative of a union it tried."""
    tags = {"set", "auto"}
    for section in _every_section(Section):
        if kind := section.model_fields.get("kind"):
            tags.update(get_args(kind.annotation))
    return key in tags or key.startswith(("function-", "constrained-", "tuple["))


def _every_section(section: type[Section]) -> Iterator[type[Section]]:
    for inner in section.__subclasses__():
        yield inner
        yield from _every_section(inner)


def _fields_at(place: Sequence[int | str]) -> list[str]:
    """The settings of the section at a place of pydantic's, which names the alternative it took."""
    sections: list[type[Section]] = [Recipe]
    for key in (key for key in place if isinstance(key, str)):
        inner = [section.model_fields[key].annotation for section in sections if key in section.model_fields]
        if inner:
            sections = [cls for kind in inner for cls in _sections_in(kind)]
        else:
            sections = [cls for cls in sections if key in _kinds_of(cls)]
    return [name for section in sections for name in section.model_fields]


def _sections_in(annotation: Any) -> list[type[Section]]:
    """The sections among a setting's alternatives, each of which may be tagged, or in a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for kind in get_args(annotation) for section in _sections_in(kind)]


def _kinds_of(section: type[Section]) -> tuple[Any, ...]:
    return get_args(section.model_fields["kind"].annotation) if "kind" in section.model_fields else ("set",)


def _line_of(text: str, keys: Sequence[str]) -> str:
    """`:line` of the setting, else of the last of `keys` that stands in the file, or nothing."""
    section, found, dotted = "", "", ".".join(keys)
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\]]+)\]", line):
            section = header[1].strip()
        name = re.match(r"\s*([\w.-]+)\s*=", line)
        full = ".".join(filter(None, [section, name[1] if name else ""]))
        if full == dotted:
            return f":{number}"
        if name and (dotted.startswith(f"{full}.") or (full.startswith(f"{dotted}.") and not found)):
            found = f":{number}"
    return found
