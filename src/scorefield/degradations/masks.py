"""Masks as people give them: an image file, a name, or the transparency of the image itself.

White is what is to be filled, everywhere, and greys split at the middle. A mask file with transparency is
read by its colors as they are stored; if those are all the same, transparent is what is to be filled. The
masks that are drawn by chance take a seed: `brush:7`; without one it is 0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Generator, Tensor

from scorefield.data.image import read_image
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
"""Masks by name, for want of a mask file."""

ALPHA = "alpha"
"""The name of the mask that an image's own transparency is."""

_RED = (255, 0, 0)


def read_mask(path: str | Path, size: Sequence[int], *, invert: bool = False) -> Mask:
    """A mask from an image file: white is filled, black is kept; see the module for transparency.

    Args:
        path: any image.
        size: (H, W) of the image to restore; the mask's aspect must be the same, its size may differ.
        invert: take black for what is to be filled.

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
    return _told_apart(path, ~fill if invert else fill)


def alpha_mask(image: str | Path | Image.Image, *, invert: bool = False) -> Mask:
    """What is transparent in an image, by half or more, is what is to be filled.

    Args:
        image: a file, or an image as Pillow has opened it.
        invert: fill what is opaque.

    Raises:
        UserError: unreadable, without transparency, or nothing or everything to fill.
    """
    where = "image" if isinstance(image, Image.Image) else image
    if not isinstance(image, Image.Image):
        read_image(image)  # or a clear word
    layers = _layers(image)
    if layers is None:
        raise UserError(where, "has no transparency.", "Give a mask file (white = fill).")
    fill = np.asarray(layers[1]) < 128
    return _told_apart(where, ~fill if invert else fill)


def named_mask(
    name: str | Path,
    size: Sequence[int],
    *,
    invert: bool = False,
    image: str | Path | Image.Image | None = None,
) -> Mask:
    """The mask of that name in MASKS, from that image file, or `alpha`, for images of `size` (H, W).

    Args:
        name: as the module says.
        size: (H, W).
        invert: fill what would be kept.
        image: whose transparency `alpha` means.

    Raises:
        UserError: neither a name nor a file; or see `read_mask` and `alpha_mask`.
    """
    if str(name) == ALPHA and image is not None:
        return alpha_mask(image, invert=invert)
    found = mask_family(str(name))
    if found is not None:
        family, seed = found
        drawn = family.draw((1, 1, *size), generator=Generator().manual_seed(seed))
        return Mask(fill=1 - drawn.fill) if invert else drawn
    if not Path(name).exists():
        known = ", ".join((*MASKS, ALPHA))
        raise UserError(name, "no such mask.", f"Give an image file (white = fill) or one of {known}.")
    return read_mask(name, size, invert=invert)


def mask_family(name: str) -> tuple[MaskFamily, int] | None:
    """The distribution and the seed that NAME or NAME:SEED means, if it means one."""
    word, _, seed = name.partition(":")
    if word not in MASKS or not (seed or "0").isdecimal():
        return None
    return MASKS[word], int(seed or 0)


def mask_preview(image: Image.Image, fill: Tensor, *, opacity: float = 0.6) -> Image.Image:
    """The image with red over what is to be filled, RGB.

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
    seen = image.convert("RGB")
    hole = (fill.reshape(h, w).cpu() > 0.5).numpy().astype(np.uint8)
    red = Image.new("RGB", seen.size, _RED)
    return Image.composite(red, seen, Image.fromarray(hole * np.uint8(round(255 * opacity))))


def _layers(image: str | Path | Image.Image) -> tuple[Image.Image, Image.Image] | None:
    """Colors (RGB) and transparency (L), upright, of an image that has the latter."""
    if not isinstance(image, Image.Image):
        with Image.open(image) as opened:
            return _layers(opened)
    if not image.has_transparency_data:
        return None
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    return upright.convert("RGB"), upright.getchannel("A")


def _told_apart(where: object, fill: NDArray[np.bool_]) -> Mask:
    """The mask, if it fills something and keeps something."""
    if fill.all() or not fill.any():
        state = "all white: nothing of the image would be kept" if fill.all() else "all black: nothing to fill"
        raise UserError(where, f"the mask is {state}.", "White = fill; --invert turns a mask around.")
    return Mask(fill=torch.from_numpy(fill.astype(np.float32))[None, None])
