"""What files say beside their pixels, from one format to another."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from scorefield.data.encode import png_bytes
from scorefield.data.exif import marked_exif
from scorefield.data.image import header, read_image
from scorefield.data.metadata import Metadata
from scorefield.data.photo import Photo

IPTC = b"\x1c\x02\x50\x00\x06author\x1c\x02\x69\x00\x05title"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description tiff:Orientation="%d"><exif:PixelXDimension>%d</exif:PixelXDimension></rdf:Description>'
    b"</rdf:RDF></x:xmpmeta>"
)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ARRAY = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
GAMMA = (b"gAMA", struct.pack(">I", 100_000))
PRIMARIES = (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
P3 = (b"cICP", bytes((12, 13, 0, 1)))


def file(tmp_path, suffix, metadata, array=ARRAY):
    photo = Photo(path=tmp_path / "x.png", levels=array, metadata=metadata)
    return photo.save(array, tmp_path / f"in{suffix}")


def through(tmp_path, before, after, metadata):
    """The metadata after a file of one format was read and written in another."""
    photo = Photo.read(file(tmp_path, before, metadata))
    return Photo.read(photo.save(photo.levels, tmp_path / f"out{after}")).metadata


def tags(exif):
    read = Image.Exif()
    read.load(exif)
    return read


@pytest.mark.parametrize("before", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("after", [".png", ".jpg", ".tif", ".bmp"])
def test_the_resolution_of_a_print_is_kept(tmp_path, before, after):
    found = through(tmp_path, before, after, Metadata(dpi=(300, 600)))
    assert found.dpi == pytest.approx((300, 600), abs=0.02)  # PNG and BMP have whole dots per metre


@pytest.mark.parametrize("before", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("after", [".png", ".jpg", ".tif"])
def test_iptc_and_xmp_are_kept(tmp_path, before, after):
    found = through(tmp_path, before, after, Metadata(iptc=IPTC, xmp=XMP % (1, 7)))
    assert found.iptc == IPTC
    assert found.xmp == XMP % (1, 7)


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_xmp_is_kept_and_what_is_lost_is_said(tmp_path, suffix):
    photo = Photo.read(file(tmp_path, ".png", Metadata(iptc=IPTC, xmp=XMP % (1, 7), chunks=(GAMMA,))))
    assert Photo.read(photo.save(photo.levels, tmp_path / f"a{suffix}")).metadata.xmp == XMP % (1, 7)
    assert {"IPTC", "gamma and primaries"} <= set(photo.lost(f"a{suffix}"))


def test_what_the_file_says_of_its_orientation_and_size_is_brought_up_to_date(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x011B], exif[0x0128] = 6, 300.0, 600.0, 2
    exif[0x8769] = {0xA002: 7, 0xA003: 5}
    block = io.BytesIO()
    Image.fromarray(ARRAY).save(block, "JPEG", exif=exif, xmp=XMP % (6, 7), dpi=(300, 600))
    (tmp_path / "a.jpg").write_bytes(block.getvalue())
    photo = Photo.read(tmp_path / "a.jpg")
    assert photo.metadata.dpi == (600, 300)  # the axes are exchanged
    found = Photo.read(photo.save(photo.levels, tmp_path / "b.png")).metadata
    assert found.xmp == XMP % (1, 5)
    read = tags(found.exif)
    assert (read[0x0112], read[0x011A], read[0x011B]) == (1, 600, 300)
    assert (read.get_ifd(0x8769)[0xA002], read.get_ifd(0x8769)[0xA003]) == (5, 7)


@pytest.mark.parametrize("deep", [False, True])
def test_the_colors_of_a_png_keep_their_meaning(tmp_path, deep):
    if deep:
        pytest.importorskip("cv2")
    array = ARRAY * np.uint16(257) if deep else ARRAY
    text = (b"tEXt", b"Description\0a print"), (b"iTXt", b"Title\0\0\0de\0\0Titel")
    path = file(tmp_path, ".png", Metadata(chunks=(P3, GAMMA, PRIMARIES, *text)), array)
    photo = Photo.read(path)
    assert photo.metadata.chunks == (P3, GAMMA, PRIMARIES, *text)
    content = photo.save(photo.levels, tmp_path / "b.png").read_bytes()
    for name in (b"cICP", b"gAMA", b"cHRM"):
        assert 0 < content.index(name) < content.index(b"IDAT")
    Image.open(tmp_path / "b.png").verify()


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_note_is_added_to_exif_and_nothing_in_it_moves(order):
    exif = Image.Exif()
    exif.endian = "<" if order == "little" else ">"
    exif[0x010F], exif[0x8769] = "A maker of cameras", {0x927C: bytes(range(40)), 0x9003: "2001:02:03 04:05:06"}
    block = exif.tobytes()[6:]
    noted = marked_exif(block, software="scorefield 0", dpi=(300.5, 300.5))
    assert noted[8 : len(block)] == block[8:]
    read = tags(noted)
    assert (read[0x000B], read[0x010F], float(read[0x011A])) == ("scorefield 0", "A maker of cameras", 300.5)
    assert read.get_ifd(0x8769)[0x927C] == bytes(range(40))
    assert marked_exif(b"no exif", software="scorefield 0") == b"no exif"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_a_restored_file_names_the_program(tmp_path, suffix):
    metadata = Metadata(dpi=(300, 300), software="scorefield 0")
    with Image.open(file(tmp_path, suffix, metadata)) as image:
        assert image.getexif()[0x000B] == "scorefield 0"
        assert float(image.getexif()[0x011A]) == 300


def chunked(bits, clear):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"\0" + bytes([0b00011011] * bits)  # 8 pixels
    header = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"tRNS", struct.pack(">H", clear)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_clear_level_of_a_png_is_in_its_own_bits(tmp_path, bits):
    values = np.packbits(np.unpackbits(np.uint8([0b00011011] * bits)).reshape(8, bits), axis=1)[:, 0] >> (8 - bits)
    clear = int(values[2])
    (tmp_path / "a.png").write_bytes(chunked(bits, clear))
    photo = Photo.read(tmp_path / "a.png")
    assert (photo.levels[0, :, 0] == values * (255 // (2**bits - 1))).all()
    assert (photo.alpha[0] == np.where(values == clear, 0, 255)).all()
    assert (np.asarray(read_image(tmp_path / "a.png"))[0, values == clear] == 255).all()


def test_a_palette_of_greys_with_a_profile_of_colors_keeps_both(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 200, 200, 10, 10, 10])
    image.save(tmp_path / "a.png", icc_profile=SRGB)
    photo = Photo.read(tmp_path / "a.png")
    again = Photo.read(photo.save(photo.levels, tmp_path / "b.png"))
    assert again.icc == SRGB
    assert (again.levels == 200).all()


def test_a_profile_and_srgb_are_not_both_written():
    content = png_bytes(ARRAY, Metadata(icc=SRGB, chunks=((b"sRGB", b"\0"),)))
    assert b"iCCP" in content
    assert b"sRGB\0" not in content.split(b"iCCP")[0]


# --- damaged metadata ----------------------------------------------------------------------------


def exif_with_orientation(kind, value):
    """A block of one entry, whose type and value need not be those of an orientation."""
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHI4sI", 1, 0x0112, kind, 1, value, 0)


NO_ORIENTATIONS = {
    "0": exif_with_orientation(3, b"\0\0\0\0"),
    "9": exif_with_orientation(3, b"\0\x09\0\0"),
    "65535": exif_with_orientation(3, b"\xff\xff\0\0"),
    "text": exif_with_orientation(2, b"6\0\0\0"),
    "bytes": exif_with_orientation(7, b"\6\0\0\0"),
    "float": exif_with_orientation(11, struct.pack(">f", 6.5)),
}


def as_it_lies(path):
    """What every reader takes from a file, whose image must not be turned."""
    photo = Photo.read(path)
    assert photo.levels.shape == (5, 7, 3)
    assert read_image(path).size == (7, 5)
    assert header(path) == ((5, 7), False)
    return photo


@pytest.mark.parametrize("name", NO_ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, suffix, name):
    path, block = tmp_path / f"a{suffix}", NO_ORIENTATIONS[name]
    dpi = {} if suffix == ".webp" else {"dpi": (300, 600)}
    exif = Image.Exif()
    exif.load(block)
    if suffix == ".tif":
        kind = {"text": 2, "bytes": 7, "float": 11}.get(name, 3)
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info.tagtype[0x0112], info[0x0112] = kind, exif[0x0112]
        Image.fromarray(ARRAY).save(path, tiffinfo=info, **dpi)
    else:
        Image.fromarray(ARRAY).save(path, exif=block, **dpi)
    photo = as_it_lies(path)
    assert photo.metadata.dpi == (pytest.approx((300, 600), abs=0.02) if dpi else None)
    assert photo.jpeg is None or photo.jpeg.orientation == 1


@pytest.mark.parametrize("number", [0, 9])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_an_orientation_of_xmp_that_is_none_turns_nothing(tmp_path, suffix, number):
    path = file(tmp_path, suffix, Metadata(xmp=(XMP % (1, 7)).replace(b'="1"', b'="%d"' % number)))
    photo = as_it_lies(path)
    assert photo.jpeg is None or photo.jpeg.orientation == 1


@pytest.mark.parametrize("block", [b"", b"garbage", b"II*\0\xff\0\0\0", b"MM\0*\0\0\0\x08\xff\xff"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_damaged_exif_block_leaves_the_image_readable(tmp_path, suffix, block):
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        path.write_bytes(with_chunk(b"eXIf", block))
    else:
        Image.fromarray(ARRAY).save(path, exif=b"Exif\0\0" + block)
    as_it_lies(path)


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize(
    "body",
    [b"", b"Title", b"Raw profile type iptc", b"Raw profile type xmp", b"Raw profile type exif", b"XML:com.adobe.xmp"],
)
def test_a_text_without_its_separator_leaves_the_image_readable(tmp_path, name, body):
    (tmp_path / "a.png").write_bytes(with_chunk(name, body))
    as_it_lies(tmp_path / "a.png")


@pytest.mark.parametrize("kind", [b"iptc", b"xmp", b"exif"])
def test_a_profile_in_text_that_is_no_hex_leaves_the_image_readable(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(with_chunk(b"tEXt", b"Raw profile type %s\0\n%s\n 4\nzz\n" % (kind, kind)))
    photo = as_it_lies(tmp_path / "a.png")
    assert (photo.exif, photo.metadata.iptc, photo.metadata.xmp) == (None, None, None)


def with_chunk(name, body):
    """A PNG file with another chunk in front of its pixels."""
    content = png_bytes(ARRAY, Metadata())
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return content[:33] + chunk + content[33:]


# --- what does not fit ---------------------------------------------------------------------------

MAKER_NOTE = 0x927C


def exif_of(size):
    """A block of so many bytes, most of them a maker note."""
    exif = Image.Exif()
    exif[0x010F], exif[0x8769] = "A maker", {MAKER_NOTE: bytes(size - 200)}
    return exif.tobytes()[6:].ljust(size, b"\0")


def iptc_of(size):
    """Records of so many bytes: one of a known length, and one of those with an extended length."""
    return b"\x1c\x02\x50\x00\x06author\x1c\x08\x0a\x80\x04" + struct.pack(">I", size - 20) + bytes(size - 20)


def xmp_of(size):
    return (XMP % (1, 7)).ljust(size)


PARTS = {
    "EXIF": ("exif", exif_of, 65533 - 6),
    "XMP": ("xmp", xmp_of, 65533 - 29),
    "IPTC": ("iptc", iptc_of, 65533 - 14 - 13),  # of odd length, so that a byte is added
    "the color profile": ("icc", lambda size: SRGB.ljust(size, b"\0"), 255 * (65533 - 14)),
}


@pytest.mark.parametrize("beyond", [0, 2])
@pytest.mark.parametrize("words", PARTS)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif", ".bmp"])
def test_what_is_not_said_to_be_lost_is_in_the_file(tmp_path, suffix, words, beyond):
    name, part, most = PARTS[words]
    if (suffix, name) == (".png", "icc"):
        most = 2**20 - 2  # Pillow reads no more
    metadata = Metadata(**{name: part(most + beyond)}, software="scorefield 0")
    photo = Photo(path=tmp_path / "x.png", levels=ARRAY, metadata=metadata)
    found = getattr(Photo.read(photo.save(ARRAY, tmp_path / f"a{suffix}")).metadata, name)
    if words == "EXIF" and found is not None:
        kept = tags(found).get_ifd(0x8769) == tags(metadata.exif).get_ifd(0x8769)
    else:
        kept = found == getattr(metadata, name)
    assert kept == (words not in photo.lost(f"a{suffix}"))
    if suffix == ".jpg":
        assert kept == (not beyond)


@pytest.mark.parametrize("room", [0, 10, 40, 2000])
def test_exif_is_kept_where_only_the_note_of_the_software_is_too_long(tmp_path, room):
    exif = exif_of(65533 - 6 - room)
    photo = Photo(path=tmp_path / "x.png", levels=ARRAY, metadata=Metadata(exif=exif, software="scorefield 0"))
    assert "EXIF" not in photo.lost("a.jpg")
    found = tags(Photo.read(photo.save(ARRAY, tmp_path / "a.jpg")).exif)
    assert found[0x010F] == "A maker"
    assert found.get(0x000B) == ("scorefield 0" if room == 2000 else None)
