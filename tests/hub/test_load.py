"""From a name to a model."""

import sys

import pytest
import torch

from oracles import seeded, tiny_model
from scorefield import checkpoint
from scorefield.errors import UserError
from scorefield.hub import bundled, find, load, preferred_precision, specialists

module = sys.modules["scorefield.hub.load"]  # the name `hub.load` is the function


@pytest.fixture
def run(tmp_path):
    return checkpoint.save(tiny_model(), tmp_path / "run" / "model.safetensors").parent


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A package that bundles one model, `fashion`."""
    checkpoint.save(tiny_model(), tmp_path / "shelf" / "fashion.safetensors")
    monkeypatch.setattr(module, "_WEIGHTS", tmp_path / "shelf")
    return tmp_path / "shelf"


def test_a_run_folder_a_file_and_a_bundled_name_are_found(run, shelf):
    assert find(run) == find(str(run)) == run / "model.safetensors"
    assert find(run / "model.safetensors") == run / "model.safetensors"
    assert find("fashion") == shelf / "fashion.safetensors"
    assert bundled() == {"fashion": shelf / "fashion.safetensors"}


def test_a_bundled_name_has_specialists_for_tasks(shelf):
    other = checkpoint.save(tiny_model(3), shelf / "fashion.dejpeg.safetensors")
    assert bundled() == {"fashion": shelf / "fashion.safetensors"}
    assert specialists("fashion") == {"dejpeg": other}
    assert specialists("./fashion") == specialists("emoji") == {}
    assert find("fashion", task="dejpeg") == other
    assert find("fashion", task="inpaint") == find("fashion") == shelf / "fashion.safetensors"
    given, expected = (model.network.state_dict() for model in (load("fashion", task="dejpeg"), checkpoint.load(other)))
    assert all(torch.equal(given[key], expected[key]) for key in expected)


def test_an_unknown_name_offers_the_nearest(shelf):
    with pytest.raises(UserError, match=r"fashio: no such model.*Did you mean `fashion`"):
        find("fashio")


def test_without_bundled_models_the_mend_is_to_train_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WEIGHTS", tmp_path / "none")
    with pytest.raises(UserError, match="scorefield train"):
        find("fashion")


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        find(tmp_path)


@pytest.mark.parametrize("precision", [None, torch.float32, torch.bfloat16])
def test_a_loaded_model_denoises_in_the_precision_requested(run, precision):
    model = load(run, device="cpu", precision=precision)
    assert model.precision == (precision or preferred_precision("cpu"))
    assert not model.training
    x, sigma = torch.randn(2, 1, 8, 8, generator=seeded()), torch.tensor([0.1, 5.0])
    with torch.no_grad():
        atol = 0 if model.precision == torch.float32 else 0.05
        torch.testing.assert_close(model(x, sigma), tiny_model()(x, sigma), rtol=0, atol=atol)


def test_float32_is_preferred_where_nothing_better_is_known():
    assert preferred_precision("meta") == torch.float32


def test_the_name_of_a_bundled_model_means_it_and_a_path_of_that_name_has_a_slash(run, shelf, monkeypatch):
    monkeypatch.chdir(run.parent)
    (run.parent / "fashion").mkdir()
    assert find("fashion") == shelf / "fashion.safetensors"
    assert find("./run").samefile(run / "model.safetensors")
    assert find("run").samefile(run / "model.safetensors")
    with pytest.raises(UserError, match="this folder holds no model"):
        find("./fashion")
    with pytest.raises(UserError, match=r"no such model, file or run folder\."):
        find("./gone")
