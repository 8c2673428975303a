"""Pipelines of diffusers on the command line: taken over, sampled from, and written."""

import json

import pytest
import torch

from hub.pipelines import ours, save_ddpm
from scorefield import checkpoint

pytest.importorskip("diffusers")


def test_a_pipeline_is_taken_over_and_draws(call, tmp_path):
    folder, out = tmp_path / "pipeline", tmp_path / "model.safetensors"
    save_ddpm(folder)
    result = call("models", "import", folder, "--out", out, "--json", tmp_path / "facts.json")
    assert result.code == 0, result.err
    for words in ("UNet2DModel", "50 noise levels", "1×8×8", "noise", str(out)):
        assert words in result.out
    assert json.loads((tmp_path / "facts.json").read_text())["parameters"] > 1000
    assert "diffusers" in call("models", out).out
    for name in (folder, out):
        drawn = call("sample", name, "-n", 1, "--steps", 2, "--out", tmp_path / f"{name.name}.npy", "--device", "cpu")
        assert drawn.code == 0, drawn.err
    first, second = ((tmp_path / name).read_bytes() for name in ("pipeline.npy", "model.safetensors.npy"))
    assert first == second


def test_a_pipeline_is_evaluated_like_any_model(call, data, tmp_path):
    save_ddpm(tmp_path / "pipeline")
    options = (
        "--data",
        data,
        "-n",
        8,
        "--sampler",
        "ddim",
        "--steps",
        2,
        "--device",
        "cpu",
        "--features",
        "random",
    )
    result = call("evaluate", tmp_path / "pipeline", *options)
    assert result.code == 0, result.err


def test_what_is_no_pipeline_is_reported_in_one_line(call, tmp_path):
    folder, out = tmp_path / "pipeline", tmp_path / "model.safetensors"
    save_ddpm(folder)
    assert "Pass only --out" in call("models", "import", folder, "--out", out, "--levels", 3).complaint()
    assert "scorefield models import" in call("models", folder).complaint()
    (folder / "unet" / "config.json").unlink()
    assert "config.json: no such file" in call("models", "import", folder, "--out", out).complaint()
    (tmp_path / "empty").mkdir()
    assert "config.json: no such file" in call("models", "import", tmp_path / "empty", "--out", out).complaint()
    assert not out.exists()


def test_a_model_is_written_as_a_pipeline_or_says_why_not(call, run, tmp_path):
    import diffusers

    model = checkpoint.save(ours(), tmp_path / "model.safetensors")
    result = call("models", "export", model, "--out", tmp_path / "pipeline")
    assert result.code == 0, result.err
    assert "from_pretrained" in result.out
    network = diffusers.DDPMPipeline.from_pretrained(tmp_path / "pipeline").unet
    weight = network.state_dict()["conv_in.weight"]
    assert torch.equal(weight, ours().network.first.weight)
    assert "already exists" in call("models", "export", model, "--out", tmp_path / "pipeline").complaint()
    assert 'conditioning = "index"' in call("models", "export", run, "--out", tmp_path / "other").complaint()
    assert not (tmp_path / "other").exists()
