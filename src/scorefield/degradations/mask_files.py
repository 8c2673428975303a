"""Masks from an image file, by name, or from the transparency of an image.

White is what is to be filled; grey values are split at the middle. A mask file with transparency is read by its
stored colors; if these are all the same, its transparent pixels are filled. Random masks take a seed:
`brush:7`; the default is 0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Generator, Tensor

from scorefield.data.image import open_image, read_image
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


def read_mask(path: str | Path, size: Sequence[int], *, invert: bool = False) -> Mask:
    """A mask from an image file: white is filled, black is kept; for transparency see the module.

    Args:
        path: an image file.
        size: (H, W) of the image to restore; the mask must have the same aspect ratio.
        invert: fill black instead.

    Raises:
        UserError: unreadable, of another aspect, or nothing or everything to fill.
    """
    image = read_image(path).convert("L")
    layers = _layers(path)
    if layers is not None:
        colors, alpha = layers
        stored = np.asarray(colors)
        same = bool((stored == stored[0, 0]).all())
        image = ImageOps.invert(alpha) if same else colors.convert("L")
    h, w = size
    if abs(image.width * h - image.height * w) > max(image.width, image.height, h, w):
        raise UserError(
            path,
            f"the mask is {image.width}×{image.height}, the image {w}×{h}.",
            "Give a mask of the image's size.",
        )
    fill = np.asarray(image.resize((w, h), Image.Resampling.NEAREST)) > 127
    return _checked(path, ~fill if invert else fill)


def alpha_mask(image: str | Path | Image.Image, *, invert: bool = False) -> Mask:
    """The pixels of an image that are at least half transparent are filled.

    Args:
        image: a file, or an opened image.
        invert: fill the opaque pixels instead.

    Raises:
        UserError: unreadable, without transparency, or nothing or everything to fill.
    """
    where = "image" if isinstance(image, Image.Image) else image
    if not isinstance(image, Image.Image):
        read_image(image)  # raises a UserError if it cannot be read
    layers = _layers(image)
    if layers is None:
        raise UserError(where, "has no transparency.", "Give a mask file (white = fill).")
    fill = np.asarray(layers[1]) < 128
    return _checked(where, ~fill if invert else fill)


def named_mask(
    name: str | Path,
    size: Sequence[int],
    *,
    invert: bool = False,
    image: str | Path | Image.Image | None = None,
) -> Mask:
    """The mask of a name in MASKS, of an image file, or `alpha`, for images of `size` (H, W).

    Args:
        name: NAME, NAME:SEED, a path, or `alpha`.
        size: (H, W).
        invert: exchange filled and kept pixels.
        image: the image whose transparency `alpha` takes.

    Raises:
        UserError: neither a name nor a file; or see `read_mask` and `alpha_mask`.
    """
    if str(name) == ALPHA and image is not None:
        return alpha_mask(image, invert=invert)
    found = mask_family(str(name))
    if found is not None:
        family, seed = found
        drawn = family.draw((1, 1, *size), generator=Generator().manual_seed(seed))
        return Mask(mask=1 - drawn.mask) if invert else drawn
    if not Path(name).exists():
        known = ", ".join((*MASKS, ALPHA))
        raise UserError(name, "no such mask.", f"Give an image file (white = fill) or one of {known}.")
    return read_mask(name, size, invert=invert)


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


def _layers(image: str | Path | Image.Image) -> tuple[Image.Image, Image.Image] | None:
    """Colors (RGB) and opacity (L), upright, of an image with transparency; else None."""
    if not isinstance(image, Image.Image):
        with open_image(Path(image)) as opened:
            return _layers(opened)
    if not image.has_transparency_data:
        return None
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    return upright.convert("RGB"), upright.getchannel("A")


def _checked(where: object, fill: NDArray[np.bool_]) -> Mask:
    """The mask, if it fills some pixels and keeps some."""
    if fill.all() or not fill.any():
        state = "all white: nothing of the image would be kept" if fill.all() else "all black: nothing to fill"
        raise UserError(where, f"the mask is {state}.", "White = fill; --invert turns a mask around.")
    return Mask(mask=torch.from_numpy(fill.astype(np.float32))[None, None])
