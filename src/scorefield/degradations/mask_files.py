"""Masks from an image file, by name, by a color, or from the transparency of an image.

White is what is to be filled, 1 in an array. A mask file is read by what is painted on it:

    black and white, opaque                     white is filled; greys of soft edges are split at the middle
    white on transparent, or black and white    white is filled
    others, transparent on up to half           the transparent parts are filled: they were erased
    one color but black, on less than half      what is painted is filled
    anything else                               refused: it may mean either, or is no mask

Random masks take a seed: `brush:7`; the default is 0.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor

from scorefield.data.levels import in_8_bits
from scorefield.data.photo import Photo, as_photo
from scorefield.degradations.freeform import Boxes, Brush, FreeForm
from scorefield.degradations.mask import CenterBox, Mask, Side, Uncropping
from scorefield.errors import UserError

MaskFamily = CenterBox | Side | Brush | Boxes | FreeForm | Uncropping

MASKS: dict[str, MaskFamily] = {
    "center": CenterBox(),
    **{side: Side(side=side) for side in ("left", "right", "top", "bottom")},
    "brush": Brush(),
    "boxes": Boxes(),
    "freeform": FreeForm(),
    "uncrop": Uncropping(),
}
"""Families of masks by name."""

ALPHA = "alpha"
"""The name of the mask that is an image's own transparency."""

_RED = (255, 0, 0)
_DARK, _LIGHT = 24, 231
"""Black and white of a mask that was saved as a JPEG: ringing reaches some 20 levels."""

_CLEAN = 0.75
"""So many pixels of a mask are black or white; soft edges are the rest. Photographs have less than half of it."""

_FEW = 256  # pixels of a mask that is too small to tell

_COLORED = 48  # levels between the channels: more than JPEG makes of grey
_NEAR = 32  # levels of a channel about a color that is named, as JPEG and soft brushes leave it
_PAINT = "Paint what is to be filled white, all else black"


def read_mask(path: str | Path, size: Sequence[int], *, invert: bool = False, grow: int = 0) -> Mask:
    """A mask from an image file: white is filled, black is kept; for others see the module.

    Args:
        path: an image file.
        size: (H, W) of the image to restore; the mask must have the same aspect ratio.
        invert: fill black instead.
        grow: pixels of the image by which what is filled grows to all sides.

    Raises:
        UserError: unreadable, no mask, of another aspect, or nothing or everything to fill.
    """
    return mask_from(as_photo(path), size, where=path, invert=invert, grow=grow)


def mask_from(photo: Photo, size: Sequence[int], *, where: object, invert: bool = False, grow: int = 0) -> Mask:
    """As `read_mask`, of an image that was read.

    Args:
        photo: the mask.
        size: (H, W).
        where: what errors name.
        invert: fill black instead.
        grow: pixels.
    """
    colors = in_8_bits(photo.levels)
    fill = _painted(colors, None if photo.alpha is None else in_8_bits(photo.alpha), where)
    h, w = size
    (height, width) = fill.shape
    if abs(width * h - height * w) > max(width, height, h, w):
        raise UserError(where, f"the mask is {width}×{height}, the image {w}×{h}.", "Give a mask of the image's size.")
    scaled = Image.fromarray(fill.astype(np.uint8)).resize((w, h), Image.Resampling.NEAREST)
    return checked_mask(where, np.asarray(scaled) > 0, invert=invert, grow=grow)


def array_mask(values: Tensor | NDArray[np.generic], size: Sequence[int]) -> NDArray[np.bool_]:
    """What an array fills, bool (H, W).

    Args:
        values: bool; integers 0 and 1, or 0…255 (0…65535 of uint16), split at the middle; floats 0…1. (H, W), or with
            ones before or behind it.
        size: (H, W).

    Raises:
        UserError: another shape, or values of no such range.
    """
    if isinstance(values, Tensor):
        whole = values.detach().cpu()
        values = (whole.float() if whole.is_floating_point() else whole).numpy()  # numpy has no bfloat16
    array: NDArray[Any] = np.asarray(values)
    h, w = size
    if array.size != h * w or tuple(n for n in array.shape if n != 1) != tuple(n for n in (h, w) if n != 1):
        raise UserError("mask", f"shape {tuple(array.shape)} does not fit an image of {(h, w)}.")
    array = array.reshape(h, w)
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind not in "uif" or not np.isfinite(array).all():
        raise UserError("mask", f"its {array.dtype} are not the values of a mask.", "Pass bool, or 1 = fill.")
    low, high = float(array.min()), float(array.max())
    top = 1 if high <= 1 else 65535 if array.dtype == np.uint16 else 255
    if low < 0 or high > (1 if array.dtype.kind == "f" else top):
        raise UserError("mask", f"its values span {low:g}…{high:g}.", "Pass bool, or 0…1, or integers 0…255.")
    return array > top / 2


def checked_mask(where: object, fill: NDArray[np.bool_], *, invert: bool = False, grow: int = 0) -> Mask:
    """The mask, turned around and grown, if it fills some pixels and keeps some.

    Raises:
        UserError: it does not.
    """
    fill = grown_mask(~fill if invert else fill, grow)
    if fill.all() or not fill.any():
        state = "all white: nothing would be kept" if fill.all() else "all black: nothing to fill"
        raise UserError(
            where, f"{'' if where == 'mask' else 'the mask is '}{state}.", "White = fill; --invert turns a mask around."
        )
    return Mask(mask=torch.from_numpy(fill.astype(np.float32))[None, None])


def alpha_mask(image: str | Path | Image.Image | Photo, *, invert: bool = False, grow: int = 0) -> Mask:
    """The pixels of an image that are at least half transparent are filled.

    Args:
        image: a file, or an opened image.
        invert: fill the opaque pixels instead.
        grow: pixels by which what is filled grows to all sides.

    Raises:
        UserError: unreadable, without transparency, or nothing or everything to fill.
    """
    where = "image" if isinstance(image, Image.Image) else image.path if isinstance(image, Photo) else image
    photo = as_photo(image)
    if photo.alpha is None:
        raise UserError(where, "has no transparency.", "Give a mask file (white = fill).")
    return checked_mask(where, in_8_bits(photo.alpha) < 128, invert=invert, grow=grow)


def color_mask(image: str | Path | Image.Image | Photo, color: str, *, invert: bool = False, grow: int = 0) -> Mask:
    """The pixels of an image that have a color are filled: those painted over in it.

    Args:
        image: a file, or an opened image.
        color: as #rrggbb; each channel of a pixel may be up to 32 levels off.
        invert: fill the others instead.
        grow: pixels by which what is filled grows to all sides, over the soft edges of strokes.

    Raises:
        UserError: unreadable, or no pixel has the color, or all have.
    """
    photo = as_photo(image)
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], np.int16)
    near: NDArray[np.bool_] = np.all(np.abs(in_8_bits(photo.levels).astype(np.int16) - wanted) <= _NEAR, axis=2)
    if not near.any():
        raise UserError(photo.path, f"no pixel has the color {color}.", "Name the color that was painted.")
    return checked_mask(photo.path, near, invert=invert, grow=grow)


def is_color(name: str) -> bool:
    """Whether a mask is named as a color, #rrggbb."""
    return re.fullmatch(r"#[0-9a-fA-F]{6}", name) is not None


def grown_mask(fill: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """What is filled, bool (H, W), and all within so many pixels of it, along and across."""
    if pixels < 0:
        raise UserError("grow", f"need 0 or more pixels, got {pixels}.")
    h, w = fill.shape
    out = fill
    for axis, length in ((0, h), (1, w)):
        reach = min(pixels, length)
        widths = [(0, 0), (0, 0)]
        widths[axis] = (reach + 1, reach)
        ahead = np.cumsum(np.pad(out, widths), axis=axis, dtype=np.int32)
        out = np.take(ahead, range(2 * reach + 1, 2 * reach + 1 + length), axis) > np.take(ahead, range(length), axis)
    return out


def _painted(colors: NDArray[np.uint8], alpha: NDArray[np.uint8] | None, where: object) -> NDArray[np.bool_]:
    """What a mask file fills, bool (H, W): see the module."""
    opaque = None if alpha is None or (alpha > 127).all() else alpha > 127
    if opaque is None:
        if colors.max() == 1:  # 0 and 1, as programs write them
            return colors.max(2) > 0
        if colors[..., 0].size >= _FEW and not _is_black_and_white(colors):
            mend = (
                f"{_PAINT}; or paint the image itself in one color and name it: --mask '#ff00ff'; or erase what "
                "is to be filled and say --mask alpha."
            )
            raise UserError(where, "is no mask: it is not black and white.", mend)
        return colors.max(2) > 127
    shown = colors[opaque]
    if not len(shown):
        return np.ones(opaque.shape, np.bool_)  # refused: nothing is kept
    one = int((shown.max(0).astype(np.int16) - shown.min(0)).max()) <= _COLORED
    if one and shown.min() >= _LIGHT:
        return opaque
    if not one and _is_black_and_white(shown[None]):
        return opaque & (colors.max(2) > 127)
    if opaque.mean() >= 0.5:
        return ~opaque
    if not one or shown.max() <= _DARK:
        raise UserError(where, "is a layer that may mean either of its parts.", f"{_PAINT}, without transparency.")
    return opaque


def _is_black_and_white(colors: NDArray[np.uint8]) -> bool:
    most, least = colors.max(2), colors.min(2)
    flat = ((most <= _DARK) | (least >= _LIGHT)).mean()
    colored = (most - least > _COLORED).mean()
    return bool(flat >= _CLEAN and colored <= (1 - _CLEAN) / 25)


def named_mask(
    name: str | Path,
    size: Sequence[int],
    *,
    invert: bool = False,
    grow: int = 0,
    image: str | Path | Image.Image | Photo | None = None,
) -> Mask:
    """The mask of a name in MASKS, of an image file, of a color, or `alpha`, for images of `size` (H, W).

    Args:
        name: NAME, NAME:SEED, a path, #rrggbb or `alpha`.
        size: (H, W).
        invert: exchange filled and kept pixels.
        grow: pixels by which what is filled grows to all sides.
        image: the image whose transparency or color is taken.

    Raises:
        UserError: neither a name nor a file; or see `read_mask` and `alpha_mask`.
    """
    if image is not None and str(name) == ALPHA:
        return alpha_mask(image, invert=invert, grow=grow)
    if image is not None and is_color(str(name)):
        return color_mask(image, str(name), invert=invert, grow=grow)
    found = mask_family(str(name))
    if found is not None:
        family, seed = found
        drawn = family.draw((1, 1, *size), generator=Generator().manual_seed(seed))
        return checked_mask(name, drawn.mask[0, 0].numpy() > 0, invert=invert, grow=grow)
    if not Path(name).exists():
        known = ", ".join((*MASKS, ALPHA))
        raise UserError(name, "no such mask.", f"Give an image file (white = fill) or one of {known}.")
    return read_mask(name, size, invert=invert, grow=grow)


def mask_family(name: str) -> tuple[MaskFamily, int] | None:
    """The family and the seed of NAME or NAME:SEED; None if there is no such family."""
    word, _, seed = name.partition(":")
    if word not in MASKS or not (seed or "0").isdecimal():
        return None
    return MASKS[word], int(seed or 0)


def mask_preview(image: Image.Image, fill: Tensor, *, opacity: float = 0.6) -> Image.Image:
    """The image with red over the pixels to be filled, RGB.

    Args:
        image: any mode.
        fill: 1 = fill, of the image's size: (H, W), or with ones before it.
        opacity: of the red.

    Raises:
        UserError: a mask of another size.
    """
    h, w = image.height, image.width
    if tuple(fill.shape[-2:]) != (h, w) or fill.numel() != h * w:
        raise UserError("mask", f"its shape is {tuple(fill.shape)}, the image's {h}×{w}.")
    base = image.convert("RGB")
    covered = (fill.reshape(h, w).cpu() > 0.5).numpy().astype(np.uint8)
    red = Image.new("RGB", base.size, _RED)
    return Image.composite(red, base, Image.fromarray(covered * np.uint8(round(255 * opacity))))
