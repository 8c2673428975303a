"""`scorefield compare`, as a user calls it."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield import checkpoint
from training.toys import ramps


@pytest.fixture(scope="module")
def other(run, tmp_path_factory):
    """The run's model with its weights a little changed."""
    model = checkpoint.load(run / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    path = tmp_path_factory.mktemp("other") / "changed.safetensors"
    checkpoint.save(model, path)
    return path


@pytest.fixture(scope="module")
def compared(call, run, other, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "out"
    result = call("compare", run, other, "--data", data, "-n", 12, "--samples", 4, "--steps", 2, "--levels", 3,
                "--out", out, "--json", out.parent / "c.json")  # fmt: skip
    assert result.code == 0, result.err
    return result, out


def test_tables_are_printed_whole(compared):
    result, _ = compared
    lines = result.out.splitlines()
    assert re.match(r"12 of ramps, 24 images, [0-9a-f]{8}; σ of pixels", lines[0])
    for title in (
        "Denoising loss E |(D − x0)/σ|² per pixel",
        "Sliced loss + 1",
        "Denoising loss minus that of run, paired",
        "Sliced loss minus that of run, paired",
        "Models",
    ):
        assert any(line.strip().startswith(title) for line in lines), result.out
    assert len(re.findall(r"^\s*mean .*±", result.out, re.M)) == 4
    assert re.search(r"FD\[ramps-classifier-[0-9a-f]{4}\] .*real images.*real images", result.out)
    assert re.search(r"GFLOP an evaluation +\S+ +\S+$", result.out, re.M)


def test_numbers_images_and_sheets_are_written(compared):
    result, out = compared
    assert sorted(p.name for p in out.iterdir()) == [
        "comparison.json", "losses.png", "samples-changed.png", "samples-run.png"]  # fmt: skip
    facts = json.loads((out / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert facts == json.loads((out.parent / "c.json").read_text())
    assert [entry["name"] for entry in facts["entries"]] == ["run", "changed"]
    assert len(facts["sigmas"]) == 3 == len(facts["entries"][1]["sliced_difference"]["levels"])
    with Image.open(out / "losses.png") as plot:
        assert plot.width > plot.height


def test_the_same_call_gives_the_same_numbers(call, run, other, data, tmp_path):
    for name in ("a.json", "b.json"):
        result = call("compare", run, other, "--data", data, "-n", 6, "--samples", 0, "--levels", 2,
                    "--json", tmp_path / name)  # fmt: skip
        assert result.code == 0, result.err
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    assert "FD[" not in result.out


def test_one_model_alone_and_data_without_a_test_split(call, run, tmp_path):
    np.save(tmp_path / "plain.npy", ramps(20)[0])
    result = call("compare", run, "--data", tmp_path / "plain.npy", "-n", 6, "--samples", 0, "--levels", 2,
                "--projections", 0)  # fmt: skip
    assert result.code == 0, result.err
    assert "not held out" in result.err
    assert "minus that of" not in result.out
    assert "Sliced" not in result.out
