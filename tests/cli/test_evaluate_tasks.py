"""`scorefield evaluate` of models that restore, as a user calls it."""

import json

import pytest
import torch
from PIL import Image

from oracles import lively
from scorefield import checkpoint
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.networks import UNet
from scorefield.parameterization import EDM


@pytest.fixture(scope="module")
def evaluated(call, models, photographs, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "out"
    result = call(
        "evaluate", models / "restores", "--data", photographs, "--task", "dejpeg", "--quality", 10, "--task",
        "inpaint:center", "-n", 6, "--steps", 2, "--candidates", 2, "--against", models / "regression",
        "--against", f"pigdm@2:{models / 'alone'}", "--against", "@1:", "--zoom", "0.5,1",
        "--out", out, "--json", out.parent / "e.json",
    )  # fmt: skip
    assert result.code == 0, result.err
    return result, out


def test_tables_and_sheets_are_written(evaluated):
    result, out = evaluated
    names = ["sheet-dejpeg-10.png", "sheet-inpaint-center.png", "table.json", "table.md"]
    assert sorted(p.name for p in out.iterdir()) == names
    facts = json.loads((out / "table.json").read_text(), parse_constant=pytest.fail)
    assert facts == json.loads((out.parent / "e.json").read_text())
    systems = [[row["name"] for row in case["rows"]] for case in facts["tables"]]
    networks = ["restores", "regression", "pigdm@2:alone", "@1:restores"]
    assert systems == [[*networks, "input", "original"]] * 2
    by_name = {row["name"]: row for row in facts["tables"][0]["rows"]}
    assert by_name["regression"]["evaluations"] == 1
    assert "diversity MS-SSIM[1]" in by_name["restores"]["numbers"]
    assert "diversity MS-SSIM[1]" not in by_name["regression"]["numbers"]
    with Image.open(out / "sheet-dejpeg-10.png") as sheet:
        assert sheet.width == 6 * (8 * 16 + 4) + 4
    text = (out / "table.md").read_text()
    assert text.startswith("6 crops of 16×16 of 2 images of")
    assert "FD[random-conv] ↓" in text
    assert "PD[random-conv] ↓" in result.out


def test_the_same_call_gives_the_same_numbers(call, models, photographs, tmp_path):
    found = []
    for name in ("a.json", "b.json"):
        result = call(
            "evaluate", models / "restores", "--data", photographs, "--task", "dejpeg", "-n", 4, "--steps", 1,
            "--json", tmp_path / name,
        )  # fmt: skip
        assert result.code == 0, result.err
        facts = json.loads((tmp_path / name).read_text())
        found.append([row["numbers"] for row in facts["tables"][0]["rows"]])
    assert found[0] == found[1]


def test_labelled_images_are_judged_by_their_classes(call, data, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = lively(UNet(channels=1, widths=(8, 8), source_channels=1))
    model = ScoreModel(network, EDM(), ModelSpec(shape=(1, 8, 8), restoration=RestorationSpec(tasks=("denoise",))))
    checkpoint.save(model, tmp_path / "grey.safetensors")
    out = tmp_path / "e.json"
    result = call("evaluate", tmp_path / "grey.safetensors", "--data", data, "--steps", 1, "--json", out)
    assert result.code == 0, result.err
    facts = json.loads((tmp_path / "e.json").read_text())
    assert facts["images"].startswith("24 images of 8×8 of ramps, test")
    numbers = facts["tables"][0]["rows"][0]["numbers"]
    assert any(name.startswith("accuracy[ramps-classifier-") for name in numbers)
    assert "SSIM" not in numbers  # its window is larger than the images
    assert "PSNR" in numbers


def test_nothing_is_overwritten_unasked(call, models, photographs, evaluated):
    _, out = evaluated
    before = {path: path.read_bytes() for path in out.iterdir()}
    again = call("evaluate", models / "restores", "--data", photographs, "--task", "dejpeg:10", "--out", out)
    assert "already exists" in again.complaint()
    assert {path: path.read_bytes() for path in out.iterdir()} == before
