"""From a name to a model."""

import copy
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from oracles import seeded, tiny_model
from scorefield import checkpoint
from scorefield.errors import UserError
from scorefield.hub import bundled, find, load, preferred_precision, specialists


def pickled(model):
    return pickle.loads(pickle.dumps(model))


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


@pytest.fixture
def specialist(shelf):
    """The file of `fashion` that restores JPEG files in its place."""
    return checkpoint.save(tiny_model(3), shelf / "fashion.dejpeg.safetensors")


def weights(model):
    return [value for _, value in sorted(model.network.state_dict().items())]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_a_bundled_name_has_specialists_for_tasks(shelf, specialist):
    assert bundled() == {"fashion": shelf / "fashion.safetensors"}
    assert specialists("fashion") == {"dejpeg": specialist}
    assert specialists("./fashion") == specialists("emoji") == {}
    assert find("fashion", task="dejpeg") == specialist
    assert find("fashion", task="inpaint") == find("fashion") == shelf / "fashion.safetensors"


@pytest.mark.parametrize("made", [lambda m: m, lambda m: m.with_size(4, 4), copy.deepcopy, pickled])
def test_a_loaded_model_and_its_copies_know_their_specialists(specialist, made):
    model = made(load("fashion"))
    assert same(model.for_task("dejpeg"), checkpoint.load(specialist))
    assert model.for_task("inpaint") is model.for_task(None) is model
    assert model.for_task("dejpeg") is model.for_task("dejpeg")  # read once
    assert not model.for_task("dejpeg").training


def test_a_specialist_is_not_read_before_it_is_needed(specialist):
    specialist.write_bytes(b"damaged")
    model = load("fashion")
    assert model.for_task("inpaint") is model
    with pytest.raises(UserError, match=r"fashion\.dejpeg"):
        model.for_task("dejpeg")


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_specialist_computes_in_the_precision_of_its_general_model(specialist, precision):
    model = load("fashion", device="cpu", precision=torch.float32)
    model.for_task("dejpeg")
    assert model.with_precision(precision).for_task("dejpeg").precision == precision


def test_a_path_has_no_specialists(shelf, specialist):
    model = load(shelf / "fashion.safetensors")
    assert model.for_task("dejpeg") is model


def test_threads_share_one_specialist(specialist):
    model, meet = load("fashion"), threading.Barrier(4)

    def needed(_):
        meet.wait()
        return model.for_task("dejpeg")

    with ThreadPoolExecutor(4) as threads:
        assert len({id(one) for one in threads.map(needed, range(4))}) == 1


def test_a_model_saved_under_another_name_is_alone(specialist, tmp_path):
    model = load(checkpoint.save(load("fashion"), tmp_path / "mine.safetensors"))
    assert model.for_task("dejpeg") is model


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
