"""The verbs with networks of other programs."""

import json

import numpy as np
import pytest
from PIL import Image

from hub.foreign import write
from oracles import ramp
from scorefield.cli.manifest import Manifest


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {name: write(folder, name)[0] for name in ("esrgan", "compact", "fbcnn", "nafnet")}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    ramp(folder / "a.png", 30, 20)
    ramp(folder / "sub" / "b.png", 16, 40)
    image = np.asarray(Image.open(folder / "a.png").convert("RGB"))
    Image.fromarray(image).save(folder / "c.jpg", quality=15)
    return folder


@pytest.mark.parametrize(("name", "scale"), [("esrgan", 4), ("compact", 2)])
def test_upscale_enlarges_a_folder_by_the_network_s_factor(call, weights, photos, tmp_path, name, scale):
    out = tmp_path / "large"
    made = call("upscale", photos, "--model", weights[name], "--out", out)
    assert made.code == 0, made.err
    for stem, source in (("a", "a.png"), ("sub/b", "sub/b.png")):
        with Image.open(photos / source) as small, Image.open(out / f"{stem}-1.png") as large:
            assert large.size == (scale * small.width, scale * small.height)
    assert (out / "index.html").is_file()
    records = Manifest(out=out).restored
    assert {record.model for record in records.values()} == {str(weights[name])}
    assert len({record.model_sha256 for record in records.values()}) == 1
    again = call("upscale", photos, "--model", weights[name], "--out", out)
    assert again.code == 0
    assert "3 of 3 are restored already" in again.out


def test_dejpeg_takes_jpeg_files_and_skips_others(call, weights, photos, tmp_path):
    out = tmp_path / "clean"
    made = call("dejpeg", photos, "--model", weights["fbcnn"], "--out", out)
    assert made.code == 0, made.err
    assert (out / "c-1.png").is_file()
    assert not (out / "a-1.png").exists()
    assert "2 of 3 had nothing to restore" in made.out


def test_deblur_takes_a_network_that_keeps_the_size(call, weights, photos, tmp_path):
    made = call("deblur", photos / "a.png", "--model", weights["nafnet"], "--out", tmp_path / "out", "--tile", "64")
    assert made.code == 0, made.err


def test_models_shows_what_a_network_is_for(call, weights, tmp_path):
    made = call("models", weights["compact"], "--json", tmp_path / "facts.json")
    assert made.code == 0, made.err
    assert "RealESRGAN Compact" in made.out
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["restoration"]["scale"] == 2
    assert facts["restoration"]["tasks"] == ["upscale"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("upscale A --model compact --factor 3", ["enlarges 2 times"]),
        ("dejpeg A --model compact", ["was not trained for dejpeg", "upscale"]),
        ("upscale A --model fbcnn", ["was not trained for upscale", "dejpeg"]),
        ("upscale A --model compact --tile 64", ["need 128 pixels or more"]),
        ("sample compact --out OUT.png", ["restores images (upscale)"]),
    ],
)
def test_what_a_network_does_not_do_is_one_line(call, weights, photos, tmp_path, arguments, words):
    names = {"A": photos / "a.png", "OUT.png": tmp_path / "out.png", **weights}
    verb, *rest = arguments.split()
    out = [] if verb == "sample" else ["--out", tmp_path / "out"]
    line = call(verb, *(names.get(word, word) for word in rest), *out).complaint()
    assert all(word in line for word in words), line
