"""Metropolis-adjusted Langevin against exact distributions, and its acceptance against an integral."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from oracles import Gaussian, exact_model, float32_mixture, mixture_moments, seeded
from scorefield.distributions import GaussianMixture
from scorefield.errors import UserError
from scorefield.metrics.distances import energy_distance
from scorefield.samplers import MALA, Langevin
from scorefield.schedules import geometric

from .helpers import run


def rate(steps):
    return float(torch.stack([step.accepted.float().mean() for step in steps]).mean())


def errors(x, mixture, sigma):
    """Largest error of a mean, of a covariance, and the energy distance to as many exact samples."""
    mean, covariance = mixture_moments(mixture, sigma)
    x = x.flatten(1)
    exact = mixture.sample(len(x), generator=seeded(99))
    exact = exact + sigma * torch.randn(exact.shape, generator=seeded(98))
    return (
        float((x.mean(0) - mean).abs().max()),
        float((torch.cov(x.T) - covariance).abs().max()),
        energy_distance(x, exact),
    )


def test_at_a_large_step_the_distribution_is_exact_where_the_unadjusted_is_not():
    mixture, sigma, step = float32_mixture(), 0.8, 2.0
    start = 3 * torch.randn(4000, 1, 1, 2, generator=seeded(1))
    adjusted, steps = run(MALA(step_size=step, steps_each=60), mixture, start, torch.tensor([sigma]))
    plain, _ = run(Langevin(step_size=step, steps_each=60), mixture, start, torch.tensor([sigma]))
    mean, covariance, energy = errors(adjusted, mixture, sigma)
    assert mean < 0.12  # standard error 0.025; measured 0.023
    assert covariance < 0.2  # measured 0.053
    assert energy < 0.006  # measured 0.0006; between two exact samples 0.0004 to 0.005
    assert errors(plain, mixture, sigma)[1] > 0.5  # measured 0.72
    assert errors(plain, mixture, sigma)[2] > 0.015  # measured 0.022
    assert rate(steps) == pytest.approx(0.7, abs=0.05)


def expected_acceptance(alpha, variance):
    """E min(1, exp(log ratio)) on N(0, v), where the log ratio is −(α/8v²)(y² − x²)."""
    grid = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    weight = torch.exp(-(grid**2) / 2)
    weight = weight / weight.sum()
    x, z = math.sqrt(variance) * grid[:, None], grid[None, :]
    y = x - alpha / 2 * x / variance + math.sqrt(alpha) * z
    chance = torch.exp(-(alpha / (8 * variance**2)) * (y**2 - x**2)).clamp_max(1)
    return float(weight @ chance @ weight)


@pytest.mark.parametrize("alpha", [0.01, 0.5, 2.0])
def test_the_acceptance_on_a_gaussian_is_that_of_the_integral(alpha):
    sigma, variance = 0.6, 0.25 + 0.36
    distribution = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.tensor([0.25]))
    start = math.sqrt(variance) * torch.randn(40_000, 1, 1, 1, generator=seeded(1))
    x, steps = run(MALA(step_size=alpha, steps_each=5), distribution, start, torch.tensor([sigma]))
    assert rate(steps) == pytest.approx(expected_acceptance(alpha, variance), abs=0.004)  # s.e. 0.001
    assert float(x.var()) == pytest.approx(variance, rel=0.03)


def test_acceptance_rises_to_one_as_the_step_falls_to_zero():
    start = float32_mixture().sample(2000, generator=seeded(1)).reshape(-1, 1, 1, 2)
    rates = [
        rate(run(MALA(step_size=step, steps_each=5), float32_mixture(), start, torch.tensor([0.3]))[1])
        for step in (1.0, 0.1, 0.01, 0.0001)
    ]
    assert rates == sorted(rates)
    assert rates[0] < 0.8
    assert rates[-1] > 0.999


def test_without_noise_the_distribution_is_the_density_itself():
    mixture = float32_mixture()
    start = mixture.sample(4000, generator=seeded(1)).reshape(-1, 1, 1, 2)
    x, _ = run(MALA(step_size=0.3, steps_each=30), mixture, start, torch.tensor([0.0]))
    mean, covariance, energy = errors(x, mixture, 0.0)
    assert mean < 0.12 and covariance < 0.2 and energy < 0.008


def test_the_step_falls_with_the_levels_variance():
    # the acceptance of a Gaussian depends on α/v alone: alike on noise levels where σ² is all of v
    distribution = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.tensor([1e-8]))
    start = 4 * torch.randn(20_000, 1, 1, 1, generator=seeded(1))
    sigmas = torch.tensor([4.0, 2.0, 1.0])
    _, steps = run(MALA(step_size=1.0, steps_each=12), distribution, start, sigmas)
    for level in range(3):
        assert rate(steps[12 * level + 8 : 12 * level + 12]) == pytest.approx(expected_acceptance(1.0, 1.0), abs=0.01)


def test_known_values_are_kept_and_the_rest_follows_the_conditional():
    mixture, sigma, value = float32_mixture(), 0.4, 0.7
    noisy = GaussianMixture(mixture.weights, mixture.means, mixture.covariances + sigma**2 * torch.eye(2))
    exact = noisy.conditional(torch.tensor([True, False]), torch.tensor([value]))

    def project(x, _):
        return torch.cat([torch.full_like(x[..., :1], value), x[..., 1:]], -1)

    start = 2 * torch.randn(4000, 1, 1, 2, generator=seeded(1))
    x, steps = run(MALA(step_size=0.9, steps_each=150), mixture, start, torch.tensor([sigma]), project=project)
    assert bool((x[..., 0] == value).all())
    drawn = exact.sample(4000, generator=seeded(9))
    free = x[..., 1].reshape(-1, 1)
    mean, variance = mixture_moments(exact)
    assert float(free.mean()) == pytest.approx(float(mean), abs=0.1)  # standard error 0.02
    assert float(free.var()) == pytest.approx(float(variance), rel=0.1)
    assert energy_distance(free, drawn) < 0.008
    assert 0.6 < rate(steps) < 0.9


def test_the_slope_along_known_values_has_no_say():
    # correlated by 0.95, so that the slope along the known value changes much with the other
    distribution = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0, 0.95], [0.95, 1.0]]]))
    start = torch.full((20_000, 1, 1, 2), 1.5)
    x, steps = run(
        MALA(step_size=0.15, steps_each=25),
        distribution,
        start,
        torch.tensor([0.0]),
        project=lambda x, _: torch.cat([start[..., :1], x[..., 1:]], -1),
    )
    assert float(x[..., 1].mean()) == pytest.approx(0.95 * 1.5, abs=0.01)  # standard error 0.002
    assert float(x[..., 1].var()) == pytest.approx(1 - 0.95**2, rel=0.04)  # standard error 1 %
    assert 0.3 < rate(steps) < 0.9


@dataclass
class Half:
    """N(0, 1) cut off below 0, where its log-density is NaN."""

    calls: list = field(default_factory=list)

    def __call__(self, x, sigma):
        return x

    def score(self, x, sigma):
        self.calls.append(float(sigma[0]))
        return torch.where(x > 0, -x, torch.nan)

    def log_density(self, x, sigma):
        return torch.where(x > 0, -(x**2) / 2, torch.nan).flatten(1).sum(1)


def test_where_the_density_says_nothing_nothing_is_accepted():
    start = torch.rand(20_000, 1, 1, 1, generator=seeded(1)) + 0.1
    x, _ = run(MALA(step_size=0.5, steps_each=60), Half(), start, torch.tensor([0.0]))
    assert bool((x > 0).all())
    assert float(x.mean()) == pytest.approx(math.sqrt(2 / math.pi), abs=0.03)  # of the half-normal distribution


def test_steps_tell_their_number_and_an_update_costs_one_evaluation():
    spy, sigmas, seen = Half(), torch.tensor([2.0, 1.0]), []
    sampler = MALA(step_size=0.3, steps_each=3)
    start = torch.ones(5, 1, 1, 1)
    for step in sampler.iterate(spy, start, sigmas, generator=seeded()):
        assert step.evaluations == len(spy.calls)
        assert step.accepted.shape == (5,) and step.accepted.dtype == torch.bool
        assert step.x.shape == step.denoised.shape == start.shape
        seen.append((step.index, step.sigma))
    assert seen == list(enumerate([2.0] * 3 + [1.0] * 3))
    assert spy.calls == [2.0] * 4 + [1.0] * 4
    assert sampler.evaluations(sigmas) == 8


def test_who_is_refused_stays_where_he_was_and_denoised_is_what_the_update_saw():
    mixture, x = float32_mixture(), torch.randn(50, 1, 1, 2, generator=seeded(2))
    level = torch.full((50,), 0.5)
    refusals = 0
    for step in MALA(step_size=2.0, steps_each=6).iterate(mixture, x, level[:1], generator=seeded()):
        torch.testing.assert_close(step.denoised, mixture(x, level), rtol=1e-4, atol=1e-5)
        assert torch.equal(step.x[~step.accepted], x[~step.accepted])
        assert not bool((step.x[step.accepted] == x[step.accepted]).all(-1).any())
        refusals += int((~step.accepted).sum())
        x = step.x
    assert refusals > 20


def test_a_denoiser_without_a_density_is_refused():
    with pytest.raises(UserError, match="needs a density"):
        run(MALA(step_size=0.1), Gaussian(), torch.ones(1, 1, 1, 1), torch.tensor([1.0]))
    model = exact_model(float32_mixture())  # a network that is no energy
    with pytest.raises(UserError, match="no density"), torch.no_grad():
        run(MALA(step_size=0.1), model, torch.ones(1, 1, 1, 2), torch.tensor([1.0]))


@pytest.mark.parametrize("sampler", [MALA(step_size=0.0), MALA(step_size=0.1, steps_each=0)], ids=str)
def test_impossible_settings_are_refused(sampler):
    with pytest.raises(UserError, match="sampler"):
        run(sampler, float32_mixture(), torch.ones(1, 1, 1, 2), geometric(2.0, 1.0, 2))
