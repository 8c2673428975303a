"""Images for people: grids, animations, and sets written as files.

Every file is written whole or not at all; its suffix names its format.
"""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield.data.image import to_pil
from scorefield.errors import UserError
from scorefield.files import atomic

IMAGES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF"}
ANIMATIONS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
_TILE, _SHEET = 96, 2048  # a tile is enlarged up to this, a sheet not beyond this, in pixels


def grid(images: Tensor, *, columns: int | None = None, pad: int = 2, scale: int | None = None) -> Image.Image:
    """Tiles in row-major order on white.

    Args:
        images: uint8, (N, C, H, W), C of 1 to 4; 2 and 4 carry alpha.
        columns: tiles a row; by default the sheet is about square.
        pad: white pixels between tiles and around them.
        scale: integer by which pixels are enlarged without smoothing; by default small images grow
            to at most 96 pixels and the sheet stays below 2048.
    """
    n, c, h, w = images.shape
    if 0 in images.shape:
        raise ValueError(f"no image in a tensor of shape {tuple(images.shape)}")
    across = max(1, min(columns or round((n * h / w) ** 0.5), n))
    down = -(-n // across)
    times = scale or max(1, min(_TILE // max(h, w), _SHEET // max(across * w, down * h)))
    high, wide = h * times + pad, w * times + pad
    large = images.detach().cpu().repeat_interleave(times, -2).repeat_interleave(times, -1)
    sheet = torch.full((c, down * high + pad, across * wide + pad), 255, dtype=torch.uint8)
    for i, tile in enumerate(large):
        top, left = (i // across) * high + pad, (i % across) * wide + pad
        sheet[:, top : top + h * times, left : left + w * times] = tile
    return to_pil(sheet)


def save_image(image: Image.Image, path: Path) -> Path:
    """Write an image; JPEG at quality 95 without subsampling of colour.

    Raises:
        UserError: unknown suffix, or a disk that does not take it.
    """
    kind = _format(path, IMAGES)
    with _writing(path) as part:
        if kind == "JPEG":
            image.save(part, kind, quality=95, subsampling=0)
        else:
            image.save(part, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return path


def check_image_name(path: Path) -> None:
    """See, before any work, that an image can be written under this name.

    Raises:
        UserError: unknown suffix.
    """
    _format(path, IMAGES)


def save_animation(frames: Sequence[Image.Image], path: Path, *, milliseconds: int = 60, hold: int = 1500) -> Path:
    """Write frames as an endless GIF, WebP or animated PNG; the last one stays for `hold` ms.

    Raises:
        UserError: unknown suffix, or a disk that does not take it.
    """
    if not frames:
        raise ValueError("an animation needs at least one frame")
    kind = _format(path, ANIMATIONS)
    durations = [milliseconds] * (len(frames) - 1) + [hold]
    quality = {"quality": 90} if kind == "WEBP" else {}
    with _writing(path) as part:
        frames[0].save(part, kind, save_all=True, append_images=list(frames[1:]), duration=durations, loop=0, **quality)
    return path


def save_images(images: Tensor, out: Path) -> Path:
    """Write a set as the suffix of `out` says.

    An image's suffix (`.png` …) gives a grid; `.npz` (its array is `arr_0`, as published samples
    name it) and `.npy` hold uint8 (N, H, W, C); a name without suffix is a folder of
    `00000.png`, `00001.png` …; images that an earlier set left there under such numbers (five
    digits or more and `.png`, nothing else) go, all other files stay.

    Args:
        images: uint8, (N, C, H, W).
        out: file or folder; what is there already is replaced.

    Raises:
        UserError: unknown suffix, or a disk that does not take it.
    """
    suffix = out.suffix.lower()
    if suffix in IMAGES:
        return save_image(grid(images), out)
    if suffix in (".npz", ".npy"):
        array = images.detach().cpu().permute(0, 2, 3, 1).contiguous().numpy()
        with _writing(out) as part, part.open("wb") as file:
            if suffix == ".npy":
                np.save(file, array)
            else:
                np.savez_compressed(file, array)
        return out
    if suffix and not out.is_dir():
        _format(out, IMAGES | {".npz": "", ".npy": ""})
    digits = max(5, len(str(len(images) - 1)))
    written = {save_image(to_pil(image), out / f"{i:0{digits}}.png").name for i, image in enumerate(images)}
    for path in out.iterdir():
        if re.fullmatch(r"[0-9]{5,}\.png", path.name) and path.name not in written:
            path.unlink()
    return out


def _format(path: Path, known: dict[str, str]) -> str:
    if path.suffix.lower() not in known:
        raise UserError(path, f"cannot write `{path.suffix}`.", f"Use one of {', '.join(known)}.")
    return known[path.suffix.lower()]


@contextmanager
def _writing(path: Path) -> Generator[Path]:
    try:
        with atomic(path) as part:
            yield part
    except OSError as error:
        raise UserError(path, f"cannot be written: {error.strerror or error}.") from error
