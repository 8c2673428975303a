"""What the verbs do, as a user calls them."""

import csv
import json
import math
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from scorefield import __version__, checkpoint
from scorefield.evaluation.report import Report
from scorefield.training import read_recipe
from scorefield.training.state import checkpoints
from training.toys import ramps

from .conftest import sets

hub = sys.modules["scorefield.hub.load"]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def shirt(tmp_path):
    """A grey image of the run's size."""
    path = tmp_path / "shirt.png"
    Image.fromarray(ramps(1)[0][0, :, :, 0]).save(path)
    return path


def test_the_version_is_printed(call):
    result = call("--version")
    assert (result.code, result.out, result.err) == (0, f"scorefield {__version__}\n", "")


@pytest.mark.parametrize("group", [[], ["data"]])
def test_without_a_verb_the_help_is_shown_and_nothing_else(call, group):
    result = call(*group)
    assert result.code == 2
    assert "Usage:" in result.out
    assert result.err == ""


# --- train ---------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_resolved_recipe_and_writes_nothing(call, tiny, tmp_path):
    result = call("train", tiny, "--out", tmp_path / "run", "--dry-run", "--set", "optimizer.batch=5")
    assert result.code == 0, result.err
    (tmp_path / "printed.toml").write_text(result.out)
    assert read_recipe(tmp_path / "printed.toml") == read_recipe(tiny, ["optimizer.batch=5"])
    assert not (tmp_path / "run").exists()


def test_a_flag_wins_over_set_and_set_over_the_file(call, tiny, data, tmp_path):
    result = call("train", tiny, "--out", tmp_path / "run", "--dry-run", "--data", data, "--size", 6,
                *sets("data.size=5", "data.source=nowhere", "training.steps=7"))  # fmt: skip
    assert result.code == 0, result.err
    assert "size = 6" in result.out
    assert "steps = 7" in result.out
    assert "batch = 8" in result.out


def test_training_goes_on_only_on_request(call, tiny, tmp_path):
    out = tmp_path / "run"
    assert call("train", tiny, "--out", out, "--set", "training.steps=6").code == 0
    (path,) = checkpoints(out)
    before = path.read_bytes()
    assert "--resume auto" in call("train", tiny, "--out", out).complaint()
    assert checkpoints(out) == [path] and path.read_bytes() == before
    result = call("train", tiny, "--out", out, "--resume", "auto")
    assert result.code == 0, result.err
    assert "resuming at step 6" in result.err
    assert re.search(r"^steps +20$", result.out, re.M)
    with (out / "log.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [5, 6, 10, 15, 20]


def test_stop_after_ends_by_the_clock_and_says_what_next(call, tiny, tmp_path):
    result = call("train", tiny, "--out", tmp_path / "run", "--set", "training.steps=1000000",
                "--stop-after", "0.3s")  # fmt: skip
    assert result.code == 0, result.err
    assert f"Next: scorefield sample {tmp_path / 'run'}" in result.out
    assert (tmp_path / "run" / "model.safetensors").is_file()


# --- sample --------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(call, run, tmp_path):
    for name, seed in (("a.npy", 0), ("b.npy", 0), ("c.npy", 1)):
        assert call("sample", run, "-n", 2, "--steps", 3, "--seed", seed, "--out", tmp_path / name).code == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.npy", "b.npy", "c.npy"))
    assert a == b != c


def test_every_kind_of_output_holds_the_same_images(call, run, tmp_path):
    for out in ("all.npy", "all.npz", "each", "grid.png"):
        result = call("sample", run, "-n", 3, "--steps", 2, "--out", tmp_path / out)
        assert result.code == 0, result.err
    array = np.load(tmp_path / "all.npy")
    assert (array.shape, array.dtype) == ((3, 8, 8, 1), np.uint8)
    assert np.array_equal(np.load(tmp_path / "all.npz")["arr_0"], array)
    files = sorted((tmp_path / "each").iterdir())
    assert [file.name for file in files] == ["00000.png", "00001.png", "00002.png"]
    assert np.array_equal(np.stack([pixels(file) for file in files])[..., None], array)


def test_a_size_of_ones_own_and_a_trace(call, run, tmp_path):
    result = call("sample", run, "-n", 2, "--steps", 4, "--size", "6x10", "--trace",
                "--out", tmp_path / "s.npy", "--json", tmp_path / "s.json")  # fmt: skip
    assert result.code == 0, result.err
    assert np.load(tmp_path / "s.npy").shape == (2, 6, 10, 1)
    with Image.open(tmp_path / "s-trace.gif") as film:
        assert film.n_frames >= 2
    facts = json.loads((tmp_path / "s.json").read_text())
    assert facts["n"] == 2
    assert facts["evaluations"] == 7  # Heun: two a step, one in the last


@pytest.mark.parametrize("sampler", ["heun", "annealed-langevin", "langevin"])
def test_every_sampler_can_be_named(call, run, tmp_path, sampler):
    result = call("sample", run, "-n", 1, "--steps", 10, "--sampler", sampler, "--out", tmp_path / "s.png")
    assert result.code == 0, result.err


# --- inpaint -------------------------------------------------------------------------------------


@pytest.mark.parametrize("invert", [False, True])
def test_only_the_masks_white_is_filled(call, run, shirt, tmp_path, invert):
    fill = np.zeros((8, 8), dtype=np.uint8)
    fill[2:5, 1:7] = 255
    Image.fromarray(fill).save(tmp_path / "mask.png")
    result = call("inpaint", shirt, "--model", run, "--mask", tmp_path / "mask.png", "--steps", 10,
                "--candidates", 3, "--out", tmp_path / "out", *["--invert"] * invert)  # fmt: skip
    assert result.code == 0, result.err
    known = (fill > 0) if invert else (fill == 0)
    results = [pixels(tmp_path / "out" / f"shirt-{k}.png") for k in (1, 2, 3)]
    for restored in results:
        assert np.array_equal(restored[known], pixels(shirt)[known])
    assert not np.array_equal(results[0], results[1])


def test_a_bad_image_among_good_ones_is_named_and_the_others_go_on(call, run, shirt, tmp_path):
    (tmp_path / "cut.png").write_bytes(shirt.read_bytes()[:60])
    result = call("inpaint", tmp_path / "cut.png", shirt, tmp_path / "none.png", "--model", run, "--steps", 10,
                "--out", tmp_path / "out", "--json", tmp_path / "r.json")  # fmt: skip
    assert result.code == 3
    lines = [line for line in result.err.splitlines() if "ETA" not in line]
    assert {line.partition(": ")[2].partition(":")[0] for line in lines} == {
        str(tmp_path / "cut.png"),
        str(tmp_path / "none.png"),
    }
    results = json.loads((tmp_path / "r.json").read_text())
    assert [entry["error"] is None for entry in results] == [False, True, False]
    assert len(results[1]["outputs"]) == 2  # one result and the sheet


@pytest.mark.parametrize("kind", ["16-bit", "palette", "alpha", "turned"])
def test_images_of_every_kind_are_restored_in_their_own_size(call, run, tmp_path, kind):
    grey = np.full((10, 6), 90, dtype=np.uint8)
    path = tmp_path / "odd.png"
    image = {
        "16-bit": lambda: Image.fromarray(grey.astype(np.uint16) * 257),
        "palette": lambda: Image.fromarray(grey).convert("P"),
        "alpha": lambda: Image.merge("LA", [Image.fromarray(grey), Image.new("L", (6, 10), 128)]),
        "turned": lambda: Image.fromarray(grey.T),
    }[kind]()
    exif = Image.Exif()
    if kind == "turned":
        exif[0x0112] = 6
    image.save(path, exif=exif)
    result = call("inpaint", path, "--model", run, "--mask", "left", "--steps", 10, "--candidates", 1,
                "--out", tmp_path / "out")  # fmt: skip
    assert result.code == 0, result.err
    after = pixels(tmp_path / "out" / "odd-1.png")
    assert after.shape[:2] == (10, 6)
    if kind == "alpha":
        assert (after[:, 3:, 1] == 128).all()
        assert (after[:, :3, 1] == 255).all()  # what is filled is there
        after = after[..., 0]
    assert (after[:, 3:].astype(int) == (90 * 257 if kind == "16-bit" else 90)).all()


# --- evaluate, models, data ----------------------------------------------------------------------


def test_evaluate_measures_on_the_features_of_the_datas_own_labels(call, run, data, tmp_path):
    result = call("evaluate", run, "--data", data, "-n", 12, "--steps", 3, "--json", tmp_path / "r.json",
                "--out", tmp_path / "near.png")  # fmt: skip
    assert result.code == 0, result.err
    report = Report(**json.loads((tmp_path / "r.json").read_text()))
    assert report.features.startswith("ramps-classifier-")
    assert f"FD[{report.features}]" in result.out  # brackets are no markup
    assert f"inception-type[{report.features}]" in result.out
    assert re.fullmatch(r"ramps, 24 images, [0-9a-f]{8}", report.reference)
    assert all(map(math.isfinite, (report.frechet, report.frechet_floor, *report.kernel, report.copies)))
    assert (tmp_path / "near.png").is_file()


def test_evaluate_without_labels_measures_on_random_features(call, run, tmp_path):
    np.save(tmp_path / "plain.npy", ramps(20)[0])
    result = call("evaluate", run, "--data", tmp_path / "plain.npy", "-n", 4, "--steps", 2,
                "--json", tmp_path / "r.json")  # fmt: skip
    assert result.code == 0, result.err
    assert "FD[random-conv]" in result.out
    assert "inception-type[" not in result.out
    facts = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity
    assert facts["inception_type"] is None


def test_models_lists_what_comes_along_and_shows_a_card(call, run, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "_WEIGHTS", tmp_path / "shelf")
    model = checkpoint.load(run / "model.safetensors")
    checkpoint.save(model, tmp_path / "shelf" / "ramps.safetensors", notes={"about": "Three ramps."})
    result = call("models")
    assert re.search(r"^ramps +model, 1×8×8, .*: Three ramps\.$", result.out, re.M)
    assert re.search(r"^default +recipe: ", result.out, re.M)
    shown = call("models", "ramps", "--json", tmp_path / "card.json")
    assert "Three ramps." in shown.out
    assert json.loads((tmp_path / "card.json").read_text())["spec"]["shape"] == [1, 8, 8]


def test_inspect_counts_what_is_there_and_lists_what_was_left_out(call, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for k, image in enumerate(ramps(3, 12)[0]):
        Image.fromarray(image[:, :, 0]).save(folder / f"{k}.png")
    Image.new("RGB", (12, 16), "red").save(folder / "red.png")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:70])
    result = call("data", "inspect", folder, "--size", 12, "--out", tmp_path / "sheet.png",
                "--json", tmp_path / "facts.json")  # fmt: skip
    assert result.code == 0, result.err
    assert re.search(r"^images +4$", result.out, re.M)
    assert re.search(r"^shape +3×12×12$", result.out, re.M)
    assert "cut.png" in result.out
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert [one["path"].endswith("cut.png") for one in facts["skipped"]] == [True]
    assert any("grey" in note or "color" in note or "colour" in note for note in facts["notes"])
    assert (tmp_path / "sheet.png").is_file()


def test_inspect_counts_the_classes(call, data, tmp_path):
    result = call("data", "inspect", data, "--split", "test", "--json", tmp_path / "facts.json")
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "facts.json").read_text())["classes"] == {"0": 8, "1": 8, "2": 8}


def test_a_long_path_is_never_broken_over_two_lines(call, run, tmp_path):
    out = tmp_path / ("long-" * 30) / "s.npy"
    result = call("sample", run, "-n", 1, "--steps", 2, "--out", out)
    assert result.code == 0, result.err
    assert str(out) in result.out


def test_what_is_there_is_kept_and_replaced_only_on_demand(call, run, shirt, data, tmp_path):
    commands = {
        "s.png": ("sample", run, "-n", 1, "--steps", 2, "--out", tmp_path / "s.png"),
        "t-trace.gif": ("sample", run, "-n", 1, "--steps", 2, "--trace", "--out", tmp_path / "t.png"),
        "folder/00000.png": ("sample", run, "-n", 1, "--steps", 2, "--out", tmp_path / "folder"),
        "out/shirt-1.png": ("inpaint", shirt, "--model", run, "--steps", 5, "--out", tmp_path / "out"),
        "n.png": ("evaluate", run, "--data", data, "-n", 3, "--steps", 2, "--out", tmp_path / "n.png"),
        "sheet.png": ("data", "inspect", data, "--out", tmp_path / "sheet.png"),
        "a.json": ("sample", run, "-n", 1, "--out", tmp_path / "u.png", "--steps", 2,
                   "--json", tmp_path / "a.json"),
        "b.json": ("models", run, "--json", tmp_path / "b.json"),
    }  # fmt: skip
    for name, command in commands.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
        assert "already exists" in call(*command).complaint()
        assert path.read_bytes() == b"mine"
        result = call(*command, "--overwrite")
        assert result.code == 0, result.err
        assert path.read_bytes() != b"mine"


def test_the_run_holds_the_recipe_that_repeats_it(call, run, tmp_path):
    assert call("train", run / "recipe.toml", "--out", tmp_path / "again").code == 0
    first, second = (load_file(folder / "model.safetensors") for folder in (run, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)
