"""The verbs that restore images, as a user calls them."""

import json
import shlex
import sys
from dataclasses import MISSING, fields
from inspect import Parameter, signature
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import scorefield as sf
from oracles import lively, tiny_model
from scorefield import checkpoint
from scorefield.cli import restore as verbs
from scorefield.cli.restore_options import METHOD_WORDS, RestoreOptions
from scorefield.cli.train import _next
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.networks import UNet
from scorefield.parameterization import EDM
from scorefield.restoration import (
    METHODS,
    TASKS,
    Colorize,
    Custom,
    Deblur,
    Dejpeg,
    Denoise,
    Descratch,
    Inpaint,
    Uncrop,
    Upscale,
)


@pytest.fixture(scope="module")
def color(tmp_path_factory):
    """A file with an untrained model for color."""
    return checkpoint.save(tiny_model(3), tmp_path_factory.mktemp("color") / "model.safetensors")


@pytest.fixture
def photo(tmp_path):
    """A colored image of 16 × 16."""
    ramp = np.linspace(40, 210, 16).astype(np.uint8)
    rgb = np.stack([np.tile(ramp, (16, 1)), np.tile(ramp[:, None], (1, 16)), np.full((16, 16), 90, np.uint8)], -1)
    path = tmp_path / "photo.png"
    Image.fromarray(rgb).save(path)
    return path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def run(call, verb, *arguments, model, out):
    result = call(verb, *arguments, "--model", model, "--candidates", 2, "--steps", 3, "--method", "null-space",
                "--out", out)  # fmt: skip
    assert result.code == 0, result.err
    return result


def test_the_help_describes_every_method_as_python_does():
    assert {name: method.about for name, method in METHODS.items()} == METHOD_WORDS


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        (verbs.inpaint, Inpaint), (verbs.uncrop, Uncrop), (verbs.colorize, Colorize), (verbs.dejpeg, Dejpeg),
        (verbs.denoise, Denoise), (verbs.upscale, Upscale), (verbs.deblur, Deblur), (verbs.descratch, Descratch),
        (verbs.restore, Custom),
    ],
)  # fmt: skip
def test_the_options_of_a_task_have_the_defaults_of_its_class(verb, kind):
    """The help must not load torch, so the command line repeats each default."""
    shared = {field.name for field in fields(RestoreOptions)}
    renamed = {"noise": "noise_std"}  # the option counts levels of 255, the field units of the value range
    defaults = {field.name: field.default for field in fields(kind)}
    other = {*shared, "preview", "hint", "auto"}  # what is not the task's own, or a file of it
    own = {name: p.default for name, p in signature(verb).parameters.items() if name not in other}
    assert own or not defaults
    for name, default in own.items():
        wanted = defaults[renamed.get(name, name)]
        if wanted is MISSING:
            assert default in {Parameter.empty, None}  # None looks at the images instead
        else:
            assert default == (",".join(wanted) if isinstance(wanted, tuple) else wanted)


def test_the_options_of_every_verb_have_the_defaults_of_restore():
    python, shared = signature(sf.restore).parameters, {field.name: field.default for field in fields(RestoreOptions)}
    common = {"candidates", "method", "sampler", "steps", "tile", "seed"}
    assert {name: shared[name] for name in common} == {name: python[name].default for name in common}


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.conditional])
def test_every_method_for_models_of_images_can_be_named(call, color, photo, tmp_path, method):
    result = call("inpaint", photo, "--model", color, "--candidates", 1, "--method", method, "--steps", 5,
                "--mask", "left", "--out", tmp_path / "out")  # fmt: skip
    assert result.code == 0, result.err
    assert np.array_equal(pixels(tmp_path / "out" / "photo-1.png")[:, 8:], pixels(photo)[:, 8:])


def test_colorize_gives_color(call, color, photo, tmp_path):
    with Image.open(photo) as image:
        image.convert("L").save(tmp_path / "old.png")
    result = run(call, "colorize", tmp_path / "old.png", model=color, out=tmp_path / "out")
    assert f"{tmp_path / 'old.png'} -> {tmp_path / 'out' / 'old-1.png'}" in result.out
    assert pixels(tmp_path / "out" / "old-1.png").shape == (16, 16, 3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "index.html", "manifest.jsonl", "old-1.png", "old-2.png", "old-before.png", "old-sheet.png",
    ]  # fmt: skip


def test_a_hint_colors_its_place(call, restorer, photo, tmp_path):
    (tmp_path / "points.json").write_text('[{"x": 4, "y": 4, "color": "#2040c0"}]')
    made = {}
    for name, options in {"plain": (), "hinted": ("--hint", tmp_path / "points.json")}.items():
        result = call("colorize", photo, "--model", restorer, "--candidates", 1, *options, "--out", tmp_path / name)
        assert result.code == 0, result.err
        made[name] = pixels(tmp_path / name / "photo-1.png").astype(int)
    blue, plain = (made[name][4, 4, 2] - made[name][4, 4, 0] for name in ("hinted", "plain"))
    assert blue > max(plain, 20)


def test_the_best_is_the_mean_over_flips(call, models, tmp_path):
    restorer = models / "restores"
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=20)
    result = call("dejpeg", tmp_path / "a.jpg", "--model", restorer, "--best", "--steps", 2, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    wanted = sf.restore(sf.load(restorer).with_flips(), tmp_path / "a.jpg", "dejpeg", steps=2).levels[0]
    plain = sf.restore(sf.load(restorer), tmp_path / "a.jpg", "dejpeg", steps=2).levels[0]
    assert np.array_equal(pixels(tmp_path / "out" / "a-1.png"), wanted) and not np.array_equal(wanted, plain)


@pytest.mark.parametrize("task", TASKS)
def test_the_line_after_training_restores_by_every_task(call, photo, tmp_path, monkeypatch, task):
    torch.manual_seed(0)
    network = lively(UNet(channels=3, source_channels=3, widths=(8, 8)))
    spec = ModelSpec(shape=(3, 16, 16), sigma_range=(0.01, 10.0), restoration=RestorationSpec(tasks=(task,)))
    checkpoint.save(ScoreModel(network, EDM(), spec), tmp_path / "runs" / "mine" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    Image.open(photo).save("photo.jpg", quality=20)
    Image.fromarray(np.pad(np.full((4, 4), 255, np.uint8), 6)).save("mask.png")
    words = shlex.split(_next((task,), Path("runs/mine")))
    result = call(*words[1:], "--steps", 2)
    assert words[0] == "scorefield" and result.code == 0, result.err
    assert (tmp_path / "restored" / "photo-1.png").is_file()


def test_uncrop_keeps_the_image_where_it_was(call, color, photo, tmp_path):
    run(call, "uncrop", photo, "--sides", "top, left", "--amount", 0.25, model=color, out=tmp_path / "out")
    wide = pixels(tmp_path / "out" / "photo-1.png")
    assert wide.shape == (20, 20, 3)
    assert np.array_equal(wide[4:, 4:], pixels(photo))


def test_dejpeg_reads_the_file(call, color, photo, tmp_path):
    with Image.open(photo) as image:
        image.save(tmp_path / "small.jpg", quality=10)
    run(call, "dejpeg", tmp_path / "small.jpg", model=color, out=tmp_path / "out")
    assert pixels(tmp_path / "out" / "small-2.png").shape == (16, 16, 3)
    run(call, "dejpeg", photo, "--quality", 20, model=color, out=tmp_path / "message")


def test_restore_undoes_several_and_can_do_them_first(call, color, photo, tmp_path):
    degradation = ("--degradation", "grey", "--degradation", "downscale:2")
    run(call, "restore", photo, *degradation, "--simulate", model=color, out=tmp_path / "out")
    assert pixels(tmp_path / "out" / "photo-1.png").shape == (16, 16, 3)
    with Image.open(photo) as image:
        image.convert("L").resize((8, 8), Image.Resampling.BOX).save(tmp_path / "left.png")
    run(call, "restore", tmp_path / "left.png", *degradation, model=color, out=tmp_path / "out")
    assert pixels(tmp_path / "out" / "left-1.png").shape == (16, 16, 3)
    simulated, real = (pixels(tmp_path / "out" / f"{name}-sheet.png").shape for name in ("photo", "left"))
    assert simulated[1] > real[1]  # the original stands last


def test_upscale_and_deblur(call, color, photo, tmp_path):
    run(call, "upscale", photo, "--factor", 2, model=color, out=tmp_path / "large")
    assert pixels(tmp_path / "large" / "photo-1.png").shape == (32, 32, 3)
    run(call, "deblur", photo, "--std", 1.5, model=color, out=tmp_path / "sharp")
    assert pixels(tmp_path / "sharp" / "photo-1.png").shape == (16, 16, 3)


def test_what_was_done_is_written_as_json(call, color, photo, tmp_path):
    run(call, "restore", photo, "--degradation", "blur:1", "--simulate", "--json", tmp_path / "r.json",
        model=color, out=tmp_path / "out")  # fmt: skip
    (entry,) = json.loads((tmp_path / "r.json").read_text())
    assert entry["method"] == "null-space" and entry["error"] is None and len(entry["outputs"]) == 3


def test_a_file_that_fails_does_not_stop_the_others(call, color, photo, tmp_path):
    with Image.open(photo) as image:
        image.save(tmp_path / "small.jpg", quality=10)
    result = call("dejpeg", photo, tmp_path / "small.jpg", "--model", color, "--steps", 3, "--method",
                "null-space", "--candidates", 1, "--out", tmp_path / "out")  # fmt: skip
    assert result.code == 0  # one was restored, and the other had nothing to restore
    assert "photo.png: nothing to restore: its pixels show no trace of JPEG" in result.err
    assert (tmp_path / "out" / "small-1.png").is_file()


@pytest.mark.parametrize("verb", [
    "inpaint", "colorize", "uncrop", "dejpeg", "denoise", "upscale", "deblur", "descratch", "restore",
])  # fmt: skip
def test_help_shows_an_example(call, verb):
    result = call(verb, "--help")
    assert result.code == 0
    assert f"scorefield {verb}" in " ".join(result.out.split())
    assert sys.modules["scorefield.cli.restore_options"]
