"""Schedules against few-line formulas, the moments of their equations, and the papers' numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scorefield.errors import UserError
from scorefield.schedules import (
    check_schedule,
    cosine,
    geometric,
    linear_beta,
    log_snr,
    palette_inference,
    palette_training,
    sub_vp,
    truncate,
    vp,
)

FALLING = {
    "linear": linear_beta(),
    "cosine": cosine(1000),
    "palette-training": palette_training(),
    "palette-inference": palette_inference(),
    "vp": vp(1000),
    "sub-vp": sub_vp(1000),
}


def products(first, last, steps):
    """γ_1 … γ_T by plain multiplication in long double."""
    betas = np.linspace(first, last, steps, dtype=np.longdouble)
    return np.cumprod(1 - betas)


@pytest.mark.parametrize("schedule", FALLING.values(), ids=FALLING)
def test_every_schedule_decreases_in_float32_and_ends_above_zero(schedule):
    assert schedule.dtype == torch.float32
    assert check_schedule(schedule)[-1] > 0


def test_ddpms_schedule_is_the_papers():
    schedule = linear_beta()
    assert len(schedule) == 1000
    assert float(schedule[0]) == pytest.approx(157.4, abs=0.05)  # γ_T = 4.04e-5
    assert float(schedule[-1]) == pytest.approx((1e-4 / (1 - 1e-4)) ** 0.5, rel=1e-6)  # γ_1 = 1 − β_1
    gamma = products(1e-4, 0.02, 1000)
    np.testing.assert_allclose(schedule.double().flip(0), np.sqrt(1 / gamma - 1).astype(float), rtol=1e-6)


def test_palettes_schedules_are_as_far_apart_as_published():
    training, inference = palette_training(), palette_inference()
    assert (len(training), len(inference)) == (2000, 1000)
    assert float(training[0]) == pytest.approx(151, abs=0.5)
    assert float(training[-1]) == pytest.approx(1e-3, rel=1e-5)
    assert float(inference[0]) == pytest.approx(1.2e10, rel=0.05)
    assert int((inference > training[0]).sum()) == 532
    assert len(truncate(inference, float(training[0]))) == 468
    gamma = products(1e-4, 0.09, 1000)
    np.testing.assert_allclose(inference.double().flip(0), np.sqrt(1 / gamma - 1).astype(float), rtol=1e-6)


@given(st.integers(2, 4000), st.floats(0, 0.05))
def test_the_cosine_schedule_keeps_what_equation_17_says(steps, offset):
    schedule = cosine(steps, offset=offset).double().flip(0)
    angles = (np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2
    gamma = np.cos(angles) ** 2 / np.cos(angles[0]) ** 2
    expected = np.tan(np.arccos(np.sqrt(gamma[1:-1])))  # σ = √((1−γ)/γ)
    np.testing.assert_allclose(schedule[:-1], expected, rtol=1e-6)
    kept = 1 / (1 + schedule[-1] ** 2)  # the last β would be 1, and is cut to 0.999
    assert float(kept) == pytest.approx(0.001 * gamma[-2], rel=1e-5)


def test_the_cosine_schedule_has_the_published_numbers():
    schedule = cosine(1000).double()
    gamma = 1 / (1 + schedule**2)
    assert float(gamma[500]) == pytest.approx(0.4938, abs=1e-4)  # t = 500, half way: near one half
    assert float(1 - gamma[-1]) == pytest.approx(4.13e-5, rel=0.01)  # β_1


def moments(extra, *, beta_min=0.1, beta_max=20.0, steps=4000):
    """Times, and σ = √V/α of dx = −½β x dt + √(β extra(B)) dw, by the ODEs of mean and variance (RK4)."""
    t, h = np.linspace(0, 1, steps + 1), 1 / steps

    def slope(t, state):
        beta, total = beta_min + (beta_max - beta_min) * t, beta_min * t + (beta_max - beta_min) * t**2 / 2
        return np.array([-beta / 2 * state[0], -beta * state[1] + beta * extra(total)])

    states = [np.array([1.0, 0.0])]
    for s in t[:-1]:
        x = states[-1]
        k1 = slope(s, x)
        k2 = slope(s + h / 2, x + h / 2 * k1)
        k3 = slope(s + h / 2, x + h / 2 * k2)
        k4 = slope(s + h, x + h * k3)
        states.append(x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    alpha, variance = np.array(states).T
    return t[1:], np.sqrt(variance[1:]) / alpha[1:]


@pytest.mark.parametrize(
    ("schedule", "extra"), [(vp, lambda b: 1.0), (sub_vp, lambda b: 1 - np.exp(-2 * b))], ids=["vp", "sub-vp"]
)
def test_the_equations_schedules_have_the_moments_of_their_equations(schedule, extra):
    t, sigma = moments(extra)  # Song et al. 2021, eqs. 11 and 12
    ours = schedule(4000, end=1 / 4000).double().flip(0)
    np.testing.assert_allclose(ours[40:], sigma[40:], rtol=1e-5)
    np.testing.assert_allclose(ours, sigma, rtol=2e-2)  # at t = 1/4000 a step of RK4 is not fine enough
    assert t[-1] == 1


def test_vp_and_sub_vp_start_at_the_same_noise_and_sub_vp_is_below():
    assert float(vp(2)[0]) == pytest.approx(152.17, abs=0.02) == float(sub_vp(2)[0])
    assert bool((sub_vp(100)[1:] < vp(100)[1:]).all())
    assert float(vp(10)[-1]) == pytest.approx((1e-4 + 9.95e-6) ** 0.5, rel=1e-4)  # √B at small t


def test_ddpms_schedule_becomes_the_equations_in_the_limit_of_many_steps():
    def apart(steps):
        ends = linear_beta(0.1 / steps, 20 / steps, steps), vp(steps, end=1 / steps)
        return float((ends[0][0] / ends[1][0]).log().abs())

    assert apart(1000) / apart(4000) == pytest.approx(4, rel=0.05)  # first order: measured below
    assert apart(4000) < 0.01


@given(st.floats(1e-3, 10), st.floats(1.01, 1e4), st.integers(2, 200))
def test_the_log_snr_schedule_is_even_in_log_snr_and_then_zero(low, factor, steps):
    schedule = log_snr(low * factor, low, steps)
    assert len(schedule) == steps + 1 and schedule[-1] == 0
    assert torch.equal(schedule[:-1], geometric(low * factor, low, steps))
    steps_of = (-2 * schedule[:-1].double().log()).diff()
    np.testing.assert_allclose(steps_of, 2 * np.log(factor) / (steps - 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: linear_beta(0.0, 0.02),
        lambda: linear_beta(0.02, 0.01),
        lambda: linear_beta(0.1, 1.0),
        lambda: linear_beta(steps=0),
        lambda: cosine(0),
        lambda: cosine(10, offset=-0.1),
        lambda: cosine(10, most=1.0),
        lambda: vp(0),
        lambda: vp(5, end=0.0),
        lambda: vp(5, beta_min=0.0),
        lambda: sub_vp(5, beta_min=3.0, beta_max=2.0),
        lambda: log_snr(1.0, 2.0, 5),
    ],
)
def test_settings_that_make_no_schedule_are_refused(wrong):
    with pytest.raises(UserError, match="need"):
        wrong()
