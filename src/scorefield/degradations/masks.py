"""Masks as people give them: a picture file, a name, or the transparency of the picture itself.

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

from scorefield.data.images import read_image
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
"""The name of the mask that a picture's own transparency is."""

_RED = (255, 0, 0)


def read_mask(path: str | Path, size: Sequence[int], *, invert: bool = False) -> Mask:
    """A mask from a picture file: white is filled, black is kept; see the module for transparency.

    Args:
        path: any picture.
        size: (H, W) of the picture to mend; the mask's aspect must be the same, its size may differ.
        invert: take black for what is to be filled.

    Raises:
        UserError: unreadable, of another aspect, or nothing or everything to fill.
    """
    picture = read_image(path).convert("L")
    layers = _layers(path)
    if layers is not None:
        colors, alpha = layers
        stored = np.asarray(colors)
        same = bool((stored == stored[0, 0]).all())
        picture = ImageOps.invert(alpha) if same else colors.convert("L")
    h, w = size
    if abs(picture.width * h - picture.height * w) > max(picture.width, picture.height, h, w):
        raise UserError(
            path,
            f"the mask is {picture.width}×{picture.height}, the picture {w}×{h}.",
            "Give a mask of the picture's size.",
        )
    fill = np.asarray(picture.resize((w, h), Image.Resampling.NEAREST)) > 127
    return _told_apart(path, ~fill if invert else fill)


def alpha_mask(picture: str | Path | Image.Image, *, invert: bool = False) -> Mask:
    """What is transparent in a picture, by half or more, is what is to be filled.

    Args:
        picture: a file, or a picture as Pillow has opened it.
        invert: fill what is opaque.

    Raises:
        UserError: unreadable, without transparency, or nothing or everything to fill.
    """
    where = "picture" if isinstance(picture, Image.Image) else picture
    if not isinstance(picture, Image.Image):
        read_image(picture)  # or a clear word
    layers = _layers(picture)
    if layers is None:
        raise UserError(where, "has no transparency.", "Give a mask file (white = fill).")
    fill = np.asarray(layers[1]) < 128
    return _told_apart(where, ~fill if invert else fill)


def named_mask(
    name: str | Path,
    size: Sequence[int],
    *,
    invert: bool = False,
    picture: str | Path | Image.Image | None = None,
) -> Mask:
    """The mask of that name in MASKS, from that picture file, or `alpha`, for pictures of `size` (H, W).

    Args:
        name: as the module says.
        size: (H, W).
        invert: fill what would be kept.
        picture: whose transparency `alpha` means.

    Raises:
        UserError: neither a name nor a file; or see `read_mask` and `alpha_mask`.
    """
    if str(name) == ALPHA and picture is not None:
        return alpha_mask(picture, invert=invert)
    found = mask_family(str(name))
    if found is not None:
        family, seed = found
        drawn = family.draw((1, 1, *size), generator=Generator().manual_seed(seed))
        return Mask(fill=1 - drawn.fill) if invert else drawn
    if not Path(name).exists():
        known = ", ".join((*MASKS, ALPHA))
        raise UserError(name, "no such mask.", f"Give a picture file (white = fill) or one of {known}.")
    return read_mask(name, size, invert=invert)


def mask_family(name: str) -> tuple[MaskFamily, int] | None:
    """The law and the seed that NAME or NAME:SEED means, if it means one."""
    word, _, seed = name.partition(":")
    if word not in MASKS or not (seed or "0").isdecimal():
        return None
    return MASKS[word], int(seed or 0)


def mask_preview(picture: Image.Image, fill: Tensor, *, opacity: float = 0.6) -> Image.Image:
    """The picture with red over what is to be filled, RGB.

    Args:
        picture: any mode.
        fill: 1 = fill, of the picture's size: (H, W), or with ones before it.
        opacity: of the red.

    Raises:
        UserError: a mask of another size.
    """
    h, w = picture.height, picture.width
    if tuple(fill.shape[-2:]) != (h, w) or fill.numel() != h * w:
        raise UserError("mask", f"its shape is {tuple(fill.shape)}, the picture's {h}×{w}.")
    seen = picture.convert("RGB")
    hole = (fill.reshape(h, w).cpu() > 0.5).numpy().astype(np.uint8)
    red = Image.new("RGB", seen.size, _RED)
    return Image.composite(red, seen, Image.fromarray(hole * np.uint8(round(255 * opacity))))


def _layers(picture: str | Path | Image.Image) -> tuple[Image.Image, Image.Image] | None:
    """Colors (RGB) and transparency (L), upright, of a picture that has the latter."""
    if not isinstance(picture, Image.Image):
        with Image.open(picture) as image:
            return _layers(image)
    if not picture.has_transparency_data:
        return None
    upright = ImageOps.exif_transpose(picture).convert("RGBA")
    return upright.convert("RGB"), upright.getchannel("A")


def _told_apart(where: object, fill: NDArray[np.bool_]) -> Mask:
    """The mask, if it fills something and keeps something."""
    if fill.all() or not fill.any():
        state = (
            "all white: nothing of the picture would be kept" if fill.all() else "all black: nothing to fill"
        )
        raise UserError(where, f"the mask is {state}.", "White = fill; --invert turns a mask around.")
    return Mask(fill=torch.from_numpy(fill.astype(np.float32))[None, None])
