"""`scorefield models import` takes over weights, says what they are, and writes over nothing unasked."""

import json

import torch

from hub.test_ncsn import SIGMAS, Authors, saved, weights_of


def test_a_checkpoint_becomes_a_model_that_shows_and_samples(call, tmp_path):
    path = saved(tmp_path, [weights_of(Authors(levels=None), sigmas=SIGMAS, prefix="module."), {}])
    out = tmp_path / "model.safetensors"
    result = call("models", "import", path, "--out", out, "--size", 8, "--json", tmp_path / "facts.json")
    assert result.code == 0, result.err
    for words in ("NCSNv2, small", "3 noise levels, 2 to 0.1", "last", str(out)):
        assert words in result.out
    assert json.loads((tmp_path / "facts.json").read_text())["width"] == 4
    shown = call("models", out)
    assert "refinenet" in shown.out and "ncsnv2" in shown.out
    assert call("models", "show", out).out == shown.out

    again = call("models", "import", path, "--out", out)
    assert "already exists" in again.complaint()
    assert call("models", "import", path, "--out", out, "--overwrite", "--raw").code == 0


def test_what_cannot_be_imported_is_reported_in_one_line(call, tmp_path):
    out = tmp_path / "model.safetensors"
    assert "no such file" in call("models", "import", tmp_path / "none.pth", "--out", out).complaint()
    other = saved(tmp_path, {"weight": torch.zeros(3)})
    assert "begin_conv" in call("models", "import", other, "--out", out).complaint()
    assert "safetensors" in call("models", "import", other, "--out", tmp_path / "model.pt").complaint()
    assert not out.exists()
