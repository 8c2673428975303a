"""Reading a recipe: every mistake names its file, line, key and the nearest right name.

Settings win in this order: an override, the file, the default. Nothing is converted but whole numbers to
floats: `steps = "100"` is an error.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

from pydantic import ValidationError

from scorefield.errors import UserError, did_you_mean
from scorefield.networks import kind_hint
from scorefield.plain import MAX_DEPTH, check_plain
from scorefield.training.recipe import (
    DEGRADATIONS,
    DISTRIBUTIONS,
    OBJECTIVES,
    PARAMETERIZATIONS,
    Recipe,
    adapter,
    bundled_recipes,
    network_kinds,
)
from scorefield.training.settings import Average, Data, Noise, Optimizer, Training, TrainingTask

T = TypeVar("T")
Keys = tuple[str, ...]
_MAX_BYTES = 2**20  # the bundled recipes have 2,000
_LONG_KEY = re.compile(r"(?:\.[ \t]*[\w\"'-]+[ \t]*){20}")  # tomllib takes quadratic time over dotted keys
_LARGEST = 10_000  # of a degradation's numbers: counts, sides and strengths, which are drawn for each image
_TASK = ("weight", "loss", "name")  # keys of a degradation beside those of its family


def _part(cls: type, *names: str) -> type[Any]:
    """A dataclass of some of the fields of another, whose other fields are made elsewhere."""
    hints = get_type_hints(cls, include_extras=True)
    kept: list[Any] = [(f.name, hints[f.name], field(default=f.default)) for f in fields(cls) if f.name in names]
    return make_dataclass(cls.__name__, kept, frozen=True, kw_only=True)


_SigmaRange = _part(Noise, "sigma_min", "sigma_max")
_Share = _part(TrainingTask, *_TASK)


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
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise UserError(path, f"{size} bytes are no recipe.")
        text = path.read_text(encoding="utf-8")
        if _LONG_KEY.search(text):
            raise RecursionError
        settings = tomllib.loads(text)
    except RecursionError as error:
        raise UserError(path, "is nested too deeply.") from error
    except ValueError as error:  # no TOML, no UTF-8, a number of too many digits
        raise UserError(path, f"not valid TOML: {error}.") from error
    check_plain(settings, path)
    for override in overrides:
        _lay_over(settings, override)
    check_plain(settings, "--set")
    return _Reader(path=path, text=text, overrides=tuple(overrides)).recipe(settings)


def recipe_from(settings: Mapping[str, Any]) -> Recipe:
    """The recipe that `Recipe.to_dict` described.

    Raises:
        UserError: a key that is unknown or ill-typed.
    """
    return _Reader(path=Path("recipe"), text="", overrides=()).recipe(dict(settings))


def noise_from(settings: Mapping[str, Any]) -> Noise:
    """The section `noise` that `plain_noise` described.

    Raises:
        UserError: a key that is unknown or ill-typed.
    """
    return _Reader(path=Path("recipe"), text="", overrides=()).noise(dict(settings))


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Turns plain settings into dataclasses.

    Args:
        path: the file, for errors.
        text: what it holds.
        overrides: what was laid over it.
    """

    path: Path
    text: str
    overrides: tuple[str, ...]

    def recipe(self, settings: dict[str, Any]) -> Recipe:
        """The whole recipe."""
        self._known(settings, (f.name for f in fields(Recipe)), ())
        data = self._section(Data, settings.get("data", {}), ("data",))
        noise = settings.get("noise", {})
        if isinstance(noise, str) and noise != "auto":
            raise self._error(("noise",), f"input should be 'auto', got {noise!r}.")
        tasks: Any = settings.get("degradation", [])
        if not isinstance(tasks, list):
            raise self._error(("degradation",), f"input should be a list, got {tasks!r}.")
        parts: dict[str, Any] = {
            "degradation": tuple(
                self._task(task, data, ("degradation", str(number)))
                for number, task in enumerate(cast(list[Any], tasks))
            ),
            "network": self._choice(network_kinds(), settings.get("network", {}), ("network",), usual="unet"),
            "parameterization": self._choice(
                PARAMETERIZATIONS,
                settings.get("parameterization", {"kind": "edm"}),
                ("parameterization",),
                derived=("sigmas",),  # from `noise`
            ),
            "noise": "auto" if noise == "auto" else self.noise(noise),
            "objective": self._choice(OBJECTIVES, settings.get("objective", {}), ("objective",), usual="denoising"),
        }
        for name, cls in (("optimizer", Optimizer), ("average", Average), ("training", Training)):
            parts[name] = self._section(cls, settings.get(name, {}), (name,))
        try:
            return Recipe(data=data, **parts)
        except ValueError as error:
            raise UserError(self.path, f"{error}.") from error

    def noise(self, settings: Any) -> Noise:
        """The section `noise`; a distribution that has ends takes them from there."""
        given = self._table(settings, ("noise",))
        self._known(given, (f.name for f in fields(Noise)), ("noise",))
        at = ("noise", "distribution")
        raw = given.pop("distribution", {"kind": "log-normal"})
        ends = {"sigma_min": given.get("sigma_min", 0.002), "sigma_max": given.get("sigma_max", 80.0)}
        distribution = self._choice(DISTRIBUTIONS, raw, at, inherit=ends)
        own = Noise.of(distribution)
        given = {"sigma_min": own.sigma_min, "sigma_max": own.sigma_max, **given}
        range_ = self._section(_SigmaRange, given, ("noise",))
        try:
            return Noise(distribution=distribution, sigma_min=range_.sigma_min, sigma_max=range_.sigma_max)
        except ValueError as error:
            raise self._error(("noise",), f"{error}.") from error

    def _task(self, settings: Any, data: Data, keys: Keys) -> TrainingTask:
        given = self._table(settings, keys)
        for key, value in given.items():
            numbers = cast(list[Any], value) if isinstance(value, list) else [value]
            if any(isinstance(number, int | float) and abs(number) > _LARGEST for number in numbers):
                raise self._error((*keys, key), f"{value!r} is more than {_LARGEST:,}.")
        shares = {key: given.pop(key) for key in _TASK if key in given}
        family = self._choice(DEGRADATIONS, given, keys, inherit={"value_range": data.value_range}, beside=_TASK)
        share = self._section(_Share, shares, keys)
        return TrainingTask(family=family, weight=share.weight, loss=share.loss, name=share.name)

    def _choice(
        self,
        kinds: Mapping[str, Any],
        settings: Any,
        keys: Keys,
        *,
        usual: str | None = None,
        inherit: Mapping[str, Any] | None = None,
        beside: Sequence[str] = (),
        derived: Sequence[str] = (),
    ) -> Any:
        """The dataclass that `kind` names.

        Args:
            kinds: by name.
            settings: the section.
            keys: its place.
            usual: the kind of a section without; None for sections that must say it.
            inherit: settings of other sections, for those classes that have a field of the name.
            beside: further keys that the section may hold.
            derived: fields that the section may not hold.
        """
        given = self._table(settings, keys)
        kind: Any = given.pop("kind", usual)
        if kind is None:
            raise self._error((*keys, "kind"), "lacks `kind`.", 'Write kind = "…" first, see the default recipe.', keys)
        if not isinstance(kind, str) or kind not in kinds:
            hint = kind_hint(str(kind), kinds) if keys == ("network",) else did_you_mean(str(kind), kinds)
            raise self._error((*keys, "kind"), f"no such kind {kind!r}.", hint, keys)
        cls = kinds[kind]
        names = {f.name for f in fields(cls) if f.init} - {"kind", *derived}
        self._known(given, [*names, *beside, "kind"], keys)
        inherited = {name: value for name, value in (inherit or {}).items() if name in names}
        return self._section(cls, {**inherited, **given}, keys)

    def _section(self, cls: type[T], settings: Any, keys: Keys) -> T:
        given = self._table(settings, keys)
        try:
            # JSON, since TOML has no tuples: pydantic then takes lists for them.
            return cast(T, adapter(cls).validate_json(json.dumps([given], default=str))[0])
        except ValidationError as error:
            raise self._explain(error, cls, keys) from error
        except UserError as error:  # what a class itself refuses
            raise self._error(keys, error.what, error.mend) from error

    def _table(self, value: Any, keys: Keys) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._error(keys, f"input should be a section, got {value!r}.")
        return dict(cast(dict[str, Any], value))

    def _known(self, given: Mapping[str, Any], names: Iterable[str], keys: Keys) -> None:
        known = list(names)
        for key in given:
            if key not in known:
                raise self._error((*keys, key), "no such setting.", did_you_mean(key, known))

    def _explain(self, error: ValidationError, cls: type, keys: Keys) -> UserError:
        first = error.errors()[0]
        inner, names = _place(cls, first["loc"][1:])
        keys = (*keys, *inner)
        if first["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            return self._error((*keys, str(first["loc"][-1])), "no such setting.", did_you_mean(
                str(first["loc"][-1]), names))  # fmt: skip
        message = first["msg"].removeprefix("Value error, ")
        if not inner and message.partition(" ")[0] in names:  # a class names its field first
            keys = (*keys, message.partition(" ")[0])
        message = message.replace("valid array", "list of the right length").replace("an object", "a section")
        value = repr(first["input"])
        got = "" if isinstance(first["input"], dict) or value in message else f", got {value}"
        return self._error(keys, f"{message[0].lower()}{message[1:]}{got}.")

    def _error(self, keys: Keys, what: str, mend: str = "", shown: Keys | None = None) -> UserError:
        dotted = ".".join(keys)
        given = [o for o in self.overrides if f"{dotted}.".startswith(o.partition("=")[0].replace(" ", "") + ".")]
        place = f"{self.path}{_line_of(self.text, keys)}: {'.'.join(shown or keys)}"
        return UserError(f"--set {given[-1]}" if given else place, what, mend)


def _place(cls: Any, loc: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """The keys of pydantic's place, without the alternatives it names; and the fields of the last section."""
    keys: list[str] = []
    sections: list[Any] = [cls]
    for key in loc:
        hints = [get_type_hints(section) for section in sections]
        inner = [hint[key] for hint in hints if key in hint]
        if inner:
            keys.append(str(key))
            found = [section for kind in inner for section in _sections_in(kind)]
            sections = found or sections
        elif isinstance(key, int):
            keys.append(str(key))
    return keys, [f.name for section in sections for f in fields(section) if f.name != "kind"]


def _sections_in(annotation: Any) -> list[Any]:
    if is_dataclass(annotation):
        return [annotation]
    return [section for kind in get_args(annotation) for section in _sections_in(kind)]


def _lay_over(settings: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if len(keys) > MAX_DEPTH or _LONG_KEY.search(value):
        raise UserError(f"--set {keys[0]}…", "is nested too deeply.")
    if not equals or not all(keys):
        raise UserError(f"--set {override}", "not of the form section.key=value.")
    try:
        parsed = tomllib.loads(f"x = {value}")["x"]
    except RecursionError as error:
        raise UserError(f"--set {key}", "is nested too deeply.") from error
    except (ValueError, KeyError):
        parsed = value.strip()
    for part in keys[:-1]:
        inner: Any = settings.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {override}", f"`{part}` is a value, not a section.")
        settings = cast(dict[str, Any], inner)
    settings[keys[-1]] = parsed


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


__all__ = ["noise_from", "read_recipe", "recipe_from"]
