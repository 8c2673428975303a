"""The color of AVIF and HEIF by code points, gain maps, and what is said of both."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from scorefield.data.isobmff import coded_color, with_cicp
from scorefield.data.metadata import Metadata
from scorefield.data.photo import Photo

ARRAY = np.stack(np.broadcast_arrays(*np.ix_(range(0, 192, 4), range(0, 256, 4)), 90), axis=2).astype(np.uint8)
P3, PQ = (12, 13), (9, 16)  # H.273: Display P3 with sRGB's curve, BT.2020 with PQ


def written(path, cicp=None):
    chunks = () if cicp is None else ((b"cICP", bytes((*cicp, 0, 1))),)
    if path.suffix == ".heic":
        pytest.importorskip("pillow_heif")
    return Photo(path=path, levels=ARRAY, metadata=Metadata(chunks=chunks)).save(ARRAY, path)


@pytest.mark.parametrize("cicp", [P3, PQ])
@pytest.mark.parametrize("after", [".png", ".avif", ".heic"])
@pytest.mark.parametrize("before", [".png", ".avif", ".heic"])
def test_code_points_of_color_are_kept(tmp_path, before, after, cicp):
    photo = Photo.read(written(tmp_path / f"a{before}", cicp))
    assert "gamma and primaries" not in photo.lost(f"b{after}")
    again = Photo.read(photo.save(photo.levels, tmp_path / f"b{after}"))
    assert photo.metadata.chunks == again.metadata.chunks == ((b"cICP", bytes((*cicp, 0, 1))),)
    same = Photo.read(written(tmp_path / f"plain{before}"))
    assert (same.levels == photo.levels).all()  # what the levels mean changes, not they


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_another_program_reads_the_code_points(tmp_path, suffix):
    heif = pytest.importorskip("pillow_heif")
    path = written(tmp_path / f"a{suffix}", PQ)
    with path.open("rb") as file:
        if suffix == ".heic":
            found = heif.open_heif(file).info["nclx_profile"]
            assert (found["color_primaries"], found["transfer_characteristics"]) == PQ
        else:
            content = file.read()
            at = content.index(b"colrnclx")
            assert struct.unpack_from(">HH", content, at + 8) == PQ


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp"])
def test_formats_without_code_points_say_that_they_are_lost(tmp_path, suffix):
    photo = Photo.read(written(tmp_path / "a.avif", P3))
    assert "gamma and primaries" in photo.lost(f"b{suffix}")
    assert "gamma and primaries" not in Photo.read(written(tmp_path / "s.avif")).lost(f"b{suffix}")


@pytest.mark.parametrize("cicp", [(1, 13), (1, 1), (2, 2), (1, 6)])
def test_what_every_program_shows_as_srgb_has_no_code_points(tmp_path, cicp):
    assert Photo.read(written(tmp_path / "a.avif", cicp)).metadata.chunks == ()


def test_a_color_profile_stands_in_place_of_code_points(tmp_path):
    from data.test_metadata import SRGB

    Image.fromarray(ARRAY).save(tmp_path / "a.avif", icc_profile=SRGB)
    (tmp_path / "a.avif").write_bytes(with_cicp((tmp_path / "a.avif").read_bytes(), *P3))
    photo = Photo.read(tmp_path / "a.avif")
    assert photo.icc == SRGB and photo.metadata.chunks == ()


def test_more_than_eight_bits_are_said(tmp_path):
    content = written(tmp_path / "a.avif").read_bytes()
    (tmp_path / "a.avif").write_bytes(content.replace(b"pixi\0\0\0\0\x03\x08\x08\x08", b"pixi\0\0\0\0\x03\x0a\x0a\x0a"))
    assert coded_color((tmp_path / "a.avif").read_bytes()).bits == 10
    assert coded_color(content).bits == 8


def test_boxes_that_lie_say_nothing_and_take_no_time(tmp_path):
    content = written(tmp_path / "a.avif", P3).read_bytes()
    assert coded_color(content).cicp == P3
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(content)
        for _ in range(3):
            data[rng.integers(min(400, len(data)))] = rng.choice([0, 1, 127, 255, rng.integers(256)])
        coded_color(bytes(data[: rng.integers(1, len(data) + 1)]))
    zeros = b"\0\0\0\x20ftypavif" + bytes(20) + b"\0\0\0\x08free" * 100_000
    assert coded_color(zeros).cicp is None
    many = content.replace(b"ipma\0\0\0\0\0\0\0\1", b"ipma\0\0\0\0\xff\xff\xff\xff")
    assert coded_color(many).cicp == P3


# --- gain maps -----------------------------------------------------------------------------------

ULTRA_HDR = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" dc:title="kept">'
    b"<Container:Directory>items</Container:Directory></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def test_no_form_of_a_promise_of_a_gain_map_is_kept(tmp_path):
    element = ULTRA_HDR.replace(b' hdrgm:Version="1.0"', b"").replace(
        b"</rdf:Description>",
        b"<hdrgm:Version>1.0</hdrgm:Version><hdrgm:GainMapMax><rdf:Seq/></hdrgm:GainMapMax></rdf:Description>",
    )
    Image.fromarray(ARRAY).save(tmp_path / "a.jpg", "JPEG", xmp=element)
    xmp = Photo.read(tmp_path / "a.jpg").metadata.xmp
    assert xmp is not None and b"hdrgm:" not in xmp and b'dc:title="kept"' in xmp


@pytest.mark.parametrize("kind", ["iso", "ultra hdr", "apple"])
def test_the_loss_of_a_gain_map_is_said(tmp_path, kind):
    main, gains = io.BytesIO(), io.BytesIO()
    Image.fromarray(ARRAY).save(main, "JPEG", **({"xmp": ULTRA_HDR} if kind == "ultra hdr" else {}))
    note = {"iso": b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0", "apple": b"http://ns.apple.com/HDRGainMap/1.0/"}.get(kind)
    Image.fromarray(ARRAY[..., 0]).save(gains, "JPEG")
    second = gains.getvalue()
    if note is not None:
        second = second[:2] + b"\xff\xe2" + struct.pack(">H", len(note) + 2) + note + second[2:]
    (tmp_path / "a.jpg").write_bytes(main.getvalue() + second)
    photo = Photo.read(tmp_path / "a.jpg")
    assert photo.notes == ("its gain map is left out: the image is restored as it looks without HDR",)
    again = Photo.read(photo.save(photo.levels, tmp_path / "b.jpg"))
    assert again.notes == ()  # nor does the result promise one
    assert (again.metadata.xmp is not None) == (kind == "ultra hdr")
    assert kind != "ultra hdr" or (b'dc:title="kept"' in again.metadata.xmp and b"items" not in again.metadata.xmp)


# --- damaged EXIF --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [b"garbage", b"II*\0\x08\0\0\0\x05\0\x12\x01", b"MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_is_said_in_our_words_and_warns_of_nothing(tmp_path, block):
    Image.fromarray(ARRAY).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + block)
    code = f"from scorefield.data.photo import Photo; print(*Photo.read({str(tmp_path / 'a.jpg')!r}).notes)"
    command = [sys.executable, "-W", "always::UserWarning", "-c", code]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.stderr == ""
    assert made.stdout.strip() == "its EXIF is damaged: it is left out"
