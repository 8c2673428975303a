"""Names, folders, masks and metadata, as a user's files have them, through the verbs that restore images."""

import json
import os

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from oracles import tiny_model
from scorefield import checkpoint

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NAMES = [
    b"caf\xe9.png",  # Latin-1
    "a\u2028b\u0085c.png".encode(),
    b"line\nbreak.png",
    b"\x1b[2Jclear\x1b]0;title\x07.png",
    b"a[red].png",
    b"<img onerror=x>.png",
    b"--out.png",
    "é".encode() * 123 + b".png",  # 250 bytes
    b"x" * 246 + b".png",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A file with an untrained model for color."""
    return checkpoint.save(tiny_model(3), tmp_path_factory.mktemp("color") / "model.safetensors")


def ramp(size=(16, 16)):
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([40 + 8 * x, 30 + 9 * y, 90 + 0 * x], 2).astype(np.uint8)


def inpaint(call, model, *arguments):
    return call(
        "inpaint", *arguments, "--model", model, "--steps", 2, "--method", "null-space", "--device", "cpu"
    )  # fmt: skip


def filled(folder, names=("a.png",)):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(ramp()).save(folder / name)
    return folder


def test_every_name_of_a_file_is_restored_known_and_printed_plainly(call, model, tmp_path):
    folder = filled(tmp_path / "in")
    for name in NAMES:
        (folder / "a.png").rename(os.fsdecode(os.fsencode(folder) + b"/" + name))
        filled(folder)
    told = inpaint(call, model, folder, "--out", tmp_path / "out")
    assert told.code == 0, told.err
    results = [path for path in (tmp_path / "out").iterdir() if path.name.endswith("-1.png")]
    assert len(results) == len(NAMES) + 1
    assert all(c.isprintable() or c == "\n" for c in told.out + told.err)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("<section>") == len(NAMES) + 1
    assert "<img onerror" not in page
    again = inpaint(call, model, folder, "--out", tmp_path / "out")
    assert again.code == 0, again.err
    assert f"{len(NAMES) + 1} of {len(NAMES) + 1} are restored already" in again.out
    assert call("data", "inspect", folder).code == 0


def test_images_that_differ_in_their_suffix_have_results_of_their_own(call, model, tmp_path):
    folder = filled(tmp_path / "in", ["a.png", "a.bmp", "a-bmp.png", "a-bmp-png.png"])
    told = inpaint(call, model, folder, "--out", tmp_path / "out")
    assert told.code == 0, told.err
    assert len(list((tmp_path / "out").glob("*-1.png"))) == 4


def test_results_of_an_earlier_run_are_no_input(call, model, tmp_path):
    folder = filled(tmp_path / "in")
    tifffile.imwrite(folder / "b.tif", ramp(), photometric="rgb")
    assert inpaint(call, model, folder, "--out", folder / "first").code == 0
    told = inpaint(call, model, folder, "--out", tmp_path / "second")
    assert told.code == 0, told.err
    made = {path.relative_to(tmp_path / "second").as_posix() for path in (tmp_path / "second").rglob("*-1.*")}
    assert made == {"a-1.png", "b-1.tif"}
    # named itself, the folder of results gives its numbered ones to the next verb: no sheet, no image before
    assert inpaint(call, model, folder / "first", "--out", tmp_path / "third").code == 0
    made = {path.name for path in (tmp_path / "third").rglob("*-1.*")}
    assert made == {"a-1-1.png", "b-1-1.tif"}
    assert inpaint(call, model, folder / "first" / "a-1.png", "--out", tmp_path / "fourth").code == 0


def test_linked_folders_are_followed_once_and_loops_and_pipes_are_named(call, model, tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    for name in "ab":
        filled(real / name, ["1.png", "2.png"])
    links = tmp_path / "links"
    links.mkdir()
    for name in "ab":
        (links / name).symlink_to(real / name)
    seen = call("data", "inspect", f"{links}/")
    assert seen.code == 0, seen.err
    assert "images" in seen.out and "4" in seen.out
    assert "linked folders are followed: a and 1 more" in seen.out
    (links / "again").symlink_to(real / "a")
    (links / "loop").symlink_to(links)
    (links / "up").symlink_to(tmp_path)
    os.mkfifo(links / "pipe.png")
    (links / "zero.jpg").symlink_to("/dev/zero")
    told = inpaint(call, model, links, "--out", tmp_path / "out")
    assert told.code == 0, told.err
    assert len(list((tmp_path / "out").rglob("*-1.png"))) == 4
    for name in ("again", "loop", "up", "pipe.png", "zero.jpg"):
        assert f"{name}: " in told.err
    assert "pipe or a device" in inpaint(call, model, links / "pipe.png", "--out", tmp_path / "p").complaint()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_what_is_filled_becomes_opaque_and_hidden_colors_stay_out_of_it(call, model, tmp_path, suffix):
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[4:8, 4:9] = 0
    alpha[0, 0] = 0
    rgb = ramp()
    rgb[alpha == 0] = (0, 255, 0)
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / f"a{suffix}")
    fill = np.zeros((16, 16), np.uint8)
    fill[4:8, 4:9] = 255
    Image.fromarray(fill).save(tmp_path / "m.png")
    told = inpaint(call, model, tmp_path / f"a{suffix}", "--mask", tmp_path / "m.png", "--out", tmp_path / "out")
    assert told.code == 0, told.err
    with Image.open(tmp_path / "out" / f"a-1{suffix}") as image:
        result = np.asarray(image)
    assert (result[4:8, 4:9, 3] == 255).all()
    known = fill == 0
    assert (result[known] == np.dstack([rgb, alpha])[known]).all()  # what is hidden as well


def test_the_page_the_sheet_and_the_results_have_one_color_profile(call, model, tmp_path):
    Image.fromarray(ramp()).save(tmp_path / "a.tif", icc_profile=SRGB)
    told = inpaint(call, model, tmp_path / "a.tif", "--out", tmp_path / "out")
    assert told.code == 0, told.err
    names = ("a-1.tif", "a-1-page.png", "a-before.png", "a-sheet.png")
    assert [Image.open(tmp_path / "out" / name).info.get("icc_profile") == SRGB for name in names] == [True] * 4


def test_resolution_and_a_note_of_the_program_are_in_the_result(call, model, tmp_path):
    Image.fromarray(ramp()).save(tmp_path / "a.jpg", dpi=(300, 300), comment=b"of a print")
    told = inpaint(call, model, tmp_path / "a.jpg", "--out", tmp_path / "out")
    assert told.code == 0, told.err
    with Image.open(tmp_path / "out" / "a-1.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.02)  # whole dots per metre
        assert image.getexif()[0x000B].startswith("scorefield ")
        assert image.text["Comment"] == "of a print"


def test_a_color_is_a_mask_and_grows(call, model, tmp_path):
    rgb = ramp()
    rgb[5:9, 5:9] = (255, 0, 255)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    told = inpaint(call, model, tmp_path / "a.png", "--mask", "#ff00ff", "--grow", 2, "--out", tmp_path / "out")
    assert told.code == 0, told.err
    with Image.open(tmp_path / "out" / "a-1.png") as image:
        changed = (np.asarray(image) != rgb).any(2)
    assert changed[5:9, 5:9].all()
    changed[3:11, 3:11] = False
    assert not changed.any()


def test_a_file_without_jpeg_compression_is_skipped_and_the_others_are_told_apart(call, model, tmp_path):
    folder = filled(tmp_path / "in", ["clean.png"])
    Image.fromarray(np.tile(ramp(), (4, 4, 1))).save(folder / "rough.jpg", quality=10)
    (folder / "broken.jpg").write_bytes(b"nothing")
    words = ("--model", model, "--steps", 2, "--method", "null-space", "--out", tmp_path / "out")
    told = call("dejpeg", folder, *words)
    assert told.code == 3, told.err
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    state = {r["stem"]: (r["error"] is None, r["skipped"]) for r in map(json.loads, lines)}
    assert state == {"rough": (True, False), "clean": (False, True), "broken": (False, False)}
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "skipped" in page and "clean.png" in page
    assert "failed" in page and "broken.jpg" in page
    (folder / "broken.jpg").unlink()
    assert call("dejpeg", folder, *words).code == 0
