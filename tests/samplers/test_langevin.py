"""Langevin dynamics against the exact recursion of its moments, and against mixtures.

On N(μ, s²) an update of rate r at σ is linear: with v = s² + σ² and a = 1 − rσ²/2v,

    mean − μ ← a (mean − μ),      variance ← a² variance + rσ²,

whose fixed point is v/(1 − rσ²/4v), the known bias of the discretisation.
"""

import math

import pytest
import torch

from oracles import Counting, Gaussian, exact_model, float32_mixture, mixture_moments, seeded
from scorefield.distributions import GaussianMixture
from scorefield.errors import UserError
from scorefield.metrics.distances import energy_distance
from scorefield.samplers import MALA, AnnealedLangevin, Langevin
from scorefield.schedules import geometric, langevin_step_size

from .helpers import run

MEAN, STD = 0.7, 0.5


def recursion(mean, variance, sigmas, rates, steps):
    for sigma, rate in zip(sigmas.tolist(), rates, strict=True):
        total = STD**2 + sigma**2
        a = 1 - rate * sigma**2 / (2 * total)
        for _ in range(steps):
            mean, variance = MEAN + a * (mean - MEAN), a**2 * variance + rate * sigma**2
    return mean, variance


def test_langevin_on_a_gaussian_follows_the_recursion_of_its_moments():
    sigmas, alpha, steps = torch.tensor([1.0, 0.4]), 0.1, 4
    x, _ = run(Langevin(step_size=alpha, steps_each=steps), Gaussian(), torch.full((100_000, 1, 1, 1), 3.0), sigmas)
    mean, variance = recursion(3.0, 0.0, sigmas, (alpha / sigmas**2).tolist(), steps)
    assert float(x.mean()) == pytest.approx(mean, abs=0.01)  # standard error 0.002
    assert float(x.var()) == pytest.approx(variance, rel=0.02)  # standard error 0.5 %


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_langevin_ends_in_the_distribution_with_the_known_bias_of_its_step(alpha):
    sigma = 0.5
    total = STD**2 + sigma**2
    expected = total / (1 - alpha / (4 * total))  # wider than v by 5 % and by a factor of 2
    start = MEAN + math.sqrt(total) * torch.randn(50_000, 1, 1, 1, generator=seeded(1))
    x, _ = run(Langevin(step_size=alpha, steps_each=40), Gaussian(), start, torch.tensor([sigma]))
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.025)
    assert float(x.var()) == pytest.approx(expected, rel=0.02)  # measured within 0.7 %


def test_annealed_langevin_on_a_gaussian_follows_the_recursion_of_its_moments():
    sigmas, epsilon, steps = geometric(5.0, 0.2, 6), 0.012, 3
    rate = epsilon / 0.2**2
    x, _ = run(
        AnnealedLangevin(step_size=epsilon, steps_each=steps),
        Gaussian(),
        torch.full((100_000, 1, 1, 1), 4.0),
        sigmas,
    )
    mean, variance = recursion(4.0, 0.0, sigmas, [rate] * 6, steps)
    assert float(x.mean()) == pytest.approx(mean, abs=0.01)
    assert float(x.var()) == pytest.approx(variance, rel=0.02)


def test_the_last_denoising_is_the_denoiser_at_the_last_level():
    sigmas, x = geometric(5.0, 0.2, 6), torch.zeros(50, 1, 1, 1)
    plain, _ = run(AnnealedLangevin(step_size=0.01, steps_each=2), Gaussian(), x, sigmas)
    denoised, steps = run(AnnealedLangevin(step_size=0.01, steps_each=2, denoise=True), Gaussian(), x, sigmas)
    torch.testing.assert_close(denoised, Gaussian()(plain, torch.full((50,), 0.2)))
    assert steps[-1].sigma == 0.0 and torch.equal(steps[-1].denoised, denoised)


def clean():
    """N(μ, s²) itself, which gives its score at σ = 0."""
    return GaussianMixture(torch.ones(1), torch.tensor([[MEAN]]), torch.tensor([STD**2]))


def test_without_noise_langevin_follows_the_score_of_the_density_itself():
    alpha, steps, start = 0.1, 4, torch.full((100_000, 1, 1, 1), 3.0)
    x, seen = run(Langevin(step_size=alpha, steps_each=steps), clean(), start, torch.tensor([0.0]))
    mean, variance = 3.0, 0.0
    for _ in range(steps):
        a = 1 - alpha / (2 * STD**2)
        mean, variance = MEAN + a * (mean - MEAN), a**2 * variance + alpha
    assert float(x.mean()) == pytest.approx(mean, abs=0.01)  # standard error 0.002
    assert float(x.var()) == pytest.approx(variance, rel=0.02)
    assert torch.equal(seen[0].denoised, start) and torch.equal(seen[1].denoised, seen[0].x)  # D(x; 0) = x
    assert [step.sigma for step in seen] == [0.0] * steps


def test_a_schedule_may_end_without_noise_where_the_density_gives_its_score():
    start, alpha = torch.zeros(50_000, 1, 1, 1), 0.05
    x, seen = run(Langevin(step_size=alpha, steps_each=30), clean(), start, torch.tensor([1.0, 0.0]))
    assert [step.sigma for step in seen] == [1.0] * 30 + [0.0] * 30
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(x.var()) == pytest.approx(STD**2 / (1 - alpha / (4 * STD**2)), rel=0.03)


def test_each_convention_is_its_own_update():
    sigma, step, x = 0.5, 0.03, torch.linspace(-2, 2, 7).reshape(7, 1, 1, 1)
    s = (Gaussian()(x, torch.full((7,), sigma)) - x) / sigma**2
    z = torch.randn(x.shape, generator=seeded(3))
    by = {
        "paper": x + step / 2 * s + math.sqrt(step) * z,  # Song & Ermon 2019, Algorithm 1
        "code": x + step * s + math.sqrt(2 * step) * z,  # Song & Ermon 2020, Algorithm 1
    }
    for convention, expected in by.items():
        for kind in (Langevin, AnnealedLangevin):
            sampler = kind(step_size=step, steps_each=1, convention=convention)
            ours, _ = run(sampler, Gaussian(), x, torch.tensor([sigma]), seed=3)
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("kind", [Langevin, AnnealedLangevin, MALA])
def test_the_papers_step_is_twice_the_codes_to_the_byte(kind):
    x, sigmas, distribution = torch.randn(20, 1, 1, 2, generator=seeded()), geometric(2.0, 0.2, 4), float32_mixture()
    paper, _ = run(kind(step_size=0.02, steps_each=3, convention="paper"), distribution, x, sigmas)
    code, _ = run(kind(step_size=0.01, steps_each=3, convention="code"), distribution, x, sigmas)
    same, _ = run(kind(step_size=0.02, steps_each=3, convention="code"), distribution, x, sigmas)
    assert torch.equal(paper, code) and not torch.equal(paper, same)


@pytest.mark.parametrize("kind", [Langevin, AnnealedLangevin, MALA])
def test_another_convention_is_refused_by_name(kind):
    sampler = kind(step_size=0.1, convention="papr")
    with pytest.raises(UserError, match=r"no such convention 'papr'\. Did you mean `paper`"):
        run(sampler, float32_mixture(), torch.ones(1, 1, 1, 2), torch.tensor([1.0]))


def mixture_error(x, mixture, sigma):
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


@pytest.mark.slow
def test_langevin_samples_a_mixture_whose_modes_overlap():
    mixture, sigma = float32_mixture(), 0.8
    start = 3 * torch.randn(4000, 1, 1, 2, generator=seeded(1))
    x, _ = run(Langevin(step_size=0.15, steps_each=150), mixture, start, torch.tensor([sigma]))
    mean, covariance, energy = mixture_error(x, mixture, sigma)
    assert mean < 0.12  # standard error 0.025; measured 0.031
    assert covariance < 0.25  # the step's own bias is 4 %; measured 0.14
    assert energy < 0.008  # measured 0.002; between two exact samples 0.0004 to 0.005


@pytest.mark.slow
def test_annealed_langevin_samples_a_mixture():
    mixture, sigmas = float32_mixture(), geometric(10, 0.05, 50)
    start = 10 * torch.randn(4000, 1, 1, 2, generator=seeded(1))
    sampler = AnnealedLangevin(step_size=langevin_step_size(sigmas, 10), steps_each=10)
    x, _ = run(sampler, mixture, start, sigmas)
    mean, covariance, energy = mixture_error(x, mixture, 0.05)
    assert mean < 0.12  # measured 0.043
    assert covariance < 0.25  # measured 0.07
    assert energy < 0.008  # measured 0.0034


@pytest.mark.slow
def test_annealing_recovers_the_weights_of_far_modes_where_plain_langevin_does_not():
    # the mixture and settings of Song & Ermon (2019), Fig. 3
    means = torch.tensor([[-5.0, -5.0], [5.0, 5.0]])
    mixture = GaussianMixture(torch.tensor([0.2, 0.8]), means, torch.ones(2))
    start = 16 * torch.rand(1280, 1, 1, 2, generator=seeded(1)) - 8
    annealed, _ = run(AnnealedLangevin(step_size=0.1, steps_each=100), mixture, start, geometric(20, 1, 10))
    plain, _ = run(Langevin(step_size=0.1, steps_each=1000), mixture, start, torch.tensor([0.01]))
    share = [float((x.sum((1, 2, 3)) > 0).float().mean()) for x in (annealed, plain)]
    assert share[0] == pytest.approx(0.8, abs=0.05)
    assert share[1] == pytest.approx(0.5, abs=0.05)


SAMPLERS = [Langevin(step_size=0.02, steps_each=3), AnnealedLangevin(step_size=0.01, steps_each=3)]
SAMPLERS.append(AnnealedLangevin(step_size=0.01, steps_each=3, denoise=True))
samplers = pytest.mark.parametrize("sampler", SAMPLERS, ids=["plain", "annealed", "denoised"])
SCHEDULE = geometric(2.0, 0.2, 4)


@samplers
def test_steps_tell_their_number_their_level_and_the_calls_so_far(sampler):
    spy = Counting(Gaussian())
    seen = []
    for step in sampler.iterate(spy, torch.ones(5, 1, 2, 2), SCHEDULE, generator=seeded()):
        assert step.evaluations == spy.calls
        assert step.x.shape == step.denoised.shape == (5, 1, 2, 2)
        seen.append((step.index, step.sigma))
    levels = [s for s in SCHEDULE.tolist() for _ in range(3)]
    ended = levels + [0.0] * (len(seen) - 12)
    assert seen == list(enumerate(ended))
    assert spy.calls == sampler.evaluations(SCHEDULE) == len(seen)
    assert spy.sigmas[:12] == pytest.approx(levels)


@samplers
def test_denoised_is_what_the_update_saw(sampler):
    x = torch.ones(5, 1, 2, 2)
    for step in sampler.iterate(Gaussian(), x, SCHEDULE, generator=seeded()):
        level = torch.full((5,), step.sigma or float(SCHEDULE[-1]))
        torch.testing.assert_close(step.denoised, Gaussian()(x, level))
        x = step.x


@pytest.mark.parametrize(
    "sampler",
    [
        Langevin(step_size=0.0),
        Langevin(step_size=0.1, steps_each=0),
        AnnealedLangevin(step_size=-1.0),
        AnnealedLangevin(step_size=math.nan),
        Langevin(step_size=math.inf),
        AnnealedLangevin(steps_each=0),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(sampler):
    with pytest.raises(UserError, match="sampler"):
        next(sampler.iterate(Gaussian(), torch.ones(1, 1, 1, 1), SCHEDULE, generator=seeded()))


def test_a_score_model_walks_as_its_closed_form_does():
    mixture, x = float32_mixture(), torch.randn(10, 1, 1, 2, generator=seeded())
    exact, _ = run(SAMPLERS[1], mixture, x, SCHEDULE)
    with torch.no_grad():
        ours, _ = run(SAMPLERS[1], exact_model(mixture), x, SCHEDULE)
    torch.testing.assert_close(ours, exact, rtol=1e-3, atol=1e-3)
