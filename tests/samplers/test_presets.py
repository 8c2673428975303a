"""Samplers by name: schedules, settings, and what a plan says of itself."""

import pytest
import torch

from oracles import Counting, seeded, tiny_model
from scorefield import schedules
from scorefield.errors import UserError
from scorefield.model import ModelSpec, ScoreModel, check_sigmas
from scorefield.parameterization import NCSN, NCSNv2
from scorefield.sampler_names import SAMPLER_SUMMARIES
from scorefield.samplers import (
    DDIM,
    PRESETS,
    AdamsBashforth,
    Ancestral,
    AnnealedLangevin,
    BurnIn,
    ConsistentAnnealed,
    DPMSolver2M,
    Heun,
    Langevin,
    PredictorCorrector,
    RungeKutta,
    known_settings,
    plan,
)
from scorefield.schedules import geometric

WALKERS = [name for name in PRESETS if name not in {"annealed-langevin", "langevin", "mala"}]


def scheduled(family, *, value_range=(0.0, 1.0)):
    """A model that was trained on the family's noise levels."""
    levels = family.sigmas
    network = tiny_model().network
    return ScoreModel(
        network, family, ModelSpec(shape=(1, 8, 8), value_range=value_range, sigma_range=(levels[-1], levels[0]))
    ).eval()


V1 = NCSN(sigmas=tuple(geometric(1, 0.01, 10).tolist()))  # Song & Ermon 2019, §5
V2 = NCSNv2(sigmas=tuple(geometric(50, 0.01, 232).tolist()))  # Song & Ermon 2020, Table 2: CIFAR-10


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("steps", [None, 1, 2, 9, 50])
def test_a_plan_counts_its_calls_and_stays_within_the_model(name, steps):
    model = tiny_model()
    chosen = plan(model, name, steps)
    check_sigmas(model, chosen.sigmas)
    if steps is None or name == "runge-kutta":  # whose calls depend on the tolerance
        return
    if name == "mala":
        assert chosen.evaluations == (chosen.sampler.steps_each + 1) * len(chosen.sigmas)
        return
    spy = Counting(lambda x, sigma: 0.5 * x)
    walk = chosen.sampler.iterate(spy, torch.ones(1, 1, 2, 2), chosen.sigmas, generator=seeded())
    assert spy.calls == 0
    assert [step.evaluations for step in walk][-1] == spy.calls == chosen.evaluations


def test_the_command_line_knows_the_same_names():
    assert list(SAMPLER_SUMMARIES) == list(PRESETS)


def test_plans_have_their_papers_defaults():
    model = tiny_model()
    assert plan(model).evaluations == 35  # Karras et al. 2022: 18 steps
    assert plan(model, "annealed-langevin").evaluations == 501
    assert plan(model, "langevin").evaluations == 1000
    for fast in ("dpm++-2m", "dpm++-2m-sde", "adams", "euler", "ddim"):
        assert plan(model, fast).evaluations <= 20


@pytest.mark.parametrize(
    ("name", "settings", "sampler"),
    [
        ("heun", {"churn": 10, "churn_noise": 1.007}, Heun(churn=10.0, churn_noise=1.007)),
        ("dpm++-2m", {}, DPMSolver2M()),
        ("dpm++-2m", {"eta": 0.5}, DPMSolver2M(eta=0.5)),
        ("dpm++-2m-sde", {}, DPMSolver2M(eta=1.0)),
        ("adams", {"order": 2}, AdamsBashforth(order=2)),
        ("ddim", {"eta": 1}, DDIM(eta=1.0)),
        ("ddpm", {"variance": "forward"}, Ancestral(variance="forward")),
        (
            "predictor-corrector",
            {"snr": 0.1, "updates": 2, "eta": 0.5},
            PredictorCorrector(predictor=DDIM(eta=0.5), snr=0.1, updates=2),
        ),
        ("predictor-corrector", {}, PredictorCorrector(predictor=DDIM())),
        ("consistent", {"rate": 3, "steps_each": 2}, ConsistentAnnealed(rate=3.0, steps_each=2)),
        ("runge-kutta", {"rtol": 1e-3, "method": "bosh3"}, RungeKutta(rtol=1e-3, method="bosh3")),
    ],
)
def test_settings_reach_the_sampler_and_the_plan_names_them(name, settings, sampler):
    chosen = plan(tiny_model(), name, settings=settings)
    assert chosen.sampler == sampler
    assert chosen.settings == chosen.settings | settings
    assert set(chosen.settings) == set(known_settings()[name])
    again = plan(tiny_model(), name, settings=chosen.settings)
    assert again.sampler == sampler


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("heun", {"chrun": 1.0}, r"chrun: the heun sampler has no such setting\. Did you mean `churn`"),
        ("heun", {"eta": 0.5}, "It belongs to dpm\\+\\+-2m, dpm\\+\\+-2m-sde, ddim"),
        ("heun", {"step_size": 1e-5}, "step_size: the heun sampler has no such setting"),
        ("heun", {"convention": "paper"}, "convention: the heun sampler has no such setting"),
        ("langevin", {"denoise": True}, "denoise: the langevin sampler has no such setting"),
        ("mala", {"denoise": False}, "annealed-langevin alone"),
        ("predictor-corrector", {"predictor": "ddpm"}, "predictor: the predictor-corrector sampler has no"),
        ("annealed-langevin", {"steps_each": 0}, "steps_each: need at least one, got 0"),
        ("annealed-langevin", {"steps_each": 2.5}, r"steps_each: need a whole number, got 2\.5"),
        ("annealed-langevin", {"denoise": 1}, "denoise: need true or false, got 1"),
        ("annealed-langevin", {"convention": "papr"}, "no such convention 'papr'. Did you mean `paper`"),
        ("ddim", {"eta": "half"}, "eta: need a number, got 'half'"),
        ("ddim", {"eta": True}, "eta: need a number, got True"),
        ("ddim", {"eta": 2}, "eta: .*, got 2"),
        ("adams", {"order": True}, "order: need a whole number, got True"),
        ("adams", {"order": 9}, "order"),
        ("ddpm", {"variance": "fixedlarge"}, "no such variance 'fixedlarge'"),
        ("ddpm", {"variance": 3}, "variance: need posterior or forward or reverse-diffusion, got 3"),
    ],
)
def test_a_setting_that_cannot_be_is_reported(name, settings, words):
    with pytest.raises(UserError, match=words):
        plan(tiny_model(), name, settings=settings)


# --- schedules -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_a_schedule_may_be_named(name):
    model = tiny_model()
    chosen = plan(model, "dpm++-2m", 12, schedule=name)
    low, high = model.sigma_range
    assert torch.equal(chosen.sigmas, schedules.SCHEDULES[name](high, low, 12))
    assert chosen.schedule == name and float(chosen.sigmas[-1]) == 0
    langevin = plan(model, "annealed-langevin", 60, schedule=name)
    assert float(langevin.sigmas[-1]) > 0 and langevin.schedule == name


@pytest.mark.parametrize("family", [V1, V2], ids=["10 noise levels", "232 noise levels"])
def test_the_models_own_levels_may_be_walked(family):
    model, levels = scheduled(family), torch.tensor(family.sigmas)
    chosen = plan(model, "ddpm", 5, schedule="own")
    assert chosen.schedule == "own" and chosen.max_mismatch == 1
    assert float(chosen.sigmas[0]) == float(levels[0]) and float(chosen.sigmas[-2]) == float(levels[-1])
    assert len(chosen.sigmas) == 6 and float(chosen.sigmas[-1]) == 0
    assert set(chosen.sigmas[:-1].tolist()) <= set(levels.tolist())
    every = plan(model, "heun", 1000, schedule="own").sigmas
    assert torch.equal(every, torch.cat([levels, torch.zeros(1)]))


def test_levels_off_a_models_levels_are_reported():
    chosen = plan(scheduled(V1), "heun")
    asked, own = chosen.sigmas[chosen.sigmas > 0], torch.tensor(V1.sigmas)
    nearest = (asked.log()[:, None] - own.log()[None]).abs().min(1).values.max().exp()
    assert chosen.max_mismatch == pytest.approx(float(nearest), rel=1e-5)
    assert 1.1 < chosen.max_mismatch < 1.3  # the noise levels' ratio is 1.668, its root 1.29
    assert plan(scheduled(V1), "annealed-langevin").max_mismatch == 1
    assert plan(tiny_model()).max_mismatch == 1


@pytest.mark.parametrize("name", WALKERS)
def test_a_model_of_few_levels_starts_with_burn_in(name):
    chosen = plan(scheduled(V1), name, 5)
    assert isinstance(chosen.sampler, BurnIn)
    assert type(chosen.sampler.sampler) is type(plan(tiny_model(), name, 5).sampler)
    assert chosen.evaluations == 10 + chosen.sampler.sampler.evaluations(chosen.sigmas)
    assert not isinstance(plan(scheduled(V2), name, 5).sampler, BurnIn)


def test_a_warm_start_walks_the_levels_below_alone():
    for name in PRESETS:
        whole, warm = plan(scheduled(V1), name), plan(scheduled(V1), name, init_sigma=0.5)
        assert float(warm.sigmas[0]) == 0.5
        assert torch.equal(warm.sigmas[1:], whole.sigmas[whole.sigmas < 0.5])
        assert not isinstance(warm.sampler, BurnIn)
    on_a_level = plan(scheduled(V1), "heun", 12, schedule="own", init_sigma=V1.sigmas[3])
    assert on_a_level.sigmas.tolist() == pytest.approx([*V1.sigmas[3:], 0.0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sampler": "huen"}, r"no such sampler 'huen'\. Did you mean `heun`"),
        ({"steps": 0}, "steps: need at least one, got 0"),
        ({"schedule": "kerras"}, r"no such schedule 'kerras'\. Did you mean `karras`"),
        ({"schedule": "own"}, "no noise levels of its own"),
        ({"schedule": "own", "sampler": "annealed-langevin"}, "no noise levels of its own"),
        ({"schedule": "karras", "sampler": "langevin"}, "stays at one noise level"),
        ({"schedule": "karras", "sigmas": geometric(10, 1, 5)}, "give either"),
        ({"steps": 5, "sigmas": geometric(10, 1, 5)}, "fixes the number of noise levels"),
        ({"sigmas": geometric(100, 1, 5)}, r"this model knows 80 to 0\.002"),
        ({"sigmas": torch.tensor([1.0, 1e-4, 0.0])}, r"this model knows 80 to 0\.002"),
        ({"sigmas": torch.ones(2, 2)}, "a row of noise levels"),
        ({"sigmas": torch.tensor([2.0, float("nan")])}, "finite"),
        ({"sigmas": torch.tensor([])}, "a row of noise levels"),
        ({"init_sigma": 0.0}, "above 0"),
        ({"init_sigma": float("nan")}, "above 0"),
        ({"init_sigma": 100.0}, r"this model knows 80 to 0\.002"),
    ],
    ids=str,
)
def test_mistakes_are_reported(arguments, words):
    with pytest.raises(UserError, match=words):
        plan(tiny_model(), **arguments)


def test_a_schedule_that_climbs_is_for_the_samplers_that_say_so():
    sigmas = torch.tensor([10.0, 2.0, 5.0, 1.0, 0.0])
    chosen = plan(tiny_model(), "ddpm", sigmas=sigmas)
    assert torch.equal(chosen.sigmas, sigmas) and chosen.evaluations == 3
    chosen = plan(tiny_model(), "heun", sigmas=sigmas)
    with pytest.raises(UserError, match="a schedule must decrease"):
        next(chosen.sampler.iterate(lambda x, sigma: x, torch.ones(1, 1, 8, 8), chosen.sigmas, generator=seeded()))


# --- Langevin dynamics ---------------------------------------------------------------------------


def test_a_model_of_few_levels_is_walked_as_its_paper_says():
    chosen = plan(scheduled(V1), "annealed-langevin")
    assert chosen.sampler == AnnealedLangevin(step_size=pytest.approx(2e-5), steps_each=100, denoise=False)
    assert torch.equal(chosen.sigmas, torch.tensor(V1.sigmas))
    assert chosen.evaluations == 1000


def test_a_model_of_many_levels_is_walked_as_its_paper_says():
    for convention, epsilon in (("code", 6.2e-6), ("paper", 12.4e-6)):
        chosen = plan(scheduled(V2), "annealed-langevin", settings={"convention": convention})
        assert (chosen.sampler.steps_each, chosen.sampler.denoise) == (5, True)
        assert chosen.sampler.step_size == pytest.approx(epsilon, rel=0.01)
        assert chosen.sampler.convention == convention
        assert torch.equal(chosen.sigmas, torch.tensor(V2.sigmas))


def test_the_papers_step_is_the_same_in_whatever_units():
    wide = NCSN(sigmas=tuple((2 * torch.tensor(V1.sigmas)).tolist()))  # pixels in [−1, 1]
    chosen = plan(scheduled(wide, value_range=(-1.0, 1.0)), "annealed-langevin")
    assert chosen.sampler.step_size == pytest.approx(8e-5)


def test_the_authors_program_is_walked_by_its_convention():
    ours = plan(scheduled(V1), "annealed-langevin", settings={"convention": "code"})
    x = torch.zeros(2, 1, 2, 2)
    theirs = AnnealedLangevin(step_size=4e-5, steps_each=100)  # their 2e-5 in the paper's terms
    last = [
        list(sampler.iterate(lambda x, sigma: 0.9 * x, x, ours.sigmas, generator=seeded()))[-1].x
        for sampler in (ours.sampler, theirs)
    ]
    torch.testing.assert_close(*last)


@pytest.mark.parametrize(
    ("steps", "each", "levels", "updates"),
    [(None, None, 10, 100), (70, None, 10, 7), (1005, None, 10, 100), (5, None, 5, 1), (1, None, 2, 1),
     (None, 3, 10, 3), (20, 4, 5, 4)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["annealed-langevin", "mala"])
def test_steps_are_shared_among_the_models_own_levels(name, steps, each, levels, updates):
    settings = {} if each is None else {"steps_each": each}
    chosen = plan(scheduled(V1), name, steps, settings=settings)
    assert (len(chosen.sigmas), chosen.sampler.steps_each) == (levels, updates)
    assert float(chosen.sigmas[0]) == 1 and float(chosen.sigmas[-1]) == pytest.approx(0.01)
    assert set(chosen.sigmas.tolist()) <= set(torch.tensor(V1.sigmas).tolist())
    assert chosen.sampler.step_size == pytest.approx(2e-5)


def test_langevin_refines_at_a_schedules_last_level():
    settings = {"step_size": 3e-6, "steps_each": 7, "convention": "code"}
    chosen = plan(scheduled(V1), "langevin", settings=settings)
    assert chosen.sampler == Langevin(step_size=3e-6, steps_each=7, convention="code")
    assert chosen.sigmas.tolist() == pytest.approx([0.01])
    assert plan(scheduled(V1), "langevin").sampler.step_size == pytest.approx(2e-5)


def test_a_schedule_of_ones_own_sets_the_step_too():
    for model in (tiny_model(), scheduled(V1)):
        chosen = plan(model, "annealed-langevin", sigmas=geometric(0.9, 0.5, 5))
        assert chosen.sampler.step_size == pytest.approx(0.2 * 0.25)
        assert torch.equal(chosen.sigmas, geometric(0.9, 0.5, 5))
        assert chosen.schedule == "given"


def test_the_request_wins():
    settings = {"steps_each": 2, "step_size": 1e-6, "denoise": True}
    assert plan(scheduled(V1), "annealed-langevin", settings=settings).sampler == AnnealedLangevin(
        step_size=1e-6, steps_each=2, denoise=True
    )
    assert not plan(scheduled(V2), "annealed-langevin", settings={"denoise": False}).sampler.denoise
