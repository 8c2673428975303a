"""Images for people: grids, animations, and sets written as files.

Every file is written whole or not at all; its suffix names its format.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield.data.encode import FORMATS, format_of, write_samples, writing
from scorefield.data.image import to_pil, uint8_images
from scorefield.data.metadata import Metadata
from scorefield.errors import UserError

ANIMATIONS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
_TILE, _SHEET = 96, 2048  # pixels: a tile is enlarged up to the first, a sheet up to the second


def grid(
    images: Tensor,
    *,
    columns: int | None = None,
    pad: int = 2,
    scale: int | None = None,
    value_range: tuple[float, float] | None = None,
) -> Image.Image:
    """Tiles in row-major order on white.

    Args:
        images: (N, C, H, W), C of 1 to 4; 2 and 4 carry alpha. uint8, or floats in `value_range`.
        columns: tiles per row; by default the sheet is about square.
        pad: white pixels between tiles and around them.
        scale: integer by which pixels are enlarged without smoothing; by default small images grow
            to at most 96 pixels and the sheet stays below 2048.
        value_range: black and white of float images.

    Raises:
        UserError: float images without a value range, or no images.
    """
    images = uint8_images(images, value_range)
    n, c, h, w = images.shape
    across = max(1, min(columns or round((n * h / w) ** 0.5), n))
    down = -(-n // across)
    times = scale or max(1, min(_TILE // max(h, w), _SHEET // max(across * w, down * h)))
    high, wide = h * times + pad, w * times + pad
    large = images.repeat_interleave(times, -2).repeat_interleave(times, -1)
    sheet = torch.full((c, down * high + pad, across * wide + pad), 255, dtype=torch.uint8)
    for i, tile in enumerate(large):
        top, left = (i // across) * high + pad, (i % across) * wide + pad
        sheet[:, top : top + h * times, left : left + w * times] = tile
    return to_pil(sheet)


def save_image(image: Image.Image, path: Path, *, metadata: Metadata | None = None) -> Path:
    """Write an image; JPEG at quality 95 without subsampling of chroma.

    Args:
        image: the image.
        path: the file; its suffix names the format.
        metadata: what the file says beside the pixels, where its format can hold it.

    Raises:
        UserError: unknown suffix, or a disk that does not take it.
    """
    plain = image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGB")
    write_samples(np.atleast_3d(np.asarray(plain)), path, metadata=metadata or Metadata(), quality=95)
    return path


def check_image_name(path: Path) -> None:
    """Check before any work that an image can be written under this name.

    Raises:
        UserError: unknown suffix.
    """
    format_of(path)


def save_animation(frames: Sequence[Image.Image], path: Path, *, milliseconds: int = 60, hold: int = 1500) -> Path:
    """Write frames as an endless GIF, WebP or animated PNG; the last one stays for `hold` ms.

    Raises:
        UserError: unknown suffix, or a disk that does not take it.
    """
    if not frames:
        raise ValueError("an animation needs at least one frame")
    kind = ANIMATIONS.get(path.suffix.lower())
    if kind is None:
        raise UserError(path, f"cannot write `{path.suffix}`.", f"Use one of {', '.join(ANIMATIONS)}.")
    durations = [milliseconds] * (len(frames) - 1) + [hold]
    quality = {"quality": 90} if kind == "WEBP" else {}
    with writing(path) as part:
        frames[0].save(part, kind, save_all=True, append_images=list(frames[1:]), duration=durations, loop=0, **quality)
    return path


def save_images(images: Tensor, out: str | Path, *, value_range: tuple[float, float] | None = None) -> Path:
    """Write a set as the suffix of `out` says.

    An image's suffix (`.png` …) gives a grid. `.npz` (its array is `arr_0`, as published samples name it) and
    `.npy` hold uint8 (N, H, W, C). A name without suffix is a folder of `00000.png`, `00001.png` …; files of
    an earlier set there (five digits or more and `.png`, nothing else) are removed, all other files stay.

    Args:
        images: (N, C, H, W), uint8, or floats in `value_range`.
        out: file or folder; an existing one is replaced.
        value_range: black and white of float images.

    Raises:
        UserError: float images without a value range, unknown suffix, or a disk that does not take it.
    """
    images, out = uint8_images(images, value_range), Path(out)
    suffix = out.suffix.lower()
    if suffix in FORMATS:
        return save_image(grid(images), out)
    if suffix in (".npz", ".npy"):
        array = images.permute(0, 2, 3, 1).contiguous().numpy()
        with writing(out) as part, part.open("wb") as file:
            if suffix == ".npy":
                np.save(file, array)
            else:
                np.savez_compressed(file, array)
        return out
    if suffix and not out.is_dir():
        raise UserError(out, f"cannot write `{out.suffix}`.", f"Use one of {', '.join((*FORMATS, '.npz', '.npy'))}.")
    for index, image in enumerate(images):
        save_image(to_pil(image), out / numbered_name(index, len(images)))
    remove_numbered(out, keep=len(images))
    return out


def numbered_name(index: int, n: int) -> str:
    """The name of an image of a folder of n: 00000.png, with more digits where n needs them."""
    return f"{index:0{max(5, len(str(n - 1)))}}.png"


def remove_numbered(folder: Path, *, keep: int) -> None:
    """Remove the images of an earlier set from the folder of one of `keep` images; all other files stay."""
    for path in folder.iterdir():
        if re.fullmatch(r"[0-9]{5,}\.png", path.name):
            index = int(path.stem)
            if index >= keep or path.name != numbered_name(index, keep):
                path.unlink()
