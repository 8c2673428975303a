"""The weights of two modes, as three ways of sampling recover them."""

import math

import pytest
import torch

from oracles import seeded
from scorefield.figures.catalog import Mixing
from scorefield.figures.mixing import WEIGHT, in_small_mode, langevin, mixture, run

N = 1000


def weight(x):
    return float(in_small_mode(x).double().mean())


def error(w, n=N):
    return math.sqrt(w * (1 - w) / n)


# Six tests of one long run, all slow; a short one of every method is in `test_figures.py`, and that annealed Langevin
# dynamics draws two modes with their weights in `samplers/test_distributions.py`.


@pytest.fixture(scope="module")
def chains():
    """The paper's settings; 1,000 chains in place of 1,280."""
    return run(Mixing(samples=N))


def test_a_point_is_counted_to_the_mode_that_it_is_likelier_of():
    """log ⅕N₁ = log ⅘N₂ where x₁ + x₂ = −0.1 log 4."""
    edge = -math.log(4) / 10
    points = torch.tensor([[edge / 2 - 0.01, edge / 2], [edge / 2 + 0.01, edge / 2], [-5.0, -5.0], [5.0, 5.0]])
    joint = mixture()._joint(points, 0.0)[0]
    assert in_small_mode(points).tolist() == (joint[:, 0] > joint[:, 1]).tolist() == [True, False, True, False]


@pytest.mark.slow
def test_exact_samples_have_the_true_weight(chains):
    assert weight(chains[0].x) == pytest.approx(WEIGHT, abs=3 * error(WEIGHT))


@pytest.mark.slow
def test_langevin_dynamics_leaves_half_of_the_chains_in_the_small_mode(chains):
    """The share of [−8, 8]² on its side is ½ − 0.139/16, a triangle's density at 0; 3 standard errors."""
    share = 0.5 - math.log(4) / 10 / 16
    assert weight(chains[1].x) == pytest.approx(share, abs=3 * error(share) + 0.01)
    assert weight(chains[1].x) > WEIGHT + 10 * error(WEIGHT)


def test_where_langevin_dynamics_ends_is_where_it_began():
    start = 8 * torch.rand(200, 2, generator=seeded())
    settings = Mixing(langevin_steps=300)
    assert weight(langevin(-start, settings, generator=seeded(1))) == 1
    assert weight(langevin(start, settings, generator=seeded(1))) == 0


@pytest.mark.slow
def test_in_a_mode_plain_langevin_dynamics_has_the_right_moments(chains):
    """Around 5 with the variance 1/(1 − α/4) of its discrete chain; some 500 chains, 4 standard errors."""
    large = chains[1].x[~in_small_mode(chains[1].x)]
    assert float(large.mean()) == pytest.approx(5, abs=4 / math.sqrt(large.numel()))
    spread = 1 / math.sqrt(1 - 0.1 / 4)
    assert float((large - 5).square().mean().sqrt()) == pytest.approx(
        spread, abs=4 * spread / math.sqrt(2 * large.numel())
    )


@pytest.mark.slow
@pytest.mark.parametrize("which", [2, 3])
def test_annealed_it_recovers_the_weight(chains, which):
    """Within 3 standard errors, and 0.03 for what ten levels leave (of 20,000 chains: 0.220 and 0.233)."""
    assert weight(chains[which].x) == pytest.approx(WEIGHT, abs=3 * error(WEIGHT) + 0.03)
    assert weight(chains[which].x) < weight(chains[1].x) - 0.15


@pytest.mark.slow
def test_the_schedule_of_the_appendix_ends_at_noise_of_one(chains):
    """At σ = 1 a mode's variance is 1 + 1, over 1 − r/4·½ of the discrete chain with r = 0.1."""
    large = chains[2].x[~in_small_mode(chains[2].x)]
    spread = math.sqrt(2 / (1 - 0.1 / 8))
    assert float((large - 5).square().mean().sqrt()) == pytest.approx(spread, rel=0.08)


@pytest.mark.slow
def test_the_schedule_of_the_text_runs_away_with_the_step_of_the_appendix(chains):
    assert (chains[4].step_size, chains[4].sigmas) == (0.1, (10.0, 0.1))
    assert math.isnan(chains[4].row()["weight"])
    assert chains[3].step_size == pytest.approx(0.001)
