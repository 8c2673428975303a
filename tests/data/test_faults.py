"""Files that were made to do harm: other programs' formats, bombs, pipes, headers that lie."""

import gzip
import hashlib
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
from scorefield.data.png import MOST_UNPACKED
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


PACKED = {
    b"iCCP": b"profile\0%c", b"zTXt": b"Raw profile type exif\0%c", b"iTXt": b"XML:com.adobe.xmp\0\1%c\0\0",
}  # fmt: skip
NOTES = {
    "unpacks to more than 1 MB": lambda name: PACKED[name] % 0 + zlib.compress(bytes(2**24), 1),
    "is packed in an unknown way": lambda name: PACKED[name] % 9 + zlib.compress(b"words"),
    "is damaged": lambda name: PACKED[name] % 0 + b"\xff" * 40,
    "its checksum is wrong": lambda name: PACKED[name] % 0 + zlib.compress(b"words"),
}


@pytest.mark.parametrize("name", [b"bKGD", b"sBIT", b"hIST", b"sPLT", b"teSt"])
def test_a_note_of_any_kind_with_a_wrong_checksum_is_left_out_and_said(tmp_path, name):
    content = png_of(8, 8, (name, b"words"))
    (tmp_path / "a.png").write_bytes(content.replace(name + b"words", name + b"sword"))
    assert Photo.read(tmp_path / "a.png").notes == ("a note is left out: its checksum is wrong",)
    assert header(tmp_path / "a.png")[0] == (8, 8)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("fault", NOTES)
@pytest.mark.parametrize("name", PACKED)
def test_notes_of_a_png_that_cannot_be_read_are_left_out_and_said(tmp_path, name, fault, behind):
    content = png_of(8, 8, (name, NOTES[fault](name)))
    if fault == "its checksum is wrong":
        content = content.replace(zlib.compress(b"words"), zlib.compress(b"sword"))
    if behind:
        note = content[33 : content.index(b"IDAT") - 4]
        content = content[:33] + content[33 + len(note) : -12] + note + content[-12:]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    photo = Photo.read(path)
    assert len(photo.notes) == 1 and "is left out: " in photo.notes[0] and fault in photo.notes[0]
    assert (photo.levels == 0).all() and photo.levels.shape == (8, 8, 1)
    assert photo.sha256 == hashlib.sha256(content).hexdigest()
    assert photo.icc is None and photo.metadata.chunks == ()
    assert read_image(path).size == (8, 8) and header(path) == ((8, 8), True)
    assert PngImagePlugin.MAX_TEXT_CHUNK == MOST_UNPACKED  # Pillow's bound is the one that is told


@pytest.mark.parametrize("name", [b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"cICP"])
def test_notes_of_a_wrong_length_are_left_out_and_said(tmp_path, name):
    (tmp_path / "a.png").write_bytes(png_of(8, 8, (name, b"\0\0")))
    assert "it has a wrong length" in Photo.read(tmp_path / "a.png").notes[0]


def test_texts_that_are_too_many_together_are_left_out(tmp_path):
    packed = b"Title\0\0" + zlib.compress(bytes(2**20 - 1))
    (tmp_path / "a.png").write_bytes(png_of(8, 8, *[(b"zTXt", packed)] * 70))
    assert Photo.read(tmp_path / "a.png").notes == ("a text is left out: all texts have more than 64 MB",)


# --- headers that promise more than the file holds -------------------------------------------------


def drawn(kind, **settings):
    """A small file with detail."""
    y, x = np.mgrid[:48, :64]
    image = Image.fromarray(np.stack([y * 5, x * 3, y * x % 256], axis=2).astype(np.uint8))
    file = io.BytesIO()
    if settings.pop("frames", 1) == 2:
        settings |= {"save_all": True, "append_images": [image.rotate(90)]}
    image.save(file, kind, **settings)
    return file.getvalue()


def lied(content, mark, skip, form, *values):
    """The file with other numbers `skip` bytes behind a mark."""
    at = content.index(mark) + skip
    return content[:at] + struct.pack(form, *values) + content[at + struct.calcsize(form) :]


def lied_png(content, width, height):
    made = lied(content, b"IHDR", 4, ">II", width, height)
    return lied(made, b"IHDR", 17, ">I", zlib.crc32(made[12:29]))


def lied_tiff(content, side):
    """Other numbers for its width, height and rows of a strip."""
    (at,) = struct.unpack_from("<I", content, 4)
    made = bytearray(content)
    for place in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", content, at)[0], 12):
        if struct.unpack_from("<H", content, place)[0] in (256, 257, 278):
            struct.pack_into("<HII", made, place + 2, 4, 1, side)
    return bytes(made)


SIDE = 9_999  # under MAX_PIXELS, so that its size alone is no reason to refuse it
LOW = struct.pack("<I", SIDE - 1)[:3]
HEADERS = {
    "png": lied_png(drawn("PNG"), SIDE, SIDE),
    "apng": lied_png(drawn("PNG", frames=2), SIDE, SIDE),
    "jpeg": lied(drawn("JPEG"), b"\xff\xc0", 5, ">HH", SIDE, SIDE),
    "progressive jpeg": lied(drawn("JPEG", progressive=True), b"\xff\xc2", 5, ">HH", SIDE, SIDE),
    "gif": lied(drawn("GIF"), b"GIF89a" if b"GIF89a" in drawn("GIF") else b"GIF87a", 6, "<HH", SIDE, SIDE),
    "gif frame": lied(drawn("GIF"), b",\0\0\0\0", 5, "<HH", SIDE, SIDE),
    "gif place": lied(drawn("GIF"), b",\0\0\0\0", 1, "<HH", SIDE - 99, SIDE - 99),
    "bmp": lied(drawn("BMP"), b"BM", 18, "<ii", SIDE, SIDE),
    "bmp negative": lied(drawn("BMP"), b"BM", 18, "<ii", 64, -(2**31)),
    "webp": lied(drawn("WEBP"), b"\x9d\x01\x2a", 3, "<HH", SIDE, SIDE),
    "lossless webp": lied(drawn("WEBP", lossless=True), b"\x2f", 1, "<I", (SIDE - 1) | (SIDE - 1) << 14),
    "animated webp": lied(drawn("WEBP", frames=2), b"VP8X", 12, "6s", LOW + LOW),
    "avif": lied(drawn("AVIF"), b"ispe", 8, ">II", SIDE, SIDE),
    "animated avif": drawn("AVIF", frames=2).replace(
        struct.pack(">II", 64 << 16, 48 << 16), struct.pack(">II", SIDE << 16, SIDE << 16)
    ),
    "ppm": drawn("PPM").replace(b"64 48", b"9999 9999", 1),
    "jpeg 2000": lied(lied(drawn("JPEG2000"), b"ihdr", 4, ">II", SIDE, SIDE), b"\xff\x51", 6, ">II", SIDE, SIDE),
    "tiff": lied_tiff(drawn("TIFF"), SIDE),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_promises_more_than_the_file_holds_is_told_before_memory_is_taken(tmp_path, monkeypatch, name):
    path = tmp_path / "lie.image"
    path.write_bytes(HEADERS[name])
    for read in READERS:
        with pytest.raises(UserError, match=r"lie\.image: ") as raised:
            read(path)
        assert "\n" not in str(raised.value)
    if name not in ("tiff", "bmp", "ppm"):  # their strips and rows are read before anything is filled
        monkeypatch.setattr(Image.core, "new", lambda *_: pytest.fail("memory was taken"))
        monkeypatch.setattr(Image.core, "fill", lambda *_: pytest.fail("memory was taken"))
        with pytest.raises(UserError):
            read_image(path)


def test_an_animated_png_whose_first_frame_does_not_fill_it_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(lied_png(drawn("PNG", frames=2), 64, 96))
    for read in READERS:
        with pytest.raises(UserError, match="its first frame is 64×48, the image 64×96"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize(("kind", "settings"), [
    ("PNG", {}), ("PNG", {"mode": "1"}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}),
    ("WEBP", {"lossless": True}), ("WEBP", {"quality": 1}), ("AVIF", {}), ("JPEG2000", {}),
    ("TIFF", {"compression": "tiff_deflate"}),
])  # fmt: skip
def test_large_images_of_one_color_are_no_lies(tmp_path, kind, settings):
    settings = dict(settings)
    image = Image.new(settings.pop("mode", "L" if kind == "JPEG" else "RGB"), (4200, 4200))
    image.save(tmp_path / "black", kind, **settings)
    assert header(tmp_path / "black")[0] == (4200, 4200)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.97])
@pytest.mark.parametrize(("kind", "settings"), [
    ("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}), ("WEBP", {}),
    ("WEBP", {"lossless": True}), ("AVIF", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("PPM", {}),
    ("JPEG2000", {}), ("GIF", {"frames": 2}), ("WEBP", {"frames": 2}), ("PNG", {"frames": 2}), ("AVIF", {"frames": 2}),
])  # fmt: skip
def test_a_file_that_ends_early_is_refused_or_its_first_image_is_whole(tmp_path, kind, settings, share):
    content = drawn(kind, **settings)
    path = tmp_path / "cut.image"
    path.write_bytes(content)
    whole = Photo.read(path)
    assert whole.notes == (("holds 2 images: the first one is taken",) if "frames" in settings else ())
    path.write_bytes(content[: int(share * len(content))])
    try:
        photo = Photo.read(path)
    except UserError as error:
        assert "cut.image: is " in str(error) and "\n" not in str(error)
        return
    assert "frames" in settings and (photo.levels == whole.levels).all()


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
