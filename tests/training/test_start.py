"""Before a run begins or goes on: noise levels found, mistakes reported before the first step."""

import dataclasses
import shutil

import pytest
import torch
from torch import nn

from scorefield.errors import UserError
from scorefield.model import ModelSpec, ScoreModel
from scorefield.noise_distributions import GeometricLevels
from scorefield.parameterization import EDM
from scorefield.training import Trainer, build_model, read_recipe
from scorefield.training.checks import check_size, inner_precision, with_noise_found
from scorefield.training.schedule_from_data import propose_schedule
from scorefield.training.state import load_state

from .toys import images, recipe


def test_automatic_noise_is_the_calculators_schedule_in_the_models_units(tmp_path):
    found = propose_schedule(images().images)
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        made = with_noise_found(recipe("noise=auto", f"data.value_range=[{low}, {high}]"), images(), None).noise_levels
        assert isinstance(made.distribution, GeometricLevels)
        assert made.distribution.levels == found.levels
        assert (made.sigma_max, made.sigma_min) == pytest.approx(
            (found.sigma_max * (high - low), found.sigma_min * (high - low))
        )


def test_the_run_keeps_the_noise_levels_that_it_found(tmp_path):
    settings = ["noise=auto", 'parameterization={kind="ncsnv2"}', "training.sample_count=1"]
    first = Trainer(recipe(*settings, "training.steps=1"), out=tmp_path / "run", data=images())
    first.fit()
    written = read_recipe(tmp_path / "run" / "recipe.toml")
    assert written.noise == first.recipe.noise != "auto"
    again = Trainer(recipe(*settings), out=tmp_path / "run", data=images(), resume=True)
    assert again.step == 1
    assert again.recipe.noise == written.noise
    assert torch.allclose(again.model.schedule, torch.tensor(written.noise_levels.distribution.sigmas))


def test_noise_that_is_still_to_be_found_builds_no_model():
    with pytest.raises(UserError, match="noise: `auto` is found from images"):
        build_model(recipe("noise=auto"), (1, 8, 8))


def test_other_images_do_not_continue_a_run(tmp_path):
    Trainer(recipe("training.steps=1"), out=tmp_path / "run", data=images()).fit()
    changed = images()
    changed.images[0, 0, 0, 0] ^= 1
    with pytest.raises(UserError, match=r"its run began with images of digest \w{16}; those of made here"):
        Trainer(recipe(), out=tmp_path / "run", data=changed, resume=True)
    assert load_state(tmp_path / "run")["data"] == images().digest()


def test_a_state_of_before_the_digest_was_kept_still_goes_on(tmp_path):
    Trainer(recipe("training.steps=1"), out=tmp_path / "run", data=images()).fit()
    state = load_state(tmp_path / "run")
    del state["data"]
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    torch.save(state, tmp_path / "run" / "state.pt")
    assert Trainer(recipe(), out=tmp_path / "run", data=images(), resume=True).step == 1


def test_images_that_are_no_bytes_are_reported(tmp_path):
    broken = dataclasses.replace(images(), images=torch.full((4, 1, 8, 8), float("nan")))
    with pytest.raises(UserError, match=r"made here: its images are torch.float32, not uint8"):
        Trainer(recipe(), out=tmp_path / "run", data=broken)
    assert not (tmp_path / "run").exists()


class Even(nn.Module):
    """A network that halves and doubles, and so takes only even sizes."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, label, source=None):
        return nn.functional.interpolate(nn.functional.avg_pool2d(x, 2), scale_factor=2) * self.weight


def test_a_size_that_the_network_cannot_take_is_reported_in_a_line():
    check_size(ScoreModel(Even(), EDM(), ModelSpec(shape=(1, 8, 6))))
    odd = ScoreModel(Even(), EDM(), ModelSpec(shape=(1, 9, 7))).train()
    with pytest.raises(UserError, match=r"data.size: this network cannot take images of 7×9 \(.*\)\. ") as raised:
        check_size(odd)
    assert "\n" not in str(raised.value)
    assert odd.training


def test_gradients_of_gradients_are_taken_in_float32_by_default():
    cpu = torch.device("cpu")
    auto = 'training.precision="auto"'
    for second in ('objective={kind="sliced"}', 'objective={kind="explicit"}', "network.energy=true"):
        assert inner_precision(recipe(auto, second), cpu) == torch.float32
        assert inner_precision(recipe('training.precision="bfloat16"', second), cpu) == torch.bfloat16
