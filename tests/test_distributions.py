"""The closed forms against torch.distributions, autograd, Monte Carlo and a grid."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from oracles import float32_mixture, float64_mixture, mixture_moments, seeded
from scorefield.distributions import GaussianMixture

SIGMAS = [1e-4, 0.1, 1.0, 30.0, 1e4]


def torch_mixture(mixture, sigma):
    covariances = mixture.covariances + sigma**2 * torch.eye(2, dtype=torch.float64)
    return MixtureSameFamily(Categorical(mixture.weights), MultivariateNormal(mixture.means, covariances))


@pytest.fixture
def points(generator):
    return 3 * torch.randn(50, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.0, *SIGMAS])
def test_log_density_is_that_of_torch_distributions(points, sigma):
    mixture = float64_mixture()
    torch.testing.assert_close(
        mixture.log_density(points, sigma), torch_mixture(mixture, sigma).log_prob(points), rtol=1e-10, atol=0
    )


@pytest.mark.parametrize("sigma", [0.0, *SIGMAS])
def test_score_is_the_gradient_of_the_log_density(points, sigma):
    mixture, x = float64_mixture(), points.requires_grad_()
    gradient = torch.autograd.grad(torch_mixture(mixture, sigma).log_prob(x).sum(), x)[0]
    torch.testing.assert_close(mixture.score(x, sigma), gradient, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_denoiser_is_x_plus_the_variance_times_the_score(points, sigma):
    mixture = float64_mixture()
    torch.testing.assert_close(
        mixture(points, sigma), points + sigma**2 * mixture.score(points, sigma), rtol=1e-7, atol=1e-7
    )


def test_every_row_may_have_its_own_sigma(points):
    mixture, sigma = float64_mixture(), torch.linspace(0.1, 5, len(points), dtype=torch.float64)
    for function in (mixture, mixture.score, mixture.log_density):
        alone = torch.stack([function(x[None], s)[0] for x, s in zip(points, sigma, strict=True)])
        torch.testing.assert_close(function(points, sigma), alone)


def test_denoiser_is_the_mean_of_clean_points_weighted_by_their_likelihood():
    mixture, sigma = float64_mixture(), 0.8
    clean = mixture.sample(200_000, generator=seeded())
    for x in torch.tensor([[0.0, 0.0], [1.5, -1.0], [-3.0, 0.5]], dtype=torch.float64):
        likelihood = (-(x - clean).square().sum(1) / (2 * sigma**2)).softmax(0)
        error = likelihood @ clean - mixture(x[None], sigma)[0]
        assert error.abs().max() < 0.01  # measured 0.004


def test_denoiser_takes_images_and_keeps_their_shape(points):
    mixture = float64_mixture()
    images = points.reshape(-1, 2, 1, 1)
    denoised = mixture(images, torch.full((len(points),), 0.5, dtype=torch.float64))
    assert denoised.shape == images.shape
    torch.testing.assert_close(denoised.flatten(1), mixture(points, 0.5))


def test_float32_agrees_with_float64_at_every_sigma(points):
    for sigma in torch.logspace(-3, 3, 13).tolist():
        x = (points * max(1, sigma)).float()
        exact = float64_mixture()(x.double(), sigma)
        # exponents to 32 round by 32 eps, and weigh means to 8
        assert (float32_mixture()(x, sigma) - exact).abs().max() < 256 * 2**-23


def test_samples_have_the_moments_of_the_mixture():
    mixture = float64_mixture()
    x = mixture.sample(100_000, generator=seeded())
    mean, covariance = mixture_moments(mixture)
    assert (x.mean(0) - mean).abs().max() < 0.02  # five standard errors; measured 0.002
    assert (torch.cov(x.T) - covariance).abs().max() < 0.04  # measured 0.002


def test_conditional_moments_are_those_of_a_slice_through_the_density():
    mixture, value = float64_mixture(), -0.7
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    for known in (torch.tensor([True, False]), torch.tensor([False, True])):
        points = torch.stack([torch.full_like(grid, value)] * 2, 1)
        points[:, ~known] = grid[:, None]
        weight = mixture.log_density(points).softmax(0)
        mean = weight @ grid
        variance = weight @ (grid - mean) ** 2
        slice_of = mixture.conditional(known, torch.tensor([value], dtype=torch.float64))
        their_mean, their_variance = mixture_moments(slice_of)
        torch.testing.assert_close(their_mean, mean[None], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(their_variance, variance[None, None], rtol=1e-8, atol=1e-8)


def test_conditional_of_one_gaussian_is_the_schur_complement():
    factor = torch.randn(4, 4, generator=seeded(), dtype=torch.float64)
    precision = factor @ factor.T + torch.eye(4, dtype=torch.float64)
    joint = GaussianMixture(torch.ones(1), torch.arange(4.0).double()[None], precision.inverse()[None])
    values = torch.tensor([3.0, -1.0], dtype=torch.float64)
    distribution = joint.conditional(torch.tensor([False, True, False, True]), values)
    inverse = precision[[0, 2]][:, [0, 2]].inverse()  # Λ_uu⁻¹ and μ_u − Λ_uu⁻¹ Λ_uo (v − μ_o)
    gap = values - torch.tensor([1.0, 3.0], dtype=torch.float64)
    mean = torch.tensor([0.0, 2.0], dtype=torch.float64) - inverse @ precision[[0, 2]][:, [1, 3]] @ gap
    torch.testing.assert_close(distribution.covariances[0], inverse)
    torch.testing.assert_close(distribution.means[0], mean)


def test_variances_stand_for_round_covariances():
    x = torch.tensor([[0.5, 2.0]])
    round_one = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([0.25]))
    expected = -x.square().sum() / (2 * 0.25) - math.log(2 * math.pi * 0.25)
    assert float(round_one.log_density(x)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "means", "covariances"),
    [
        (torch.ones(3), torch.zeros(2, 2), torch.ones(2)),
        (torch.tensor([1.0, 0.0]), torch.zeros(2, 2), torch.ones(2)),
        (torch.ones(2), torch.zeros(2, 2), torch.ones(2, 3, 3)),
        (torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])),
    ],
)
def test_what_is_no_mixture_is_refused(weights, means, covariances):
    with pytest.raises(ValueError, match="weights|negative eigenvalue"):
        GaussianMixture(weights, means, covariances)
