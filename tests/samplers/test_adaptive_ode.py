"""The ODE both ways: against the Gaussian's closed form, and from an image to noise and back."""

import math
import sys

import pytest
import torch

from oracles import Counting, Gaussian, exact_model, float32_mixture, float64_mixture, seeded, tiny_model
from scorefield import hub
from scorefield.data.datasets import open_images
from scorefield.data.image import to_float
from scorefield.errors import UserError
from scorefield.metrics.distances import energy_distance
from scorefield.samplers import RungeKutta, decode, encode, interpolate, interpolation
from scorefield.schedules import karras

from .helpers import run

pytest.importorskip("torchdiffeq")

MEAN, STD = 0.7, 0.5


def exact(x, start, stop):
    return MEAN + (x - MEAN) * math.sqrt((STD**2 + stop**2) / (STD**2 + start**2))


# --- the sampler ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bosh3", "dopri5", "dopri8"])
def test_every_level_is_met_within_the_tolerance(method):
    sigmas = torch.tensor([80.0, 7.0, 1.0, 0.3, 0.01], dtype=torch.float64)
    start = 80 * torch.linspace(-2, 2, 5, dtype=torch.float64).reshape(-1, 1, 1, 1)
    _, steps = run(RungeKutta(method=method, rtol=1e-6, atol=1e-6), Gaussian(), start, sigmas)
    for step in steps:
        right = exact(start, 80, step.sigma)
        assert float((step.x - right).abs().max()) < 3e-5 * math.sqrt(1 + step.sigma**2)


def test_a_finer_tolerance_is_kept_and_costs_more():
    start, sigmas = torch.full((1, 1, 1, 1), 100.0, dtype=torch.float64), torch.tensor([80.0, 0.01]).double()
    errors, calls = [], []
    for tolerance in (1e-3, 1e-5, 1e-7):
        end, steps = run(RungeKutta(rtol=tolerance, atol=tolerance), Gaussian(), start, sigmas)
        errors.append(float((end - exact(start, 80, 0.01)).abs()))
        calls.append(steps[-1].evaluations)
    assert errors[0] > errors[1] > errors[2]
    assert all(error < 20 * tolerance for error, tolerance in zip(errors, (1e-3, 1e-5, 1e-7), strict=True))
    assert calls[0] < calls[1] < calls[2]


@pytest.mark.slow
def test_a_mixture_is_sampled():
    mixture, start = float32_mixture(), 80 * torch.randn(4000, 1, 1, 2, generator=seeded(1))
    x, _ = run(RungeKutta(rtol=1e-3, atol=1e-3), mixture, start, karras(80, 0.002, 4))
    # between two exact samples 0.0004 to 0.005
    assert energy_distance(x.flatten(1), mixture.sample(4000, generator=seeded(99))) < 0.006


def test_levels_beyond_the_schedule_are_never_evaluated():
    spy = Counting(Gaussian())
    run(RungeKutta(), spy, 50 * torch.ones(2, 1, 1, 1), torch.tensor([50.0, 3.0, 0.5]))
    assert max(spy.sigmas) <= 50 * 1.00001
    assert min(spy.sigmas) >= 0.5 * 0.99999


def test_the_denoised_image_is_that_of_the_step_and_the_last_lands_on_it():
    x, sigmas = torch.randn(4, 1, 1, 1, generator=seeded()), torch.tensor([2.0, 1.0, 0.0])
    end, steps = run(RungeKutta(), Gaussian(), x, sigmas)
    torch.testing.assert_close(steps[0].denoised, Gaussian()(steps[0].x, torch.ones(4)))
    torch.testing.assert_close(end, steps[0].denoised)
    assert torch.equal(end, steps[1].denoised)


def test_project_comes_after_every_step_and_the_next_goes_on_from_it():
    levels, sigmas = [], torch.tensor([8.0, 4.0, 2.0])

    def project(x, sigma):
        levels.append(sigma)
        return torch.full_like(x, 3.0)

    x = torch.ones(2, 1, 1, 1)
    end, _ = run(RungeKutta(), Gaussian(), x, sigmas, project=project)
    assert levels == [4.0, 2.0]
    assert torch.equal(end, torch.full_like(x, 3.0))
    _, steps = run(RungeKutta(), Gaussian(), x, sigmas, project=lambda x, s: x * 0 + 3 if s == 4 else x)
    torch.testing.assert_close(steps[1].x, exact(torch.full_like(x, 3.0), 4, 2), rtol=1e-4, atol=1e-4)


# --- both ways -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gaussian_is_encoded_by_its_closed_form(dtype):
    x0 = torch.linspace(-1, 2, 7, dtype=dtype).reshape(-1, 1, 1, 1)
    latent = encode(Gaussian(), x0, sigma_max=80, sigma_min=0.002)
    assert latent.dtype == dtype
    torch.testing.assert_close(latent, exact(x0, 0.002, 80), rtol=3e-4, atol=3e-3)  # of values of 80
    back = decode(Gaussian(), latent, sigma_max=80, sigma_min=0.002)
    torch.testing.assert_close(back, x0, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("tolerance", "most"), [(1e-4, 1e-2), (1e-6, 1e-4), (1e-8, 1e-6)])
def test_the_round_trip_of_a_mixture_shrinks_with_the_tolerance(tolerance, most):
    mixture = float64_mixture()
    x0 = mixture.sample(64, generator=seeded())
    solver, ends = RungeKutta(rtol=tolerance, atol=tolerance), {"sigma_max": 80, "sigma_min": 0.01}
    latent = encode(mixture, x0, solver=solver, **ends)
    assert float((decode(mixture, latent, solver=solver, **ends) - x0).abs().max()) < most


def test_latents_of_samples_are_noise():
    """Drawn from p(x; σ_min), they are N(0, σ_max² + spread²) to sampling error."""
    mixture = float32_mixture()
    x = mixture.sample(4000, generator=seeded()) + 0.01 * torch.randn(4000, 2, generator=seeded(1))
    latent = encode(mixture, x, sigma_max=80, sigma_min=0.01, solver=RungeKutta(rtol=1e-4, atol=1e-4)) / 80
    assert energy_distance(latent, torch.randn(4000, 2, generator=seeded(3))) < 0.003
    assert float(latent.std()) == pytest.approx(1, abs=0.03)  # s.e. 0.008


@pytest.mark.slow
def test_a_fashion_image_comes_back():
    """At 1e-5; the model is in half precision, of which the solver is to see nothing."""
    model = hub.load("fashion", precision=torch.bfloat16)
    x0 = to_float(open_images("fashion", split="test").images[:1], model.value_range)
    low, high = model.sigma_range
    latent = encode(model, x0, sigma_max=high, sigma_min=low)
    back = decode(model, latent, sigma_max=high, sigma_min=low)
    assert model.precision == torch.bfloat16
    assert float((back - x0).abs().max()) < 1 / 255  # half a level of 8 bits; measured 0.0029


def test_a_finer_format_in_the_solver_leaves_the_model_its_own():
    model, x0 = tiny_model(), torch.randn(2, 1, 8, 8, generator=seeded())
    latent = encode(model, x0, sigma_max=2, sigma_min=0.1, dtype=torch.float64)
    assert latent.dtype == torch.float32
    torch.testing.assert_close(latent, encode(model, x0, sigma_max=2, sigma_min=0.1), rtol=1e-3, atol=1e-3)


# --- between -------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [1e-2, 20.0, 160.0])
def test_the_arc_is_round_between_near_latents_too(degrees):
    angle = math.radians(degrees)
    places = torch.tensor([0.0, angle / 2, angle], dtype=torch.float64)
    one, middle, other = (3 * torch.stack([places.cos(), places.sin()], 1))[:, None]
    # the arc's height over the chord is 3 (1 − cos(θ/2)), 1e-8 at the least angle; acos there errs by eps/θ, 1e-12
    torch.testing.assert_close(interpolate(one, other, 2)[1], middle, rtol=0, atol=1e-11)


def test_the_arc_runs_from_a_to_b_in_equal_angles_and_keeps_the_length():
    a, b = torch.randn(2, 3, 1, 4, 4, generator=seeded()).double()
    b = b * (a.flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).reshape(-1, 1, 1, 1)
    arc = interpolate(a, b, 5)
    assert arc.shape == (6, 3, 1, 4, 4)
    torch.testing.assert_close(arc[0], a)
    torch.testing.assert_close(arc[-1], b)
    flat = arc.flatten(2)
    torch.testing.assert_close(flat.norm(dim=2), flat[0].norm(dim=1).expand(6, 3))
    cosines = torch.cosine_similarity(flat[1:], flat[:-1], dim=2)
    torch.testing.assert_close(cosines, cosines[:1].expand(5, 3))


def test_a_quarter_turn_by_hand():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    root = math.sqrt(2)
    torch.testing.assert_close(interpolate(a, b, 2)[1], torch.tensor([[root, root]]))
    third = interpolate(a, b, 3)[1]
    torch.testing.assert_close(third, torch.tensor([[2 * math.cos(math.pi / 6), 1.0]]))


@pytest.mark.parametrize("sign", [1, -1])
def test_where_there_is_no_arc_the_chord_serves(sign):
    a = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(interpolate(a, sign * 3 * a, 2)[1], (a + sign * 3 * a) / 2)


def test_images_between_images_begin_and_end_with_them():
    model, reports = exact_model(float32_mixture(), (1, 1, 2)), []
    x0, x1 = float32_mixture().sample(6, generator=seeded()).reshape(2, 3, 1, 1, 2)
    between = interpolation(
        model, x0, x1, 4, generator=seeded(1), batch=4, progress=lambda done, total: reports.append((done, total))
    )
    assert between.shape == (5, 3, 1, 1, 2)
    torch.testing.assert_close(between[0], x0, rtol=0, atol=0.01)  # σ_min = 0.002, and the tolerance
    torch.testing.assert_close(between[-1], x1, rtol=0, atol=0.01)
    assert reports == [(k, 6) for k in range(1, 7)]


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "dopri6"}, r"method: .*'dopri6'\. Did you mean `dopri[58]`"),
        ({"method": "rk4"}, "method: no such adaptive Runge–Kutta rule"),
        ({"rtol": 0.0}, "rtol: tolerances must be positive"),
        ({"atol": -1e-3}, "rtol: tolerances must be positive"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        RungeKutta(**settings)


@pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, 0.0), (math.inf, 0.1), (0.1, -1.0)])
def test_levels_that_cannot_be_the_ends_are_refused(ends):
    with pytest.raises(UserError, match="sigmas: need 0 < sigma_min < sigma_max"):
        encode(Gaussian(), torch.ones(1, 1), sigma_max=ends[0], sigma_min=ends[1])


def test_a_model_that_gives_nan_is_reported():
    with pytest.raises(UserError, match=r"ode: no step of dopri5 keeps rtol 1e-05 .* NaN"):
        encode(lambda x, sigma: x * math.nan, torch.ones(1, 1), sigma_max=2, sigma_min=1)


def test_images_that_do_not_fit_are_refused():
    model, x = tiny_model(), torch.ones(1, 1, 8, 8)
    for other, words in ((torch.ones(1, 3, 8, 8), "1×3×8×8, this model"), (x[0], "1×8×8, this model")):
        with pytest.raises(UserError, match=f"images: their shape is {words}"):
            interpolation(model, x, other, 2, generator=seeded())
    with pytest.raises(UserError, match="two shapes"):
        interpolation(model, x, torch.ones(2, 1, 8, 8), 2, generator=seeded())
    with pytest.raises(UserError, match="parts: need at least one, got 0"):
        interpolate(x, x, 0)
    with pytest.raises(UserError, match="latents of shapes"):
        interpolate(x, x[:, :, :4], 2)


def test_without_torchdiffeq_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(UserError, match=r"torchdiffeq: .* pip install 'scorefield\[ode\]'"):
        encode(Gaussian(), torch.ones(1, 1), sigma_max=2, sigma_min=1)
