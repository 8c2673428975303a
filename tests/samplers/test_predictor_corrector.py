"""The Langevin corrector against its paper's update and its stationary distribution; the whole against a mixture."""

import math
from itertools import pairwise, product

import pytest
import torch

from oracles import Gaussian, float32_mixture, mixture_moments, seeded
from scorefield.errors import UserError
from scorefield.metrics.distances import energy_distance
from scorefield.samplers import DDIM, Ancestral, Heun, PredictorCorrector, Step
from scorefield.schedules import geometric, karras

from .helpers import run


class Stays:
    """A predictor that leaves x where it is, which isolates the corrector."""

    def evaluations(self, sigmas):
        return 0

    def iterate(self, denoiser, x, sigmas, *, generator, project=None):
        yield Step(index=0, evaluations=0, sigma=float(sigmas[-1]), x=x, denoised=x)


def corrected(x, sigma, **settings):
    sampler = PredictorCorrector(predictor=Stays(), **settings)
    return run(sampler, Gaussian(), x, torch.tensor([2 * sigma, sigma], dtype=x.dtype))[0]


@pytest.mark.parametrize("sigma", [8.0, 0.3])
def test_the_corrector_is_the_papers_update_with_the_step_of_unit_noise(sigma):
    level = math.hypot(0.5, sigma)
    x = 0.7 + level * torch.randn(4, 2, 3, 3, generator=seeded(1), dtype=torch.float64)
    z = torch.randn(x.shape, generator=seeded(), dtype=torch.float64)
    score = -(x - 0.7) / (0.5**2 + sigma**2)
    epsilon = 2 * (0.16 * sigma) ** 2  # 2 (r ‖z‖/‖s‖)² where −σ s is noise of unit variance
    torch.testing.assert_close(corrected(x, sigma, snr=0.16), x + epsilon * score + math.sqrt(2 * epsilon) * z)


STATIONARY = {
    (0.16, 5.0, 0.5, 1),
    (0.4, 0.5, 1.5, 1),
    (0.16, 0.5, 1.5, 2),
    (0.4, 5.0, 0.5, 2),
    (0.4, 5.0, 1.5, 2500),
    (0.16, 0.5, 0.5, 2500),
}  # each value of each; the rest is slow
ALL_STATIONARY = set(product((0.16, 0.4), (5.0, 0.5), (0.5, 1.5), (1, 2, 2500)))


@pytest.mark.parametrize(
    ("snr", "sigma", "start", "dimensions"),
    [*sorted(STATIONARY), *(pytest.param(*c, marks=pytest.mark.slow) for c in sorted(ALL_STATIONARY - STATIONARY))],
)
def test_the_corrector_leads_to_its_stationary_variance_from_both_sides(snr, sigma, start, dimensions):
    # With b = 2 snr² σ²/(s²+σ²) an update multiplies x − μ by 1 − b and adds 4 snr² σ² of variance:
    # (s²+σ²)/(1 − b/2) in the end, in any number of dimensions. 150 updates leave (1 − b)^300 < 5e-4 of the start.
    level = math.hypot(0.5, sigma)
    x = 0.7 + start * level * torch.randn(50_000 // dimensions, dimensions, generator=seeded(1))
    end = corrected(x, sigma, snr=snr, updates=150)
    b = 2 * snr**2 * sigma**2 / level**2
    assert float(end.var()) / level**2 == pytest.approx(1 / (1 - b / 2), rel=4 * math.sqrt(2 / 50_000))
    assert float(end.mean()) == pytest.approx(0.7, abs=4 * level / math.sqrt(50_000) / math.sqrt(1 - b / 2))


def test_an_image_does_not_depend_on_its_neighbours():
    x = torch.randn(3, 1, 4, 4, generator=seeded(1))
    others = x.clone()
    others[1:] *= 1e3
    sigmas = karras(5, 0.1, 6)
    ends = [run(PredictorCorrector(), Gaussian(), start, sigmas)[0] for start in (x, others)]
    assert torch.equal(ends[0][0], ends[1][0])
    assert not torch.equal(ends[0][1], ends[1][1])


@pytest.mark.parametrize(
    "sampler",
    [
        PredictorCorrector(),
        PredictorCorrector(predictor=DDIM(), updates=2),
        PredictorCorrector(predictor=Heun()),
    ],
    ids=["reverse-diffusion", "ddim", "heun"],
)
def test_a_mixture_of_the_plane_is_sampled_on_sixty_levels(sampler):
    mixture, start = float32_mixture(), 80 * torch.randn(4096, 2, generator=seeded(1))
    x = run(sampler, mixture, start, karras(80, 0.002, 60))[0]
    mean, covariance = mixture_moments(mixture)
    assert float((x.mean(0) - mean).abs().max()) < 0.08  # standard error 0.02
    assert float((torch.cov(x.T) - covariance).abs().max()) < 0.18  # a variance of 2 has a standard error of 0.044
    # between two exact samples 0.0004 to 0.005
    assert energy_distance(x, mixture.sample(len(x), generator=seeded(99))) < 0.006


def test_the_corrector_restores_what_a_coarse_predictor_spoils():
    # Eight steps of Euler's rule, each a factor on x − μ, leave 0.79 of a Gaussian's variance; twenty updates on each
    # noise level, x − μ ← (1 − b)(x − μ) + 2 r σ z, bring most of it back.
    sigmas = geometric(20, 0.2, 9)
    n = 25_000
    x = 0.7 + math.hypot(0.5, 20) * torch.randn(n, 1, generator=seeded(1))
    for updates, right in ((0, False), (20, True)):
        variance = 0.5**2 + 20**2
        for s, t in pairwise(sigmas.tolist()):
            variance *= (1 + (t - s) * s / (0.5**2 + s**2)) ** 2
            b = 2 * 0.16**2 * t**2 / (0.5**2 + t**2)
            for _ in range(updates):
                variance = (1 - b) ** 2 * variance + 4 * 0.16**2 * t**2
        end = run(PredictorCorrector(predictor=DDIM(), updates=updates), Gaussian(), x, sigmas)[0]
        assert float(end.var()) == pytest.approx(variance, rel=4 * math.sqrt(2 / n))
        assert (variance / (0.5**2 + 0.2**2) > 0.9) == right


SAMPLERS = [
    PredictorCorrector(),
    PredictorCorrector(updates=0),
    PredictorCorrector(predictor=DDIM(), updates=3),
    PredictorCorrector(predictor=Heun(), updates=2),
]
samplers = pytest.mark.parametrize("sampler", SAMPLERS, ids=["one", "none", "three", "heun"])
schedules = pytest.mark.parametrize("sigmas", [karras(10, 0.1, 5), geometric(10, 0.1, 5)], ids=["zero", "above"])


def test_without_updates_it_is_the_predictor():
    x, sigmas = torch.ones(3, 1, 1, 1), karras(10, 0.1, 5)
    alone = Ancestral(variance="reverse-diffusion")
    ends = [run(s, Gaussian(), x, sigmas)[0] for s in (PredictorCorrector(updates=0), alone)]
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"snr": 0.0}, "snr"),
        ({"snr": 1.0}, "snr"),
        ({"snr": -1.0}, "snr"),
        ({"snr": math.nan}, "snr"),
        ({"updates": -1}, "updates"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(UserError, match=named):
        PredictorCorrector(**settings)
