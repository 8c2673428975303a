"""`scorefield restore` without a degradation: what images have suffered, and the commands that may help."""

import json
import shlex

import numpy as np
import pytest
from PIL import Image

from scorefield.cli.manifest import Manifest


def scene(side=160):
    """Discs of color with sharp edges."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side, 3), 100.0)
    for _ in range(20):
        cy, cx, r = *rng.integers(0, side, 2), rng.integers(8, 30)
        image[np.hypot(y - cy, x - cx) < r] = rng.integers(30, 225, 3)
    return image


def save(path, image, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(np.asarray(image).clip(0, 255)).astype(np.uint8)).save(path, **settings)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    folder = tmp_path_factory.mktemp("album")
    save(folder / "clean.png", scene())
    save(folder / "noisy.png", scene() + 20 * np.random.default_rng(0).standard_normal((160, 160, 3)))
    save(folder / "poor.jpg", scene(), quality=20)
    save(folder / "fine.jpg", scene(), quality=97, subsampling=0)
    with Image.open(folder / "poor.jpg") as image:
        image.save(folder / "was.png")
    return folder


def found(made):
    """The findings by name, and the commands."""
    lines = made.out.splitlines()
    commands = [line.strip() for line in lines if line.startswith("  scorefield")]
    return {name.rsplit("/", 1)[-1]: words for name, _, words in (line.partition(": ") for line in lines)}, commands


def test_without_auto_it_only_looks(call, album, tmp_path):
    made = call("restore", album, "--out", tmp_path / "out", "--json", tmp_path / "found.json")
    assert made.code == 0, made.err
    words, commands = found(made)
    assert words["clean.png"] == words["fine.jpg"] == "nothing to restore"
    assert words["noisy.png"].startswith("noise of ")
    assert words["poor.jpg"] == "a JPEG file, of quality 20"
    assert words["was.png"] == "was a JPEG file once, of quality 20"
    out = tmp_path / "out"
    assert f"scorefield dejpeg {album / 'poor.jpg'} --out {out}" in commands
    assert f"scorefield dejpeg {album / 'was.png'} --quality 20 --out {out}" in commands
    assert not out.exists()
    facts = {entry["input"]: entry for entry in json.loads((tmp_path / "found.json").read_text())}
    assert facts[str(album / "clean.png")]["proposals"] == []
    assert facts[str(album / "noisy.png")]["noise_std"] == pytest.approx(20, rel=0.15)


def test_a_proposed_command_runs(call, album, tmp_path):
    _, commands = found(call("restore", album / "was.png", "--out", tmp_path / "out"))
    assert len(commands) == 1
    made = call(*shlex.split(commands[0])[1:])
    assert made.code == 0, made.err


def test_auto_restores_what_was_compressed_and_leaves_the_rest(call, album, tmp_path):
    out = tmp_path / "out"
    made = call("restore", album, "--auto", "--out", out)
    assert made.code == 0, made.err
    assert sorted(Manifest(out=out).restored) == ["poor", "was"]
    assert "3 of 5 had nothing to restore" in made.out
    alone = call("restore", album / "clean.png", "--auto", "--out", tmp_path / "none")
    assert alone.code == call("dejpeg", album / "clean.png", "--out", tmp_path / "other").code == 0
    assert (alone.out + alone.err).count("clean.png") == 1  # one message
    assert "clean.png: nothing to restore: its pixels show no trace of JPEG compression" in alone.err


def test_what_cannot_be_read_is_named(call, album, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    assert "bad.png" in call("restore", tmp_path / "in" / "bad.png").complaint()
    some = call("restore", tmp_path / "in" / "bad.png", album / "clean.png")
    assert some.code == 3
    assert "nothing to restore" in some.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--auto", "--degradation", "jpeg:20"], "--auto: finds the degradation by itself"),
        (["--simulate"], "--degradation: is needed"),
        (["--noise", "5"], "--degradation: is needed"),
        (["--model", "nothing"], "no such model"),
    ],
)
def test_mistakes(call, album, options, words):
    assert words in call("restore", album / "clean.png", *options).complaint()


def test_a_verb_says_where_nothing_was_degraded_in_its_way(call, album, tmp_path):
    from hub.foreign import write

    path, _ = write(tmp_path, "nafnet")
    for verb, name, words in (
        ("denoise", "clean", "no noise was found"),
        ("deblur", "clean", "no blur was found"),
        ("denoise", "noisy", ""),
    ):
        made = call(verb, album / f"{name}.png", "--model", path, "--out", tmp_path / f"{verb}-{name}")
        assert made.code == 0, made.err
        assert words in made.out if words else "found" not in made.out
