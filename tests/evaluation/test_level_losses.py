"""Score-matching losses on Gaussian images, where every number is known."""

import math

import pytest
import torch
from gaussians import MEAN, STD, GaussianNetwork, best, data, fisher

from oracles import Gaussian
from scorefield.errors import UserError
from scorefield.evaluation.level_losses import (
    Estimate,
    InPixels,
    LossSettings,
    common_levels,
    estimate,
    level_losses,
    schedule_levels,
    student_quantile,
)
from scorefield.model import ModelSpec, ScoreModel
from scorefield.parameterization import EDM, NCSN, VariancePreserving

SIDE = 4
SIGMAS = (1.0, 0.3, 0.1, 0.03)
EXACT, WRONG = Gaussian(MEAN, STD), Gaussian(0.55, 0.22)


@pytest.fixture(scope="module")
def measured():
    images = data(3000)
    return {
        name: level_losses(model, images, SIGMAS, LossSettings(seed=1, batch=1000))
        for name, model in (("exact", EXACT), ("wrong", WRONG))
    }


@pytest.mark.parametrize(("name", "model"), [("exact", EXACT), ("wrong", WRONG)])
@pytest.mark.parametrize("level", range(4))
def test_the_losses_are_their_closed_forms_within_their_intervals(measured, name, model, level):
    losses, sigma = measured[name], SIGMAS[level]
    expected = fisher(model, sigma) + best(sigma)
    for values, shift in ((losses.denoising, 0), (losses.sliced, 1)):
        found = estimate(values[level])
        assert abs(found.mean + shift - expected) < 2 * found.half  # twice: eight of each, four sigma
        assert found.half < 0.02


@pytest.mark.parametrize("level", range(4))
def test_differences_are_those_of_the_fisher_divergence(measured, level):
    for kind in ("denoising", "sliced"):
        wrong, exact = (getattr(measured[name], kind)[level] for name in ("wrong", "exact"))
        found = estimate(wrong - exact)
        assert abs(found.mean - fisher(WRONG, SIGMAS[level])) < 2 * found.half


@pytest.mark.parametrize("kind", ["denoising", "sliced"])
def test_paired_intervals_are_narrower_than_the_others(measured, kind):
    for level in range(4):
        wrong, exact = (getattr(measured[name], kind)[level] for name in ("wrong", "exact"))
        apart = math.hypot(estimate(wrong).half, estimate(exact).half)
        assert estimate(wrong - exact).half < 0.8 * apart


def test_the_exact_denoiser_has_the_least_loss_at_every_level(measured):
    for kind in ("denoising", "sliced"):
        difference = getattr(measured["wrong"], kind) - getattr(measured["exact"], kind)
        assert all(estimate(row).mean - estimate(row).half > 0 for row in difference)


def test_intervals_hold_the_truth_nineteen_times_of_twenty():
    held = []
    for seed in range(300):
        losses = level_losses(EXACT, data(12, seed=seed, side=2), (0.2,), LossSettings(seed=seed, projections=0))
        found = estimate(losses.denoising[0])
        held.append(abs(found.mean - best(0.2)) <= found.half)
    assert 0.90 < sum(held) / len(held) < 0.985


def test_students_points_are_those_of_the_tables():
    table = {3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 100: 1.984, 10**6: 1.960}
    for degrees, point in table.items():
        assert student_quantile(degrees) == pytest.approx(point, rel=0.01 if degrees < 10 else 1e-3)


class Recorder:
    def __init__(self):
        self.seen = []

    def __call__(self, x, sigma):
        self.seen.append(x.clone())
        return torch.zeros_like(x)


def test_every_model_meets_the_same_noise_and_every_batch_its_own():
    one, two = Recorder(), Recorder()
    for denoiser in (one, two):
        level_losses(denoiser, torch.zeros(8, 1, 2, 2), (0.5, 0.2), LossSettings(batch=4, projections=0))
    assert all(torch.equal(a, b) for a, b in zip(one.seen, two.seen, strict=True))
    standard = [x / s for x, s in zip(one.seen, (0.5, 0.5, 0.2, 0.2), strict=True)]
    assert all(not torch.allclose(standard[0], other) for other in standard[1:])


def test_the_sliced_loss_sees_the_noise_of_the_denoising_one():
    recorder = Recorder()
    level_losses(recorder, data(4), (0.3,), LossSettings(projections=1))
    assert torch.equal(*recorder.seen)


def model(mean=MEAN, std=STD, *, value_range=(0.0, 1.0), sigma_range=(0.01, 2.0), parameterization=None):
    low, high = value_range
    network = GaussianNetwork(low + (high - low) * mean, (high - low) * std)
    return ScoreModel(
        network,
        parameterization or VariancePreserving(predicts="x0"),
        ModelSpec(shape=(1, SIDE, SIDE), value_range=value_range, sigma_range=sigma_range),
    ).eval()


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (-3.0, 5.0)])
def test_the_losses_do_not_depend_on_the_models_range_of_pixels(value_range):
    images = data(40)
    plain = level_losses(EXACT, images, SIGMAS)
    scaled = level_losses(InPixels(model=model(value_range=value_range)), images, SIGMAS)
    assert torch.allclose(scaled.denoising, plain.denoising, rtol=1e-3, atol=1e-5)
    assert torch.allclose(scaled.sliced, plain.sliced, rtol=1e-3, atol=1e-4)


def test_a_model_that_sees_no_noise_has_loss_one():
    nothing = level_losses(lambda x, sigma: x, data(2000), (0.3,), LossSettings(batch=500))
    assert estimate(nothing.denoising[0]).mean == pytest.approx(1, abs=0.02)
    assert nothing.sliced.abs().max() < 1e-9


def test_nan_is_reported_where_it_is():
    images = data(5)
    images[3, 0, 1, 1] = math.nan
    with pytest.raises(UserError, match="1 of 5 hold NaN"):
        level_losses(EXACT, images, (0.1,))
    with pytest.raises(UserError, match=r"NaN or infinity at σ = 0\.1"):
        level_losses(lambda x, sigma: x * math.nan, data(5), (0.1,), LossSettings(projections=0))


# --- levels --------------------------------------------------------------------------------------


def test_levels_lie_where_every_model_knows_them_in_units_of_pixels():
    wide = model(value_range=(-1.0, 1.0), sigma_range=(0.002, 80.0))
    narrow = model(sigma_range=(0.01, 1.0))
    levels = common_levels([wide, narrow], 5)
    assert levels == pytest.approx([1.0, 10**-0.5, 0.1, 10**-1.5, 0.01])
    assert common_levels([wide], 2) == pytest.approx([40, 0.001])


def test_a_schedule_gives_the_levels_where_a_model_has_one():
    schedule = NCSN(sigmas=(1.0, 0.5, 0.25, 0.125, 0.06))
    levels = model(parameterization=schedule, sigma_range=(0.06, 1.0))
    other = model(value_range=(-1.0, 1.0), sigma_range=(0.2, 80.0))  # from 0.1 of pixels
    assert common_levels([other, levels]) == pytest.approx([1.0, 0.5, 0.25, 0.125])
    assert common_levels([levels], 3) == pytest.approx([1.0, 0.25, 0.06])
    assert schedule_levels(levels, [levels, other]) == pytest.approx([1.0, 0.5, 0.25, 0.125])
    halved = model(parameterization=schedule, value_range=(-1.0, 1.0), sigma_range=(0.06, 1.0))
    assert schedule_levels(halved, [halved]) == pytest.approx([0.5, 0.25, 0.125, 0.0625, 0.03])


def test_levels_that_cannot_be_are_reported():
    low, high = model(sigma_range=(0.01, 0.1)), model(sigma_range=(0.2, 1.0))
    with pytest.raises(UserError, match="no noise level is common to all models: 0.01 … 0.1; 0.2 … 1"):
        common_levels([low, high])
    with pytest.raises(UserError, match="need at least one"):
        common_levels([low], 0)
    with pytest.raises(UserError, match="has none"):
        schedule_levels(model(parameterization=EDM()), [low])
    with pytest.raises(UserError, match="no noise level lies within"):
        schedule_levels(model(parameterization=NCSN(sigmas=(1.0, 0.5))), [low])


def test_estimates_are_reported_to_two_digits_of_their_interval():
    assert str(Estimate(mean=0.253844, half=0.00712)) == "0.2538 ± 0.0071"
    assert str(Estimate(mean=-3.21e-6, half=2.16e-6)) == "-0.0000032 ± 0.0000022"
    assert str(Estimate(mean=1.5, half=0.0).plus(1)) == "2.5000 ± 0.0000"
