"""Consistent annealed sampling against its paper's update, its two ends, and a mixture."""

import math
from itertools import pairwise

import pytest
import torch

from oracles import Counting, Gaussian, float32_mixture, mixture_moments, seeded
from scorefield.errors import UserError
from scorefield.metrics.distances import energy_distance
from scorefield.samplers import DDIM, Ancestral, ConsistentAnnealed
from scorefield.schedules import geometric, karras

from .helpers import run


@pytest.mark.parametrize("eta", [0.18, 0.5, 0.9])
def test_on_a_geometric_schedule_it_is_the_papers_algorithm(eta):
    sigmas = geometric(10, 0.1, 30).double()
    gamma = float(sigmas[1] / sigmas[0])
    rate = math.log(1 - eta) / math.log(gamma)
    x = start = torch.linspace(-9, 9, 5, dtype=torch.float64).reshape(-1, 1, 1, 1)
    generator = seeded()
    epsilon = eta * float(sigmas[-1]) ** 2
    beta = math.sqrt(1 - (1 - epsilon / float(sigmas[-1]) ** 2) ** 2 / gamma**2)
    for s, t in pairwise(sigmas):
        score = (Gaussian()(x, s.expand(5)) - x) / s**2
        alpha = epsilon * (s / sigmas[-1]) ** 2
        x = x + alpha * score + beta * t * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    end, _ = run(ConsistentAnnealed(rate=rate), Gaussian(), start, sigmas)
    torch.testing.assert_close(end, x, rtol=1e-5, atol=1e-5)  # the schedule is rounded to float32


@pytest.mark.parametrize(("rate", "same"), [(1, DDIM()), (2, Ancestral())], ids=["one", "two"])
def test_its_rates_of_one_and_two_are_euler_and_ancestral(rate, same):
    x, sigmas = 10 * torch.randn(6, 1, 1, 2, generator=seeded(1)), karras(10, 0.01, 12)
    ends = [run(sampler, float32_mixture(), x, sigmas)[0] for sampler in (ConsistentAnnealed(rate=rate), same)]
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-5)


def test_an_endless_rate_keeps_no_noise():
    x, z = torch.randn(6, 1, 1, 2, generator=seeded(1)), torch.randn(6, 1, 1, 2, generator=seeded())
    end, _ = run(ConsistentAnnealed(rate=math.inf), float32_mixture(), x, torch.tensor([2.0, 0.5]))
    torch.testing.assert_close(end, float32_mixture()(x, torch.full((6,), 2.0)) + 0.5 * z)


class KnowsTheTruth:
    """Answers with the clean image, so that what is left of x is its noise."""

    def __call__(self, x, sigma):
        return torch.full_like(x, 0.3)


@pytest.mark.parametrize("rate", [1.0, 1.5, 5.4, math.inf])
def test_the_noise_is_that_of_the_level_all_the_way(rate):
    sigmas = torch.tensor([9.0, 5.0, 4.5, 1.0, 0.9])
    x = 0.3 + 9 * torch.randn(40_000, 1, 1, 1, generator=seeded(1))
    _, steps = run(ConsistentAnnealed(rate=rate, steps_each=2), KnowsTheTruth(), x, sigmas)
    spread = [float((step.x - 0.3).std()) / step.sigma for step in steps]
    assert spread == pytest.approx([1] * 8, abs=0.015)  # 4 standard errors


def test_it_becomes_exact_as_levels_grow_dense():
    # on N(μ, s²) a step multiplies x − μ by q + k(1 − q), with q = s²/(s²+σ²) and k = (τ/σ)^r
    def error(levels, rate=5.4, std=0.5):
        walked, spread = geometric(20, 0.02, levels).tolist(), std**2 + 400
        for s, t in pairwise(walked):
            q = std**2 / (std**2 + s**2)
            spread *= (q + (t / s) ** rate * (1 - q)) ** 2
            spread += t**2 * (1 - (t / s) ** (2 * (rate - 1)))
        return spread / (std**2 + 0.02**2) - 1

    errors = [error(n) for n in (101, 201, 401)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)  # of the variance, −16, −8.6 and −4.5 %
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.06)
    x = 0.7 + math.hypot(0.5, 20) * torch.randn(40_000, 1, 1, 1, generator=seeded(1))
    end, _ = run(ConsistentAnnealed(), Gaussian(), x, geometric(20, 0.02, 101))
    assert float(end.var()) / (0.5**2 + 0.02**2) - 1 == pytest.approx(errors[0], abs=0.03)  # s.e. 0.007


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1.5, 5.4])
def test_a_mixture_is_sampled_in_two_hundred_updates(rate):
    mixture, start = float32_mixture(), 80 * torch.randn(4000, 1, 1, 2, generator=seeded(1))
    sigmas = torch.cat([geometric(80, 0.01, 101), torch.zeros(1)])
    x = run(ConsistentAnnealed(rate=rate, steps_each=2), mixture, start, sigmas)[0].flatten(1)
    mean, covariance = mixture_moments(mixture)
    assert float((x.mean(0) - mean).abs().max()) < 0.08  # standard error 0.02; measured 0.007 and 0.030
    assert float((torch.cov(x.T) - covariance).abs().max()) < 0.12  # measured 0.018 and 0.071
    # between two exact samples 0.0004 to 0.005; measured 0.0008 and 0.0011
    assert energy_distance(x, mixture.sample(len(x), generator=seeded(99))) < 0.006


SAMPLERS = [ConsistentAnnealed(), ConsistentAnnealed(rate=1.2, steps_each=3)]
samplers = pytest.mark.parametrize("sampler", SAMPLERS, ids=["one", "three"])
schedules = pytest.mark.parametrize(
    "sigmas", [karras(10, 0.1, 5), geometric(10, 0.1, 5), torch.tensor([2.0, 0.0])], ids=str
)


def test_updates_of_a_level_are_in_equal_ratios():
    spy = Counting(Gaussian())
    run(ConsistentAnnealed(steps_each=3), spy, torch.ones(1, 1, 1, 1), torch.tensor([8.0, 1.0, 0.0]))
    assert spy.sigmas == pytest.approx([8, 4, 2, 1])


@pytest.mark.parametrize(
    ("settings", "named"), [({"rate": 0.9}, "rate"), ({"rate": math.nan}, "rate"), ({"steps_each": 0}, "steps_each")]
)
def test_settings_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(UserError, match=named):
        ConsistentAnnealed(**settings)
