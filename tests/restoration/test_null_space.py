"""Null-space correction against closed forms; the degradations' singular values; noise that must not be copied."""

import pytest
import torch

from oracles import Counting, seeded
from restoration.gaussians import (
    GENERAL,
    MASK,
    Linear,
    bayes,
    correlated,
    isotropic,
    moments,
    observed,
    posterior_of,
)
from scorefield.degradations import Observation
from scorefield.restoration import NullSpace
from scorefield.schedules import karras


@pytest.mark.parametrize("matrix", [pytest.param(MASK, marks=pytest.mark.slow), GENERAL], ids=["mask", "general"])
def test_noise_is_taken_off_and_not_copied_where_the_prior_is_flat(matrix):
    distribution, y, noise = isotropic(std=60.0), observed(matrix), 0.3
    found = moments(NullSpace(denoiser=distribution), matrix, y, noise, sigmas=karras(1e4, 0.002, 96))
    right = bayes(distribution, matrix, y, noise)
    inverse = torch.linalg.pinv(matrix)
    seen = [inverse @ matrix @ m for m in (found[0], right[0])]
    spreads = [matrix @ c @ matrix.T for c in (found[1], right[1])]
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0.01)
    torch.testing.assert_close(spreads[0], spreads[1], rtol=0.02, atol=0.002)  # σ_y² I
    torch.testing.assert_close(spreads[1].diagonal(), torch.full((len(matrix),), 0.09).double(), rtol=0.01, atol=0)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 5.0])
def test_each_singular_value_is_corrected_as_far_as_the_noise_allows(sigma):
    distribution, y, noise = correlated(), observed(GENERAL), 0.3
    x = torch.randn(1, 1, 1, 6, generator=seeded(), dtype=torch.float64)
    level = torch.tensor([sigma], dtype=torch.float64)
    posterior = posterior_of(NullSpace(denoiser=distribution), GENERAL, y, noise, 1)
    left, values, right = torch.linalg.svd(GENERAL, full_matrices=False)
    plain = distribution(x, level).flatten()
    measured = left.T @ y / values
    part = (values * sigma) ** 2 / ((values * sigma) ** 2 + noise**2)
    expected = plain + right.T @ (part * (measured - right @ plain))
    torch.testing.assert_close(posterior.denoiser(x, level).flatten(), expected)


def test_without_noise_the_result_agrees_with_the_observation_and_the_model_is_called_once():
    spy = Counting(correlated())
    posterior = posterior_of(NullSpace(denoiser=spy), GENERAL, observed(GENERAL), 0.0, 4)
    x = torch.randn(4, 1, 1, 6, generator=seeded(), dtype=torch.float64)
    found = posterior.denoiser(x, torch.full((4,), 3.0).double())
    torch.testing.assert_close(Linear(GENERAL)(found)[:, 0, 0], observed(GENERAL).expand(4, -1))
    assert spy.calls == 1
    plain = correlated()(x, torch.full((4,), 3.0).double())
    unseen = torch.eye(6, dtype=torch.float64) - torch.linalg.pinv(GENERAL) @ GENERAL
    torch.testing.assert_close(found.flatten(1) @ unseen, plain.flatten(1) @ unseen)


def test_it_needs_no_derivative():
    observation = Observation(y=torch.ones(1, 1, 1, 1), degradation=Linear(torch.tensor([[1.0, 0.5]])))
    posterior = NullSpace(denoiser=lambda x, sigma: x.detach()).posterior(observation, generator=seeded())
    assert bool(posterior.denoiser(torch.zeros(1, 1, 1, 2), torch.ones(1)).isfinite().all())
