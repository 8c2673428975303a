"""Masked annealed Langevin against closed-form posteriors."""

import pytest
import torch

from oracles import Gaussian, mixture_moments, seeded
from scorefield.degradations import Mask, Observation
from scorefield.distributions import GaussianMixture
from scorefield.restoration import Projection
from scorefield.samplers import AnnealedLangevin, Heun
from scorefield.schedules import geometric


def restored(distribution, known, values, *, sigmas, sampler, n=4000, pinned=True):
    """Draws of the coordinates that are not known, (n, number unknown)."""
    generator = seeded()
    y = torch.zeros(n, 1, 1, len(known))
    y[..., known] = values
    observation = Observation(y=y, degradation=Mask(mask=(~known).float().reshape(1, 1, 1, -1)))
    posterior = Projection(denoiser=distribution).posterior(observation, generator=generator)
    x = sigmas[0] * torch.randn(y.shape, generator=generator)
    for step in sampler.iterate(posterior.denoiser, x, sigmas, generator=generator, project=posterior.project):
        x = step.x
    assert not pinned or torch.equal(x[..., known], y[..., known])
    return x[..., ~known].flatten(1)


SCHEDULE = geometric(8, 0.02, 40)


def gaussian(known):
    """Neighbours correlate by 0.9, so that the unknown hangs on the known."""
    d = len(known)
    places = torch.arange(d)
    covariance = 0.9 ** (places[:, None] - places).abs().float()
    return GaussianMixture(torch.ones(1), torch.linspace(-1, 1, d)[None], covariance[None])


@pytest.mark.parametrize("known", [[True, False], [False, True, False], [True, False, False, True]])
def test_the_recursion_of_the_moments_leads_to_the_conditional(known):
    known = torch.tensor(known)
    distribution, values = gaussian(known), torch.linspace(2.5, -1.5, int(known.sum()))
    found = masked_moments(distribution, known, values, SCHEDULE, 1.0, 30)  # a rate of 1: reaches far down
    mean, covariance = (each.double() for each in mixture_moments(distribution.conditional(known, values)))
    spread = covariance.diagonal().sqrt()
    # what a sampler that did not listen to the observation would give lies further off
    assert ((distribution.means[0][~known] - mean).abs() / spread).max() > 0.5
    assert ((found[0] - mean).abs() / spread).max() < 0.05
    assert (found[1] - covariance).abs().max() < 0.05 * covariance.diagonal().max()


@pytest.mark.slow
def test_the_unknown_part_of_a_gaussian_is_drawn_from_its_conditional():
    known = torch.tensor([True, False, False, True])
    distribution, values = gaussian(known), torch.tensor([2.5, -1.5])
    sampler = AnnealedLangevin(step_size=0.02**2, steps_each=30, denoise=True)
    x = restored(distribution, known, values, sigmas=SCHEDULE, sampler=sampler)
    mean, covariance = mixture_moments(distribution.conditional(known, values))
    assert ((x.mean(0) - mean).abs() / covariance.diagonal().sqrt()).max() < 0.1  # standard error 0.016; measured 0.05
    assert (torch.cov(x.T) - covariance).abs().max() < 0.1 * covariance.diagonal().max()  # measured 0.05


def masked_moments(distribution, known, values, sigmas, rate, steps):
    """Mean and covariance of x_u after masked annealed Langevin, exactly.

    With P = (Σ+σ²I)⁻¹ and h = rσ²/2 an update is u ← u − h (P_uu (u−μ_u) + P_uo (o−μ_o)) + √r σ w. The
    known part o = v + σz stays the same on a noise level, so that u comes to correlate with it, and is drawn
    afresh on the next, after that noise level's first update.
    """
    mu, sigma0 = distribution.means[0].double(), float(sigmas[0])
    unknown, order = int((~known).sum()), torch.cat([(~known).nonzero(), known.nonzero()]).flatten()
    covariance, mu = distribution.covariances[0].double()[order][:, order], mu[order]
    eye = torch.eye(len(mu), dtype=torch.float64)
    mean, spread = -mu, sigma0**2 * eye  # of x − μ at the start
    for sigma in sigmas.double().tolist():
        pull = rate * sigma**2 / 2 * torch.linalg.inv(covariance + sigma**2 * eye)
        move = eye.clone()
        move[:unknown] -= pull[:unknown]
        for step in range(steps):
            mean, spread = move @ mean, move @ spread @ move.T
            spread[:unknown, :unknown] += rate * sigma**2 * eye[:unknown, :unknown]
            if step == 0:
                mean[unknown:] = values.double() - mu[unknown:]
                spread[unknown:] = spread[:, unknown:] = 0
                spread[unknown:, unknown:] = sigma**2 * eye[unknown:, unknown:]
    return (mean + mu)[:unknown], spread[:unknown, :unknown]


@pytest.mark.parametrize("known", [[True, False], [True, False, False, True]])
@pytest.mark.parametrize("rate", [0.05, 1.0])
def test_masked_annealed_langevin_follows_the_recursion_of_its_moments(known, rate):
    known = torch.tensor(known)
    distribution, values, sigmas = gaussian(known), torch.linspace(2.5, -1.5, int(known.sum())), geometric(3, 0.5, 5)
    sampler = AnnealedLangevin(step_size=rate * 0.5**2, steps_each=8)
    x = restored(distribution, known, values, sigmas=sigmas, sampler=sampler, n=40_000, pinned=False).double()
    mean, covariance = masked_moments(distribution, known, values, sigmas, rate, 8)
    scale = covariance.diagonal().max()
    assert (x.mean(0) - mean).abs().max() < 0.025 * scale.sqrt()  # standard error 0.005
    assert (torch.cov(x.T) - covariance).abs().max() < 0.035 * scale  # standard error 0.007


def test_the_samples_for_a_mixture_have_the_weights_of_the_posterior():
    # The known coordinate turns the modes' 0.5 and 0.5 into 0.27 and 0.73. Which mode a chain ends in is
    # burnt in at σ of about 1, where the observation has that much noise itself: its own spread, 4, hides it.
    distribution = GaussianMixture(
        torch.ones(2),
        torch.tensor([[-4.0, -1.5], [4.0, 1.5]]),
        torch.tensor([[[16.0, 0.0], [0.0, 0.2]]] * 2),
    )
    known, values = torch.tensor([True, False]), torch.tensor([2.0])
    weight = float(distribution.conditional(known, values).weights[1])
    assert weight == pytest.approx(0.731, abs=0.001)
    sampler = AnnealedLangevin(step_size=0.2 * 0.02**2, steps_each=20, denoise=True)
    x = restored(distribution, known, values, sigmas=SCHEDULE, sampler=sampler, n=1000)
    assert float((x > 0).float().mean()) == pytest.approx(weight, abs=0.07)  # standard error 0.014; the prior's is 0.5


def projector(y, fill, seed=0):
    observation = Observation(y=y, degradation=Mask(mask=fill))
    return Projection(denoiser=Gaussian()).posterior(observation, generator=seeded(seed))


def test_the_noise_of_the_observation_is_drawn_once_for_each_level():
    fill = torch.zeros(1, 1, 100, 100)
    fill[..., :50] = 1
    y = torch.rand(3, 2, 100, 100, generator=seeded(1)) * (1 - fill)
    project = projector(y, fill).project
    x = [torch.randn(y.shape, generator=seeded(k)) for k in range(4)]
    first, again, other = project(x[0], 3.0), project(x[1], 3.0), project(x[2], 0.5)
    known = (fill == 0).expand_as(y)
    assert torch.equal(first[known], again[known])
    noises = [(p - y)[known] / s for p, s in ((first, 3.0), (other, 0.5))]
    for z in noises:  # 30,000 numbers
        assert float(z.mean()) == pytest.approx(0, abs=0.03)
        assert float(z.std()) == pytest.approx(1, abs=0.03)
    assert abs(float((noises[0] * noises[1]).mean())) < 0.03
    assert torch.equal(project(x[3], 0.0)[known], y[known])


def test_a_whole_walk_draws_once_for_each_level():
    fill, y = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2), torch.zeros(5, 1, 1, 2)
    posterior = projector(y, fill)
    sampler = AnnealedLangevin(step_size=0.01, steps_each=3)
    steps = list(
        sampler.iterate(posterior.denoiser, y, geometric(2, 0.2, 4), generator=seeded(9), project=posterior.project)
    )
    known = torch.stack([step.x[:, 0, 0, 1] for step in steps]).reshape(4, 3, 5)
    assert torch.equal(known, known[:, :1].expand(-1, 3, -1))
    assert len(known[:, 0, 0].unique()) == 4


def test_unknown_pixels_pass_bit_for_bit():
    fill = (torch.rand(1, 1, 9, 7, generator=seeded(2)) > 0.5).float()
    x = 1e3 * torch.randn(2, 3, 9, 7, generator=seeded())
    masked = fill.bool().expand_as(x)
    for sigma in (0.0, 1e-3, 80.0):
        kept = projector(torch.zeros_like(x), fill).project(x, sigma)
        assert torch.equal(kept[masked], x[masked])
        if sigma == 0:
            assert not bool(kept[~masked].any())


class Grey:
    """The mean over channels; its pseudo-inverse repeats it."""

    def __call__(self, x):
        return x.mean(1, keepdim=True)

    def pinv(self, y):
        return y.expand(-1, 3, -1, -1)


def test_any_linear_degradation_keeps_the_observation():
    y, x = torch.rand(2, 1, 4, 4, generator=seeded(1)), torch.randn(2, 3, 4, 4, generator=seeded())
    observation = Observation(y=y, degradation=Grey())
    project = Projection(denoiser=Gaussian()).posterior(observation, generator=seeded()).project
    kept = project(x, 0.0)
    torch.testing.assert_close(Grey()(kept), y)
    torch.testing.assert_close(kept - Grey()(kept), x - Grey()(x))  # the colors are left alone


def test_the_denoiser_is_handed_on_and_any_sampler_keeps_the_known():
    distribution = Gaussian()
    fill, y = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2), torch.full((3, 1, 1, 2), 0.4)
    posterior = projector(y, fill)
    assert posterior.denoiser == distribution
    steps = list(
        Heun().iterate(
            distribution,
            torch.zeros(3, 1, 1, 2),
            torch.tensor([2.0, 1.0, 0.0]),
            generator=seeded(),
            project=posterior.project,
        )
    )
    assert torch.equal(steps[-1].x[..., 1], y[..., 1])


def test_a_noisy_observation_is_given_only_the_noise_that_it_lacks_and_below_its_own_none():
    y, x = torch.zeros(4, 1, 100, 100), torch.full((4, 1, 100, 100), 9.0)
    observation = Observation(y=y, degradation=Mask(mask=torch.zeros(1, 1, 100, 100)), noise=0.3)
    project = Projection(denoiser=Gaussian()).posterior(observation, generator=seeded()).project
    for sigma in (2.0, 0.5, 0.3):
        lacking = max(sigma**2 - 0.09, 0.0) ** 0.5
        assert float(project(x, sigma).std()) == pytest.approx(lacking, rel=0.02, abs=1e-6)  # 40,000 numbers
    assert torch.equal(project(x, 0.29), x)


def test_nothing_is_laid_over_an_image_that_has_just_been_made_noisy_again():
    y, x = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 9.0)
    project = projector(y, torch.zeros(1, 1, 1, 1)).project
    first = project(x, 1.0)
    assert torch.equal(project(x, 3.0), x)
    assert not torch.equal(project(x, 1.0), first)
