"""Multistep samplers against closed forms: the Gaussian's ODE and SDE, polynomials, and mixtures.

For N(μ, s²) the solution from x_T at σ_T is x(σ) = μ + (x_T − μ) √((s²+σ²)/(s²+σ_T²)).
"""

import math
from itertools import pairwise

import pytest
import torch

from oracles import Gaussian, float32_mixture, mixture_moments, seeded
from scorefield.distributions import GaussianMixture
from scorefield.errors import UserError
from scorefield.metrics.distances import energy_distance
from scorefield.samplers import AdamsBashforth, DPMSolver2M, Euler
from scorefield.schedules import geometric, karras

from .helpers import run

MEAN, STD = 0.7, 0.5
ALL = [
    DPMSolver2M(),
    DPMSolver2M(eta=0.5),
    DPMSolver2M(eta=1.0),
    *(AdamsBashforth(order=order) for order in (1, 2, 3, 4)),
]
NAMES = ["2M", "2M-half", "2M-SDE", "AB1", "AB2", "AB3", "AB4"]
samplers = pytest.mark.parametrize("sampler", ALL, ids=NAMES)
schedules = pytest.mark.parametrize("sigmas", [karras(10, 0.1, 5), geometric(10, 0.1, 5)], ids=["zero", "above"])


def error_after(sampler, steps, low=0.1, high=200.0):
    """In float64, from ±2 standard deviations of p(·; high); the errors of float32 noise levels are in both ends."""
    sigmas = geometric(high, low, steps + 1).double()
    first, last = (float(sigma) for sigma in (sigmas[0], sigmas[-1]))
    start = MEAN + math.hypot(STD, first) * torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(-1, 1, 1, 1)
    end, _ = run(sampler, Gaussian(), start, sigmas)
    exact = MEAN + (start - MEAN) * math.sqrt((STD**2 + last**2) / (STD**2 + first**2))
    return float((end - exact).abs().max())


@pytest.mark.parametrize("high", [0.5, 5.0, 200.0], ids=["warm", "ten-spreads", "cold"])
@pytest.mark.parametrize(
    ("sampler", "order"),
    [(DPMSolver2M(), 2), *((AdamsBashforth(order=order), order) for order in (1, 2, 3, 4))],
    ids=["2M", "AB1", "AB2", "AB3", "AB4"],
)
def test_each_is_of_its_order_on_a_gaussian_from_a_warm_and_a_cold_start(sampler, order, high):
    errors = [error_after(sampler, n, high=high) for n in (128, 256, 512)]
    measured = [math.log2(a / b) for a, b in pairwise(errors)]
    assert measured == pytest.approx([order, order], abs=0.3)  # the next order's share is in proportion to h
    assert abs(measured[1] - order) <= abs(measured[0] - order) + 0.02


def test_higher_orders_are_nearer():
    at = [error_after(sampler, 64) for sampler in (Euler(), *ALL[4:])]
    assert all(b < a / 3 for a, b in pairwise(at))  # measured 0.0287, 0.00127, 0.000068, 0.000020


# --- one step ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_adams_and_bashforth_is_exact_where_d_is_a_polynomial_of_its_degree(order):
    """Against Simpson's rule on x_τ = (τ/σ) x_σ + τ ∫ e^λ D(λ) dλ."""

    def polynomial(lam):
        return sum((k + 1) * (-0.3) ** k * lam**k for k in range(order))

    def denoiser(x, sigma):
        return polynomial(-sigma.log())[:, None] + 0 * x

    sigmas = torch.tensor([9.0, 5.0, 4.0, 1.5, 0.9, 0.1], dtype=torch.float64)
    start = torch.tensor([[2.0]], dtype=torch.float64)
    xs = [start, *(step.x for step in run(AdamsBashforth(order=order), denoiser, start, sigmas)[1])]
    for i in range(order - 1, 5):
        s, t = sigmas[i], sigmas[i + 1]
        lam = torch.linspace(float(-s.log()), float(-t.log()), 4001, dtype=torch.float64)
        simpson = torch.ones(4001, dtype=torch.float64)
        simpson[1:-1:2], simpson[2:-1:2] = 4, 2
        integral = (simpson * lam.exp() * polynomial(lam)).sum() * (lam[1] - lam[0]) / 3
        torch.testing.assert_close(xs[i + 1][0, 0], t / s * xs[i][0, 0] + t * integral, rtol=1e-9, atol=1e-9)


def test_tiny_steps_lose_nothing_to_cancellation():
    sigmas = geometric(1.0, 0.9, 400).double()
    x = torch.full((1, 1), 2.0, dtype=torch.float64)
    ends = [run(AdamsBashforth(order=order), Gaussian(), x, sigmas)[0] for order in (3, 4)]
    exact = MEAN + (2 - MEAN) * math.sqrt((STD**2 + float(sigmas[-1]) ** 2) / (STD**2 + 1))
    for end in ends:
        # the noise levels are rounded to float32: eps of σ ≤ 1
        assert float(end) == pytest.approx(exact, abs=2**-23)


def test_the_first_order_is_eulers_rule():
    x, sigmas = 10 * torch.randn(5, 1, 2, 2, generator=seeded()), karras(10, 0.1, 6)
    torch.testing.assert_close(
        run(AdamsBashforth(order=1), Gaussian(), x, sigmas)[0], run(Euler(), Gaussian(), x, sigmas)[0]
    )


def test_two_steps_of_2m_by_hand():
    """D is 3 on the first noise level, 5 on the second: the slope of λ = −ln σ, carried half a step ahead."""
    sigmas = torch.tensor([8.0, 4.0, 1.0], dtype=torch.float64)

    def denoiser(x, sigma):
        return torch.where(sigma > 6, 3.0, 5.0)[:, None] + 0 * x

    (_, steps) = run(DPMSolver2M(), denoiser, torch.tensor([[6.0]], dtype=torch.float64), sigmas)
    first = 0.5 * 6 + 0.5 * 3
    ahead = 5 + (math.log(4) / math.log(2)) / 2 * (5 - 3)  # h_2/(2 h_1) times the difference
    assert [float(step.x) for step in steps] == pytest.approx([first, 0.25 * first + 0.75 * ahead])


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_the_noise_of_a_step_has_the_spread_of_the_sde(eta):
    """A step from x, D frozen: mean D + e^{−(1+η)h}(x − D), variance τ²(1 − e^{−2ηh}), e^{−h} = τ/σ."""
    x, sigmas = torch.full((200_000, 1), 4.0), torch.tensor([2.0, 0.5])
    end, _ = run(DPMSolver2M(eta=eta), lambda x, sigma: torch.ones_like(x), x, sigmas)
    assert float(end.mean()) == pytest.approx(1 + 3 * 0.25 ** (1 + eta), abs=0.005)
    assert float(end.var()) == pytest.approx(0.25 * (1 - 0.25 ** (2 * eta)), rel=0.02)


def test_without_noise_nothing_is_random_and_eta_1_is_ancestral_at_first():
    x, sigmas = 3 * torch.randn(4, 1, 2, 2, generator=seeded(1)), torch.tensor([3.0, 1.0])
    d, z = Gaussian()(x, torch.full((4,), 3.0)), torch.randn(x.shape, generator=seeded(5))
    end, _ = run(DPMSolver2M(eta=1.0), Gaussian(), x, sigmas, seed=5)
    torch.testing.assert_close(end, d + (x - d) / 9 + math.sqrt(1 - 1 / 9) * z)
    assert torch.equal(*(run(DPMSolver2M(), Gaussian(), x, sigmas, seed=seed)[0] for seed in (1, 2)))


# --- distributions ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "steps", "bound"),
    [
        (DPMSolver2M(), 30, 0.006),
        (DPMSolver2M(eta=0.5), 60, 0.006),
        (DPMSolver2M(eta=1.0), 60, 0.006),
        (AdamsBashforth(order=3), 30, 0.006),
        (AdamsBashforth(order=4), 30, 0.006),
    ],
    ids=["2M", "2M-half", "2M-SDE", "AB3", "AB4"],
)
def test_mixtures_are_sampled(sampler, steps, bound):
    mixture, start = float32_mixture(), 80 * torch.randn(4000, 1, 1, 2, generator=seeded(1))
    x = run(sampler, mixture, start, karras(80, 0.002, steps))[0].flatten(1)
    mean, covariance = mixture_moments(mixture)
    assert float((x.mean(0) - mean).abs().max()) < 0.08  # standard error 0.02
    assert float((torch.cov(x.T) - covariance).abs().max()) < 0.12
    # between two exact samples 0.0004 to 0.005
    assert energy_distance(x, mixture.sample(len(x), generator=seeded(99))) < bound


@pytest.mark.parametrize("sampler", [DPMSolver2M(eta=1.0), AdamsBashforth()], ids=["2M-SDE", "AB3"])
def test_far_modes_get_their_weights(sampler):
    means = torch.tensor([[-5.0, -5.0], [5.0, 5.0]])
    mixture = GaussianMixture(torch.tensor([0.2, 0.8]), means, torch.ones(2))
    x, _ = run(sampler, mixture, 80 * torch.randn(4000, 1, 1, 2, generator=seeded(1)), karras(80, 0.01, 40))
    assert float((x.sum((1, 2, 3)) > 0).float().mean()) == pytest.approx(0.8, abs=0.02)  # s.e. 0.006


# --- what every sampler keeps to -----------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 5, -1])
def test_orders_that_there_are_not_are_refused(order):
    with pytest.raises(UserError, match=f"order: .* orders 1 to 4, not {order}"):
        AdamsBashforth(order=order)


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_an_eta_outside_is_refused(eta):
    with pytest.raises(UserError, match="eta: need 0 ≤ eta ≤ 1"):
        DPMSolver2M(eta=eta)
