"""Degradations as text, as on a command line: `jpeg:10`, `grey`, `mask:left`; several in their order.

| text | operator |
| --- | --- |
| `grey` | `Grey` |
| `downscale:F` | `Downscale` by F |
| `blur:S` | `Blur`, std of S pixels |
| `jpeg:Q`, `jpeg:Q,4:4:4` | `JPEG` of quality Q; chroma at half size unless said |
| `noise:S` | Gaussian noise, std of S of 255 levels; last |
| `scratches`, `scratches:SEED` | `Scratched`, of this seed |
| `mask:NAME`, `mask:FILE` | `Mask`: a name in `MASKS`, or a file (white = fill) |
| `mask:brush:SEED` | the same with a seed, for random masks |
| `crop:N`, `crop:T,R,B,L` | `Crop` of N pixels at each side, or at top, right, bottom, left |

The text does not state the size of the image. So parsing has two steps: `parse_degradation` checks the text, and
`DegradationSpec.operator` makes the operator for images of one shape. Conversely, `DegradationSpec.before`
gives the size of the whole image from the size of y.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Generator

from scorefield.degradations.base import Degradation
from scorefield.degradations.blur import Blur
from scorefield.degradations.color import Grey
from scorefield.degradations.composed import Composed
from scorefield.degradations.crop import Crop
from scorefield.degradations.jpeg import JPEG, Subsampling
from scorefield.degradations.mask_files import MASKS, mask_family, named_mask
from scorefield.degradations.noise import Identity
from scorefield.degradations.resize import Downscale
from scorefield.degradations.scratches import Scratches
from scorefield.errors import UserError, did_you_mean

Shape = tuple[int, int, int]  # (C, H, W)
Size = tuple[int, int]  # (H, W)
ValueRange = tuple[float, float]


def _same(size: Size) -> Size:
    return size


@dataclass(frozen=True, kw_only=True)
class DegradationSpec:
    """A degradation for images of any shape.

    Args:
        text: as it was written.
        operator: makes the operator for images of (C, H, W) and a value range.
        before: (H, W) of the image, from (H, W) of y.
        noise: std of Gaussian noise in y, of 255 levels.
    """

    text: str
    operator: Callable[[Shape, ValueRange], Degradation]
    before: Callable[[Size], Size] = _same
    noise: float = 0.0


def parse_degradation(texts: str | Sequence[str]) -> DegradationSpec:
    """The degradation of one or more texts, applied in their order.

    Raises:
        UserError: an unknown name, an impossible argument, or no text.
    """
    parts = [_one(text) for text in ([texts] if isinstance(texts, str) else texts)]
    if not parts:
        raise UserError("degradation", "none is named.", f"Known: {', '.join(DEGRADATIONS)}.")
    if len(parts) == 1:
        return parts[0]
    if any(part.noise for part in parts[:-1]):
        raise UserError("degradation", "noise comes last.", "Name it after the other degradation.")

    def operator(shape: Shape, value_range: ValueRange) -> Degradation:
        made: list[Degradation] = []
        for part in parts:
            made.append(part.operator(shape, value_range))
            shape = cast(Shape, tuple(made[-1](torch.zeros(1, *shape)).shape[1:]))
        return Composed(parts=tuple(made))

    def before(size: Size) -> Size:
        for part in reversed(parts):
            size = part.before(size)
        return size

    text = ", ".join(part.text for part in parts)
    return DegradationSpec(text=text, operator=operator, before=before, noise=parts[-1].noise)


def fixed_degradation(
    text: str, degradation: Degradation, *, before: Callable[[Size], Size] = _same
) -> DegradationSpec:
    """A degradation whose operator does not depend on the shape."""

    def operator(shape: Shape, value_range: ValueRange) -> Degradation:
        return degradation

    return DegradationSpec(text=text, operator=operator, before=before)


def crop_margins(margins: tuple[int, int, int, int], text: str = "crop") -> DegradationSpec:
    """The degradation that cuts pixels off top, right, bottom and left.

    Raises:
        UserError: nothing to cut, or a negative number.
    """
    top, right, bottom, left = margins
    if min(margins) < 0 or not any(margins):
        raise UserError(text, f"margins of {margins} pixels cut nothing.")

    def operator(shape: Shape, _: ValueRange) -> Degradation:
        h, w = shape[1:]
        height, width = h - top - bottom, w - left - right
        if height < 1 or width < 1:
            raise UserError(text, f"nothing of an image of {h}×{w} would be left.")
        return Crop(top=top, left=left, height=height, width=width, size=(h, w))

    return DegradationSpec(
        text=text, operator=operator, before=lambda size: (size[0] + top + bottom, size[1] + left + right)
    )


def _one(text: str) -> DegradationSpec:
    name, _, argument = text.strip().partition(":")
    if name not in DEGRADATIONS:
        raise UserError("degradation", f"no such degradation {name!r}.", did_you_mean(name, DEGRADATIONS))
    return DEGRADATIONS[name](argument, text)


def _grey(argument: str, text: str) -> DegradationSpec:
    if argument:
        raise UserError(text, "grey has nothing to set.", "Write grey.")
    return fixed_degradation(text, Grey())


def _downscale(argument: str, text: str) -> DegradationSpec:
    degradation = Downscale(factor=_whole(argument, text, "downscale:4"))
    f = degradation.factor
    return fixed_degradation(text, degradation, before=lambda size: (size[0] * f, size[1] * f))


def _blur(argument: str, text: str) -> DegradationSpec:
    degradation = Blur(std=_number(argument, text, "blur:2"))
    return fixed_degradation(text, degradation)


def _noise(argument: str, text: str) -> DegradationSpec:
    std = _number(argument, text, "noise:25")
    if not 0 < std <= 255:
        raise UserError(text, f"a noise is above 0 and at most 255 levels, got {std:g}.")
    return DegradationSpec(text=text, operator=lambda _shape, _range: Identity(), noise=std)


def _scratches(argument: str, text: str) -> DegradationSpec:
    seed = _whole(argument or "0", text, "scratches:7")

    def operator(shape: Shape, value_range: ValueRange) -> Degradation:
        distribution = Scratches(value_range=value_range)
        return distribution.draw((1, *shape), generator=Generator().manual_seed(seed))

    return DegradationSpec(text=text, operator=operator)


def _jpeg(argument: str, text: str) -> DegradationSpec:
    number, _, kept = argument.partition(",")
    quality, subsampling = _whole(number, text, "jpeg:10"), cast(Subsampling, kept or "4:2:0")
    JPEG(quality=quality, subsampling=subsampling)  # raises a UserError now, not when the shape is known

    def operator(_: Shape, value_range: ValueRange) -> Degradation:
        return JPEG(quality=quality, subsampling=subsampling, value_range=value_range)

    return DegradationSpec(text=text, operator=operator)


def _mask(argument: str, text: str) -> DegradationSpec:
    if mask_family(argument) is None and not Path(argument).is_file():
        raise UserError(text, "no such mask.", f"Give an image file (white = fill) or one of {', '.join(MASKS)}.")
    return DegradationSpec(text=text, operator=lambda shape, _: named_mask(argument, shape[1:]))


def _crop(argument: str, text: str) -> DegradationSpec:
    numbers = [_whole(part, text, "crop:8 or crop:0,8,0,8") for part in argument.split(",")]
    if len(numbers) not in (1, 4):
        raise UserError(text, "give one number, or four: top, right, bottom, left.")
    top, right, bottom, left = numbers if len(numbers) == 4 else numbers * 4
    return crop_margins((top, right, bottom, left), text)


DEGRADATIONS: dict[str, Callable[[str, str], DegradationSpec]] = {
    "grey": _grey,
    "downscale": _downscale,
    "blur": _blur,
    "noise": _noise,
    "scratches": _scratches,
    "jpeg": _jpeg,
    "mask": _mask,
    "crop": _crop,
}
"""Name → function that makes a `DegradationSpec` of the text after the colon."""


def _whole(words: str, text: str, example: str) -> int:
    try:
        return int(words)
    except ValueError:
        raise UserError(text, f"{words!r} is no whole number.", f"Write e.g. {example}.") from None


def _number(words: str, text: str, example: str) -> float:
    try:
        return float(words)
    except ValueError:
        raise UserError(text, f"{words!r} is no number.", f"Write e.g. {example}.") from None
