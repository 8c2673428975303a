"""Restoration tasks with their degradations by name: `dejpeg:10`, `inpaint:brush`, `uncrop:left`.

| case | random degradation |
| --- | --- |
| `colorize` | `Grey` |
| `inpaint`, `inpaint:NAME` | `FreeForm`, as in training; brush, boxes, center, left, right, top, bottom |
| `inpaint:brush,20-30`, `inpaint:boxes,2-8` | masks that cover 20 to 30 or 2 to 8 % of the image |
| `uncrop`, `uncrop:SIDE` | `Uncropping`: a side or all four; left, right, top or bottom |
| `dejpeg:Q` | `EncodedJPEG` of quality Q; without Q as in training, 5 to 30, p(Q) ∝ e^(−Q/10) |
| `upscale:F`, `deblur:S`, `denoise:S` | `Downscale`, `Blur` in pixels, `AdditiveNoise` of 255; 2, 2, 25 |
| `descratch` | `Scratches` |
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from scorefield.degradations import (
    MASKS,
    AdditiveNoise,
    Blur,
    Boxes,
    Brush,
    DegradationFamily,
    Downscale,
    EncodedJPEG,
    FreeForm,
    Grey,
    RandomJPEG,
    Scratches,
    Uncropping,
)
from scorefield.degradations.mask import Side
from scorefield.errors import UserError, did_you_mean

__all__ = ["CASES", "Case", "ValueRange", "jpeg_cases", "parse_case"]

ValueRange = tuple[float, float]
Distribution = Callable[[ValueRange], DegradationFamily]


@dataclass(frozen=True, kw_only=True)
class OneOperator:
    """The family of one fixed operator."""

    operator: EncodedJPEG

    def draw(self, shape: tuple[int, ...], *, generator: object) -> EncodedJPEG:
        """Always the same operator."""
        return self.operator


@dataclass(frozen=True, kw_only=True)
class Case:
    """A task with its random degradation.

    Args:
        task: name in `restoration.TASKS`.
        text: as the user wrote it.
        distribution: maps a value range, from black to white, to the random degradation.
    """

    task: str
    text: str
    distribution: Distribution

    @property
    def slug(self) -> str:
        """The text as a part of a file's name."""
        return self.text.replace(":", "-").replace(",", "-")


def parse_case(text: str) -> Case:
    """The case of this text.

    Raises:
        UserError: no such task, or an argument that does not fit it.
    """
    task, _, argument = text.strip().partition(":")
    if task not in CASES:
        raise UserError("task", f"no such task to measure {task!r}.", did_you_mean(task, CASES))
    return Case(task=task, text=text.strip(), distribution=CASES[task](argument, text))


def jpeg_cases(text: str, qualities: list[int]) -> list[Case]:
    """The case, or, where it is a plain `dejpeg` and qualities are given, one for each of them."""
    if text.strip() == "dejpeg" and qualities:
        return [parse_case(f"dejpeg:{quality}") for quality in qualities]
    return [parse_case(text)]


def _grey(argument: str, text: str) -> Distribution:
    if argument:
        raise UserError(text, "colorize takes no argument.", "Write colorize.")
    return lambda _: Grey()


def _mask(argument: str, text: str) -> Distribution:
    name, _, share = argument.partition(",")
    family = MASKS.get(name) if name else FreeForm()
    if family is None or isinstance(family, Uncropping):
        raise UserError(text, f"no such masks {name!r}.", did_you_mean(name, set(MASKS) - {"uncrop"}))
    if share:
        low, dash, high = share.partition("-")
        if not isinstance(family, Brush | Boxes) or not dash:
            raise UserError(
                text,
                "only brush and boxes take a range of cover.",
                "Write e.g. inpaint:brush,20-30 or inpaint:boxes,2-8.",
            )
        cover = (_number(low, text) / 100, _number(high, text) / 100)
        family = replace(family, cover=cover)
    return lambda _: family


def _uncrop(argument: str, text: str) -> Distribution:
    if not argument:
        return lambda _: Uncropping()
    family = MASKS.get(argument)
    if not isinstance(family, Side):
        raise UserError(text, f"no such side {argument!r}.", "Known: left, right, top, bottom.")
    return lambda _: family


def _jpeg(argument: str, text: str) -> Distribution:
    if not argument:
        return lambda value_range: RandomJPEG(value_range=value_range)
    quality = int(_number(argument, text))
    EncodedJPEG(quality=quality)  # raises at once where the quality is out of range
    return lambda value_range: OneOperator(operator=EncodedJPEG(quality=quality, value_range=value_range))


def _downscale(argument: str, text: str) -> Distribution:
    family = Downscale(factor=int(_number(argument or "2", text)))
    return lambda _: family


def _blur(argument: str, text: str) -> Distribution:
    family = Blur(std=_number(argument or "2", text))
    return lambda _: family


def _noise(argument: str, text: str) -> Distribution:
    levels = _number(argument or "25", text)
    AdditiveNoise(std=levels)
    return lambda value_range: AdditiveNoise(std=levels * (value_range[1] - value_range[0]) / 255)


def _scratches(argument: str, text: str) -> Distribution:
    if argument:
        raise UserError(text, "descratch takes no argument.", "Write descratch.")
    return lambda value_range: Scratches(value_range=value_range)


CASES: dict[str, Callable[[str, str], Distribution]] = {
    "colorize": _grey,
    "inpaint": _mask,
    "uncrop": _uncrop,
    "dejpeg": _jpeg,
    "upscale": _downscale,
    "deblur": _blur,
    "denoise": _noise,
    "descratch": _scratches,
}
"""Task → parser of the text after the colon."""


def _number(words: str, text: str) -> float:
    try:
        return float(words)
    except ValueError:
        raise UserError(text, f"{words!r} is no number.", "Write e.g. dejpeg:10.") from None
