"""One call from a model to pictures."""

import pytest
import torch

from oracles import Counting, exact_model, float32_mixture, lively, mixture_moments, seeded, tiny_model
from scorefield.errors import UserError
from scorefield.evaluation.distances import energy_distance
from scorefield.model import ScoreModel, check_sigmas
from scorefield.networks import MLP, Energy
from scorefield.noise import geometric
from scorefield.parameterization import EDM, NCSN, NCSNv2
from scorefield.samplers import SAMPLERS, AnnealedLangevin, Langevin, Tuning, plan, sample


def any_model(name):
    """A small untrained model that the sampler of this name takes: MALA asks for an energy."""
    if name != "mala":
        return tiny_model()
    torch.manual_seed(0)
    network = Energy(lively(MLP(features=2, width=16)))
    return ScoreModel(network, EDM(), shape=(2,)).eval()


def laddered(family, *, value_range=(0.0, 1.0)):
    """A model that was trained on the family's rungs."""
    rungs = family.sigmas
    network = tiny_model().network
    return ScoreModel(
        network, family, shape=(1, 8, 8), value_range=value_range, sigma_range=(rungs[-1], rungs[0])
    ).eval()


V1 = NCSN(sigmas=tuple(geometric(1, 0.01, 10).tolist()))  # Song & Ermon 2019, §5
V2 = NCSNv2(sigmas=tuple(geometric(50, 0.01, 232).tolist()))  # Song & Ermon 2020, Table 2: CIFAR-10


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
    model = any_model(name)
    first, same, other = (sample(model, 3, sampler=name, steps=10, seed=s) for s in (0, 0, 1))
    assert first.shape == (3, *model.shape) and first.dtype == torch.float32
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
    if name == "mala":
        assert chosen.evaluations == (chosen.sampler.steps + 1) * len(chosen.sigmas)
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


def test_a_model_of_few_rungs_is_walked_as_its_paper_says():
    chosen = plan(laddered(V1), "annealed-langevin")
    assert chosen.sampler == AnnealedLangevin(step_size=pytest.approx(2e-5), steps=100, denoise=False)
    assert torch.equal(chosen.sigmas, torch.tensor(V1.sigmas))
    assert chosen.evaluations == 1000


def test_a_model_of_many_rungs_is_walked_as_its_paper_says():
    for convention, epsilon in (("code", 6.2e-6), ("paper", 12.4e-6)):
        chosen = plan(laddered(V2), "annealed-langevin", tuning=Tuning(convention=convention))
        assert (chosen.sampler.steps, chosen.sampler.denoise) == (5, True)
        assert chosen.sampler.step_size == pytest.approx(epsilon, rel=0.01)
        assert chosen.sampler.convention == convention
        assert torch.equal(chosen.sigmas, torch.tensor(V2.sigmas))


def test_the_papers_step_is_the_same_in_whatever_units():
    wide = NCSN(sigmas=tuple((2 * torch.tensor(V1.sigmas)).tolist()))  # pixels in [−1, 1]
    chosen = plan(laddered(wide, value_range=(-1.0, 1.0)), "annealed-langevin")
    assert chosen.sampler.step_size == pytest.approx(8e-5)


def test_the_authors_program_is_walked_by_its_convention():
    ours = plan(laddered(V1), "annealed-langevin", tuning=Tuning(convention="code"))
    x = torch.zeros(2, 1, 2, 2)
    theirs = AnnealedLangevin(step_size=4e-5, steps=100)  # their 2e-5 in the paper's terms
    last = [
        list(sampler.iterate(lambda x, sigma: 0.9 * x, x, ours.sigmas, generator=seeded()))[-1].x
        for sampler in (ours.sampler, theirs)
    ]
    torch.testing.assert_close(*last)


@pytest.mark.parametrize(
    ("steps", "each", "rungs", "updates"),
    [(None, None, 10, 100), (70, None, 10, 7), (1005, None, 10, 100), (5, None, 5, 1), (1, None, 2, 1),
     (None, 3, 10, 3), (20, 4, 5, 4)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["annealed-langevin", "mala"])
def test_steps_are_shared_among_the_models_own_rungs(name, steps, each, rungs, updates):
    chosen = plan(laddered(V1), name, steps, tuning=Tuning(steps_each=each))
    assert (len(chosen.sigmas), chosen.sampler.steps) == (rungs, updates)
    assert float(chosen.sigmas[0]) == 1 and float(chosen.sigmas[-1]) == pytest.approx(0.01)
    assert set(chosen.sigmas.tolist()) <= set(torch.tensor(V1.sigmas).tolist())
    assert chosen.sampler.step_size == pytest.approx(2e-5)


def test_langevin_refines_at_a_ladders_last_rung():
    chosen = plan(laddered(V1), "langevin", tuning=Tuning(step_size=3e-6, steps_each=7, convention="code"))
    assert chosen.sampler == Langevin(step_size=3e-6, steps=7, convention="code")
    assert chosen.sigmas.tolist() == pytest.approx([0.01])
    assert plan(laddered(V1), "langevin").sampler.step_size == pytest.approx(2e-5)


def test_a_ladder_of_ones_own_sets_the_step_too():
    for model in (tiny_model(), laddered(V1)):
        chosen = plan(model, "annealed-langevin", sigmas=geometric(1.0, 0.5, 5))
        assert chosen.sampler.step_size == pytest.approx(0.2 * 0.25)
        assert torch.equal(chosen.sigmas, geometric(1.0, 0.5, 5))


def test_what_is_asked_for_wins():
    tuning = Tuning(steps_each=2, step_size=1e-6, denoise=True)
    assert plan(laddered(V1), "annealed-langevin", tuning=tuning).sampler == AnnealedLangevin(
        step_size=1e-6, steps=2, denoise=True
    )
    tuning = Tuning(denoise=False)
    assert not plan(laddered(V2), "annealed-langevin", tuning=tuning).sampler.denoise


@pytest.mark.parametrize(
    ("name", "tuning", "words"),
    [
        ("heun", Tuning(step_size=1e-5), "step_size: the heun sampler has no such setting"),
        ("heun", Tuning(convention="paper"), "convention: the heun sampler has no such setting"),
        ("langevin", Tuning(denoise=True), "denoise: the langevin sampler has no such setting"),
        ("mala", Tuning(denoise=False), "annealed-langevin alone"),
        ("annealed-langevin", Tuning(steps_each=0), "steps_each: need at least one"),
    ],
)
def test_a_setting_that_a_sampler_does_not_have_is_refused(name, tuning, words):
    with pytest.raises(UserError, match=words):
        plan(tiny_model(), name, tuning=tuning)


def starts(start, **settings):
    """What sampling begins with: a step too small to leave it."""
    tuning = Tuning(step_size=1e-14)
    return sample(
        laddered(V1),
        200,
        sampler="langevin",
        steps=1,
        tuning=tuning,
        start=start,
        sigmas=torch.tensor([0.5]),
        **settings,
    )


def test_the_start_is_gaussian_or_uniform_over_the_value_range():
    x = starts("uniform").flatten().sort().values
    assert float(x[0]) >= 0 and float(x[-1]) <= 1
    even = torch.linspace(0, 1, len(x))
    assert float((x - even).abs().max()) < 0.02  # Kolmogorov's 1 % bound for 12,800 values is 0.0144
    x = starts("gaussian")
    assert float(x.mean()) == pytest.approx(0, abs=0.02) and float(x.std()) == pytest.approx(0.5, rel=0.03)
    assert not torch.equal(starts("uniform", seed=1), starts("uniform"))
    with pytest.raises(UserError, match=r"no such start 'unifrom'\. Did you mean `uniform`"):
        starts("unifrom")


def test_mala_asks_for_a_density():
    with pytest.raises(UserError, match="no density"):
        sample(tiny_model(), 1, sampler="mala")


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
