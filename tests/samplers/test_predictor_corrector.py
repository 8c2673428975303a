"""The Langevin corrector against its paper's update and its stationary distribution; the whole against a mixture."""

import math

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
def test_the_corrector_is_the_papers_update(sigma):
    level = math.hypot(0.5, sigma)
    x = 0.7 + level * torch.randn(4, 2, 3, 3, generator=seeded(1), dtype=torch.float64)
    z = torch.randn(x.shape, generator=seeded(), dtype=torch.float64)
    score = -(x - 0.7) / (0.5**2 + sigma**2)
    length = [v.flatten(1).square().sum(1).sqrt() for v in (z, score)]
    epsilon = (2 * (0.16 * length[0] / length[1]) ** 2).reshape(-1, 1, 1, 1)
    expected = x + epsilon * score + (2 * epsilon).sqrt() * z
    torch.testing.assert_close(corrected(x, sigma, snr=0.16), expected)


@pytest.mark.parametrize("snr", [0.16, 0.4])
@pytest.mark.parametrize("sigma", [5.0, 0.5])
@pytest.mark.parametrize("start", [0.5, 1.5])
def test_the_corrector_leads_to_its_stationary_variance_from_both_sides(snr, sigma, start):
    # With b = ε/(s²+σ²) an update multiplies x − μ by 1 − b and adds 2ε of variance: (s²+σ²)/(1 − b/2) in
    # the end, and since then b = 2 snr² (s²+σ²)/variance, that is (1 + snr²)(s²+σ²).
    level = math.hypot(0.5, sigma)
    x = 0.7 + start * level * torch.randn(20, 1, 50, 50, generator=seeded(1))
    end = corrected(x, sigma, snr=snr, updates=150)
    assert float(end.var()) / level**2 == pytest.approx(1 + snr**2, rel=0.02)  # 3 standard errors
    assert float(end.mean()) == pytest.approx(0.7, abs=0.02 * level)  # 4


def test_an_image_does_not_depend_on_its_neighbours():
    x = torch.randn(3, 1, 4, 4, generator=seeded(1))
    others = x.clone()
    others[1:] *= 1e3
    sigmas = karras(5, 0.1, 6)
    ends = [run(PredictorCorrector(), Gaussian(), start, sigmas)[0] for start in (x, others)]
    assert torch.equal(ends[0][0], ends[1][0])
    assert not torch.equal(ends[0][1], ends[1][1])


def test_where_the_denoiser_finds_no_noise_the_step_has_an_end():
    x, z = torch.full((2, 1, 1, 3), 0.7), torch.randn(2, 1, 1, 3, generator=seeded())
    torch.testing.assert_close(corrected(x, 4.0), x + math.sqrt(2) * 4.0 * z)


class Pixels:
    """A mixture of the plane as the distribution of every pixel's two channels, independently."""

    def __init__(self, distribution):
        self.distribution = distribution

    def __call__(self, x, sigma):
        points = x.movedim(1, -1).reshape(-1, 2)
        each = sigma.repeat_interleave(len(points) // len(x))
        return self.distribution(points, each).reshape(*x.movedim(1, -1).shape).movedim(-1, 1)


@pytest.mark.parametrize(
    "sampler",
    [
        PredictorCorrector(),
        PredictorCorrector(predictor=DDIM(), updates=2),
        PredictorCorrector(predictor=Heun()),
    ],
    ids=["reverse-diffusion", "ddim", "heun"],
)
def test_a_mixture_is_sampled_on_sixty_levels(sampler):
    # 16 images of 256 pixels: in few dimensions the norms that set the step would vary too much
    mixture, start = float32_mixture(), 80 * torch.randn(16, 2, 16, 16, generator=seeded(1))
    x = run(sampler, Pixels(mixture), start, karras(80, 0.002, 60))[0].movedim(1, -1).reshape(-1, 2)
    mean, covariance = mixture_moments(mixture)
    assert float((x.mean(0) - mean).abs().max()) < 0.08  # standard error 0.02; measured 0.039 at most
    assert float((torch.cov(x.T) - covariance).abs().max()) < 0.12  # measured 0.022, 0.075 and 0.050
    # between two exact samples 0.0004 to 0.005; measured 0.0015, 0.0014 and 0.0025
    assert energy_distance(x, mixture.sample(len(x), generator=seeded(99))) < 0.006


def test_the_corrector_restores_what_a_coarse_predictor_spoils():
    # Eight steps of Euler's rule leave 0.79 of a Gaussian's variance; 20 updates on each noise level make it 1.006,
    # on their way to their own 1 + snr² = 1.026.
    sigmas = geometric(20, 0.2, 9)
    x = 0.7 + math.hypot(0.5, 20) * torch.randn(10, 1, 50, 50, generator=seeded(1))
    spread = [
        float(run(PredictorCorrector(predictor=DDIM(), updates=m), Gaussian(), x, sigmas)[0].var()) / (0.5**2 + 0.2**2)
        for m in (0, 20)
    ]
    assert spread == pytest.approx([0.787, 1.006], abs=0.03)  # standard error 0.009


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
    [({"snr": 0.0}, "snr"), ({"snr": -1.0}, "snr"), ({"snr": math.nan}, "snr"), ({"updates": -1}, "updates")],
)
def test_settings_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(UserError, match=named):
        PredictorCorrector(**settings)
