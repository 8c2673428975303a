"""Gaussian posteriors in closed form, and what a restorer makes of them.

On a Gaussian a restorer's denoiser is affine in x, and so is the whole way down an ODE: the images of 0 and
of the unit vectors give the mean and the covariance of its samples exactly, without drawing.
"""

from dataclasses import dataclass

import torch

from oracles import seeded
from scorefield.degradations import Observation
from scorefield.distributions import GaussianMixture
from scorefield.samplers import Heun
from scorefield.schedules import karras

MASK = torch.eye(6, dtype=torch.float64)[[0, 3, 5]]
MEANS = torch.kron(torch.eye(3, dtype=torch.float64), torch.full((1, 2), 0.5, dtype=torch.float64))
ONE = torch.full((1, 6), 1 / 6, dtype=torch.float64)
GENERAL = torch.randn(3, 6, generator=seeded(7), dtype=torch.float64)
DOWN = karras(400, 0.002, 64)
"""Heun's own error on it is 0.015 of a variance (0.006 on 96 noise levels), and 0.01 of a spread is from the
start, which knows no mean."""
MATRICES = {"mask": MASK, "means": MEANS, "one": ONE, "general": GENERAL}


@dataclass(frozen=True)
class Linear:
    """y = M x on images of one row, with the pseudo-inverse of Moore and Penrose."""

    matrix: torch.Tensor

    def __call__(self, x):
        return (x.flatten(1) @ self.matrix.T.to(x))[:, None, None]

    def pinv(self, y):
        return (y.flatten(1) @ torch.linalg.pinv(self.matrix).T.to(y))[:, None, None]


def correlated(dim=6, rho=0.9):
    """Neighbours correlate by ρ."""
    places = torch.arange(dim, dtype=torch.float64)
    covariance = rho ** (places[:, None] - places).abs()
    return gaussian(torch.linspace(-1, 1, dim, dtype=torch.float64), covariance)


def isotropic(dim=6, std=0.5):
    mean = torch.linspace(-1, 1, dim, dtype=torch.float64)
    return gaussian(mean, std**2 * torch.eye(dim, dtype=torch.float64))


def gaussian(mean, covariance):
    return GaussianMixture(torch.ones(1, dtype=mean.dtype), mean[None], covariance[None])


def observed(matrix):
    """Values that are a surprise: about two standard deviations off."""
    return torch.tensor([2.5, -1.5, 2.0], dtype=torch.float64)[: len(matrix)]


def bayes(distribution, matrix, y, noise):
    """Mean and covariance of p(x0 | M x0 + σ_y n = y)."""
    mean, covariance = distribution.means[0], distribution.covariances[0]
    seen = matrix @ covariance @ matrix.T + noise**2 * torch.eye(len(matrix), dtype=mean.dtype)
    gain = covariance @ matrix.T @ torch.linalg.inv(seen)
    return mean + gain @ (y - matrix @ mean), covariance - gain @ matrix @ covariance


def denoised_bayes(distribution, matrix, y, noise, x, sigma):
    """E[x0 | x, y], (B, D), for noisy x: a Gaussian conditioned first on x, then on y."""
    rows = []
    for row in x.flatten(1):
        posterior = gaussian(*bayes(distribution, torch.eye(len(row), dtype=row.dtype), row, sigma))
        rows.append(bayes(posterior, matrix, y, noise)[0])
    return torch.stack(rows)


def posterior_of(restorer, matrix, y, noise, n, dtype=torch.float64):
    """The restorer's posterior of n copies of one observation."""
    seen = y.to(dtype).expand(n, -1)[:, None, None]
    observation = Observation(y=seen, degradation=Linear(matrix), noise=noise)
    return restorer.posterior(observation, generator=seeded(5))


def moments(restorer, matrix, y, noise=0.0, sampler=None, sigmas=None):
    """Mean and covariance of the samples along an ODE, exactly."""
    sigmas = DOWN if sigmas is None else sigmas
    dim = matrix.shape[1]
    start = torch.cat([torch.zeros(1, dim), float(sigmas[0]) * torch.eye(dim)]).double()[:, None, None]
    posterior = posterior_of(restorer, matrix, y, noise, dim + 1)
    end = run(posterior, sampler or Heun(), start, sigmas).flatten(1)
    columns = (end[1:] - end[0]).T
    return end[0], columns @ columns.T


def draws(restorer, matrix, y, noise, sampler, sigmas, n=4000, seed=0):
    """Answers, (n, D), float32."""
    posterior = posterior_of(restorer, matrix, y, noise, n, torch.float32)
    start = float(sigmas[0]) * torch.randn(n, 1, 1, matrix.shape[1], generator=seeded(seed))
    return run(posterior, sampler, start, sigmas, seed + 1).flatten(1)


def run(posterior, sampler, x, sigmas, seed=0):
    steps = sampler.iterate(posterior.denoiser, x, sigmas, generator=seeded(seed), project=posterior.project)
    for step in steps:
        x = step.x
    return x


def off(found, right):
    """Largest error of the mean over the posterior's spread, and of the covariance over its largest entry."""
    spread = right[1].diagonal().max().sqrt()
    mean = float((found[0] - right[0]).abs().max() / spread)
    return mean, float((found[1] - right[1]).abs().max() / spread**2)
