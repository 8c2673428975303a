"""Before a run begins or goes on: noise levels found, mistakes told before a step is made."""

import dataclasses

import pytest
import torch
from torch import nn

from scorefield.errors import UserError
from scorefield.model import ScoreModel
from scorefield.noise import propose_ladder
from scorefield.parameterization import EDM
from scorefield.training import Trainer, build_model, read_recipe
from scorefield.training.start import check_size, inner_precision, with_noise_found
from scorefield.training.state import load_state

from .toys import pictures, recipe


def test_automatic_noise_is_the_calculators_ladder_in_the_models_units(tmp_path):
    found = propose_ladder(pictures().images)
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        made = with_noise_found(
            recipe("noise=auto", f"data.value_range=[{low}, {high}]"), pictures(), None
        ).noise_levels
        assert made.law.kind == "rungs"
        assert made.law.levels == found.levels
        assert (made.sigma_max, made.sigma_min) == pytest.approx(
            (found.sigma_max * (high - low), found.sigma_min * (high - low))
        )


def test_the_run_keeps_the_noise_levels_that_it_found(tmp_path):
    settings = ["noise=auto", 'parameterization={kind="ncsnv2"}', "training.sample_count=1"]
    first = Trainer(recipe(*settings, "training.steps=1"), out=tmp_path / "run", data=pictures())
    first.fit()
    written = read_recipe(tmp_path / "run" / "recipe.toml")
    assert written.noise == first.recipe.noise != "auto"
    again = Trainer(recipe(*settings), out=tmp_path / "run", data=pictures(), resume=True)
    assert again.step == 1
    assert again.recipe.noise == written.noise
    assert torch.allclose(again.model.ladder, torch.tensor(written.noise_law().sigmas))


def test_noise_that_is_still_to_be_found_builds_no_model():
    with pytest.raises(UserError, match="noise: `auto` is found from pictures"):
        build_model(recipe("noise=auto"), (1, 8, 8))


def test_other_pictures_do_not_continue_a_run(tmp_path):
    Trainer(recipe("training.steps=1"), out=tmp_path / "run", data=pictures()).fit()
    changed = pictures()
    changed.images[0, 0, 0, 0] ^= 1
    with pytest.raises(UserError, match=r"its run began with pictures of digest \w{16}; those of made here"):
        Trainer(recipe(), out=tmp_path / "run", data=changed, resume=True)
    assert load_state(tmp_path / "run")["data"] == pictures().digest()


def test_a_state_of_before_the_digest_was_kept_still_goes_on(tmp_path):
    Trainer(recipe("training.steps=1"), out=tmp_path / "run", data=pictures()).fit()
    state = load_state(tmp_path / "run")
    del state["data"]
    torch.save(state, tmp_path / "run" / "state.pt")
    assert Trainer(recipe(), out=tmp_path / "run", data=pictures(), resume=True).step == 1


def test_pictures_that_are_no_bytes_are_told(tmp_path):
    broken = dataclasses.replace(pictures(), images=torch.full((4, 1, 8, 8), float("nan")))
    with pytest.raises(UserError, match=r"made here: its pictures are torch.float32, not uint8"):
        Trainer(recipe(), out=tmp_path / "run", data=broken)
    assert not (tmp_path / "run").exists()


class Even(nn.Module):
    """A network that halves and doubles, and so takes even sizes alone."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, label, source=None):
        return nn.functional.interpolate(nn.functional.avg_pool2d(x, 2), scale_factor=2) * self.weight


def test_a_size_that_the_network_cannot_take_is_told_in_a_line():
    check_size(ScoreModel(Even(), EDM(), shape=(1, 8, 6)))
    odd = ScoreModel(Even(), EDM(), shape=(1, 9, 7)).train()
    with pytest.raises(
        UserError, match=r"data.size: this network cannot take pictures of 7×9 \(.*\)\. "
    ) as told:
        check_size(odd)
    assert "\n" not in str(told.value)
    assert odd.training


def test_gradients_of_gradients_are_taken_in_float32_unless_told():
    cpu = torch.device("cpu")
    auto = 'training.precision="auto"'
    for second in ('objective={kind="sliced"}', 'objective={kind="explicit"}', "network.energy=true"):
        assert inner_precision(recipe(auto, second), cpu) == torch.float32
        assert inner_precision(recipe('training.precision="bfloat16"', second), cpu) == torch.bfloat16
