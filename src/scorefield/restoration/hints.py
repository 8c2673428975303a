"""Colors that a user names at a few places, spread over what belongs to them.

What belongs to a place is what can be reached from it without crossing edges. The distance of pixels i and j is the
length of the shortest path between them over neighbouring pixels,

    d(i, j) = min over paths of Σ (abs(Y_a − Y_b) + r),    r = 0.1 / the longer side,

with Y the luma from 0 to 1: an edge of 0.1 is as far as the whole side of an image. With d_k the distance from hint k,
and c_k its chroma, the chroma of the hints is their mean, and it takes the sample's place near them:

    c = (1 − a) c_sample + a Σ_k w_k c_k / Σ_k w_k,    w_k = 1/d_k²,    a = exp(−(min_k d_k / 0.4)²).

References:
    Yatziv & Sapiro (2006), Fast image and video colorization using chrominance blending, eqs. 1–6.
    https://doi.org/10.1109/TIP.2005.864231
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from scorefield.data.image import Levels
from scorefield.degradations import is_color
from scorefield.errors import UserError
from scorefield.restoration.guided_upsample import chroma, on_luma
from scorefield.restoration.pixels import to_levels, to_values

__all__ = ["ColorHint", "add_hints", "check_hints", "read_hints"]

_EDGE, _REACH = 0.1, 0.4
_MOST, _BYTES = 1000, 1 << 20
_UNIT = (0.0, 1.0)
_EXAMPLE = 'Write a list such as [{"x": 120, "y": 80, "color": "#c03020"}].'


@dataclass(frozen=True, kw_only=True)
class ColorHint:
    """The color of a place.

    Args:
        x: column of the upright image, from 0 at the left.
        y: row, from 0 at the top.
        color: as #rrggbb; its chroma counts, since the luma is the image's own.

    Raises:
        UserError: a negative place, or no such color.
    """

    x: int
    y: int
    color: str

    def __post_init__(self) -> None:
        if min(self.x, self.y) < 0:
            raise UserError("hint", f"a place is 0 or more, got ({self.x}, {self.y}).")
        if not is_color(self.color):
            raise UserError("hint", f"{self.color!r} is no color.", "Write it as #rrggbb, e.g. #c03020.")

    @property
    def rgb(self) -> tuple[float, float, float]:
        """Red, green and blue, from 0 to 1."""
        red, green, blue = (int(self.color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return red, green, blue


def read_hints(path: str | Path) -> tuple[ColorHint, ...]:
    """The hints of a JSON file: a list of objects with x, y and color.

    Raises:
        UserError: unreadable, no such list, or more than 1,000 hints.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_BYTES + 1)
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror}.", "Give a JSON file.") from error
    try:
        listed: Any = json.loads(content) if len(content) <= _BYTES else None
    except (ValueError, RecursionError) as error:
        raise UserError(path, f"not valid JSON: {error}.", _EXAMPLE) from error
    if not isinstance(listed, list) or not 1 <= len(cast(list[Any], listed)) <= _MOST:
        raise UserError(path, f"no list of 1 to {_MOST:,} hints.", _EXAMPLE)
    return tuple(_hint(each, f"{path}: hint {n}") for n, each in enumerate(cast(list[Any], listed), 1))


def check_hints(hints: Sequence[ColorHint], size: tuple[int, int], where: object) -> None:
    """Refuse hints beyond an image of (H, W).

    Raises:
        UserError: a hint lies outside.
    """
    for hint in hints:
        if hint.y >= size[0] or hint.x >= size[1]:
            what = f"the hint at ({hint.x}, {hint.y}) lies outside the image of {size[1]}×{size[0]} pixels."
            raise UserError(where, what, "Count columns and rows from 0 at the upper left.")


def add_hints(
    samples: Sequence[Levels], grey: Levels, hints: Sequence[ColorHint], size: tuple[int, int]
) -> list[Levels]:
    """Samples with the colors of the hints, each on its own luma; see the module's equations.

    Args:
        samples: each (h, w, 3).
        grey: the luma along whose edges the hints spread, (h, w, 1).
        hints: places in an image of `size`.
        size: (H, W) of that image, of which the samples may be reduced copies.
    """
    luma = to_values(grey, _UNIT)[0]
    h, w = luma.shape
    total, mean, nearest = torch.zeros(h, w), torch.zeros(3, h, w), torch.full((h, w), torch.inf)
    for hint in hints:
        place = (2 * hint.y + 1) * h // (2 * size[0]), (2 * hint.x + 1) * w // (2 * size[1])
        distance = _distance(luma, place)
        weight = 1 / distance.square().clamp(min=1e-12)
        mean += weight * chroma(torch.tensor(hint.rgb)[:, None, None])
        total += weight
        nearest = torch.minimum(nearest, distance)
    near = torch.exp(-(nearest / _REACH).square())
    return [_hinted(sample, mean / total, near) for sample in samples]


def _hinted(sample: Levels, color: Tensor, near: Tensor) -> Levels:
    values = to_values(sample, _UNIT)
    own = chroma(values)
    return to_levels(on_luma(torch.lerp(own, color, near), (values - own)[:1]), _UNIT, sample)


def _hint(given: Any, where: str) -> ColorHint:
    if not isinstance(given, dict) or set(cast(dict[str, Any], given)) != {"x", "y", "color"}:
        raise UserError(where, "has other keys than x, y and color.", _EXAMPLE)
    place: tuple[Any, Any] = given["x"], given["y"]
    if not all(type(number) is int for number in place) or not isinstance(given["color"], str):
        raise UserError(where, "x and y must be whole numbers, and color a text.", _EXAMPLE)
    try:
        return ColorHint(x=place[0], y=place[1], color=given["color"])
    except UserError as error:
        raise UserError(where, error.what, error.mend) from error


def _distance(luma: Tensor, place: tuple[int, int]) -> Tensor:
    """D from a place, (h, w), by relaxation until nothing changes (Bellman & Ford)."""
    h, w = luma.shape
    step = _EDGE / max(h, w)
    down = (luma[1:] - luma[:-1]).abs() + step
    right = (luma[:, 1:] - luma[:, :-1]).abs() + step
    d = torch.full((h, w), torch.inf)
    d[place] = 0
    while True:
        before = d.clone()
        for ahead, behind, cost in ((d[1:], d[:-1], down), (d[:, 1:], d[:, :-1], right)):
            ahead.copy_(torch.minimum(ahead, behind + cost))
            behind.copy_(torch.minimum(behind, ahead + cost))
        if torch.equal(before, d):
            return d
