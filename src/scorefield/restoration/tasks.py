"""From a picture as a user has it to an observation: what it went through, and what is left.

| task | what comes in | what it went through |
| --- | --- | --- |
| `inpaint` | a picture with a mask | `Mask` |
| `colorize` | a grey picture; color is taken off first | `Grey` |
| `uncrop` | a picture, and how much is to be drawn at which sides | `Crop` |
| `dejpeg` | a JPEG file, whose tables tell how it was made | `JPEG` |
| `upscale` | a small picture | `Downscale` |
| `deblur` | a blurred picture | `Blur` |

Whatever it was, y is brought onto what A can give, y ← A(A⁺y): bytes are rounded, decoders clamp, and nothing
that A cannot give should be asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from scorefield.data.images import read_image, to_float, to_pil, to_tensor, to_uint8
from scorefield.degradations import (
    Damage,
    Degradation,
    Mask,
    crop_margins,
    fixed_damage,
    known_pixels,
    named_mask,
    parse_damage,
    read_jpeg,
)
from scorefield.errors import UserError, did_you_mean
from scorefield.model import ScoreModel

Picture = str | Path | Image.Image | Tensor

SIDES = ("top", "right", "bottom", "left")
"""In the order of `crop_margins`."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a task may be told; each belongs to one task. See `restore`."""

    mask: str | Path | Tensor = "center"
    invert: bool = False
    sides: Sequence[str] = ("left", "right")
    amount: float = 0.5
    quality: int | None = None
    factor: int | None = None
    std: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task by name.

    Args:
        damage: what the picture went through, from the wish, the picture, its size (H, W) and the model.
        strips: whether a clean picture may come in too, and is damaged first.
    """

    damage: Callable[[Wish, Picture, tuple[int, int], ScoreModel], Damage]
    strips: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """An observation ready to be restored.

    Args:
        y: what is left, (1, C', H', W'), in the model's value range.
        degradation: A.
        shape: (C, H, W) of the whole picture.
        known: where answers must be `kept` byte for byte, bool (C, H, W).
        kept: uint8, (C, H, W).
        damaged: what is left as a picture; what is missing of it is grey.
        original: the clean picture if there is one, or the picture as it came in.
        noise: σ_y.
    """

    y: Tensor
    degradation: Degradation
    shape: tuple[int, int, int]
    known: Tensor
    kept: Tensor
    damaged: Image.Image
    original: Image.Image
    noise: float


def read_picture(picture: Picture) -> Tensor:
    """The picture's pixels, uint8 (C, H, W)."""
    if isinstance(picture, Tensor):
        return picture
    return to_tensor(picture if isinstance(picture, Image.Image) else read_image(Path(picture)))


def prepared(
    model: ScoreModel,
    picture: Picture,
    damage: Damage | Degradation,
    *,
    simulate: bool = False,
    noise: float = 0.0,
    seed: int = 0,
) -> Job:
    """The observation that a damaged picture is, or that damage makes of a clean one.

    Args:
        model: whose channels and value range it is for.
        picture: what is left; with `simulate` the clean picture.
        damage: what it went through.
        simulate: do the damage first, and round it to bytes as a file would.
        noise: σ_y, in steps of 8 bits; with `simulate` it is added.
        seed: of that noise.

    Raises:
        UserError: a picture of other channels or another size than the damage leaves, or that cannot be read.
    """
    pixels = read_picture(picture)
    size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    if isinstance(damage, Damage):
        shape = (model.shape[0], *(size if simulate else damage.before(size)))
        degradation = damage.operator(shape, model.value_range)
    else:
        degradation, shape = damage, _shape_before(damage, pixels, model.shape[0], simulate=simulate)
    left = degradation(torch.zeros(1, *shape)).shape[1:]
    sigma = noise * (model.value_range[1] - model.value_range[0]) / 255
    clean = with_channels(pixels, model.shape[0], picture) if simulate else None
    if clean is not None:
        pixels = _damaged(clean, degradation, model.value_range, sigma, seed)
    wanted = "the model draws" if left[0] == model.shape[0] else "after the damage it has"
    pixels = with_channels(pixels, left[0], picture, wanted)
    if pixels.shape != left:
        raise UserError(
            "damage", f"it leaves {left[1]}×{left[2]} pixels, the picture has {size[0]}×{size[1]}."
        )
    y = to_float(pixels, model.value_range)[None]
    whole = degradation.pinv(y)
    known, gone = (which[0] for which in known_pixels(degradation, (1, *shape)))
    cut_out = bool((known | gone).all())
    kept = to_uint8(whole[0], model.value_range)
    damaged = to_pil(torch.where(known, kept, 128) if cut_out else pixels)
    return Job(
        y=degradation(whole) if noise == 0 else y,
        degradation=degradation,
        shape=shape,
        known=known if noise == 0 else torch.zeros_like(known),
        kept=kept,
        damaged=damaged,
        original=to_pil(pixels if clean is None else clean) if cut_out or simulate else damaged,
        noise=sigma,
    )


def _damaged(
    clean: Tensor, degradation: Degradation, value_range: tuple[float, float], sigma: float, seed: int
) -> Tensor:
    """What a damage, noise and the rounding to bytes leave, uint8 (C', H', W')."""
    y = degradation(to_float(clean, value_range)[None])
    z = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    return to_uint8((y + sigma * z)[0], value_range)


def with_channels(pixels: Tensor, channels: int, picture: Picture, wanted: str = "the model draws") -> Tensor:
    """The pixels with so many channels: grey is repeated, and color whose channels are equal is grey.

    Raises:
        UserError: color, where grey is needed.
    """
    where = picture if isinstance(picture, str | Path) else "picture"
    if pixels.shape[0] == channels:
        return pixels
    if pixels.shape[0] == 1:
        return pixels.expand(channels, -1, -1).clone()
    if channels == 1 and bool((pixels == pixels[:1]).all()):
        return pixels[:1]
    raise UserError(
        where,
        f"the picture has {pixels.shape[0]} channels, {wanted} {channels}.",
        "Choose a model for color, or make the picture grey first." if channels == 1 else "",
    )


def _shape_before(
    damage: Degradation, pixels: Tensor, channels: int, *, simulate: bool
) -> tuple[int, int, int]:
    """(C, H, W) of the whole picture, for an operator that was made beforehand."""
    if simulate:
        return channels, int(pixels.shape[-2]), int(pixels.shape[-1])
    c, h, w = damage.pinv(pixels[None].float()).shape[1:]
    return max(c, channels), h, w


def _inpaint(wish: Wish, picture: Picture, size: tuple[int, int], model: ScoreModel) -> Damage:
    mask = _mask(wish.mask, size, invert=wish.invert)
    return fixed_damage("mask", mask)


def _mask(mask: str | Path | Tensor, size: tuple[int, int], *, invert: bool) -> Mask:
    if not isinstance(mask, Tensor):
        return named_mask(mask, size, invert=invert)
    if tuple(mask.shape[-2:]) != size or mask.numel() != size[0] * size[1]:
        raise UserError("mask", f"shape {tuple(mask.shape)} does not fit a picture of {size}.")
    fill = (mask.reshape(1, 1, *size) > 0.5).float()
    return Mask(fill=1 - fill if invert else fill)


def _colorize(wish: Wish, picture: Picture, size: tuple[int, int], model: ScoreModel) -> Damage:
    if model.shape[0] != 3:
        raise UserError("model", "draws grey pictures.", "To colorize takes a model for color.")
    return parse_damage("grey")


def _uncrop(wish: Wish, picture: Picture, size: tuple[int, int], model: ScoreModel) -> Damage:
    unknown = [side for side in wish.sides if side not in SIDES]
    if unknown or not wish.sides:
        named = f"no such side {unknown[0]!r}." if unknown else "none is named."
        raise UserError("sides", named, f"Known: {', '.join(SIDES)}.")
    if not 0 < wish.amount <= 10:
        raise UserError("amount", f"need more than 0 and at most 10 of a side, got {wish.amount:g}.")
    grown = {side: size[0] if side in ("top", "bottom") else size[1] for side in SIDES}
    top, right, bottom, left = (
        max(1, round(wish.amount * grown[side])) if side in wish.sides else 0 for side in SIDES
    )
    return crop_margins((top, right, bottom, left), "uncrop")


def _dejpeg(wish: Wish, picture: Picture, size: tuple[int, int], model: ScoreModel) -> Damage:
    if wish.quality is not None:
        return parse_damage(f"jpeg:{wish.quality}")
    if not isinstance(picture, str | Path):
        raise UserError("quality", "only a file tells how it was made.", "Give the quality.")
    jpeg = read_jpeg(picture, model.value_range)
    return fixed_damage("jpeg", jpeg)


def _upscale(wish: Wish, picture: Picture, size: tuple[int, int], model: ScoreModel) -> Damage:
    factor = wish.factor
    if factor is None:
        factor, rest = divmod(model.shape[-2], size[0])
        if rest or factor < 2 or model.shape[-1] != factor * size[1]:
            raise UserError(
                "factor",
                f"{size[0]}×{size[1]} grows to the model's {model.shape[-2]}×{model.shape[-1]} by no factor.",
                "Say which, e.g. 2.",
            )
    if factor < 2:
        raise UserError("factor", f"need 2 or more, got {factor}.")
    return parse_damage(f"downscale:{factor}")


def _deblur(wish: Wish, picture: Picture, size: tuple[int, int], model: ScoreModel) -> Damage:
    return parse_damage(f"blur:{wish.std}")


TASKS: dict[str, Task] = {
    "inpaint": Task(damage=_inpaint),
    "colorize": Task(damage=_colorize, strips=True),
    "uncrop": Task(damage=_uncrop),
    "dejpeg": Task(damage=_dejpeg),
    "upscale": Task(damage=_upscale),
    "deblur": Task(damage=_deblur),
}


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise UserError("task", f"no such task {name!r}.", did_you_mean(name, TASKS))
    return TASKS[name]
