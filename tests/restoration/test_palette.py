"""A model that was trained to restore as a restorer: its samples follow the true posterior."""

import pytest
import torch

from oracles import Counting, seeded
from restoration.gaussians import DOWN, MASK, bayes, correlated, off
from restoration.learners import Row, model_of, tiny_learner
from scorefield.degradations import Downscale, Grey, Mask, Observation, network_input
from scorefield.restoration import Palette, resolve_method
from scorefield.samplers import Heun

KNOWN = MASK.sum(0) > 0


def row_answers(distribution, values, x, sigmas=DOWN):
    model = model_of(Row(distribution, KNOWN), shape=(1, 1, 6), sigma_range=(0.002, 400.0))
    whole = (values.float() @ MASK.float()).expand(len(x), 1, 1, 6)
    observation = Observation(y=whole, degradation=Mask(mask=(~KNOWN).float()[None, None, None]))
    posterior = Palette(model=model).posterior(observation, generator=seeded())
    for step in Heun().iterate(posterior.denoiser, x, sigmas, generator=seeded(1), project=posterior.project):
        x = step.x
    return x.flatten(1)


def test_samples_have_the_mean_and_the_covariance_of_the_posterior():
    # along an ODE they are affine in the start: exact moments from 7 starts
    distribution, values = correlated(), torch.tensor([2.5, -1.5, 2.0], dtype=torch.float64)
    start = torch.cat([torch.zeros(1, 6), float(DOWN[0]) * torch.eye(6)])[:, None, None]
    end = row_answers(distribution, values, start).double()
    columns = (end[1:] - end[0]).T
    columns[KNOWN] = 0  # of them the start is not looked at
    mean, covariance = off((end[0], columns @ columns.T), bayes(distribution, MASK, values, 0.0))
    assert mean < 0.02 and covariance < 0.02  # measured 0.007 and 0.009


def test_known_pixels_end_as_they_are_to_the_last_bit():
    values = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    end = row_answers(correlated(), values, 400 * torch.randn(2, 1, 1, 6, generator=seeded()))
    assert torch.equal(end[:, KNOWN], values.float().expand(2, 3))


@pytest.mark.parametrize("degradation", [Grey(), Downscale(factor=2)])
def test_the_model_is_given_what_the_degradation_shows(degradation):
    model, x0 = tiny_learner(), torch.rand(2, 3, 16, 16, generator=seeded()) * 2 - 1
    y = degradation(x0)
    seen = network_input(degradation, y, generator=seeded())
    denoiser = Palette(model=model).posterior(Observation(y=y, degradation=degradation), generator=seeded()).denoiser
    sigma = torch.full((2,), 0.7)
    assert denoiser.condition.source.equal(seen.source) and bool((denoiser.condition.mask == 1).all())
    assert torch.equal(denoiser(x0, sigma), model(x0, sigma, denoiser.condition))


def test_a_regression_is_evaluated_once_whatever_the_steps():
    model = tiny_learner(regression=True)
    for sampler, steps in (("heun", 30), ("ddpm", None), ("dpm++-2m", 5)):
        chosen = resolve_method(model, None, sampler, steps)
        counting = Counting(model.given(_condition()))
        x = torch.zeros(1, 3, 16, 16)
        for step in chosen.plan.sampler.iterate(counting, x, chosen.plan.sigmas, generator=seeded()):
            x = step.x
        assert counting.calls == chosen.plan.evaluations == 1
        assert torch.equal(x, model(torch.randn(1, 3, 16, 16), torch.ones(1), _condition()))


def _condition():
    from scorefield.model import Condition

    source = torch.linspace(-1, 1, 768).reshape(1, 3, 16, 16)
    return Condition(source=source, mask=torch.ones(1, 1, 16, 16))
