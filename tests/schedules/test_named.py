"""Every named schedule fits every range that it meets."""

import pytest
import torch

from scorefield.errors import UserError
from scorefield.schedules import (
    SCHEDULES,
    check_schedule,
    karras,
    linear_beta,
    palette_inference,
    palette_training,
    vp_time,
)

RANGES = [(80.0, 0.002), (1.0, 0.01), (157.5, 0.0099), (50.0, 0.01), (1.3e10, 1e-4), (0.5, 0.4)]
named = pytest.mark.parametrize("name", SCHEDULES)


@named
@pytest.mark.parametrize(("high", "low"), RANGES)
@pytest.mark.parametrize("steps", [1, 2, 18, 1000])
def test_a_named_schedule_falls_within_the_range_and_ends_in_zero(name, high, low, steps):
    schedule = SCHEDULES[name](high, low, steps)
    levels = check_schedule(schedule)
    assert (schedule.dtype, len(schedule), levels[-1]) == (torch.float32, steps + 1, 0)
    assert low * (1 - 2e-6) <= levels[-2] and levels[0] <= high * (1 + 2e-6)


@named
def test_a_named_schedule_begins_near_the_top_of_a_models_range(name):
    assert float(SCHEDULES[name](80.0, 0.002, 20)[0]) == pytest.approx(80, rel=0.15)


@named
def test_a_named_schedule_refuses_an_impossible_range(name):
    for wrong in [(1.0, 2.0, 5), (1.0, 0.0, 5), (2.0, 1.0, 0)]:
        with pytest.raises(UserError, match="need"):
            SCHEDULES[name](*wrong)


@pytest.mark.parametrize("name", ["linear-beta", "cosine", "vp", "palette-training", "palette-inference"])
def test_a_range_that_a_schedule_never_meets_is_reported(name):
    with pytest.raises(UserError, match=r"schedule: it runs from .* the noise levels asked for from 0.0002 to"):
        SCHEDULES[name](2e-4, 1e-4, 5)


@pytest.mark.parametrize(
    ("name", "own"),
    [("linear-beta", linear_beta()), ("palette-training", palette_training()),
     ("palette-inference", palette_inference())],
)  # fmt: skip
def test_a_schedules_own_levels_are_kept_where_they_suffice(name, own):
    high, low = float(own[0]), float(own[-1])
    assert torch.equal(SCHEDULES[name](high, low, len(own))[:-1], own)
    few = SCHEDULES[name](high, low, 50)[:-1]
    assert bool(torch.isin(few, own).all()) and (few[0], few[-1]) == (own[0], own[-1])
    cut = SCHEDULES[name](80.0, 0.05, 50)[:-1]
    assert bool(torch.isin(cut, own).all())


def test_more_steps_than_levels_are_read_off_between_them():
    own = linear_beta()
    double = SCHEDULES["linear-beta"](float(own[0]), float(own[-1]), 1999)[:-1]
    torch.testing.assert_close(double[::2], own, rtol=1e-6, atol=0)
    middles = (own[:-1].double() * own[1:].double()).sqrt()  # ln σ is linear between two noise levels
    torch.testing.assert_close(double[1::2].double(), middles, rtol=1e-6, atol=0)


def test_the_vp_schedule_is_even_in_time():
    schedule = SCHEDULES["vp"](80.0, 0.02, 30)[:-1].double()
    steps = vp_time(schedule).diff()
    torch.testing.assert_close(steps, steps.mean().expand(29), rtol=1e-4, atol=0)
    assert float(schedule[0]) == pytest.approx(80, rel=1e-6) and float(schedule[-1]) == pytest.approx(0.02)


def test_geometric_log_snr_and_ve_are_one_schedule_and_karras_its_own():
    schedules = [SCHEDULES[name](80.0, 0.002, 18) for name in ("geometric", "log-snr", "ve")]
    assert torch.equal(schedules[0], schedules[1]) and torch.equal(schedules[0], schedules[2])
    assert torch.equal(SCHEDULES["karras"](80.0, 0.002, 18), karras(80.0, 0.002, 18))
