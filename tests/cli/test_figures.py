"""`scorefield figures`, as a user calls it."""

import csv

import pytest
from PIL import Image

from scorefield.evaluation import reference
from scorefield.metrics import random_features


@pytest.fixture(autouse=True)
def _matplotlib():
    pytest.importorskip("matplotlib")


def table(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def opens(path):
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG"


def test_the_help_names_every_figure(call):
    result = call("figures", "--help")
    assert result.code == 0
    names = ("manifold", "low-density", "mixing", "anneal", "neighbours", "single-sigma", "completions")
    assert all(name in result.out for name in names)


def test_low_density_writes_its_image_and_its_numbers(call, tmp_path):
    result = call("figures", "low-density", "--out", tmp_path / "new", "--steps", 5)
    assert result.code == 0, result.err
    assert "relative error where p is least" in result.out
    assert str(tmp_path / "new" / "low-density.png") in result.out
    assert opens(tmp_path / "new" / "low-density.png")
    assert len(table(tmp_path / "new" / "low-density.csv")) == 9


def test_manifold_takes_images_of_ones_own(call, data, tmp_path):
    result = call("figures", "manifold", "--out", tmp_path, "--data", data, "--size", 8, "--steps", 3)
    assert result.code == 0, result.err
    assert "loss per pixel without noise" in result.out
    assert len(table(tmp_path / "manifold.csv")) == 3


def test_a_models_way_and_its_completions(call, run, data, tmp_path):
    result = call("figures", "anneal", "--model", run, "--out", tmp_path, "-n", 2, "--levels", 3, "--steps", 60)
    assert result.code == 0, result.err
    assert len(table(tmp_path / "anneal.csv")) == 5
    result = call("figures", "completions", "--model", run, "--data", data, "--out", tmp_path, "-n", 2,
                "--candidates", 2, "--mask", "left", "--mask", "center", "--steps", 10)  # fmt: skip
    assert result.code == 0, result.err
    assert len(table(tmp_path / "completions.csv")) == 2 * 2 * 2
    assert opens(tmp_path / "completions.png")


def test_neighbours_takes_a_model_and_its_data(call, run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "choose_features", lambda train, *_, **__: random_features(train.shape[0]))
    result = call("figures", "neighbours", "--model", run, "--data", data, "--out", tmp_path, "-n", 2, "-k", 3,
                "--steps", 2)  # fmt: skip
    assert result.code == 0, result.err
    assert "nearest in pixels" in result.out
    assert len(table(tmp_path / "neighbours.csv")) == 12


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("low-density.csv", "low-density --steps 1"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("manifold.png", "manifold --data DATA --size 7 --steps 1"),
                ("anneal.png", "anneal --model RUN -n 1 --steps 10"),
                ("completions.csv", "completions --model RUN --data DATA -n 1 --candidates 1 --steps 10"),
            )
        ),
    ],
)
def test_what_is_there_is_kept_and_replaced_only_on_demand(call, run, data, tmp_path, name, command):
    command = [{"RUN": run, "DATA": data}.get(part, part) for part in command.split()]
    (tmp_path / name).write_bytes(b"mine")
    assert "already exists" in call("figures", *command, "--out", tmp_path).complaint()
    assert (tmp_path / name).read_bytes() == b"mine"
    result = call("figures", *command, "--out", tmp_path, "--overwrite")
    assert result.code == 0, result.err
    assert (tmp_path / name).read_bytes() != b"mine"
