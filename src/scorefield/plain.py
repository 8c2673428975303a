"""Plain data, as JSON and TOML hold it, before anything is made of it: its depth, its types, its size.

A model's card and a recipe are written by others. `check_plain` and `check_settings` look at all of it first, so that
what is built from it is of the right types, finite and of a size that fits.
"""

import inspect
import math
import os
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from scorefield.errors import UserError, did_you_mean

MAX_DEPTH = 16
"""Sections within sections; a recipe has four, an energy of a diffusers network five."""
MAX_ITEMS = 100_000
"""Entries of a list: a published schedule has 2,000 levels."""
MAX_WHOLE = 2**31
"""Whole numbers of a card stay below; those of a network have narrower bounds of their own."""


def check_plain(value: object, where: object) -> None:
    """Refuse what is nested too deeply, or holds too many entries or too long numbers, without recursion.

    Raises:
        UserError: it does.
    """
    level, entries = [value], 0
    for _ in range(MAX_DEPTH):
        level = [
            item
            for section in level
            if isinstance(section, dict | list)
            for item in (section.values() if isinstance(section, dict) else cast(list[object], section))
        ]
        entries += len(level)
        if any(isinstance(item, int) and item.bit_length() > 64 for item in level):
            raise UserError(where, "holds a whole number of more than 64 bits.")
        if entries > 10 * MAX_ITEMS:
            raise UserError(where, f"holds more than {10 * MAX_ITEMS:,} entries.")
        if not level:
            return
    raise UserError(where, f"is nested more than {MAX_DEPTH} levels deep.")


def check_settings(made_by: Any, settings: Mapping[str, Any], where: str) -> None:
    """See that plain settings fit the parameters of what is called with them.

    Args:
        made_by: a class or function; its annotations say what fits. Those that are no plain types accept anything.
        settings: by name.
        where: for errors.

    Raises:
        UserError: an unknown or missing setting, one of another type, a number that is not finite or too large.
    """
    parameters = {
        name: one for name, one in inspect.signature(made_by).parameters.items()
        if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)
    }  # fmt: skip
    hints = _hints(made_by)
    for name, one in parameters.items():
        if one.default is one.empty and name not in settings:
            raise UserError(where, f"lacks `{name}`.")
    for name, value in settings.items():
        if name not in parameters:
            raise UserError(where, f"no such setting `{name}`.", did_you_mean(name, parameters))
        known = get_args(hints.get(name)) if get_origin(hints.get(name)) is Literal else ()
        if known and isinstance(value, str) and value not in known:
            raise UserError(where, f"no such {name} {_short(value)}.", did_you_mean(value, map(str, known)))
        if not _fits_within_bounds(value, hints.get(name, Any)):
            raise UserError(f"{where}.{name}", f"{_short(value)} is not possible.")


def check_memory(count: int, what: str) -> None:
    """Refuse float32 numbers that the machine's memory cannot hold, before they are allocated.

    Raises:
        UserError: they are too many.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return  # a system that does not say
    if 4 * count > memory:
        raise UserError(
            what, f"{count:.3g} weights need {4 * count / 1e9:,.0f} GB, this machine has {memory / 1e9:,.0f}."
        )


def _hints(made_by: Any) -> dict[str, Any]:
    try:
        return get_type_hints(made_by.__init__ if inspect.isclass(made_by) else made_by)
    except (NameError, TypeError, AttributeError):
        return {}  # of a user's own class, with names that are not there at run time


def _fits_within_bounds(value: Any, kind: Any) -> bool:
    """Whether plain data are of an annotated type and of a bounded size.

    JSON has lists for tuples, and whole numbers for floats.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits_within_bounds(value, one) for one in inner)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if kind in (bool, str, NoneType):
        return isinstance(value, kind) and (kind is not str or len(cast(str, value)) <= MAX_ITEMS)
    if kind is None:
        return value is None
    if kind is int:
        return type(value) is int and abs(value) < MAX_WHOLE
    if kind is float:
        return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    if origin in (tuple, list):
        if not isinstance(value, list | tuple) or len(cast(list[Any], value)) > MAX_ITEMS:
            return False
        items = cast(list[Any], value)
        if origin is list or inner[-1:] == (...,):
            return all(_fits_within_bounds(item, inner[0]) for item in items)
        return len(items) == len(inner) and all(_fits_within_bounds(*pair) for pair in zip(items, inner, strict=True))
    if origin is dict or kind is dict:
        return isinstance(value, dict)
    if inspect.isclass(kind) and kind.__module__.startswith("torch."):
        return isinstance(value, kind)  # a network inside another
    return True


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


__all__ = ["MAX_DEPTH", "check_memory", "check_plain", "check_settings"]
