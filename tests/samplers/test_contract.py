"""What every sampler keeps to, once over the list of all."""

import importlib.util
import math
from itertools import groupby

import pytest
import torch

from oracles import exact_model, float32_mixture, seeded
from scorefield import samplers as package
from scorefield import schedules
from scorefield.errors import UserError
from scorefield.samplers import (
    DDIM,
    MALA,
    AdamsBashforth,
    Ancestral,
    AnnealedLangevin,
    BurnIn,
    ConsistentAnnealed,
    DPMSolver2M,
    Euler,
    Heun,
    Langevin,
    PredictorCorrector,
    RungeKutta,
)

from .helpers import run

CHURN = {"churn": 40.0, "churn_min": 0.05, "churn_max": 50.0}
DETERMINISTIC = [Heun(), Euler(), DPMSolver2M(), AdamsBashforth(), AdamsBashforth(order=1), DDIM(), RungeKutta()]
STEPPING = [  # from each noise level to the next, to 0 too
    *DETERMINISTIC,
    Heun(**CHURN),
    Euler(**CHURN),
    DPMSolver2M(eta=1.0),
    DDIM(eta=0.5),
    Ancestral(),
    Ancestral(variance="forward"),
    Ancestral(variance="reverse-diffusion"),
    ConsistentAnnealed(),
    ConsistentAnnealed(rate=1.2, steps_each=3),
    PredictorCorrector(),
    PredictorCorrector(updates=0),
    PredictorCorrector(predictor=Heun(), updates=2),
    BurnIn(sampler=Heun(), updates=3),
]
LANGEVIN = [  # at each noise level, all above 0
    Langevin(step_size=0.02, steps_each=3),
    AnnealedLangevin(step_size=0.01, steps_each=3),
    AnnealedLangevin(step_size=0.01, steps_each=3, denoise=True),
    MALA(step_size=0.01, steps_each=3),
]
ALL = [*STEPPING, *LANGEVIN]
RISING = (Ancestral, DDIM)  # follow schedules that rise at times
NO_SCHEDULES = [
    [],
    [1.0],
    [1.0, 2.0],
    [2.0, 2.0],
    [1.0, 0.0, 0.0],
    [math.nan],
    [math.inf, 1.0],
    [2.0, -1.0],
    [[2.0, 1.0]],
]
ABOVE, TO_ZERO = schedules.geometric(10, 0.1, 5), schedules.karras(10, 0.1, 5)


def adaptive(sampler):
    return isinstance(sampler, RungeKutta)


def available(sampler):
    missing = adaptive(sampler) and importlib.util.find_spec("torchdiffeq") is None
    return pytest.param(
        sampler, id=repr(sampler), marks=pytest.mark.skipif(missing, reason="torchdiffeq is not installed")
    )


every = pytest.mark.parametrize("sampler", [available(s) for s in ALL])
to_zero = pytest.mark.parametrize("sampler", [available(s) for s in STEPPING])


class CountingDensity:
    """A mixture's denoiser and density that counts the calls of the denoiser."""

    def __init__(self):
        self.mixture, self.calls = float32_mixture(), 0

    def __call__(self, x, sigma):
        assert sigma.shape == (len(x),)
        self.calls += 1
        return self.mixture(x, sigma)

    def log_density(self, x, sigma):
        return self.mixture.log_density(x, sigma)


def start(n=3):
    return 10 * torch.randn(n, 1, 1, 2, generator=seeded(7))


def test_the_list_has_every_sampler_of_the_package():
    public = [getattr(package, name) for name in package.__all__]
    found = {kind for kind in public if hasattr(kind, "iterate") and hasattr(kind, "__dataclass_fields__")}
    assert found == {type(sampler) for sampler in ALL}


@pytest.mark.parametrize("name", package.PRESETS)
def test_the_list_has_the_sampler_of_every_name(name):
    kinds = {type(sampler) for sampler in ALL}
    model = exact_model(float32_mixture())
    assert type(package.plan(model, name).sampler) in kinds


@every
def test_steps_are_numbered_and_count_the_calls(sampler):
    for sigmas in (ABOVE, *([TO_ZERO] if sampler in STEPPING else [])):
        spy, levels, index = CountingDensity(), [], -1
        for index, step in enumerate(sampler.iterate(spy, start(), sigmas, generator=seeded())):
            assert (step.index, step.evaluations) == (index, spy.calls)
            assert step.x.shape == step.denoised.shape == (3, 1, 1, 2)
            assert step.x.dtype == step.denoised.dtype == torch.float32
            levels.append(step.sigma)
        reached = [level for level, _ in groupby(levels)]
        assert reached == sorted(reached, reverse=True)
        assert set(sigmas[1:].tolist()) <= set(reached)
        if not adaptive(sampler):
            assert spy.calls == sampler.evaluations(sigmas)


@every
def test_nothing_is_computed_ahead_and_a_stopped_sampler_serves_again(sampler):
    spy, x = CountingDensity(), start()
    walk = sampler.iterate(spy, x, ABOVE, generator=seeded(4))
    assert spy.calls == 0
    assert next(walk).evaluations == spy.calls
    first, same, other = (run(sampler, CountingDensity(), x, ABOVE, seed)[0] for seed in (4, 4, 5))
    assert torch.equal(first, same)
    assert torch.equal(first, other) == (sampler in DETERMINISTIC)
    assert torch.equal(x, start())  # the caller's tensor is unchanged


def test_a_burn_in_makes_a_deterministic_sampler_random():
    x, sampler = start(), BurnIn(sampler=Heun(), updates=1)
    assert not torch.equal(*(run(sampler, float32_mixture(), x, ABOVE, seed)[0] for seed in (0, 1)))


@every
def test_two_runs_of_one_object_do_not_disturb_each_other(sampler):
    alone = [run(sampler, CountingDensity(), start(), ABOVE, seed)[0] for seed in (1, 2)]
    walks = [sampler.iterate(CountingDensity(), start(), ABOVE, generator=seeded(seed)) for seed in (1, 2)]
    *_, last = zip(*walks, strict=True)
    assert all(torch.equal(step.x, x) for step, x in zip(last, alone, strict=True))


@every
def test_project_has_the_last_word_in_every_step(sampler):
    levels = []

    def project(x, sigma):
        levels.append(sigma)
        return torch.cat([torch.full_like(x[..., :1], 0.25), x[..., 1:]], -1)

    _, steps = run(sampler, CountingDensity(), start(), ABOVE, project=project)
    assert all(bool((step.x[..., 0] == 0.25).all()) for step in steps)
    if isinstance(sampler, MALA):  # which projects the states that it compares, and their scores
        assert set(levels) == set(ABOVE.tolist())
    else:
        assert levels == [step.sigma for step in steps]


@to_zero
def test_the_last_step_to_zero_lands_on_the_denoised_image(sampler):
    x = start()
    end, steps = run(sampler, CountingDensity(), x, torch.tensor([1.0, 0.0]))
    assert steps[-1].sigma == 0
    torch.testing.assert_close(end, steps[-1].denoised, rtol=0, atol=1e-5)  # |x| ≤ 30: two roundings of float32
    if len(steps) == 1 and getattr(sampler, "churn", 0) == 0:
        torch.testing.assert_close(end, float32_mixture()(x, torch.ones(3)), rtol=0, atol=1e-5)


@to_zero
def test_every_sampler_reaches_the_data(sampler):
    end, steps = run(sampler, CountingDensity(), start(), ABOVE)
    assert bool(end.isfinite().all())
    assert float(steps[-1].denoised.abs().max()) < 5  # the components are within 2.1 of 0, with std up to 0.7


@every
def test_numbers_stay_in_the_format_of_x(sampler):
    mixture = float32_mixture()

    class Double(CountingDensity):
        def __call__(self, x, sigma):
            return mixture(x.float(), sigma.float()).double()

        def log_density(self, x, sigma):
            return mixture.log_density(x.float(), sigma.float()).double()

    for step in sampler.iterate(Double(), start().double(), ABOVE.double(), generator=seeded()):
        assert step.x.dtype == step.denoised.dtype == torch.float64


@every
@pytest.mark.parametrize("sigmas", NO_SCHEDULES, ids=str)
def test_what_is_no_schedule_is_refused(sampler, sigmas):
    single = sigmas == [1.0] and (sampler in LANGEVIN or isinstance(sampler, BurnIn))
    if single or (sigmas == [1.0, 2.0] and isinstance(sampler, RISING)):
        assert next(sampler.iterate(CountingDensity(), start(), torch.tensor(sigmas), generator=seeded())).index == 0
        return
    with pytest.raises(UserError, match="sigmas"):
        next(sampler.iterate(CountingDensity(), start(), torch.tensor(sigmas), generator=seeded()))


@pytest.mark.parametrize("sampler", LANGEVIN, ids=repr)
@pytest.mark.parametrize("sigmas", [[1.0, 0.0], [0.0]], ids=str)
def test_langevin_dynamics_needs_noise_where_only_a_denoiser_is_known(sampler, sigmas):
    with pytest.raises(UserError, match="sigmas"):
        next(sampler.iterate(CountingDensity(), start(), torch.tensor(sigmas), generator=seeded()))


@every
def test_run_is_the_last_state_and_reports_every_step(sampler):
    seen = []
    end = package.run(sampler, CountingDensity(), start(), ABOVE.tolist(), generator=seeded(3), progress=seen.append)
    assert torch.equal(end, run(sampler, CountingDensity(), start(), ABOVE, seed=3)[0])
    assert end is seen[-1].x and [step.index for step in seen] == list(range(len(seen)))
