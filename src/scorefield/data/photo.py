"""An image with everything that its file holds, so that a restored one can be written like it.

Models work in 8 bits, grey or RGB. A file may hold more, which must not be lost on the way:

    levels    (H, W, C), 8 or 16 bits, C = 1 or 3, upright
    alpha     (H, W), of the same depth; colors beneath it stay as they are
    metadata  EXIF, ICC profile, resolution, XMP, IPTC, text, see `Metadata`; EXIF's orientation is set to 1

A file is read once; all of this comes from the same bytes. `as_photo` takes images that are in memory, too.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin
from torch import Tensor

from scorefield.data.color import cmyk_to_srgb, grey_to_srgb
from scorefield.data.encode import (
    DEEP,
    LOSSY,
    OPAQUE,
    fitting,
    format_of,
    matches_channels,
    register_heif,
    write_samples,
)
from scorefield.data.exif import MARK, orientation_of
from scorefield.data.image import (
    GREY_MODES,
    MAX_PIXELS,
    ImageReadError,
    check_file,
    decoded_tiff,
    decoding,
    full_range_clear,
    has_grey_palette,
    image_of,
    open_image,
    reason,
    to_uint8,
)
from scorefield.data.isobmff import coded_color
from scorefield.data.levels import Levels, in_8_bits, in_16_bits
from scorefield.data.metadata import Metadata, has_gain_map, read_metadata, tiff_metadata
from scorefield.data.png import sound_png
from scorefield.data.tiff import is_bigtiff, is_tiff, upright
from scorefield.errors import UserError

_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})


class JPEGHeader(NamedTuple):
    """How a JPEG file was compressed.

    Args:
        tables: its quantization tables by number, 64 values each, row by row.
        mode: its channels, "L", "RGB" or another of Pillow's modes.
        sampling: of chroma, as Pillow numbers it: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0, -1 anything else, and a file
            that stores R, G and B.
        orientation: EXIF's, 1 to 8.
    """

    tables: dict[int, tuple[int, ...]]
    mode: str
    sampling: int
    orientation: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """An image with the metadata of its file.

    Args:
        path: the file; for an image from memory, a name for errors.
        levels: (H, W, C), uint8 or uint16, C of 1 (grey) or 3 (RGB), upright, as if opaque.
        alpha: (H, W), of the same type; None if the file has no alpha channel.
        metadata: EXIF, color profile, resolution and more.
        format: Pillow's name of the file format.
        notes: remarks on what the file holds and was not read, a sentence each.
        jpeg: how it was compressed, if the file is a JPEG.
        sha256: digest of the file; empty for an image that was in memory.
    """

    path: Path
    levels: Levels
    alpha: Levels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    format: str = "PNG"
    notes: tuple[str, ...] = ()
    jpeg: JPEGHeader | None = None
    sha256: str = ""

    @classmethod
    def read(cls, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> "Photo":
        """Read a file.

        The pixel count is read from the header, before anything is decoded. 16-bit RGB of PNG needs OpenCV and
        HEIC needs `pillow_heif`, both of the extra `photos`.

        Raises:
            UserError: no file, a folder, a damaged file, too many pixels, CMYK without a color profile, or float
                pixels outside of a TIFF.
        """
        path = Path(path)
        if path.is_dir():
            raise UserError(path, "is a folder, not an image.")
        try:
            check_file(path)
            content = path.read_bytes()
            if is_tiff(content):
                return _read_tiff(path, content, max_pixels)
            if _is_heif(content):
                register_heif(path)
            sound, left_out = sound_png(content)
            with open_image(path, sound, max_pixels=max_pixels) as image, decoding(image.size):
                photo = _read(path, image, sound)
            if not left_out:
                return photo
            return replace(photo, notes=(*photo.notes, *left_out), sha256=hashlib.sha256(content).hexdigest())
        except UserError:
            raise
        except ImageReadError as problem:
            raise UserError(path, f"{problem}.") from None
        except Exception as error:  # codecs raise anything on damaged files
            raise UserError(path, f"{reason(error)}.") from None

    @property
    def exif(self) -> bytes | None:
        """A TIFF structure, with orientation 1."""
        return self.metadata.exif

    @property
    def icc(self) -> bytes | None:
        """The color profile."""
        return self.metadata.icc

    @property
    def deep(self) -> bool:
        """Whether it has 16 bits a channel."""
        return self.levels.dtype == np.uint16

    @property
    def image(self) -> Image.Image:
        """In 8 bits, "L" or "RGB"."""
        return image_of(self.levels)

    @property
    def pixels(self) -> Tensor:
        """In 8 bits: uint8, (C, H, W)."""
        return torch.from_numpy(in_8_bits(self.levels).transpose(2, 0, 1).copy())

    def grown(self, lay: Callable[[Tensor], Tensor] | None, size: tuple[int, int]) -> "Photo":
        """The photo for results of another size: its alpha is placed on them, and added pixels are opaque.

        Args:
            lay: from an image of the photo's size, (1, C, H, W), to one of the results', 0 where nothing was.
            size: (H, W) of the results.
        """
        if lay is None or self.alpha is None or size == self.levels.shape[:2]:
            return self
        most = np.iinfo(self.alpha.dtype).max
        clear = torch.from_numpy(1 - self.alpha / np.float32(most)).expand(1, *self.levels.shape[2:], *self.alpha.shape)
        opaque = 1 - lay(clear)[0, 0].clamp(0, 1).numpy()
        return replace(self, alpha=(opaque * most).round().astype(self.alpha.dtype))

    def opaque(self, mask: NDArray[np.bool_] | None) -> "Photo":
        """The photo with what was filled, bool (H, W), opaque."""
        if mask is None or self.alpha is None or mask.shape != self.alpha.shape:
            return self
        return replace(self, alpha=np.where(mask, np.iinfo(self.alpha.dtype).max, self.alpha).astype(self.alpha.dtype))

    def in_srgb_grey(self) -> "Photo":
        """Grey by a color profile of grey, as sRGB's grey, which can be colored; else the same."""
        if self.icc is None or self.levels.shape[2] != 1 or self.icc[16:20] != b"GRAY":
            return self
        notes = (*self.notes, "grey is converted to sRGB by its color profile")
        levels = grey_to_srgb(self.levels, self.icc)
        return replace(self, levels=levels, metadata=self.metadata.without_color(), notes=notes)

    def lost(self, path: str | Path, channels: int | None = None) -> tuple[str, ...]:
        """What a file of this name cannot keep, in words; `save` leaves it out silently.

        Args:
            path: the file.
            channels: 1 or 3, of what is saved; by default the photo's own.

        Raises:
            UserError: unknown suffix.
        """
        kind = format_of(Path(path))
        count = self.levels.shape[2] if channels is None else channels
        meta, kept = self.metadata, fitting(self.metadata, kind, (*self.levels.shape[:2], count))
        color = meta.icc is None and any(name in (b"cICP", b"gAMA", b"cHRM") for name, _ in meta.color.chunks)
        found = {
            "16 bits a channel": self.deep and kind not in DEEP,
            "alpha (it is put on white)": self.alpha is not None and kind in OPAQUE,
            "EXIF": meta.exif is not None and kept.exif is None,
            "the color profile": meta.icc is not None and kept.icc is None,
            "gamma and primaries": color and not kept.color.chunks,
            "XMP": meta.xmp is not None and kept.xmp is None,
            "IPTC": meta.iptc is not None and kept.iptc is None,
            "text": bool(meta.text) and not kept.text,
            "each pixel exactly": kind in LOSSY,
        }
        return tuple(words for words, is_lost in found.items() if is_lost)

    def save(self, levels: Levels, path: str | Path, *, quality: int = 95) -> Path:
        """Write an image with this one's depth, alpha and metadata, in the suffix's format.

        PNG, TIFF, WebP and BMP are written losslessly; `lost` lists what a format cannot keep. A grey color
        profile is not written with RGB, nor an RGB profile with grey. Alpha of another size is left out.

        Args:
            levels: (H, W, C), uint8 or uint16, C of 1 or 3.
            path: an existing file is replaced in one step.
            quality: of JPEG, AVIF and HEIC, 0 to 100; colors are not subsampled.

        Raises:
            UserError: unknown suffix, a missing extra, or a disk that does not take the file.
        """
        path = Path(path)
        at_depth = in_16_bits if self.deep and format_of(path) in DEEP else in_8_bits
        samples: Levels = at_depth(levels)
        if self.alpha is not None and self.alpha.shape == levels.shape[:2]:
            samples = np.concatenate([samples, at_depth(self.alpha)[..., None]], axis=2)
        write_samples(samples, path, metadata=self.metadata, quality=quality)
        return path


def as_photo(
    image: "str | Path | Image.Image | NDArray[Any] | Tensor | Photo",
    *,
    value_range: tuple[float, float] | None = None,
) -> Photo:
    """The photo of a file or of an image in memory.

    | image | what is taken |
    | --- | --- |
    | path | any file that Pillow reads, HEIC with the extra `photos` |
    | PIL image | every mode but LAB, and CMYK by its color profile; of mode "F" as float pixels |
    | numpy array | uint8 or uint16, or floats; (H, W) or (H, W, C) |
    | tensor | uint8 or uint16, or floats; (H, W) or (C, H, W) |

    C is 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha). The PIL image of a JPEG file has a header while it
    shows the file's own pixels: as it was opened, or decoded and not changed, if it was opened by its path.

    Args:
        image: see above; a photo is returned as it is.
        value_range: black and white of float pixels, which become 8 bits. Integers ignore it.

    Raises:
        UserError: the file cannot be read, float pixels without a value range or far outside of it, or another
            type or shape.
    """
    if isinstance(image, Photo):
        return image
    if isinstance(image, str | Path):
        return Photo.read(image)
    if isinstance(image, Image.Image) and image.mode != "F":
        try:
            if image.format == "TIFF" and (content := _not_loaded(image)):
                return _read_tiff(Path("image"), content, MAX_PIXELS)
            as_decoded = _is_as_decoded(image)
            photo = _read(Path("image"), image, b"")
            return photo if as_decoded else replace(photo, jpeg=None)
        except ImageReadError as problem:
            raise UserError("image", f"{problem}.") from None
    if np.ma.isMaskedArray(image) or (isinstance(image, Tensor) and image.layout != torch.strided):
        raise UserError("image", "masked arrays and sparse tensors are not images.", "Pass plain pixels.")
    if isinstance(image, Tensor):
        stored = image.detach().cpu()
        array = (stored.float() if stored.is_floating_point() else stored).numpy()
        expected = "(H, W) or (C, H, W)"
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    else:
        array, expected = np.asarray(image), "(H, W) or (H, W, C)"
    samples = array[..., None] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4) or samples.size == 0:
        shape = tuple(image.shape) if isinstance(image, Tensor) else array.shape
        raise UserError("image", f"a shape of {shape} is not one of an image.", f"Pass {expected}, C of 1 to 4.")
    if samples.dtype.kind == "f":
        samples = _from_floats(samples, value_range)
    elif samples.dtype.name not in ("uint8", "uint16"):
        raise UserError("image", f"{samples.dtype} is not a type of pixels.", "Pass uint8, uint16 or floats.")
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    channels = 1 if samples.shape[2] < 3 else 3
    return Photo(
        path=Path("image"),
        levels=samples[..., :channels].copy(),
        alpha=samples[..., channels].copy() if samples.shape[2] > channels else None,
    )


def _not_loaded(image: Image.Image) -> bytes:
    """The file of an image that Pillow has opened and not loaded; Pillow would turn some TIFFs wrong."""
    file, tiles = getattr(image, "fp", None), getattr(image, "tile", None)
    if not tiles or file is None or image.tell():
        return b""
    file.seek(0)
    return file.read()


def _is_as_decoded(image: Image.Image) -> bool:
    """Whether an image of a JPEG file has the pixels of its file: programs change images in place.

    One that is opened and not decoded yet has them, unless it is to be decoded at a smaller size. A decoded one is
    compared with its file; where that is not known by a name, nothing shows that it has them.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return True
    if image.tile:
        return image.decoderconfig[:1] in ((), (1,)) and image.tell() == 0
    try:
        with open_image(Path(os.fsdecode(image.filename))) as again, decoding(again.size):
            return again.mode == image.mode and np.array_equal(np.asarray(again), np.asarray(image))
    except Exception:  # the file is gone, or another one
        return False


def _from_floats(values: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    if value_range is None:
        mend = "Pass sf.as_photo(x, value_range=(0, 1)), or (-1, 1) for a model's samples, or (0, 255)."
        raise UserError("image", "float pixels without a range.", mend)
    low, high = value_range
    span, least, most = high - low, float(values.min()), float(values.max())
    if not (low - span / 2 <= least and most <= high + span / 2):  # samples overshoot, but not by half the range
        raise UserError("image", f"its values span {least:g}…{most:g}, not {low:g}…{high:g}.", "Check value_range.")
    return to_uint8(torch.from_numpy(np.ascontiguousarray(values)), value_range).numpy()


# --- reading -------------------------------------------------------------------------------------


def _is_heif(content: bytes) -> bool:
    """By the file's first bytes, ISO/IEC 14496-12 `ftyp` and its brand, whatever its name."""
    start = content[:12]
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


def _read(path: Path, image: Image.Image, content: bytes) -> Photo:
    if image.mode == "LAB":
        raise UserError(path, "is a CIELab image.", "Convert it to RGB first.")
    if image.mode == "F":
        raise UserError(path, "has float pixels.", "Convert it to 8 or 16 bits first.")
    notes, deep_color = _notes(image), _is_deep_color(image)
    icc = image.info.get("icc_profile") or None
    grey = image.mode in GREY_MODES or (has_grey_palette(image) and matches_channels(icc, 1))
    full_range_clear(image)
    image.load()
    orientation = orientation_of(image)
    metadata = read_metadata(image, content, orientation)
    if image.mode == "CMYK":
        samples: Levels = cmyk_to_srgb(image, icc)
        metadata = metadata.without_color()
        notes += ("CMYK is converted to sRGB by its color profile",)
    else:
        deep = _deep_color(content, image.mode) if deep_color and content else None
        samples = deep if deep is not None else _deep_grey(image) if image.mode[0] == "I" else _samples(image, grey)
    if isinstance(block := image.info.get("exif"), bytes) and block.removeprefix(MARK) and metadata.exif is None:
        notes += ("its EXIF is damaged: it is left out",)
    if has_gain_map(content):
        notes += ("its gain map is left out: the image is restored as it looks without HDR",)
    if (bits := coded_color(content).bits) > 8:
        notes += (f"{bits} bits a channel are read as 8",)
    if deep_color and samples.dtype == np.uint8:
        notes += ("16 bits a channel are read as 8: pip install 'scorefield[photos]' reads all of them",)
    return _photo(
        path, upright(samples, orientation), metadata, content,
        format="JPEG" if image.format == "MPO" else image.format or "PNG",  # a JPEG with previews behind it
        notes=notes, jpeg=jpeg_header(image),
    )  # fmt: skip


def _read_tiff(path: Path, content: bytes, max_pixels: int) -> Photo:
    tiff = decoded_tiff(content, max_pixels=max_pixels)
    metadata = tiff_metadata(content, tiff.tags_at, tiff.icc, tiff.orientation)
    notes = (*tiff.notes, "without EXIF: it is a BigTIFF") if is_bigtiff(content) else tiff.notes
    return _photo(path, tiff.samples, metadata, content, format="TIFF", notes=notes)


def _photo(path: Path, samples: Levels, metadata: Metadata, content: bytes, **facts: Any) -> Photo:
    channels = 1 if samples.shape[2] < 3 else 3
    return Photo(
        path=path,
        levels=samples[..., :channels].copy(),
        alpha=samples[..., channels].copy() if samples.shape[2] > channels else None,
        metadata=metadata,
        sha256=hashlib.sha256(content).hexdigest() if content else "",
        **facts,
    )


def jpeg_header(image: Image.Image) -> JPEGHeader | None:
    """How an opened file was compressed, if it is a JPEG file."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.quantization:
        return None
    return JPEGHeader(
        tables={number: tuple(table) for number, table in image.quantization.items()},
        mode=image.mode,
        sampling=-1 if _stores_rgb(image) else JpegImagePlugin.get_sampling(image),
        orientation=orientation_of(image),
    )


def _stores_rgb(image: JpegImagePlugin.JpegImageFile) -> bool:
    """Whether the components of a color file are R, G and B, by libjpeg's rules: Adobe's marker, or their names."""
    names = [component[0] for component in image.layer]
    if "jfif" in image.info or len(names) != 3:
        return False
    transform = image.info.get("adobe_transform")
    return names == list(b"RGB") if transform is None else transform == 0


def _notes(image: Image.Image) -> tuple[str, ...]:
    frames = getattr(image, "n_frames", 1)
    if frames == 1 or image.format == "MPO":
        return ()
    return (f"holds {frames} images: the first one is taken",)


def _samples(image: Image.Image, grey: bool) -> Levels:
    """All channels, alpha last: (H, W, 1 to 4)."""
    if image.mode in ("La", "RGBa"):  # premultiplied: Pillow leaves them one way only
        image = image.convert("LA" if grey else "RGBA")
    if image.mode in _ALPHA or "transparency" in image.info:
        array = np.asarray(image.convert("RGBA"))
        return array[..., [0, 3]] if grey else array
    return np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB")))


def _deep_grey(image: Image.Image) -> NDArray[np.uint16]:
    values = np.asarray(image)[..., None]
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageReadError(f"integer pixels span {low}…{high}; expected 16 bits, 0…65535")
    levels = values.astype(np.uint16)
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return levels
    return np.concatenate([levels, np.where(levels == clear, 0, 65535).astype(np.uint16)], axis=2)


def _is_deep_color(image: Image.Image) -> bool:
    """Whether the file holds 16 bits a channel where Pillow would give 8."""
    tile: Any = getattr(image, "tile", None)
    raw: Any = tile[0][3] if tile else ""  # how its samples are packed, e.g. "RGB;16B"
    name = raw[0] if isinstance(raw, tuple) and raw else raw
    return isinstance(name, str) and ";16" in name and image.mode[0] != "I"


def _deep_color(content: bytes, mode: str) -> Levels | None:
    """By OpenCV, alpha last; None where it is missing or cannot."""
    try:
        cv2: Any = import_module("cv2")
    except ImportError:
        return None
    found: NDArray[np.uint16] | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16 or found.ndim != 3:
        return None
    order = [0, 3] if mode == "LA" else [2, 1, 0, 3]  # OpenCV has blue first
    return found[..., order[: found.shape[2]]]
