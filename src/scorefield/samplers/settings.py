"""A sampler's own settings by name: which it has, and whether what is asked of them can be.

A setting is a plain argument of what makes a sampler: a number, a switch or a word. What a Langevin sampler
calls `steps`, its updates on each noise level, is asked for as `steps_each`, since `plan` has `steps` for the whole
way down.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from inspect import signature
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from scorefield.errors import UserError, did_you_mean

Setting = float | int | str | bool
"""A value of a setting."""

Kind = tuple[Any, ...]
"""What a setting may be: types out of `float, int, str, bool`, or the words of a choice."""

_STEPS = {"steps": "steps_each"}
_WORDS: dict[Any, str] = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}


def settings_of(make: Callable[..., object]) -> dict[str, Kind]:
    """The settings of a sampler's class, or of a function that makes one: its arguments of plain values."""
    hints = get_type_hints(make)
    kinds = {_STEPS.get(name, name): _kind(hints[name]) for name in signature(make).parameters}
    return {name: kind for name, kind in kinds.items() if kind}


def arguments(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """The settings as the arguments of what makes the sampler."""
    back = {asked: name for name, asked in _STEPS.items()}
    return {back.get(name, name): value for name, value in settings.items()}


def values_of(sampler: object) -> dict[str, Setting]:
    """What a sampler's settings are, by the names that `plan` takes; those of a sampler within it too."""
    found: dict[str, Setting] = {}
    if not is_dataclass(sampler):
        return found
    for field in fields(sampler):
        value = getattr(sampler, field.name)
        if isinstance(value, float | int | str):
            found[_STEPS.get(field.name, field.name)] = value
        else:
            found |= values_of(value)
    return found


def check_settings(
    sampler: str, settings: Mapping[str, Setting], known: Mapping[str, Mapping[str, Kind]]
) -> dict[str, Setting]:
    """The settings once they are known to be the sampler's; whole numbers made floats where due.

    Args:
        sampler: its name.
        settings: what is asked for.
        known: the settings of every sampler.

    Raises:
        UserError: a setting that the sampler does not have, or a value of another kind.
    """
    found: dict[str, Setting] = {}
    for name, value in settings.items():
        if name not in known[sampler]:
            raise UserError(name, f"the {sampler} sampler has no such setting.", _whose(sampler, name, known))
        kind = known[sampler][name]
        if not any(_fits(value, part) for part in kind):
            raise _misfit(name, value, kind)
        found[name] = float(value) if isinstance(value, int) and float in kind else value
        if name == "steps_each" and isinstance(value, int) and value < 1:
            raise UserError(name, f"need at least one, got {value}.")
    return found


def _kind(hint: Any) -> Kind:
    """What an annotation allows; empty if that is no plain value."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        parts = [_kind(part) for part in get_args(hint) if part is not NoneType]
        return tuple(one for part in parts for one in part) if all(parts) else ()
    return (hint,) if hint in _WORDS else ()


def _fits(value: Setting, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind) if kind in _WORDS else value == kind


def _misfit(name: str, value: Setting, kind: Kind) -> UserError:
    words = [part for part in kind if part not in _WORDS]
    if words and isinstance(value, str):
        return UserError(name, f"no such {name} {value!r}.", did_you_mean(value, map(str, words)))
    meant = " or ".join(_WORDS.get(part, str(part)) for part in kind)
    return UserError(name, f"need {meant}, got {value!r}.")


def _whose(sampler: str, name: str, known: Mapping[str, Mapping[str, Kind]]) -> str:
    """Which samplers have the setting; where none has, which of its own settings may be meant."""
    owners = [owner for owner, settings in known.items() if name in settings]
    if owners:
        return f"It belongs to {', '.join(owners)}{' alone' if len(owners) == 1 else ''}."
    own = known[sampler]
    return did_you_mean(name, own) if own else "It has no settings."
