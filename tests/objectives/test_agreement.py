"""All objectives are the Fisher divergence but for one constant: they agree, and the truth is their minimum.

Statements about means are made in standard errors of the mean over N points; the seeds are fixed.
"""

import math

import pytest
import torch

from objectives.fields import OF_DENSITIES, OF_SCORES, Bent, BentDensity, noisy
from oracles import seeded
from scorefield.objectives import denoising_score_matching, schedule_score_matching, sliced_score_matching

N = 10_000
ALL = {**OF_SCORES, **OF_DENSITIES}


def bent(name, mixture, **wrong):
    return (BentDensity if name in OF_DENSITIES else Bent)(mixture, **wrong)


def errors_from_zero(values):
    """The mean in standard errors."""
    return float(values.mean() / (values.std() / math.sqrt(len(values))))


@pytest.mark.parametrize("level", [0.0, 0.5])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, 0.3)], ids=["truth", "wrong"])
@pytest.mark.parametrize("name", ALL)
def test_the_mean_is_the_fisher_divergence_less_the_constant(name, scale, shift, level):
    # J(s) = ½ E‖s − ∇ log p‖² − ½ E‖∇ log p‖²; with the trace's sign flipped it is off by 2 E tr ∇s
    mixture, x, sigma = noisy(N, level)
    true = mixture.score(x, sigma)
    expected = (bent("", mixture, scale=scale, shift=shift).score(x, sigma) - true).square() - true.square()
    with torch.no_grad():
        losses = ALL[name](bent(name, mixture, scale=scale, shift=shift), x, sigma)
    assert losses.shape == (N,)
    difference = losses - expected.flatten(1).sum(1) / 2
    assert abs(errors_from_zero(difference)) < 4
    trace = -scale * true.square().flatten(1).sum(1)  # E tr ∇s = −E⟨s, ∇ log p⟩, and no bend at shift
    assert abs(errors_from_zero(difference - 2 * trace)) > 15  # so the test would see a flipped sign


BENDS = {  # fields and the numbers whose slope they are
    "shift": (torch.ones_like, lambda x: x.flatten(1).sum(1)),
    "scale": (lambda x: x, lambda x: x.flatten(1).square().sum(1) / 2),
    "ripple": (lambda x: torch.sin(2 * x), lambda x: -torch.cos(2 * x).flatten(1).sum(1) / 2),
}


def slope(name, objective, bend, *, scale, level):
    """d/dt of the mean loss at s + t · bend, in standard errors from zero."""
    mixture, x, sigma = noisy(N, level)
    t = torch.zeros(N, dtype=x.dtype, requires_grad=True)
    field, number = BENDS[bend]
    model = bent(name, mixture, scale=scale, bend=number if name in OF_DENSITIES else field, t=t)
    return errors_from_zero(torch.autograd.grad(objective(model, x, sigma).sum(), t)[0])


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("name", ALL)
def test_the_gradient_vanishes_at_the_true_score_and_only_there(name, bend):
    assert abs(slope(name, ALL[name], bend, scale=1.0, level=0.3)) < 4


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_pulls_a_score_that_is_too_weak_or_too_strong_back(name):
    # along −x, roughly the score of the whole mixture, the loss of a weak score falls
    weak, strong = (slope(name, ALL[name], "scale", scale=scale, level=0.3) for scale in (0.7, 1.4))
    assert weak > 5 and strong < -5


@pytest.mark.parametrize("bend", BENDS)
def test_the_gradient_over_a_schedule_vanishes_at_the_true_score(bend):
    mixture, x0, _ = noisy(N, 0.0)
    sigmas = torch.tensor([3.0, 1.0, 0.4])

    def schedule(scale):
        t = torch.zeros(N, dtype=x0.dtype, requires_grad=True)
        model = Bent(mixture, scale=scale, bend=BENDS[bend][0], t=t)
        losses = schedule_score_matching(model, x0, sigmas, generator=seeded(3))
        return errors_from_zero(torch.autograd.grad(losses.sum(), t)[0])

    assert abs(schedule(1.0)) < 4
    if bend == "scale":
        assert schedule(0.7) > 5 and schedule(1.4) < -5


def test_denoising_differs_from_the_explicit_objective_by_what_the_model_does_not_change():
    # ½ E‖s + n/σ‖² − J(s) = ½ E‖n/σ‖² = D/2σ², whatever s
    level, d = 0.5, 2
    mixture, x0, _ = noisy(N, 0.0)
    sigma = torch.full((N,), level, dtype=x0.dtype)
    x = x0 + level * torch.randn(x0.shape, generator=seeded(3), dtype=x0.dtype)
    for scale, shift in ((1.0, 0.0), (0.5, 0.3), (-1.0, 0.0)):
        model = Bent(mixture, scale=scale, shift=shift)
        with torch.no_grad():
            explicit = ALL["explicit"](model, x, sigma)
        denoising = d / (2 * level**2) * denoising_score_matching(model, x0, sigma, generator=seeded(3))
        assert abs(errors_from_zero(denoising - explicit - d / (2 * level**2))) < 4


def test_several_projections_lessen_the_variance_as_their_number():
    mixture, x, sigma = noisy(2000, 0.3)
    exact = ALL["explicit"](Bent(mixture), x, sigma)

    def variance(projections):
        losses = sliced_score_matching(
            Bent(mixture), x, sigma, projections=projections, distribution="gaussian", generator=seeded(4)
        )
        return float((losses - exact).square().mean().detach())

    assert variance(1) / variance(16) == pytest.approx(16, rel=0.25)
