"""The probability-flow ODE against its closed-form solution on a Gaussian, and against mixtures.

For N(μ, s²) the solution from x_T at σ_T is x(σ) = μ + (x_T − μ) √((s²+σ²)/(s²+σ_T²)).
"""

import math

import pytest
import torch

from oracles import Counting, Gaussian, float32_mixture, mixture_moments, seeded
from scorefield.distributions import GaussianMixture
from scorefield.metrics.distances import energy_distance
from scorefield.samplers import Euler, Heun
from scorefield.schedules import geometric, karras

from .helpers import run

MEAN, STD = 0.7, 0.5
CHURNED = Heun(churn=40, churn_min=0.05, churn_max=50)
STIRRED = Euler(churn=40, churn_min=0.05, churn_max=50)


def error_after(steps, sampler=Heun()):  # noqa: B008
    sigmas = geometric(20, 0.02, steps + 1).double()
    start = MEAN + torch.linspace(-40, 40, 9, dtype=torch.float64).reshape(-1, 1, 1, 1)
    end, _ = run(sampler, Gaussian(), start, sigmas)
    ratio = math.sqrt((STD**2 + 0.02**2) / (STD**2 + 20**2))
    return float((end - MEAN - (start - MEAN) * ratio).abs().max())


def test_heun_is_of_second_order_on_a_gaussian():
    errors = [error_after(n) for n in (32, 64, 128)]
    assert errors[0] < 0.02  # measured 0.00615, 0.00150, 0.00037
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.12)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.12)


def mixture_error(x, mixture):
    """Largest error of a mean, of a covariance, and the energy distance to as many exact samples."""
    mean, covariance = mixture_moments(mixture)
    x = x.flatten(1)
    return (
        float((x.mean(0) - mean).abs().max()),
        float((torch.cov(x.T) - covariance).abs().max()),
        energy_distance(x, mixture.sample(len(x), generator=seeded(99))),
    )


@pytest.mark.parametrize("sampler", [Heun(), CHURNED], ids=["plain", "churned"])
def test_heun_samples_a_mixture(sampler):
    mixture, start = float32_mixture(), 80 * torch.randn(4000, 1, 1, 2, generator=seeded(1))
    x, _ = run(sampler, mixture, start, karras(80, 0.002, 40))
    mean, covariance, energy = mixture_error(x, mixture)
    assert mean < 0.08  # standard error 0.02; measured 0.028
    assert covariance < 0.12  # measured 0.043
    assert energy < 0.006  # measured 0.002; between two exact samples 0.0004 to 0.005


def test_heun_gives_far_modes_their_weights():
    means = torch.tensor([[-5.0, -5.0], [5.0, 5.0]])
    mixture = GaussianMixture(torch.tensor([0.2, 0.8]), means, torch.ones(2))
    x, _ = run(Heun(), mixture, 80 * torch.randn(4000, 1, 1, 2, generator=seeded(1)), karras(80, 0.01, 30))
    assert float((x.sum((1, 2, 3)) > 0).float().mean()) == pytest.approx(0.8, abs=0.02)  # s.e. 0.006


def test_churn_keeps_the_spread_at_every_level():
    # steps small against σ, so that adding noise and walking further down must cancel
    sigmas = geometric(3.0, 0.3, 41)
    start = MEAN + math.sqrt(STD**2 + 9) * torch.randn(50_000, 1, 1, 1, generator=seeded(1))
    spread = {}
    for noise in (1.0, 1.1):
        _, steps = run(Heun(churn=12, churn_noise=noise), Gaussian(), start, sigmas)
        spread[noise] = [
            float(step.x.var()) / (STD**2 + step.sigma**2) for step in steps[9::10]
        ]  # measured after 10, 20, 30 and 40 steps
    assert spread[1.0] == pytest.approx([1] * 4, rel=0.03)  # measured 0.023, Heun's own error
    assert min(spread[1.1]) > 1.05


def test_churn_stays_between_its_bounds():
    spy = Counting(Gaussian())
    sigmas = torch.tensor([8.0, 4.0, 2.0, 1.0])
    run(Heun(churn=0.3, churn_min=3.0, churn_max=5.0), spy, torch.ones(1, 1, 1, 1), sigmas)
    assert spy.sigmas[::2] == pytest.approx([8.0, 4.4, 2.0])
    assert spy.sigmas[1::2] == pytest.approx([4.0, 2.0, 1.0])
    spy = Counting(Gaussian())
    run(Heun(churn=1e9), spy, torch.ones(1, 1, 1, 1), sigmas)
    assert spy.sigmas[0] == pytest.approx(8 * math.sqrt(2))


def test_euler_is_of_first_order_on_a_gaussian():
    errors = [error_after(n, Euler()) for n in (64, 128, 256)]
    assert errors[0] < 0.2
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.12)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.06)


def test_an_euler_step_by_hand():
    """D = 0.7 + 0.25/4.25 · 2.3 at x = 3, σ = 2; x halves its distance to it on the way to σ = 1."""
    end, _ = run(Euler(), Gaussian(), torch.full((1, 1, 1, 1), 3.0), torch.tensor([2.0, 1.0]))
    denoised = 0.7 + 0.25 / 4.25 * 2.3
    assert float(end) == pytest.approx((3 + denoised) / 2, rel=1e-6)


def test_euler_and_heun_churn_alike():
    """The first half of Heun's step is Euler's, from the same σ̂ and the same noise."""
    x, sigmas = torch.randn(2, 1, 3, 3, generator=seeded()), torch.tensor([4.0, 1.0])
    spies = [Counting(Gaussian()) for _ in "ab"]
    end, _ = run(Euler(churn=0.3, churn_noise=1.1), spies[0], x, sigmas, seed=3)
    seen = []
    run(Heun(churn=0.3, churn_noise=1.1), lambda x, s: (seen.append(x), spies[1](x, s))[1], x, sigmas, seed=3)
    assert torch.equal(seen[1], end)
    assert spies[0].sigmas[0] == spies[1].sigmas[0] == pytest.approx(5.2)


@pytest.mark.parametrize("sampler", [pytest.param(Euler(), marks=pytest.mark.slow), STIRRED], ids=["plain", "churned"])
def test_euler_samples_a_mixture(sampler):
    mixture, start = float32_mixture(), 80 * torch.randn(4000, 1, 1, 2, generator=seeded(1))
    x, _ = run(sampler, mixture, start, karras(80, 0.002, 240))
    mean, covariance, energy = mixture_error(x, mixture)
    assert mean < 0.08
    assert covariance < 0.12
    assert energy < 0.006


samplers = pytest.mark.parametrize(
    "sampler", [Heun(), CHURNED, Euler(), STIRRED], ids=["heun", "churned", "euler", "stirred"]
)
schedules = pytest.mark.parametrize("sigmas", [karras(10, 0.1, 5), geometric(10, 0.1, 5)], ids=["zero", "above"])
