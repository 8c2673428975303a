"""One call from a model to pictures."""

import pytest
import torch

from oracles import Counting, exact_model, float32_mixture, mixture_moments, seeded, tiny_model
from scorefield.errors import UserError
from scorefield.evaluation.distances import energy_distance
from scorefield.model import check_sigmas
from scorefield.noise import geometric
from scorefield.samplers import SAMPLERS, plan, sample


@pytest.mark.parametrize(("name", "steps"), [("heun", 30), ("annealed-langevin", 500)])
def test_samples_of_an_exact_model_follow_its_mixture(name, steps):
    mixture = float32_mixture()
    x = sample(exact_model(mixture), 3000, sampler=name, steps=steps, batch=3000).flatten(1)
    mean, covariance = mixture_moments(mixture)
    assert (x.mean(0) - mean).abs().max() < 0.12  # measured 0.025 and 0.06
    assert (torch.cov(x.T) - covariance).abs().max() < 0.25  # measured 0.07 and 0.12
    # two exact samples: 0.0006 to 0.006; 500 steps of Langevin leave the variance 10 % too wide
    assert energy_distance(x, mixture.sample(3000, generator=seeded(9))) < 0.01


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_seed_gives_one_result(name):
    model = tiny_model()
    first, same, other = (sample(model, 3, sampler=name, steps=10, seed=s) for s in (0, 0, 1))
    assert first.shape == (3, 1, 8, 8) and first.dtype == torch.float32
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_without_noise_the_batch_does_not_matter():
    model = tiny_model()
    torch.testing.assert_close(
        sample(model, 5, steps=6, batch=2), sample(model, 5, steps=6, batch=64), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [None, 1, 2, 9, 50])
def test_a_plan_counts_its_calls_and_stays_within_the_model(name, steps):
    model = tiny_model()
    chosen = plan(model, name, steps)
    check_sigmas(model, chosen.sigmas)
    if steps is None:
        return
    spy = Counting(lambda x, sigma: 0.5 * x)
    walk = chosen.sampler.iterate(spy, torch.ones(1, 1, 2, 2), chosen.sigmas, generator=seeded())
    assert spy.calls == 0
    assert [step.evaluations for step in walk][-1] == spy.calls == chosen.evaluations


def test_plans_have_their_papers_defaults():
    model = tiny_model()
    assert plan(model).evaluations == 35  # Karras et al. 2022: 18 steps
    assert plan(model, "annealed-langevin").evaluations == 501
    assert plan(model, "langevin").evaluations == 1000


def test_another_size_and_ladder_may_be_asked_for():
    pictures = sample(tiny_model(3), 2, sigmas=geometric(10, 0.1, 5), size=(5, 11))
    assert pictures.shape == (2, 3, 5, 11)


def test_track_counts_up_to_the_whole():
    told = []
    sample(tiny_model(), 5, steps=3, batch=2, track=lambda done, total, step: told.append((done, total)))
    assert told == [(2, 15), (4, 15), (5, 15), (7, 15), (9, 15), (10, 15), (12, 15), (14, 15), (15, 15)]


def test_no_gradient_is_kept():
    assert not sample(tiny_model(), 1, steps=2).requires_grad


def test_mistakes_are_told():
    model = tiny_model()
    with pytest.raises(UserError, match=r"no such sampler 'huen'\. Did you mean `heun`"):
        sample(model, 1, sampler="huen")
    with pytest.raises(UserError, match="at least one picture, got 0"):
        sample(model, 0)
    with pytest.raises(UserError, match="steps: need at least one"):
        sample(model, 1, steps=0)
    with pytest.raises(UserError, match=r"this model knows 80 to 0\.002"):
        sample(model, 1, sigmas=geometric(100, 1, 5))
