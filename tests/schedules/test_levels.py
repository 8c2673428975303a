"""σ ↔ γ ↔ t, schedules as users write them, and how far off a schedule a level lies."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scorefield.errors import UserError
from scorefield.schedules import (
    check_schedule,
    gamma_to_sigma,
    linear_beta,
    max_mismatch,
    parse_schedule,
    sigma_to_gamma,
    sub_vp_sigma,
    sub_vp_time,
    vp_sigma,
    vp_time,
)

betas = st.tuples(st.floats(0.01, 5), st.floats(0, 30)).map(lambda pair: (pair[0], pair[0] + pair[1]))
BOTH = [(vp_sigma, vp_time), (sub_vp_sigma, sub_vp_time)]


@pytest.mark.parametrize(("to_sigma", "to_time"), BOTH, ids=["vp", "sub-vp"])
@given(t=st.floats(1e-5, 1), beta=betas)
def test_times_come_back_from_their_sigmas(to_sigma, to_time, t, beta):
    settings = {"beta_min": beta[0], "beta_max": beta[1]}
    exact = torch.tensor(t, dtype=torch.float64)
    assert float(to_time(to_sigma(exact, **settings), **settings)) == pytest.approx(t, rel=1e-10)
    short = torch.tensor(t)
    assert float(to_time(to_sigma(short, **settings), **settings)) == pytest.approx(t, rel=2e-5)


@given(st.floats(1e-4, 150))
def test_sigmas_come_back_from_their_times_and_gammas(sigma):
    exact = torch.tensor(sigma, dtype=torch.float64)
    assert float(vp_sigma(vp_time(exact))) == pytest.approx(sigma, rel=1e-9)
    assert float(sub_vp_sigma(sub_vp_time(exact))) == pytest.approx(sigma, rel=1e-9)
    assert float(gamma_to_sigma(sigma_to_gamma(exact))) == pytest.approx(sigma, rel=1e-6)


@given(st.floats(1e-3, 1))
def test_the_vp_equation_keeps_the_exponential_of_its_integral(t):
    gamma = sigma_to_gamma(vp_sigma(torch.tensor(t, dtype=torch.float64)))
    assert float(gamma.log()) == pytest.approx(-(0.1 * t + 9.95 * t * t), rel=1e-6)


def test_time_of_a_sigma_in_float32_is_good_to_a_few_roundings():
    sigma = torch.logspace(-3, 10, 60)
    np.testing.assert_allclose(vp_time(sigma), vp_time(sigma.double()), rtol=1e-6)
    np.testing.assert_allclose(sub_vp_time(sigma), sub_vp_time(sigma.double()), rtol=1e-6)


@pytest.mark.parametrize("schedule", [[3.0, 2.0, 5.0, 4.0, 0.0], [1.0, 2.0], [2.0]])
def test_a_schedule_that_may_rise_may_rise(schedule):
    assert check_schedule(torch.tensor(schedule), rises=True) == schedule


@pytest.mark.parametrize(
    "schedule",
    [[2.0, 2.0], [2.0, 1.0, 1.0, 0.0], [2.0, 0.0, 1.0], [0.0, 1.0], [2.0, math.inf], [-1.0, 2.0], []],
)
def test_what_is_no_rising_schedule_is_refused(schedule):
    with pytest.raises(UserError, match="sigmas"):
        check_schedule(torch.tensor(schedule), rises=True)


falling = st.lists(st.floats(2**-13, 2**13, width=32), min_size=1, max_size=30, unique=True).map(
    lambda levels: sorted(levels, reverse=True)
)


@given(falling, st.booleans(), st.sampled_from([",", ", ", " ", "; ", "\n", " ,\t"]))
def test_a_schedule_reads_back_as_it_was_written(levels, to_zero, between):
    levels = levels + [0.0] * to_zero
    assert parse_schedule(between.join(map(repr, levels))).tolist() == levels
    assert parse_schedule(levels).tolist() == levels


def test_a_schedule_may_come_in_brackets_and_as_whole_numbers():
    assert torch.equal(parse_schedule("80,20,5,1,0.1,0"), torch.tensor([80, 20, 5, 1, 0.1, 0]))
    assert torch.equal(parse_schedule(" [80, 20, 1e-1] "), torch.tensor([80, 20, 0.1]))
    assert torch.equal(parse_schedule([80, 20]), torch.tensor([80.0, 20.0]))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("80,fast,1", "'fast' is no noise level. Write decreasing numbers"),
        ("80,,1,x", "'x' is no noise level"),
        ("", "'' is no noise level"),
        ([], "a schedule is a row of noise levels"),
        ([80, None], "None is no noise level"),
        ("1,2", "must decrease from noise level to noise level"),
        ("2,1,1", "must decrease from noise level to noise level"),
        ("1.00000001,1", "must decrease from noise level to noise level"),  # one number in float32
        ("2,-1", "finite and positive"),
        ("1e60,1", "finite and positive"),
        ("nan", "finite and positive"),
        ("0", "finite and positive"),
    ],
)
def test_what_is_no_schedule_is_refused_in_a_line(given, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        parse_schedule(given)
    assert "\n" not in str(error.value)


@given(st.text("0123456789.,;e-+ nai\n[]x", max_size=40))
def test_any_text_is_a_schedule_or_a_users_mistake(text):
    try:
        levels = parse_schedule(text)
    except UserError:
        return
    assert check_schedule(levels)


@given(st.floats(0.5, 2))
def test_the_mismatch_of_a_schedule_is_a_ratio(factor):
    schedule = torch.tensor([100.0, 10.0, 1.0])
    asked = torch.tensor([100.0 * factor, 10.0, 1.0, 0.0])
    assert max_mismatch(schedule, asked) == pytest.approx(max(factor, 1 / factor), rel=1e-5)


def test_levels_on_the_schedule_have_no_mismatch():
    schedule = linear_beta()
    assert max_mismatch(schedule, schedule[::7]) == 1.0
    assert max_mismatch(schedule, torch.tensor([0.0])) == 1.0
    assert max_mismatch(torch.tensor([4.0, 1.0]), torch.tensor([2.0])) == pytest.approx(2)
