"""Pixels: from a file to an 8-bit image, from integers to floats and back.

A file in one of `FORMATS` becomes an 8-bit grey or RGB image, upright and opaque:

    16-bit grey      v → round(v / 257), so that 65535 → 255
    alpha            composited on white: α v + (1 − α) 255
    palette …        → RGB (a palette of greys → grey)
    CMYK             → sRGB by its color profile; refused without one
    EXIF orientation applied

Two maps lead from pixels to a model's value range [a, b] and back. They are exact inverses on all 256
values, and likewise on the 65,536 of 16 bits:

    to_float: v → a + (b − a) v / 255        to_uint8: x → round(255 (x − a) / (b − a)), clamped

Between 8 and 16 bits, v₁₆ = 257 v₈ and v₈ = round(v₁₆ / 257); the second undoes the first.

Files are not trusted. `open_image` alone calls Pillow's decoders: by content, for `FORMATS` alone, of regular files, up
to `MAX_BYTES` and `MAX_PIXELS`. `decoding` bounds what all threads decode at once to `MAX_PIXELS` too, so the memory
of a process does not grow with its threads.
"""

import warnings
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from threading import Condition
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from scorefield.data.color import cmyk_to_srgb
from scorefield.data.exif import orientation_of
from scorefield.data.levels import Levels, in_8_bits
from scorefield.data.png import DEFLATE, is_sound_png, sound_png
from scorefield.data.tiff import BYTE_SCALED, TIFF, is_tiff, read_tiff, tiff_header, upright
from scorefield.errors import ImageReadError, UserError
from scorefield.files import is_special

# Of what Pillow warns, damaged EXIF and large sizes, is said by this package, or bounded here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "DIB", "AVIF", "HEIF", "JPEG2000", "PPM")
"""What is read, by Pillow's names. EPS would start Ghostscript; PSD, FITS, WMF and others hold no photographs."""
MAX_PIXELS = 100_000_000
MAX_BYTES = 2**30  # of a file: MAX_PIXELS of 16 bits, RGB and alpha, without compression, take 0.8 GB
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_BAND = 2**22  # pixels converted at once: the intermediate images of a band stay below 100 MB

Size = tuple[int, int]  # (H, W)


STATE_RANGE = "Pass value_range=(-1, 1) for a model's samples, or (0, 1) or (0, 255), as they are."
"""What to do about float pixels: the numbers do not say which of them are black and white."""


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS, at_least: Size | None = None) -> Image.Image:
    """Read an image as 8-bit grey ("L") or RGB, upright and opaque.

    The pixel count is read from the header, before anything is decoded.

    Args:
        path: a file in one of `FORMATS`, whatever its name, or a .tga; of an animation, the first frame.
        max_pixels: larger images are refused. Pillow's own limit (179 million) is above it.
        at_least: (H, W) that the caller will shrink to; a JPEG may then be decoded at an eighth,
            a quarter or half of its size, never below twice `at_least`.

    Raises:
        UserError: missing, unreadable or truncated file, or too many pixels.
    """
    try:
        return decode(Path(path), max_pixels=max_pixels, at_least=at_least)
    except ImageReadError as problem:
        raise UserError(path, f"{problem}.") from None


def decode(path: Path, *, max_pixels: int = MAX_PIXELS, at_least: Size | None = None) -> Image.Image:
    """As `read_image`, but raises ImageReadError with the bare reason."""
    try:
        check_file(path)
        with path.open("rb") as file:
            if is_tiff(start := file.read(4)):
                return _on_white_8_bit(decoded_tiff(start + file.read(), max_pixels=max_pixels).samples)
        with open_image(path, max_pixels=max_pixels) as image:
            if at_least is not None:
                image.draft(None, (2 * max(at_least), 2 * max(at_least)))  # before rotation: a square
            with decoding(image.size):
                return _upright_8_bit(image)
    except ImageReadError:
        raise
    except Exception as error:  # codecs raise anything on damaged files
        raise ImageReadError(reason(error)) from error


def header(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[Size, bool]:
    """The size (H, W) after rotation and whether the image is grey, without decoding it.

    Raises:
        ImageReadError: the header cannot be read or announces too many pixels.
    """
    try:
        check_file(path)
        with path.open("rb") as file:
            if is_tiff(file.read(4)):
                file.seek(0)
                (h, w), grey = tiff_header(file)
                check_size(w, h, max_pixels)
                return (h, w), grey
        with open_image(path, max_pixels=max_pixels) as image:
            w, h = image.size
            return ((w, h) if orientation_of(image) > 4 else (h, w)), image.mode in GREY_MODES or has_grey_palette(
                image
            )
    except ImageReadError:
        raise
    except Exception as error:  # codecs raise anything on damaged files
        raise ImageReadError(reason(error)) from error


def decoded_tiff(content: bytes, *, max_pixels: int = MAX_PIXELS) -> TIFF:
    """`read_tiff` within the bounds on size and on what all threads decode at once.

    Raises:
        ImageReadError: it is damaged, too large, or none of the kinds that are read.
    """

    def within(width: int, height: int) -> AbstractContextManager[None]:
        check_size(width, height, max_pixels)
        return decoding((width, height))

    return read_tiff(content, within=within)


def open_image(
    path: Path, content: bytes | None = None, *, formats: tuple[str, ...] = FORMATS, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The image of a file, opened but not decoded: the one place where Pillow reads what others wrote.

    The format follows from the content. TGA has no signature, so it is read where the file is named .tga.

    Args:
        path: the file.
        content: its bytes, if they were read already; those of a PNG by `sound_png`.
        formats: Pillow's names of those that are read.
        max_pixels: larger images are refused, from the header.

    Raises:
        ImageReadError: no regular file, too large, or too many pixels.
        OSError: no such file.
        Exception: what a codec raises on a damaged header; `reason` has words for it.
    """
    if content is None:
        check_file(path)
        with path.open("rb") as file:
            content = None if is_sound_png(file) else sound_png(path.read_bytes())[0]
    known = [name for name in formats if name != "HEIF" or name in Image.OPEN]  # HEIF is registered by an extra
    if path.suffix.lower() == ".tga" and formats is FORMATS:
        known.append("TGA")
    image = Image.open(path if content is None else BytesIO(content), formats=known)
    try:
        check_size(image.width, image.height, max_pixels)
        _check_promise(image, path.stat().st_size if content is None else len(content))
    except ImageReadError:
        image.close()
        raise
    return image


_PNG_BITS = {"1": 1, "L": 1, "P": 1, "I;16": 16, "I": 16, "LA": 16, "RGB": 24, "RGBA": 32}  # least, of a pixel
_JPEG_PIXELS = 512  # of one byte at most: each block of 8 × 8 has a Huffman code of one bit or more
_RATIO, _SMALL = 10_000, 2**26
"""Pixels of one byte in a codec without a bound, where there are more than 67 million: photographs have up to 100 a
byte, and one color alone, of any size, has a few bytes in all."""


def _check_promise(image: Image.Image, stored: int) -> None:
    """Refuse a header that promises more pixels than a file of `stored` bytes can hold, before memory is taken.

    Raises:
        ImageReadError: it does, or the first frame of an animated PNG is not of the image's size.
    """
    pixels = image.width * image.height
    most = max(_RATIO * stored, _SMALL)
    if image.format == "PNG":
        most = DEFLATE * 8 * stored // _PNG_BITS.get(image.mode, 1)
        parts: Any = getattr(image, "tile", None)
        tile = parts[0][1] if parts else None
        if tile is not None and tuple(tile) != (0, 0, *image.size):
            raise ImageReadError(
                f"is damaged: its first frame is {tile[2] - tile[0]}×{tile[3] - tile[1]}, the image "
                f"{image.width}×{image.height}"
            )
    elif isinstance(image, JpegImageFile):
        most = _JPEG_PIXELS * stored
    if pixels > most:
        raise ImageReadError(
            f"is truncated or damaged: its header promises {image.width}×{image.height} pixels, and {stored:,} bytes "
            "cannot hold them"
        )


def check_file(path: Path) -> None:
    """Refuse a pipe, a device and a file too large to be an image, before a byte is read.

    Raises:
        ImageReadError: it is one of them.
        OSError: no such file, or a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(path)
    if is_special(path):
        raise ImageReadError("is no regular file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ImageReadError(f"has {size / 1e9:.1f} GB, more than any image of {MAX_PIXELS / 1e6:g} MP")


@contextmanager
def decoding(size: tuple[int, int]) -> Generator[None]:
    """Wait until the images that all threads decode within this block have at most `MAX_PIXELS` together."""
    global _pixels_at_once  # noqa: PLW0603
    pixels = min(size[0] * size[1], MAX_PIXELS)
    with _turn:
        _turn.wait_for(lambda: _pixels_at_once + pixels <= MAX_PIXELS)
        _pixels_at_once += pixels
    try:
        yield
    finally:
        with _turn:
            _pixels_at_once -= pixels
            _turn.notify_all()


_turn, _pixels_at_once = Condition(), 0


def centre_box(size: Size, side: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the square of `side` pixels in the middle of an image of `size` (H, W)."""
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side


def fit(image: Image.Image, size: Size, channels: int) -> Image.Image:
    """Cut the centre to the aspect of `size` (H, W), resize it with antialiasing, set the channels.

    Shrinking by more than three averages boxes first and ends with Lanczos; enlarging is Lanczos.

    Args:
        image: "L" or "RGB".
        size: (H, W).
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB.
    """
    image = image.convert(_mode(channels))
    h, w = size
    if image.size == (w, h):
        return image
    wide = min(image.width, image.height * w / h)
    high = min(image.height, image.width * h / w)
    left, top = (image.width - wide) / 2, (image.height - high) / 2
    box = (left, top, left + wide, top + high)
    return image.resize((w, h), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def to_tensor(image: Image.Image) -> Tensor:
    """The pixels of an "L" or "RGB" image: uint8, (C, H, W)."""
    array = np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return torch.from_numpy(array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1)))


def to_pil(pixels: Tensor, value_range: tuple[float, float] | None = None) -> Image.Image:
    """An image of (C, H, W): 1 channel is grey, 3 are RGB; 2 and 4 carry alpha and are put on white.

    Args:
        pixels: uint8, or floats in `value_range`.
        value_range: black and white of float pixels.

    Raises:
        UserError: float pixels without a value range.
    """
    array = uint8_images(pixels[None], value_range)[0].permute(1, 2, 0).contiguous().numpy()
    if array.shape[2] not in (1, 2, 3, 4):
        raise ValueError(f"cannot draw {array.shape[2]} channels: 1 to 4 are known")
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    return _on_white(image) if image.mode in ("LA", "RGBA") else image


def uint8_images(images: Tensor, value_range: tuple[float, float] | None = None) -> Tensor:
    """The images (N, C, H, W) as uint8 on the CPU; floats are mapped from their stated range.

    Raises:
        UserError: float images without a value range, or integers other than uint8.
        ValueError: not four axes, or nothing in one of them.
    """
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"no image in a tensor of shape {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return images.detach().cpu()
    if not images.is_floating_point():
        raise UserError("images", f"{images.dtype} is not a type of pixels.", "Pass uint8, or floats with value_range.")
    if value_range is None:
        raise UserError("images", "float pixels without a range.", STATE_RANGE)
    return to_uint8(images, value_range).cpu()


def to_float(pixels: Tensor, value_range: tuple[float, float], *, top: int = 255) -> Tensor:
    """Pixels 0…`top` → float32 a…b, linearly."""
    low, high = value_range
    return pixels.to(torch.float32).mul_((high - low) / top).add_(low)


def to_levels(values: Tensor, value_range: tuple[float, float], *, top: int) -> Tensor:
    """Floats a…b → pixels 0…`top`, rounded and clamped; uint8, or int32 if `top` is above 255.

    Raises:
        FloatingPointError: a value is not finite: what made it diverged, and no pixel stands for that.
    """
    low, high = value_range
    if not bool(torch.isfinite(values).all()):
        raise FloatingPointError("the images have values that are not finite; the model or its sampler diverged")
    levels = (values.detach().to(torch.float32) - low) * (top / (high - low))
    return levels.round_().clamp_(0, top).to(torch.uint8 if top == 255 else torch.int32)


def to_uint8(values: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Floats a…b → uint8 0…255, rounded and clamped.

    Raises:
        FloatingPointError: a value is not finite.
    """
    return to_levels(values, value_range, top=255)


def image_of(levels: Levels) -> Image.Image:
    """An 8-bit image, "L" or "RGB", of (H, W, 1 or 3)."""
    flat = in_8_bits(levels)
    return Image.fromarray(np.ascontiguousarray(flat[..., 0] if flat.shape[2] == 1 else flat))


def _mode(channels: int) -> str:
    if channels not in (1, 3):
        raise UserError("channels", f"{channels} is not possible.", "Use 1 (grey) or 3 (RGB).")
    return "L" if channels == 1 else "RGB"


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a size of too many pixels.

    Raises:
        ImageReadError: there are more than `max_pixels`.
    """
    if width * height > max_pixels:
        raise ImageReadError(
            f"{width}×{height} is more than {max_pixels / 1e6:g} million pixels (a decompression bomb?)"
        )


def _on_white_8_bit(samples: Levels) -> Image.Image:
    """An image, "L" or "RGB", of samples with or without alpha, which are put on white."""
    flat = np.ascontiguousarray(in_8_bits(samples))
    image = Image.fromarray(flat[..., 0] if flat.shape[2] == 1 else flat)
    return _on_white(image) if image.mode in ("LA", "RGBA") else image


def _upright_8_bit(image: Image.Image) -> Image.Image:
    grey_palette = has_grey_palette(image)
    full_range_clear(image)
    image.load()
    if image.mode == "CMYK":
        rgb = cmyk_to_srgb(image, image.info.get("icc_profile"))
        return _on_white_8_bit(upright(rgb, orientation_of(image)))
    if orientation_of(image) > 1:
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        grey = grey_palette or image.mode in GREY_MODES
        opaque, mode = _on_white(image), "L" if grey else "RGB"
        return opaque if opaque.mode == mode else opaque.convert(mode)
    return image.convert("L" if grey_palette or image.mode in ("1", "L") else "RGB")


def full_range_clear(image: Image.Image) -> None:
    """Bring the clear level of a grey PNG of 2 or 4 bits, which is in the file's own bits, to 8 bits like the pixels.

    Args:
        image: opened and not loaded.
    """
    tile: Any = getattr(image, "tile", None)
    clear, packing = image.info.get("transparency"), tile[0][3] if tile else ""
    if isinstance(clear, int) and packing in ("L;2", "L;4"):
        image.info["transparency"] = clear * (85 if packing == "L;2" else 17)


def has_grey_palette(image: Image.Image) -> bool:
    """Whether all colors of an image's palette are greys."""
    if image.mode != "P" or image.palette is None:
        return False
    colours = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _on_white(image: Image.Image) -> Image.Image:
    """α v + (1 − α) 255; grey stays grey."""
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("La", "RGBa"):  # premultiplied: Pillow leaves them one way only
        image = image.convert("LA" if grey else "RGBA")
    made = Image.new("L" if grey else "RGB", image.size)
    for box in _bands(image):
        layer = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        made.paste(Image.alpha_composite(white, layer).convert(made.mode), box)
    return made


def _bands(image: Image.Image) -> Generator[tuple[int, int, int, int]]:
    """Boxes of whole rows, from top to bottom, of about `_BAND` pixels."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def _from_deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        scale = 255.0 if high <= 1 else 1.0
        if not (low >= 0 and (high <= 1 or BYTE_SCALED <= high <= 255)):
            raise ImageReadError(f"float pixels span {low:g}…{high:g}; expected 0…1 or 0…255")
    else:
        scale = 255 / 65535
        if low < 0 or high > 65535:
            raise ImageReadError(f"integer pixels span {low:g}…{high:g}; expected 16 bits, 0…65535")
    made = Image.new("L", image.size)
    for left, top, right, bottom in _bands(image):
        levels = np.rint(values[top:bottom].astype(np.float64) * scale).astype(np.uint8)
        made.paste(Image.fromarray(levels), (left, top, right, bottom))
    return made


_KNOWN_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (FileNotFoundError, "no such file"),
    (IsADirectoryError, "is a folder, not an image"),
    (PermissionError, "cannot be read: permission denied"),
    (Image.UnidentifiedImageError, "is not an image that can be read (damaged or an unknown format)"),
    (Image.DecompressionBombError, "has far too many pixels (a decompression bomb?)"),
    (Image.DecompressionBombWarning, "has far too many pixels (a decompression bomb?)"),
    (MemoryError, "does not fit into memory"),
)


def reason(error: Exception) -> str:
    """Why a file cannot be read, in words, from the exception that its codec raised."""
    for kind, words in _KNOWN_ERRORS:
        if isinstance(error, kind):
            return words
    first = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return f"is truncated or damaged ({first})"
