"""Files that were made to do harm: other programs' formats, bombs, pipes, headers that lie."""

import gzip
import io
import os
import re
import struct
import threading
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import scorefield
from scorefield.data import formats
from scorefield.data import image as module
from scorefield.data.datasets import open_images
from scorefield.data.image import MAX_PIXELS, ImageReadError, decode, decoding, header, open_image, read_image
from scorefield.data.photo import Photo
from scorefield.degradations.mask_files import named_mask
from scorefield.errors import UserError

READERS = (read_image, Photo.read, lambda path: named_mask(path, (8, 8)))

FOREIGN = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n",
    "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(14) + bytes(200),
    "fits": (b"SIMPLE  =                    T".ljust(80) + b"BITPIX  =                    8".ljust(80)
             + b"NAXIS   =                    2".ljust(80) + b"NAXIS1  =                    8".ljust(80)
             + b"NAXIS2  =                    8".ljust(80) + b"END").ljust(2880) + bytes(64),
    "wmf": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhH", 0, 0, 8, 8, 72) + bytes(6) + b"\1\0\t\0" + bytes(40),
    "emf": struct.pack("<II", 1, 88) + struct.pack("<4i", 0, 0, 8, 8) + struct.pack("<4i", 0, 0, 99, 99) + b" EMF"
           + bytes(60),
    "mcidas": b"\0\0\0\0\0\0\0\4" + bytes(300),
    "xpm": b'/* XPM */\nstatic char *x[] = {\n"8 8 1 1",\n"a c #000000",\n' + b'"aaaaaaaa",\n' * 8 + b"};\n",
    "pcx": b"\x0a\5\1\x08" + struct.pack("<4H", 0, 0, 7, 7) + bytes(116) + bytes(64),
}  # fmt: skip


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("suffix", [".jpg", ".eps", ".tga", ""])
@pytest.mark.parametrize("kind", FOREIGN)
def test_formats_of_other_programs_are_refused_whatever_their_name(tmp_path, monkeypatch, kind, suffix, read):
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / f"holiday{suffix}"
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(UserError, match="holiday"):
        read(path)
    assert not started.exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM"])
def test_photographs_formats_are_known_by_their_content(tmp_path, kind):
    Image.new("RGB", (8, 6), "red").save(tmp_path / "image.dat", kind)
    assert read_image(tmp_path / "image.dat").size == (8, 6)


def test_tga_has_no_signature_so_its_name_decides(tmp_path):
    Image.new("RGB", (8, 6), "red").save(tmp_path / "image.tga")
    assert read_image(tmp_path / "image.tga").size == (8, 6) and Photo.read(tmp_path / "image.tga").pixels.shape[0] == 3
    (tmp_path / "image.tga").rename(tmp_path / "image.png")
    with pytest.raises(UserError, match="not an image that can be read"):
        read_image(tmp_path / "image.png")


def test_one_function_alone_opens_images():
    """`Image.open` stands in `data/image.py`, once; what `data/tiff.py` reads is TIFF for certain."""
    found = [
        path.relative_to(Path(scorefield.__file__).parent).as_posix()
        for path in Path(scorefield.__file__).parent.rglob("*.py")
        for _ in re.findall(
            r"\bImage\.open\((?!BytesIO\(content\), formats=\(\"TIFF\",\)\))|\bImageFile\.Parser|\bcv2\.imread\(",
            path.read_text(encoding="utf-8"),
        )
    ]
    assert found == ["data/image.py"]


@pytest.mark.parametrize("read", READERS)
def test_pipes_and_devices_are_not_opened(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.jpg"):
        with pytest.raises(UserError, match=f"{name}: is no regular file"):
            read(tmp_path / name)


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(module.MAX_BYTES + 1)  # sparse: takes no room
    for read in READERS:
        with pytest.raises(UserError, match=r"large.png: has 1.1 GB"):
            read(tmp_path / "large.png")


def png_of(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file whose header promises this size; black, if it holds no `chunks`."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), *chunks,
             (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff_of(width: int, height: int, tile: int) -> bytes:
    """A TIFF file of one deflated tile."""
    block = zlib.compressobj(1)
    packed = block.compress(bytes(2**20)) + block.flush(zlib.Z_FULL_FLUSH)  # repeats: it refers to nothing before it
    data = packed[:2] + packed[2:] * (tile * tile // 2**20 + 1)
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile), (323, tile),
            (324, 10 + 12 * 10 + 4), (325, len(data))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


@pytest.mark.parametrize("content", [
    png_of(60_000, 60_000),
    png_of(2**31 - 1, 1),
    b"BM" + struct.pack("<IIIIiiHHIIIIII", 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + b"\0\0\0," + struct.pack("<4H", 0, 0, 60_000, 60_000) + b"\0\2\0",
    b"P6\n60000 60000\n255\n",
    tiff_of(16, 16, 12_000),
    tiff_of(16, 16, 5_000),
], ids=["png", "wide png", "bmp", "gif", "ppm", "tiff of 144 MB", "tiff of 25 MB"])  # fmt: skip
def test_bombs_are_refused_from_their_header(tmp_path, content):
    path = tmp_path / "bomb.png"
    path.write_bytes(content)
    for read in READERS:
        with pytest.raises(UserError, match="decompression bomb"):
            read(path)
    with pytest.raises(ImageReadError, match="decompression bomb"):
        header(path)


@pytest.mark.parametrize("name", [b"iCCP", b"zTXt", b"iTXt"])
def test_compressed_text_and_profiles_are_bounded(tmp_path, name):
    bomb = zlib.compress(bytes(2**24), 1)
    head = {b"iCCP": b"profile\0\0", b"zTXt": b"Raw profile type exif\0\0", b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0"}
    (tmp_path / "bomb.png").write_bytes(png_of(8, 8, (name, head[name] + bomb)))
    assert PngImagePlugin.MAX_TEXT_CHUNK <= 2**20  # what bounds it
    try:
        made = Photo.read(tmp_path / "bomb.png")
    except UserError:
        return
    assert len(made.icc or b"") + len(made.exif or b"") <= 2**20


def test_threads_decode_no_more_pixels_together_than_one_image_may_have():
    image = Image.new("1", (10_000, 4_000))  # 0.4 of MAX_PIXELS
    together, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal together, most
        with decoding(image.size):
            with lock:
                together += image.width * image.height
                most = max(most, together)
            time.sleep(0.02)
            with lock:
                together -= image.width * image.height

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert together == 0 and image.width * image.height < most <= MAX_PIXELS


def test_a_decoder_that_fails_gives_its_share_back(tmp_path):
    good, broken = io.BytesIO(), tmp_path / "broken.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(good, "PNG")
    broken.write_bytes(good.getvalue()[:1000])
    for _ in range(3):
        with pytest.raises(ImageReadError):
            decode(broken)
    assert module._pixels_at_once == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "I;16", "F", "RGBa"])
def test_bands_give_the_same_pixels_as_a_whole(tmp_path, monkeypatch, mode):
    values = np.random.default_rng(0).integers(0, 256, (23, 17, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(values[..., 0].astype(np.float32))
    elif mode == "P":
        image = Image.fromarray(values[..., :3]).quantize(16)
        image.info["transparency"] = bytes(range(0, 256, 16))
    elif mode == "PA":
        image = Image.fromarray(values[..., :3]).quantize(16).convert("PA")
    else:
        image = Image.fromarray(values).convert(mode)
    whole = np.asarray(module._upright_8_bit(image.copy()))
    monkeypatch.setattr(module, "_BAND", 40)
    assert np.array_equal(np.asarray(module._upright_8_bit(image.copy())), whole)


def test_open_image_takes_its_formats_from_the_list():
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "PCX")
    with pytest.raises(Image.UnidentifiedImageError):
        open_image(Path("x.png"), content.getvalue())


# --- Arrays --------------------------------------------------------------------------------------


def npy_header(shape: object, dtype: str = "'|u1'") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


LIES = {
    "promise.idx3-ubyte": b"\0\0\x08\3" + struct.pack(">3I", 10**4, 10**4, 10**4) + bytes(99),
    "train-images-idx3-ubyte": b"\0\0\x08\3" + b"\xff" * 12 + bytes(99),
    "train-images-idx3-ubyte.gz": gzip.compress(b"\0\0\x08\3" + b"\xff" * 12 + bytes(99)),
    "lie.npy": npy_header((10**12, 1, 8, 8)) + bytes(999),
    "large.npy": npy_header((2**62, 2**62, 8)) + bytes(999),
    "negative.npy": npy_header((-1, 8, 8)) + bytes(999),
    "nested.npy": npy_header("(" * 5000) + bytes(999),
    "object.npy": npy_header((8, 8, 8), "'|O'") + bytes(999),
    "named.npz": npy_header((10**12, 1, 8, 8)) + bytes(999),
}
ENTRIES = {name: content for name, content in LIES.items() if name.endswith(".npy")}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_is_told_before_anything_is_allocated(tmp_path, name):
    (tmp_path / name).write_bytes(LIES[name])
    with pytest.raises(UserError, match=re.escape(name)):
        open_images(tmp_path / name)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", ENTRIES)
def test_so_is_one_inside_an_archive(tmp_path, name, packing):
    with zipfile.ZipFile(tmp_path / "set.npz", "w", packing) as archive:
        archive.writestr("images.npy", ENTRIES[name])
    with pytest.raises(UserError, match=r"set\.npz"):
        open_images(tmp_path / "set.npz")


def test_the_size_that_an_archive_states_is_not_believed(tmp_path):
    """The directory of a zip file promises 10^9 bytes of an entry of 99."""
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("images.npy", npy_header((10**7, 10, 10)) + bytes(99))
        size = archive.infolist()[0].file_size
    content = (tmp_path / "set.npz").read_bytes()
    (tmp_path / "set.npz").write_bytes(content.replace(struct.pack("<II", size, size), struct.pack("<II", size, 10**9)))
    with pytest.raises(UserError, match=r"set\.npz"):
        open_images(tmp_path / "set.npz")


@pytest.mark.parametrize("kind", ["npz", "idx"])
def test_arrays_packed_too_tightly_are_bombs(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(formats, "_SMALL", 2**16)
    zeros = np.zeros((1024, 16, 16), np.uint8)
    name = {"npz": "set.npz", "idx": "train-images-idx3-ubyte.gz"}[kind]
    if kind == "npz":
        np.savez_compressed(tmp_path / name, images=zeros)
    else:
        (tmp_path / name).write_bytes(gzip.compress(b"\0\0\x08\3" + struct.pack(">3I", *zeros.shape) + zeros.tobytes()))
    with pytest.raises(UserError, match="unpacks to 0.0 GB from 0.0 MB .a decompression bomb"):
        open_images(tmp_path / name)
    np.savez_compressed(tmp_path / "good.npz", images=np.random.default_rng(0).integers(0, 256, zeros.shape, np.uint8))
    assert len(open_images(tmp_path / "good.npz")) == 1024
