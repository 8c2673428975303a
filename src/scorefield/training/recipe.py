"""Recipes: everything that a training run depends on, in one checked TOML file.

Settings win in this order: what is passed as an override, the file, the default. A key that is unknown or of
the wrong type is an error that names it, its line and the nearest right one. Nothing is converted but whole
numbers to floats: `steps = "100"` is an error.
"""

import json
import re
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args

import tomli_w
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from scorefield import networks, noise, parameterization
from scorefield.errors import UserError, did_you_mean
from scorefield.model import ScoreModel
from scorefield.noise import NoiseDistribution

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
Fraction = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(_Section):
    """What is trained on."""

    source: str = Field(default="", description="folder, IDX, npz, npy or bundled name; --data wins")
    size: Positive | tuple[Positive, Positive] | None = Field(
        default=None, description="H, W; by default the data's own"
    )
    channels: Annotated[int, Field(ge=1, le=4)] | None = Field(
        default=None, description="by default the data's own"
    )
    flip: bool = Field(default=False, description="mirror half of the pictures")
    dequantize: bool = Field(default=False, description="add U/256, as NCSN does")
    value_range: tuple[float, float] = Field(default=(-1.0, 1.0), description="what black and white become")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError("value_range must rise from black to white")
        return self


class UNetSettings(_Section):
    """See networks.UNet; channels follow the data."""

    kind: Literal["unet"] = "unet"
    widths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 64)
    blocks: Positive = 1
    attention: tuple[Annotated[int, Field(ge=0)], ...] = ()
    patch: Positive = 1
    head_width: Positive = 32
    dropout: Fraction = 0.0


class EDMSettings(_Section):
    """See parameterization.EDM."""

    kind: Literal["edm"] = "edm"
    sigma_data: Annotated[float, Field(gt=0)] = 0.5


class PlainSettings(_Section):
    """A parameterization without settings."""

    kind: Literal["noise", "data", "velocity", "ncsnv2"]


class NCSNSettings(_Section):
    """See parameterization.NCSN; its ladder is `noise`'s."""

    kind: Literal["ncsn"]


class LogNormalLaw(_Section):
    """See noise.LogNormal."""

    kind: Literal["log-normal"] = "log-normal"
    mean: float = -1.2
    std: Annotated[float, Field(gt=0)] = 1.2


class LogUniformLaw(_Section):
    """See noise.LogUniform; between sigma_min and sigma_max."""

    kind: Literal["log-uniform"]


class RungsLaw(_Section):
    """See noise.Rungs; a geometric ladder between sigma_max and sigma_min."""

    kind: Literal["rungs"]
    levels: Annotated[int, Field(ge=2)] = 10


class Noise(_Section):
    """The noise levels that the model learns."""

    sigma_min: Annotated[float, Field(gt=0)] = 0.002
    sigma_max: Annotated[float, Field(gt=0)] = 80.0
    law: Annotated[LogNormalLaw | LogUniformLaw | RungsLaw, Field(discriminator="kind")] = LogNormalLaw()

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if not self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min = {self.sigma_min:g} must lie below sigma_max = {self.sigma_max:g}")
        return self


class Objective(_Section):
    """See objectives.denoising_score_matching."""

    p: Annotated[float, Field(ge=1)] = Field(default=2, description="power of the norm")
    weight: Literal["uniform", "output"] = Field(
        default="output",
        description="uniform: λ = σ² as NCSN; output: the network's raw error alike at every σ",
    )


class Optimizer(_Section):
    """Adam (Kingma & Ba 2015) and its learning rate."""

    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    batch: Positive = 128
    warmup: Annotated[int, Field(ge=0)] = Field(default=100, description="steps of linear warm-up")
    decay_after: Annotated[int, Field(ge=0)] = Field(
        default=0, description="from this step on the rate falls as 1/√step; 0 = constant"
    )
    clip: Annotated[float, Field(gt=0)] = Field(default=1.0, description="greatest norm of the gradient")


class Average(_Section):
    """The average of weights over training that sampling uses."""

    decay: Fraction = 0.9999
    span: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1,
        description="until `decay` is reached, the average covers about this share of the steps made",
    )


class Training(_Section):
    """Length, and what is written on the way."""

    steps: Positive = 200_000
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    log_every: Positive = Field(default=50, description="steps")
    save_every: Duration = 60.0
    sample_every: Duration = 60.0
    sample_count: Positive = 36


class Recipe(_Section):
    """A whole training run."""

    data: Data = Data()
    network: UNetSettings = UNetSettings()
    parameterization: Annotated[EDMSettings | NCSNSettings | PlainSettings, Field(discriminator="kind")] = (
        EDMSettings()
    )
    noise: Noise = Noise()
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    average: Average = Average()
    training: Training = Training()

    def to_toml(self) -> str:
        """The recipe as a TOML file that repeats it."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def noise_law(self) -> NoiseDistribution:
        """The law of σ in training."""
        law, levels = self.noise.law, self.noise
        if isinstance(law, LogNormalLaw):
            return noise.LogNormal(mean=law.mean, std=law.std)
        if isinstance(law, LogUniformLaw):
            return noise.LogUniform(sigma_min=levels.sigma_min, sigma_max=levels.sigma_max)
        rungs = noise.geometric(levels.sigma_max, levels.sigma_min, law.levels)
        return noise.Rungs(sigmas=tuple(rungs.tolist()))


def build_model(recipe: Recipe, shape: tuple[int, int, int]) -> ScoreModel:
    """The untrained model that a recipe describes, for pictures of `shape` (C, H, W).

    Raises:
        UserError: the NCSN parameterization without a ladder.
    """
    described = recipe.parameterization.model_dump()
    if described["kind"] == "ncsn":
        law = recipe.noise_law()
        if not isinstance(law, noise.Rungs):
            raise UserError(
                "noise.law", "the ncsn parameterization trains on a ladder.", 'Set kind = "rungs".'
            )
        described["sigmas"] = law.sigmas
    return ScoreModel(
        networks.from_card({**recipe.network.model_dump(), "channels": shape[0]}),
        parameterization.from_card(described),
        shape=shape,
        value_range=recipe.data.value_range,
        sigma_range=(recipe.noise.sigma_min, recipe.noise.sigma_max),
    )


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
    unknown = first["type"] == "extra_forbidden"
    *inner, last = [str(key) for key in first["loc"]]
    keys = [key for i, key in enumerate(inner) if i == 0 or not _is_tag(key)]
    keys += [last] if unknown or not keys or not _is_tag(last) else []
    dotted = ".".join(keys)
    given = [o for o in overrides if f"{dotted}.".startswith(o.partition("=")[0].replace(" ", "") + ".")]
    where = f"--set {given[-1]}" if given else f"{path}{_line_of(text, keys)}: {dotted}"
    if unknown:
        return UserError(where, "no such setting.", did_you_mean(last, _fields_at(first["loc"][:-1])))
    if first["type"].startswith("union_tag"):
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
    kinds = {"edm", "noise", "data", "velocity", "ncsnv2", "ncsn", "log-normal", "log-uniform", "rungs"}
    return key in kinds or key.startswith(("function-", "constrained-", "tuple["))


def _fields_at(place: Sequence[int | str]) -> list[str]:
    """The settings of the section at a place of pydantic's, which names the alternative it took."""
    sections: list[Any] = [Recipe]
    for key in place:
        inner = [section.model_fields[key].annotation for section in sections if key in section.model_fields]
        if inner:
            sections = [cls for kind in inner for cls in (get_args(kind) or [kind])]
        else:
            sections = [cls for cls in sections if key in get_args(cls.model_fields["kind"].annotation)]
    return [name for section in sections for name in section.model_fields]


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
