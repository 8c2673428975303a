"""Ancestral sampling and DDIM against the papers' chains, closed forms on a Gaussian, and a mixture.

For N(μ, s²) a step multiplies x − μ by a number and adds noise, so that mean and variance have a recursion.
"""

import math
from itertools import pairwise

import pytest
import torch

from oracles import Counting, Gaussian, float32_mixture, mixture_moments, seeded
from scorefield.errors import UserError
from scorefield.metrics.distances import energy_distance
from scorefield.samplers import DDIM, Ancestral
from scorefield.schedules import geometric, karras, palette_inference, repaint

from .helpers import run

MEAN, STD = 0.7, 0.5
VARIANCES = ("posterior", "forward", "reverse-diffusion")


def one_step(sampler, s, t):
    """A start, the denoised start, the noise drawn and the end of a step from s to t, float64."""
    x = torch.linspace(-9, 9, 5, dtype=torch.float64).reshape(-1, 1, 1, 1)
    end, _ = run(sampler, Gaussian(), x, torch.tensor([s, t], dtype=torch.float64))
    z = torch.randn(x.shape, generator=seeded(), dtype=x.dtype)
    return x, Gaussian()(x, torch.full((5,), s, dtype=torch.float64)), z, end


levels = pytest.mark.parametrize(("s", "t"), [(3.0, 2.0), (0.9, 0.1), (40.0, 0.002)])


@pytest.mark.parametrize("factor", [1.01, 30.0])
@pytest.mark.parametrize("sampler", [*(Ancestral(variance=v) for v in VARIANCES), DDIM(eta=0.5)], ids=repr)
def test_a_step_up_adds_the_noise_that_is_lacking_and_denoises_nothing(sampler, factor):
    x, _, z, end = one_step(sampler, 2.0, 2.0 * factor)
    torch.testing.assert_close(end, x + 2.0 * math.sqrt(factor**2 - 1) * z, rtol=1e-12, atol=1e-12)


@levels
def test_the_posterior_step_draws_from_what_lies_between_x_and_the_denoised(s, t):
    x, d, z, end = one_step(Ancestral(variance="posterior"), s, t)
    # N(x_τ; x0, τ²) N(x_σ; x_τ, σ² − τ²), as a distribution of x_τ
    precision = 1 / t**2 + 1 / (s**2 - t**2)
    expected = (d / t**2 + x / (s**2 - t**2)) / precision + z / math.sqrt(precision)
    torch.testing.assert_close(end, expected, rtol=1e-9, atol=1e-9)


@levels
def test_the_forward_step_is_palettes(s, t):
    x, d, z, end = one_step(Ancestral(variance="forward"), s, t)
    gamma, after = 1 / (1 + s**2), 1 / (1 + t**2)
    alpha = gamma / after
    y, f = math.sqrt(gamma) * x, (x - d) / s
    y = (y - (1 - alpha) / math.sqrt(1 - gamma) * f) / math.sqrt(alpha) + math.sqrt(1 - alpha) * z
    torch.testing.assert_close(end, y / math.sqrt(after), rtol=1e-9, atol=1e-9)


@levels
def test_the_reverse_diffusion_step_is_the_sdes(s, t):
    x, d, z, end = one_step(Ancestral(variance="reverse-diffusion"), s, t)
    score, lost = (d - x) / s**2, s**2 - t**2
    torch.testing.assert_close(end, x + lost * score + math.sqrt(lost) * z, rtol=1e-9, atol=1e-9)


@levels
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_is_the_papers_equation(s, t, eta):
    x, d, z, end = one_step(DDIM(eta=eta), s, t)
    alpha, after = 1 / (1 + s**2), 1 / (1 + t**2)
    drawn = eta * math.sqrt((1 - after) / (1 - alpha)) * math.sqrt(1 - alpha / after)  # eq. 16
    y = math.sqrt(after) * d + math.sqrt(max(1 - after - drawn**2, 0)) * (x - d) / s + drawn * z  # eq. 12
    torch.testing.assert_close(end, y / math.sqrt(after), rtol=1e-6, atol=1e-6)


def test_without_noise_ddim_is_eulers_rule_and_with_all_of_it_ancestral():
    x, d, _, end = one_step(DDIM(eta=0.0), 3.0, 2.0)
    torch.testing.assert_close(end, x + (2.0 - 3.0) * (x - d) / 3.0)
    x, sigmas = 10 * torch.randn(6, 1, 1, 2, generator=seeded(1)), karras(10, 0.01, 12)
    one, other = (run(sampler, float32_mixture(), x, sigmas)[0] for sampler in (DDIM(eta=1), Ancestral()))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def error_after(steps):
    """The largest deviation from the ODE's solution, which keeps x − μ in proportion to √(s² + σ²)."""
    sigmas = geometric(20, 0.02, steps + 1).double()
    start = MEAN + torch.linspace(-40, 40, 9, dtype=torch.float64).reshape(-1, 1, 1, 1)
    end, _ = run(DDIM(), Gaussian(), start, sigmas)
    ratio = math.sqrt((STD**2 + 0.02**2) / (STD**2 + 20**2))
    return float((end - MEAN - (start - MEAN) * ratio).abs().max())


def test_ddim_without_noise_is_of_first_order_on_a_gaussian():
    errors = [error_after(n) for n in (64, 128, 256)]
    assert errors[0] < 0.05  # measured 0.0266, 0.0134, 0.0067
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


def spreads(s, t):
    """The variance that each kind of step draws, written as products."""
    return {
        "posterior": t**2 * (s**2 - t**2) / s**2,
        "forward": (s**2 - t**2) * (1 + t**2) / (1 + s**2),
        "reverse-diffusion": s**2 - t**2,
    }


def moments(variance, levels, mean, spread):
    """Of x after ancestral sampling from N(mean, spread), exactly."""
    for s, t in pairwise(levels):
        trust = STD**2 / (STD**2 + s**2)
        kept = trust + (t / s) ** 2 * (1 - trust)
        mean = MEAN + kept * (mean - MEAN)
        spread = kept**2 * spread + (spreads(s, t)[variance] if t > 0 else 0)
    return mean, spread


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("sigmas", [[2.0, 0.7], [2.0, 0.7, 0.0], [3.0, 1.5, 0.8, 0.2]], ids=str)
def test_ancestral_has_the_mean_and_spread_of_its_recursion(variance, sigmas):
    x = 2 + 3 * torch.randn(100_000, 1, 1, 1, generator=seeded(1))
    end, _ = run(Ancestral(variance=variance), Gaussian(), x, torch.tensor(sigmas))
    mean, spread = moments(variance, sigmas, 2.0, 9.0)
    assert float(end.mean()) == pytest.approx(mean, abs=4 * math.sqrt(spread / 1e5))
    assert float(end.var()) == pytest.approx(spread, rel=0.018)  # 4 standard errors


@pytest.mark.parametrize("variance", VARIANCES)
def test_ancestral_is_first_order_in_the_spread_of_a_gaussian(variance):
    errors = []
    for steps in (50, 100, 200):
        levels = geometric(20, 0.02, steps + 1).tolist()
        _, spread = moments(variance, levels, MEAN, STD**2 + 20**2)
        errors.append(spread / (STD**2 + 0.02**2) - 1)
    # in % of the variance: posterior −12.6, −6.6, −3.4; forward 6.2, 3.1, 1.5; reverse-diffusion 15, 7, 3.5
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.06)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.03)
    x = MEAN + math.hypot(STD, 20) * torch.randn(40_000, 1, 1, 1, generator=seeded(1))
    end, _ = run(Ancestral(variance=variance), Gaussian(), x, geometric(20, 0.02, 51))
    assert float(end.var()) / (STD**2 + 0.02**2) - 1 == pytest.approx(errors[0], abs=0.03)  # s.e. 0.007


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler", [*(Ancestral(variance=v) for v in VARIANCES), DDIM(eta=0.0), DDIM(eta=0.5)], ids=repr
)
def test_a_mixture_is_sampled_in_a_hundred_steps(sampler):
    mixture, start = float32_mixture(), 80 * torch.randn(4000, 1, 1, 2, generator=seeded(1))
    x = run(sampler, mixture, start, karras(80, 0.002, 100))[0].flatten(1)
    mean, covariance = mixture_moments(mixture)
    assert float((x.mean(0) - mean).abs().max()) < 0.08  # standard error 0.02; measured 0.026 at most
    assert float((torch.cov(x.T) - covariance).abs().max()) < 0.12  # measured 0.083 at most, posterior
    # between two exact samples 0.0004 to 0.005; measured 0.0007 (DDIM(eta=0)) to 0.0020 (reverse-diffusion)
    assert energy_distance(x, mixture.sample(len(x), generator=seeded(99))) < 0.006


@pytest.mark.parametrize("variance", VARIANCES)
def test_palettes_schedule_is_walked_in_float32(variance):
    sigmas = palette_inference()
    assert float(sigmas[0]) > 1e10
    x = sigmas[0] * torch.randn(4000, 1, 1, 1, generator=seeded(1))
    end, _ = run(Ancestral(variance=variance), Gaussian(), x, sigmas)
    assert bool(end.isfinite().all())
    mean, spread = moments(variance, sigmas.tolist(), 0.0, float(sigmas[0]) ** 2)
    assert float(end.mean()) == pytest.approx(mean, abs=4 * math.sqrt(spread / 4000))
    assert float(end.var()) == pytest.approx(spread, rel=0.09)  # 4 standard errors


CLIMBS = torch.tensor([4.0, 2.0, 1.0, 3.0, 1.0, 0.0])
SAMPLERS = [Ancestral(), Ancestral(variance="forward"), DDIM(), DDIM(eta=0.5)]
samplers = pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
schedules = pytest.mark.parametrize(
    "sigmas", [karras(10, 0.1, 5), geometric(10, 0.1, 5), CLIMBS], ids=["zero", "above", "climbs"]
)


@samplers
def test_a_level_up_adds_the_noise_that_is_lacking_and_asks_nothing(sampler):
    spy, x = Counting(Gaussian()), torch.zeros(40_000, 1, 1, 1)
    steps = list(sampler.iterate(spy, x, torch.tensor([3.0, 1.0, 2.0]), generator=seeded()))
    down, up = steps
    assert spy.sigmas == [3.0]
    assert (up.evaluations, up.sigma) == (1, 2.0)
    assert torch.equal(up.denoised, down.denoised)
    added = up.x - down.x
    assert float(added.var()) == pytest.approx(4 - 1, rel=0.03)  # 4 standard errors
    assert abs(float((added * down.x).mean())) < 0.04


@samplers
@schedules
def test_steps_tell_their_number_their_level_and_the_calls_so_far(sampler, sigmas):
    spy, seen = Counting(Gaussian()), []
    for step in sampler.iterate(spy, torch.ones(5, 1, 2, 2), sigmas, generator=seeded()):
        assert step.evaluations == spy.calls
        assert step.x.shape == step.denoised.shape == (5, 1, 2, 2)
        seen.append((step.index, step.sigma))
    assert seen == list(enumerate(sigmas[1:].tolist()))
    assert spy.calls == sampler.evaluations(sigmas)
    assert spy.sigmas == [s for s, t in pairwise(sigmas.tolist()) if t < s]


def test_a_climbing_schedule_costs_one_call_for_each_level_down():
    sigmas = repaint(karras(10, 0.1, 12), jump=3, times=2)
    spy = Counting(Gaussian())
    run(Ancestral(), spy, torch.ones(1, 1, 1, 1), sigmas)
    assert spy.calls == Ancestral().evaluations(sigmas) < len(sigmas) - 1


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(UserError, match="variance.*posterior"):
        Ancestral(variance="posteriour")
    for eta in (-0.1, 1.1, math.nan):
        with pytest.raises(UserError, match="eta"):
            DDIM(eta=eta)


@samplers
@pytest.mark.parametrize("schedule", [[], [1.0], [0.0, 0.0], [2.0, math.nan], [[2.0, 1.0]]], ids=str)
def test_a_schedule_that_cannot_be_walked_is_refused(sampler, schedule):
    with pytest.raises(UserError, match="sigmas"):
        next(sampler.iterate(Gaussian(), torch.ones(1, 1, 1, 1), torch.tensor(schedule), generator=seeded()))
