"""The options that ask for classes, and what they mean for a model."""

import math
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from scorefield.errors import UserError, did_you_mean

Classes = Annotated[
    str | None,
    typer.Option(
        "--class",
        help="Models trained with labels: a class's number or name, several with commas between, or all; the "
        "images take them in turn.",
    ),
]
GuidanceWeight = Annotated[
    float,
    typer.Option(
        "--guidance",
        help="How far towards the class: 1 as trained, 2 or 3 more typical and less varied, 0 not at all.",
    ),
]
GuidanceInterval = Annotated[
    str | None,
    typer.Option("--guidance-interval", help="Guide only at noise levels within LOW:HIGH, e.g. 0.2:5."),
]


def chosen_classes(text: str | None, model: str, count: int) -> list[int] | None:
    """The classes that `--class` names, of a model that knows `count`; None where it is not given.

    Raises:
        UserError: a model without classes, or a class that it does not know.
    """
    if text is None:
        return None
    if not count:
        raise UserError("--class", f"{model} was trained without class labels.", "Leave it out.")
    from scorefield import checkpoint, hub

    names = checkpoint.read_card(hub.find(model))["notes"].get("class_names", [])
    return class_numbers(text, names, count)


def class_numbers(text: str, names: Sequence[str], count: int) -> list[int]:
    """Numbers of the classes in a list with commas.

    A name is found by its whole, whatever its capitals, or by a part that no other name has. A name that
    is a number wins over the number.

    Args:
        text: as in `3`, `boot` or `3,5,boot`; `all` is every class in order.
        names: of the classes; may be empty.
        count: how many classes there are.

    Raises:
        UserError: no such class, or a part of more than one name.
    """
    if text.strip().lower() == "all" and "all" not in names:
        return list(range(count))
    return [_class_number(part.strip(), names, count) for part in text.split(",")]


def _class_number(part: str, names: Sequence[str], count: int) -> int:
    lower = [name.lower() for name in names]
    if part.lower() in lower:
        return lower.index(part.lower())
    if re.fullmatch(r"\d{1,9}", part) and int(part) < count:
        return int(part)
    found = [i for i, name in enumerate(lower) if part and part.lower() in name]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(names[i] for i in found)
        raise UserError("--class", f"{part!r} may be {several}.", "Write one of them out.")
    mend = did_you_mean(part, names) if names else f"Numbers run from 0 to {count - 1}."
    raise UserError("--class", f"no such class {part!r}.", mend)


def guidance_interval(text: str | None) -> tuple[float, float]:
    """The noise levels that `--guidance-interval` names; all where it is not given, or an end is left open.

    Raises:
        UserError: not of the form LOW:HIGH.
    """
    if text is None:
        return 0.0, math.inf
    low, colon, high = text.partition(":")
    try:
        ends = float(low or 0), float(high or math.inf)
    except ValueError:
        ends = math.nan, math.nan
    if not colon or not 0 <= ends[0] < ends[1]:
        raise UserError("--guidance-interval", f"{text!r} is no interval.", "Write LOW:HIGH, as 0.2:5.")
    return ends
