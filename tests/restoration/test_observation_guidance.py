"""ClassifierFreeGuidance denoisers against closed-form posteriors, and what they ask of a network."""

import weakref
from itertools import pairwise

import pytest
import torch

from oracles import Counting, float32_mixture, seeded, tiny_model
from restoration.gaussians import (
    GENERAL,
    MASK,
    MATRICES,
    Linear,
    bayes,
    correlated,
    denoised_bayes,
    draws,
    gaussian,
    isotropic,
    moments,
    observed,
    off,
    posterior_of,
    run,
)
from scorefield.degradations import JPEG, Blur, Downscale, Mask, Observation
from scorefield.distributions import GaussianMixture
from scorefield.errors import UserError
from scorefield.model import expand
from scorefield.restoration import DPS, MomentMatching, NullSpace, PiGDM
from scorefield.samplers import Ancestral, Heun
from scorefield.schedules import karras

KINDS = [NullSpace, PiGDM, DPS, MomentMatching]
GUIDED = KINDS[1:]
noises = pytest.mark.parametrize("noise", [0.0, 0.3])
kinds = pytest.mark.parametrize("kind", KINDS)
guided = pytest.mark.parametrize("kind", GUIDED)


# The distribution of the samples


# Where each is exact: moment matching on any Gaussian, pseudo-inverse guidance where images are uncorrelated, one
# gradient step for one observed value, null-space correction where images are uncorrelated and nothing is noisy.
EXACT = {
    "moment-matching": (lambda d: MomentMatching(denoiser=d, iterations=6), correlated()),
    "pigdm": (lambda d: PiGDM(denoiser=d, sigma_data=0.5, iterations=6), isotropic(std=0.5)),
    "dps": (lambda d: DPS(denoiser=d), correlated()),
    "null-space": (lambda d: NullSpace(denoiser=d), isotropic(std=0.5)),
}


def exact_cases(*names):
    """Of those matrices, with noise and without, what each is exact for."""
    return [
        pytest.param(*EXACT[kind], MATRICES[name], noise, id=f"{kind}-{name}-{noise}")
        for kind in EXACT
        for name in names
        for noise in (0.0, 0.3)
        if (kind != "dps" or name == "one") and (kind != "null-space" or noise == 0)
    ]


@pytest.mark.parametrize(("restorer", "distribution", "matrix", "noise"), exact_cases(*MATRICES))
@pytest.mark.parametrize("sigma", [0.01, 0.7, 30.0])
def test_it_denoises_a_gaussian_as_bayes_does(restorer, distribution, matrix, noise, sigma):
    y = observed(matrix) / 2
    x = distribution.sample(5, generator=seeded()) + sigma * torch.randn(5, 6, generator=seeded(1)).double()
    posterior = posterior_of(restorer(distribution), matrix, y, noise, 5)
    found = posterior.denoiser(x[:, None, None], torch.full((5,), sigma).double()).flatten(1)
    right = denoised_bayes(distribution, matrix, y, noise, x, sigma)
    torch.testing.assert_close(found, right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("restorer", "distribution", "matrix", "noise"),
    [
        *exact_cases("general"),
        *(pytest.param(*case.values, id=case.id, marks=pytest.mark.slow) for case in exact_cases("one")),
    ],
)
def test_along_an_ode_it_draws_the_posterior(restorer, distribution, matrix, noise):
    y = observed(matrix)
    right = bayes(distribution, matrix, y, noise)
    assert max(off(moments(restorer(distribution), matrix, y, noise), right)) < 0.02
    assert off((distribution.means[0], distribution.covariances[0]), right)[0] > 0.5  # the prior is another


@noises
@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(
    "degradation",
    [Mask(mask=(torch.arange(36).reshape(1, 1, 6, 6) % 7 < 3).double()), Downscale(factor=2), Blur(std=0.7)],
    ids=["mask", "downscale", "blur"],
)
def test_moment_matching_is_bayes_for_images_whose_pixels_correlate(degradation, sigma, noise):
    # The residual is 1e-4 of the first; along what y hardly shows its error in x is a few times that.
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    places = torch.stack([rows, columns], -1).reshape(36, 2).double()
    distribution = gaussian(torch.zeros(36, dtype=torch.float64), 0.8 ** torch.cdist(places, places))
    units = torch.eye(36, dtype=torch.float64).reshape(36, 1, 6, 6)
    matrix = degradation(units).flatten(1).T
    informative = matrix.abs().sum(1) > 0  # a mask keeps the shape of the image
    matrix = matrix[informative]
    x0 = distribution.sample(5, generator=seeded())
    x = x0 + sigma * torch.randn(5, 36, generator=seeded(1), dtype=torch.float64)
    y = degradation(x0.reshape(5, 1, 6, 6))
    y = degradation(degradation.pinv(y + noise * torch.randn(y.shape, generator=seeded(2), dtype=torch.float64)))
    observation = Observation(y=y, degradation=degradation, noise=noise)
    posterior = MomentMatching(denoiser=distribution).posterior(observation, generator=seeded())
    found = posterior.denoiser(x.reshape(5, 1, 6, 6), torch.full((5,), sigma, dtype=torch.float64)).flatten(1)
    cov = torch.linalg.inv(torch.linalg.inv(distribution.covariances[0]) + torch.eye(36).double() / sigma**2)
    mean = distribution(x, torch.full((5,), sigma, dtype=torch.float64))
    seen = matrix @ cov @ matrix.T + noise**2 * torch.eye(len(matrix)).double()
    right = mean + (y.flatten(1)[:, informative] - mean @ matrix.T) @ torch.linalg.solve(seen, matrix @ cov)
    error = (found - right).square().mean().sqrt() / (mean - right).square().mean().sqrt()
    assert float(error) < 2e-3


@pytest.mark.parametrize("noise", [pytest.param(0.0, marks=pytest.mark.slow), 0.3])
def test_moment_matching_draws_the_posterior_with_a_stochastic_sampler_too(noise):
    distribution, y = correlated(), observed(GENERAL)
    narrow = GaussianMixture(distribution.weights.float(), distribution.means.float(), distribution.covariances.float())
    restorer = MomentMatching(denoiser=narrow)
    x = draws(restorer, GENERAL, y, noise, Ancestral(), karras(80, 0.01, 100)).double()
    mean, covariance = off((x.mean(0), torch.cov(x.T)), bayes(distribution, GENERAL, y, noise))
    assert mean < 0.06  # standard error 0.016
    assert covariance < 0.1


def test_a_step_along_the_gradient_is_ours_seen_through_a_sampler():
    # x ← x' − ζ_i ∇‖y − A D‖², added to an ancestral step from σ to τ
    distribution, y, sigma, tau = correlated(), observed(GENERAL), 0.8, 0.5
    x = torch.randn(1, 1, 1, 6, generator=seeded(), dtype=torch.float64)
    schedule = torch.tensor([sigma, tau], dtype=torch.float64)
    posterior = posterior_of(DPS(denoiser=distribution, zeta=0.7), GENERAL, y, 0.0, 1)
    plain, ours = (
        next(iter(Ancestral().iterate(d, x, schedule, generator=seeded(3)))).x
        for d in (distribution, posterior.denoiser)
    )
    at = x.clone().requires_grad_()
    misfit = y - Linear(GENERAL)(distribution(at, schedule[:1])).flatten()
    (slope,) = torch.autograd.grad(misfit.square().sum(), at)
    lift = sigma**2 * slope.flatten() / -2  # σ² Jᵀ Aᵀ r
    alpha = sigma**2 * misfit.square().sum() / (misfit @ GENERAL @ lift)
    zeta = 0.7 * alpha * (1 - (tau / sigma) ** 2) / 2
    torch.testing.assert_close(ours, (plain - zeta * slope).detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_the_published_step_is_algorithm_1_in_its_own_coordinates(zeta):
    # Chung et al. (2023), Algorithm 1, on x/√(1+σ²) with β and ᾱ, on a Gaussian whose x̂0 is written out.
    mean, covariance = correlated().means[0], correlated().covariances[0]
    y, n = observed(GENERAL), 40
    beta = torch.linspace(1e-3, 0.2, n, dtype=torch.float64)
    bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])

    generator = seeded(3)
    x = start = torch.randn(2, 6, generator=seeded(), dtype=torch.float64)
    for i in reversed(range(1, n + 1)):
        x = x.requires_grad_()
        noisy = bar[i] * covariance + (1 - bar[i]) * torch.eye(6, dtype=torch.float64)
        x0 = mean + (x - bar[i].sqrt() * mean) @ torch.linalg.solve(noisy, bar[i].sqrt() * covariance)
        misfit = (y - x0 @ GENERAL.T).norm(dim=1)
        (slope,) = torch.autograd.grad(misfit.square().sum(), x)
        z = torch.randn(x.shape[0], 1, 1, 6, generator=generator, dtype=x.dtype).flatten(1) if i > 1 else 0
        moved = ((1 - beta[i - 1]).sqrt() * (1 - bar[i - 1]) * x + bar[i - 1].sqrt() * beta[i - 1] * x0) / (1 - bar[i])
        std = (beta[i - 1] * (1 - bar[i - 1]) / (1 - bar[i])).sqrt()
        x = (moved + std * z - zeta / misfit[:, None] * slope).detach()

    sigmas = ((1 - bar) / bar).sqrt().flip(0)
    posterior = posterior_of(DPS(denoiser=correlated(), step="published", zeta=zeta), GENERAL, y, 0.0, 2)
    found = run(posterior, Ancestral(), (start / bar[n].sqrt())[:, None, None], sigmas, seed=3).flatten(1)
    # each of the 40 steps rounds by eps × σ_max ≈ 1e-14, and ζ/‖r‖ magnifies it where the misfit is small
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


def test_the_published_step_is_taken_once_and_not_where_nothing_is_amiss():
    distribution, x = correlated(), torch.ones(2, 1, 1, 6, dtype=torch.float64)
    sigma = torch.full((2,), 0.5, dtype=torch.float64)
    y = Linear(GENERAL)(distribution(x, sigma))
    y[1] += 1
    observation = Observation(y=y, degradation=Linear(GENERAL))
    posterior = DPS(denoiser=distribution, step="published").posterior(observation, generator=seeded())
    posterior.denoiser(x, sigma)
    moved = posterior.project(x, 0.2)
    assert torch.equal(moved[0], x[0]) and not torch.equal(moved[1], x[1])
    assert torch.equal(posterior.project(moved, 0.7), moved)  # a step up evaluates nothing


def test_no_other_step_is_known():
    with pytest.raises(UserError, match="publishd"):
        DPS(denoiser=correlated(), step="publishd")


# Where a sample comes from


@guided
def test_it_works_without_gradients_in_the_caller_and_calls_the_model_once(kind):
    distribution = float32_mixture()
    spy = Counting(distribution)
    degradation = Mask(mask=torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2))
    observation = Observation(y=torch.full((3, 1, 1, 2), 0.4), degradation=degradation)
    posterior = kind(denoiser=spy).posterior(observation, generator=seeded())
    x, sigma = torch.randn(3, 1, 1, 2, generator=seeded()), torch.tensor([0.2, 1.0, 5.0])
    with torch.no_grad():
        found = posterior.denoiser(x, sigma)
    assert spy.calls == 1
    assert not found.requires_grad
    assert found.dtype == torch.float32
    assert torch.equal(found, posterior.denoiser(x, sigma))
    assert not x.requires_grad


@kinds
def test_images_of_a_batch_do_not_know_of_each_other(kind):
    distribution, degradation = float32_mixture(), Linear(torch.tensor([[1.0, 0.5]]))
    y, sigma = torch.tensor([0.4, -1.0, 2.0])[:, None, None, None], torch.tensor([0.2, 1.0, 5.0])
    x = torch.randn(3, 1, 1, 2, generator=seeded())

    def samples(rows):
        observation = Observation(y=y[rows], degradation=degradation, noise=0.1)
        posterior = kind(denoiser=distribution).posterior(observation, generator=seeded())
        return posterior.denoiser(x[rows], sigma[rows])

    together = samples(slice(0, 3))
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], samples(slice(i, i + 1)), rtol=1e-5, atol=1e-6)


@guided
def test_nothing_of_the_pass_backwards_is_kept(kind):
    outputs = []

    def remembered(x, sigma):
        value = float32_mixture()(x, sigma)
        outputs.append(weakref.ref(value))
        return value

    observation = Observation(y=torch.ones(2, 1, 1, 1), degradation=Linear(torch.tensor([[1.0, 0.5]])))
    posterior = kind(denoiser=remembered).posterior(observation, generator=seeded())
    for step in Heun().iterate(posterior.denoiser, torch.randn(2, 1, 1, 2), karras(5, 0.1, 3), generator=seeded()):
        assert not step.x.requires_grad
    assert len(outputs) == 5
    assert all(reference() is None for reference in outputs)


@kinds
def test_half_precision_inside_the_network_changes_little(kind):
    model = tiny_model(3)
    x = torch.randn(2, 3, 8, 8, generator=seeded())
    degradation = Mask(mask=(torch.rand(1, 1, 8, 8, generator=seeded(1)) > 0.5).float())
    observation = Observation(y=degradation(torch.rand(2, 3, 8, 8, generator=seeded(2))), degradation=degradation)
    found = {}
    for precision in (torch.float32, torch.bfloat16):
        posterior = kind(denoiser=model.with_precision(precision)).posterior(observation, generator=seeded())
        with torch.no_grad():
            found[precision] = posterior.denoiser(x, torch.full((2,), 0.5))
        assert found[precision].dtype == torch.float32
    apart = (found[torch.float32] - found[torch.bfloat16]).abs().max()
    assert 0 < float(apart) < 0.05


@kinds
@noises
def test_a_sample_stays_finite_at_any_noise(kind, noise):
    distribution = float32_mixture()
    degradation = Mask(mask=torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2))
    observation = Observation(y=torch.full((6, 1, 1, 2), 0.4), degradation=degradation, noise=noise)
    posterior = kind(denoiser=distribution).posterior(observation, generator=seeded())
    sigma = torch.tensor([0.0, 1e-8, 1e-3, 1.0, 1e4, 1e10])
    x = torch.randn(6, 1, 1, 2, generator=seeded()) * expand(sigma.clamp_min(1), torch.ones(6, 1, 1, 1))
    found = posterior.denoiser(x, sigma)
    assert bool(found.isfinite().all())
    if noise > 0:  # what is all but clean needs no help
        torch.testing.assert_close(found[1], distribution(x, sigma)[1], rtol=1e-5, atol=1e-5)


# Degradation that is not linear, networks that are not exact


@kinds
def test_a_jpeg_image_is_drawn_to_what_it_shows(kind):
    image = torch.rand(2, 1, 8, 8, generator=seeded()) * 2 - 1
    degradation = JPEG(quality=20)
    observation = Observation(y=degradation(image), degradation=degradation)
    distribution = tiny_model(1)
    posterior = kind(denoiser=distribution).posterior(observation, generator=seeded())
    x, sigma = image + 0.3 * torch.randn(image.shape, generator=seeded(1)), torch.full((2,), 0.3)
    before = (degradation(distribution(x, sigma)) - observation.y).norm()
    after = (degradation(posterior.denoiser(x, sigma)) - observation.y).norm()
    assert after < 0.8 * before


def test_pseudo_inverse_guidance_does_not_shoot_past_what_it_aims_at():
    # images that share a brightness, which varies by 3: an hundred times s² over six pixels
    eye = torch.eye(6, dtype=torch.float64)
    distribution, y = gaussian(torch.zeros(6).double(), 0.1 * eye + 9.0), observed(GENERAL)
    level = torch.tensor([50.0], dtype=torch.float64)
    posterior = posterior_of(PiGDM(denoiser=distribution, sigma_data=0.5), GENERAL, y, 0.0, 1)
    x = 50 * torch.randn(1, 1, 1, 6, generator=seeded(), dtype=torch.float64)
    before, after = (torch.linalg.pinv(GENERAL) @ (y - GENERAL @ d.flatten()) for d in
                     (distribution(x, level), posterior.denoiser(x, level)))  # fmt: skip
    assert float(before @ after) == pytest.approx(0, abs=1e-9)  # it arrives, along its own direction


def test_pseudo_inverse_guidance_takes_no_derivative_of_the_degradation():
    class Rounded(Linear):
        def __call__(self, x):
            return super().__call__(x.detach()).round()

    observation = Observation(y=torch.ones(2, 1, 1, 1), degradation=Rounded(torch.tensor([[1.0, 0.5]])))
    posterior = PiGDM(denoiser=float32_mixture()).posterior(observation, generator=seeded())
    x, sigma = torch.zeros(2, 1, 1, 2), torch.ones(2)
    assert not torch.equal(posterior.denoiser(x, sigma), float32_mixture()(x, sigma))


@pytest.mark.parametrize("kind", [DPS, MomentMatching])
def test_a_jacobian_that_cannot_be_a_covariance_guides_nothing(kind):
    observation = Observation(y=torch.ones(2, 1, 1, 1), degradation=Linear(torch.tensor([[1.0, 0.5]])))
    posterior = kind(denoiser=lambda x, sigma: -x).posterior(observation, generator=seeded())
    x = torch.randn(2, 1, 1, 2, generator=seeded())
    assert torch.equal(posterior.denoiser(x, torch.ones(2)), -x)


@kinds
def test_without_noise_the_ending_is_what_was_observed(kind):
    y, x = torch.rand(2, 1, 1, 1, generator=seeded()), torch.randn(2, 1, 1, 2, generator=seeded(1))
    degradation = Linear(torch.tensor([[1.0, 0.5]]))
    restorer = kind(denoiser=float32_mixture())
    project = restorer.posterior(Observation(y=y, degradation=degradation), generator=seeded()).project
    assert torch.equal(project(x, 0.1), x)
    torch.testing.assert_close(degradation(project(x, 0.0)), y)
    unseen = torch.tensor([0.5, -1.0])
    torch.testing.assert_close(project(x, 0.0) @ unseen, x @ unseen)
    noisy = Observation(y=y, degradation=degradation, noise=0.1)
    assert restorer.posterior(noisy, generator=seeded()).project is None


@guided
def test_a_denoiser_without_a_derivative_is_reported(kind):
    observation = Observation(y=torch.ones(1, 1, 1, 1), degradation=Linear(torch.tensor([[1.0, 0.5]])))
    posterior = kind(denoiser=lambda x, sigma: x.detach()).posterior(observation, generator=seeded())
    with pytest.raises(UserError, match="denoiser: cannot be differentiated.*NullSpace"):
        posterior.denoiser(torch.zeros(1, 1, 1, 2), torch.ones(1))


def test_no_iteration_at_all_is_reported():
    observation = Observation(y=torch.ones(1, 1, 1, 1), degradation=Linear(torch.tensor([[1.0, 0.5]])))
    posterior = MomentMatching(denoiser=float32_mixture(), iterations=0).posterior(observation, generator=seeded())
    with pytest.raises(UserError, match="iterations: need at least one, got 0"):
        posterior.denoiser(torch.zeros(1, 1, 1, 2), torch.ones(1))


# Known biases


def two_modes():
    """The known coordinate, 2, turns weights of 0.5 and 0.5 into 0.27 and 0.73."""
    return GaussianMixture(
        torch.ones(2),
        torch.tensor([[-4.0, -1.5], [4.0, 1.5]]),
        torch.tensor([[[16.0, 0.0], [0.0, 0.2]]] * 2),
    )


def share_of_the_upper_mode(restorer, sampler, sigmas, n=3000):
    matrix, y = torch.tensor([[1.0, 0.0]]), torch.tensor([2.0])
    x = draws(restorer, matrix, y, 0.0, sampler, sigmas, n)
    return float((x[:, 1] > 0).float().mean())


def likely(distribution, matrix):
    """What is seen of an image drawn from the distribution: no surprise, unlike `observed`."""
    return matrix @ distribution.sample(1, generator=seeded(4))[0]


def biases(found, distribution, y):
    """Largest error of the mean in spreads, and the spread over the right one."""
    right = bayes(distribution, MASK, y, 0.0)
    return off(found, right)[0], float((found[1].trace() / right[1].trace()).sqrt())


@pytest.mark.parametrize(("kind", "mean", "spread"), [(NullSpace, 0.68, 1.80), (PiGDM, 0.46, 1.01)])
def test_what_is_wrong_along_an_ode_where_neighbours_correlate(kind, mean, spread):
    distribution = correlated()
    y = likely(distribution, MASK)
    found = biases(moments(kind(denoiser=distribution), MASK, y), distribution, y)
    assert found == pytest.approx((mean, spread), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mean", "spread"), [(NullSpace, 0.42, 1.36), (PiGDM, 0.25, 1.0), (DPS, 0.06, 0.95)])
def test_a_sampler_that_draws_noise_forgets_a_part_of_it(kind, mean, spread):
    distribution = correlated()
    narrow = GaussianMixture(distribution.weights.float(), distribution.means.float(), distribution.covariances.float())
    y = likely(distribution, MASK)
    x = draws(kind(denoiser=narrow), MASK, y, 0.0, Ancestral(), karras(80, 0.002, 100)).double()
    found = biases((x.mean(0), torch.cov(x.T)), distribution, y)
    assert found == pytest.approx((mean, spread), abs=0.05)  # standard errors 0.016 and 0.007


@pytest.mark.parametrize(
    ("kind", "sampler", "share"),
    [(MomentMatching, Ancestral(), 0.73), (DPS, Ancestral(), 0.73), (NullSpace, Heun(), 0.644)],
)
def test_modes_have_nearly_the_weights_of_the_posterior(kind, sampler, share):
    distribution = two_modes()
    right = float(distribution.conditional(torch.tensor([True, False]), torch.tensor([2.0])).weights[1])
    assert right == pytest.approx(0.731, abs=0.001)
    found = share_of_the_upper_mode(kind(denoiser=distribution), sampler, karras(80, 0.002, 60))
    assert found == pytest.approx(share, abs=0.03)  # standard error 0.008


def test_conjugate_residuals_never_leave_more_of_the_misfit_than_before():
    # a Jacobian that is not symmetric, as a network's may be
    jacobian = 0.2 * torch.randn(6, 6, generator=seeded(3), dtype=torch.float64) + torch.eye(6).double()
    misfits = []
    for iterations in range(1, 6):
        restorer = MomentMatching(denoiser=lambda x, sigma: x @ jacobian.T, iterations=iterations)
        posterior = posterior_of(restorer, GENERAL, observed(GENERAL), 0.0, 1)
        x = torch.randn(1, 1, 1, 6, generator=seeded(), dtype=torch.float64)
        found = posterior.denoiser(x, torch.ones(1).double())
        misfits.append(float((Linear(GENERAL)(found).flatten() - observed(GENERAL)).norm()))
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(misfits))
    assert misfits[0] > 0.1 and misfits[-1] < 1e-6
