"""Settling on the first noise level: the distribution it leads to, and its steps."""

import pytest
import torch

from scorefield import schedules
from scorefield.distributions import GaussianMixture
from scorefield.errors import UserError
from scorefield.samplers import BurnIn, Heun

FAR = GaussianMixture(torch.ones(1), torch.full((1, 2), 3.0), torch.tensor([0.09]))  # mean 3, spread 0.3
SIGMAS = schedules.geometric(1, 0.01, 24)


def last(sampler, sigmas=SIGMAS, count=20_000):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 2, generator=generator)
    steps = list(sampler.iterate(FAR, x, sigmas, generator=generator))
    return steps, steps[-1].x


def test_a_schedule_that_begins_low_finds_the_data_only_after_burn_in():
    _, lost = last(Heun())
    _, found = last(BurnIn(sampler=Heun(), updates=20))
    assert lost.mean() < 2.5  # noise around 0 is not noise around 3, and Heun cannot find it
    assert found.mean() == pytest.approx(3, abs=0.01)  # 4 standard errors of 40,000 numbers of spread 0.3
    # (2 − a)/(2 − aq) = 0.966 in variance with a = 0.6 and q = 1/1.09; Heun's own error is below 1 %
    assert found.var().sqrt() == pytest.approx(0.3 * 0.966**0.5, rel=0.015)


@pytest.mark.parametrize("part", [0.2, 0.6, 1.0])
def test_settling_has_the_stationary_variance_of_its_equation(part):
    steps, _ = last(BurnIn(sampler=Heun(), updates=60, renewal=part))
    settled = steps[59]
    q = 1 / 1.09
    assert settled.sigma == 1
    assert settled.x.var() == pytest.approx(1.09 * (2 - part) / (2 - part * q), rel=0.03)  # 4 standard errors


def test_a_renewal_beyond_the_whole_is_refused():
    with pytest.raises(UserError, match="renewal"):
        last(BurnIn(sampler=Heun(), renewal=1.5), count=2)
