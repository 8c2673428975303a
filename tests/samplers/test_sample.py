"""One call from a model to images."""

from dataclasses import replace

import pytest
import torch

from oracles import ExactNetwork, exact_model, float32_mixture, lively, mixture_moments, seeded, tiny_model
from scorefield.distributions import GaussianMixture
from scorefield.errors import UserError
from scorefield.metrics.distances import energy_distance
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.networks import MLP, Energy
from scorefield.parameterization import EDM
from scorefield.samplers import DDIM, PRESETS, Langevin, RungeKutta, WarmStart, plan, sample, sample_batches
from scorefield.schedules import geometric

from .test_contract import ALL
from .test_presets import V1, scheduled


class ExactEnergy(ExactNetwork):
    """The energy that makes ScoreModel(·, EDM(sigma_data=1)) the denoiser and the density of a mixture.

    log p(x; σ) = −E/σ − ‖x‖²/2(1+σ²), read from `ScoreModel.log_density` with EDM's coefficients.
    """

    def energy(self, x, label, source=None):
        sigma = (4 * label).exp()
        root = (1 + sigma**2).sqrt()
        noisy = x.flatten(1) * root[:, None]
        quadratic = noisy.square().sum(1) / 2 / root**2
        return -sigma * (self.mixture.log_density(noisy, sigma) + quadratic)


def exact_energy(mixture, shape=(2,)):
    return ScoreModel(ExactEnergy(mixture), EDM(sigma_data=1.0), ModelSpec(shape=shape)).eval()


def any_model(name):
    """A small untrained model of points that the sampler of this name takes: MALA asks for an energy."""
    torch.manual_seed(0)
    network = lively(MLP(features=2, width=16))
    return ScoreModel(Energy(network) if name == "mala" else network, EDM(), ModelSpec(shape=(2,))).eval()


def needs(name):
    if name == "runge-kutta":
        pytest.importorskip("torchdiffeq")


# noise levels or updates; energy distances measured 0.0008 to 0.0057, two exact samples 0.0006 to 0.006
DISTRIBUTIONS = {
    "heun": 18,
    "dpm++-2m": 20,
    "dpm++-2m-sde": 40,
    "adams": 18,
    "euler": 60,
    "ddim": 60,
    "ddpm": 250,
    "predictor-corrector": 100,
    "consistent": 250,
    "runge-kutta": 5,
    "annealed-langevin": 500,
    "mala": 300,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in ("heun", "ddpm") else pytest.mark.slow) for name in DISTRIBUTIONS],
)  # the others' settings by name are read in `test_presets.py`, their distributions in `test_distributions.py`
def test_samples_of_an_exact_model_follow_its_mixture(name):
    needs(name)
    mixture = float32_mixture()
    model = exact_energy(mixture) if name == "mala" else exact_model(mixture)
    x = sample(model, 3000, sampler=name, steps=DISTRIBUTIONS[name], batch=3000).flatten(1)
    mean, covariance = mixture_moments(mixture)
    assert (x.mean(0) - mean).abs().max() < 0.12  # measured 0.015 to 0.06
    assert (torch.cov(x.T) - covariance).abs().max() < 0.25  # measured 0.03 to 0.15
    assert energy_distance(x, mixture.sample(3000, generator=seeded(9))) < 0.01


def test_langevin_at_one_level_samples_the_noisy_distribution():
    mixture, level = float32_mixture(), 1.0
    chain = Langevin(step_size=0.1, steps_each=300)
    model = exact_model(mixture, shape=(2,))
    x = sample(model, 3000, sampler=plan(model, chain, sigmas=[level]), batch=3000)
    noisy = mixture.sample(3000, generator=seeded(9))
    noisy = noisy + level * torch.randn(noisy.shape, generator=seeded(10))
    assert energy_distance(x, noisy) < 0.01


@pytest.mark.parametrize("name", PRESETS)
def test_one_seed_gives_one_result(name):
    needs(name)
    model = any_model(name)
    first, same, other = (sample(model, 3, sampler=name, steps=5, seed=s) for s in (0, 0, 1))
    assert first.shape == (3, *model.shape) and first.dtype == torch.float32
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", [(2,), (2, 1, 1)], ids=["points", "images"])
def test_every_sampler_takes_points_and_images(name, shape):
    needs(name)
    drawn = sample(exact_energy(float32_mixture(), shape), 7, sampler=name, steps=4, batch=3)
    assert drawn.shape == (7, *shape) and torch.isfinite(drawn).all()


@pytest.mark.parametrize("name", ["heun", "dpm++-2m", "adams", "euler", "ddim"])
def test_without_noise_the_batch_does_not_matter(name):
    model = tiny_model()
    torch.testing.assert_close(
        sample(model, 5, sampler=name, steps=6, batch=2),
        sample(model, 5, sampler=name, steps=6, batch=64),
        rtol=1e-3,
        atol=1e-4,
    )


def starts(start, **settings):
    """What sampling begins with: a step too small to leave it."""
    model = scheduled(V1)
    still = plan(model, Langevin(step_size=1e-14, steps_each=1), sigmas=[0.5])
    return sample(model, 200, sampler=still, start=start, **settings)


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


# --- warm starts ---------------------------------------------------------------------------------

MEAN, STD = torch.tensor([0.7, -0.3]), 0.5
IMAGE = torch.tensor([-1.0, 1.0])


def warm(name, sigma, steps, **settings):
    """4,000 variations of a point, under a model of N(MEAN, STD²)."""
    model = exact_model(GaussianMixture(torch.ones(1), MEAN[None], torch.tensor([STD**2])), shape=(2,))
    return sample(
        model, 4000, sampler=name, steps=steps, start=WarmStart(images=IMAGE, sigma=sigma), batch=4000, **settings
    )


@pytest.mark.parametrize("sigma", [0.25, 1.0])
@pytest.mark.parametrize(("name", "steps"), [("heun", 30), ("dpm++-2m", 60), ("adams", 60)])
def test_a_warm_start_along_the_ode_has_its_closed_form(name, steps, sigma):
    k = STD / (STD**2 + sigma**2) ** 0.5
    x = warm(name, sigma, steps)
    error = 5 * k * sigma / 4000**0.5
    torch.testing.assert_close(x.mean(0), MEAN + (IMAGE - MEAN) * k, atol=error + 0.005, rtol=0)
    torch.testing.assert_close(x.std(0), torch.full((2,), k * sigma), rtol=0.06, atol=0)


@pytest.mark.parametrize("name", ["ddpm", "dpm++-2m-sde"])
def test_a_warm_start_with_fresh_noise_draws_from_the_posterior(name):
    # x0 given x = image + σn is N(D(x; σ), s²σ²/(s²+σ²)): the image pulls by q, not by its root
    sigma = 0.5
    q = STD**2 / (STD**2 + sigma**2)
    x = warm(name, sigma, 400)
    torch.testing.assert_close(x.mean(0), MEAN + (IMAGE - MEAN) * q, atol=0.04, rtol=0)
    spread = (q**2 * sigma**2 + q * sigma**2) ** 0.5
    torch.testing.assert_close(x.std(0), torch.full((2,), spread), rtol=0.06, atol=0)


def test_the_less_noise_the_nearer_to_the_image():
    far = [float((warm("heun", sigma, 30) - IMAGE).norm(dim=1).mean()) for sigma in (0.01, 0.1, 1.0, 10.0)]
    assert far == sorted(far) and far[0] < 0.03


@pytest.mark.parametrize("name", PRESETS)
def test_every_sampler_starts_warm(name):
    needs(name)
    model = exact_energy(float32_mixture())
    x = sample(model, 3, sampler=name, steps=5, start=WarmStart(images=IMAGE, sigma=0.02))
    assert float((x - IMAGE).abs().max()) < 1


def test_each_image_may_have_its_own_start():
    model = tiny_model(3)
    init = torch.randn(2, 3, 6, 10, generator=seeded())
    both = sample(model, 2, start=WarmStart(images=init, sigma=0.003))
    assert both.shape == (2, 3, 6, 10)
    for start in (init[:1], init[0]):
        assert sample(model, 2, start=WarmStart(images=start, sigma=0.003)).shape == (2, 3, 6, 10)
    assert float((both - init).abs().max()) < 0.1


@pytest.mark.parametrize(
    ("images", "sigma", "size", "words"),
    [
        (torch.zeros(3, 8, 8), 1.0, None, r"need one or 2 of shape \(1, 8, 8\), got shape \(3, 8, 8\)"),
        (torch.zeros(5, 1, 8, 8), 1.0, None, r"got shape \(5, 1, 8, 8\)"),
        (torch.zeros(8, 8), 1.0, None, r"got shape \(8, 8\)"),
        (torch.zeros(3, 8, 8), 1.0, (9, 8), r"of shape \(1, 9, 8\)"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), 1.0, None, "floats from -1 to 1"),
        (torch.zeros(1, 8, 8), 100.0, None, "this model knows 80"),
        (torch.zeros(1, 8, 8), -1.0, None, "init_sigma: need a finite noise level"),
    ],
    ids=lambda value: str(tuple(value.shape)) if isinstance(value, torch.Tensor) else str(value),
)
def test_a_start_that_does_not_fit_is_refused(images, sigma, size, words):
    with pytest.raises(UserError, match=words):
        model = tiny_model().with_size(*size) if size else tiny_model()
        sample(model, 2, start=WarmStart(images=images, sigma=sigma))


# --- sampler objects, plans, lists ---------------------------------------------------------------


def test_an_object_a_plan_and_a_name_give_the_same_images():
    model = tiny_model()
    by_name = sample(model, 2, sampler="ddim", steps=6)
    assert torch.equal(by_name, sample(model, 2, sampler=DDIM(), steps=6))
    assert torch.equal(by_name, sample(model, 2, sampler=plan(model, "ddim", 6)))
    sigmas = plan(model, "ddim", 6).sigmas
    assert torch.equal(by_name, sample(model, 2, sampler=plan(model, DDIM(), sigmas=sigmas.tolist())))
    assert torch.equal(by_name, sample(model, 2, sampler=plan(model, "ddim", sigmas=tuple(sigmas.tolist()))))


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_every_sampler_object_is_taken(sampler):
    needs("runge-kutta" if isinstance(sampler, RungeKutta) else "")
    model = exact_energy(float32_mixture())
    x = sample(model, 3, sampler=plan(model, sampler, sigmas=[2.0, 1.0, 0.5]))
    assert x.shape == (3, 2) and bool(x.isfinite().all())
    if not isinstance(sampler, Langevin):
        again = sample(model, 3, sampler=sampler, steps=3)
        assert again.shape == (3, 2) and bool(again.isfinite().all())


def test_a_plan_has_its_own_schedule_and_an_object_its_own_settings():
    model = tiny_model()
    with pytest.raises(UserError, match="steps: a plan has"):
        sample(model, 1, sampler=plan(model), steps=3)
    with pytest.raises(UserError, match="has its own settings"):
        plan(model, DDIM(), settings={"eta": 1.0})
    with pytest.raises(UserError, match="steps_each"):
        plan(model, Langevin(step_size=0.1), 5)


# --- the rest ------------------------------------------------------------------------------------


def test_clamping_keeps_what_the_model_sees_within_its_values():
    seen = {False: [], True: []}
    for clamp, steps in seen.items():

        def track(done, total, step, steps=steps):
            steps.append(step.denoised)

        model = tiny_model()
        sample(model, 4, sampler=plan(model, clamp=clamp), progress=track)
    largest = {clamp: float(torch.stack(steps).abs().max()) for clamp, steps in seen.items()}
    assert largest[False] > 1.01 and largest[True] <= 1


def test_mala_asks_for_a_density():
    with pytest.raises(UserError, match="no density"):
        sample(tiny_model(), 1, sampler="mala")


def test_another_size_and_schedule_may_be_asked_for():
    model = tiny_model(3).with_size(5, 11)
    images = sample(model, 2, sampler=plan(model, sigmas=geometric(10, 0.1, 5)))
    assert images.shape == (2, 3, 5, 11)
    with pytest.raises(UserError, match="draws points"):
        exact_energy(float32_mixture()).with_size(5, 11)


def test_track_counts_up_to_the_whole():
    reports = []
    sample(tiny_model(), 5, steps=3, batch=2, progress=lambda done, total, step: reports.append((done, total)))
    assert reports == [(2, 15), (4, 15), (5, 15), (7, 15), (9, 15), (10, 15), (12, 15), (14, 15), (15, 15)]


def test_no_gradient_is_kept():
    assert not sample(tiny_model(), 1, steps=2).requires_grad


def test_mistakes_are_reported():
    model = tiny_model()
    with pytest.raises(UserError, match=r"no such sampler 'huen'\. Did you mean `heun`"):
        sample(model, 1, sampler="huen")
    with pytest.raises(UserError, match="at least one image, got 0"):
        sample(model, 0)
    with pytest.raises(UserError, match="steps: need at least one"):
        sample(model, 1, steps=0)
    with pytest.raises(UserError, match=r"this model knows 80 to 0\.002"):
        plan(model, sigmas=geometric(100, 1, 5))


@pytest.mark.parametrize(
    ("tasks", "command"),
    [(("dejpeg", "inpaint"), r"dejpeg\|inpaint"), (("descratch",), "descratch"), (("paired",), "restore")],
)
def test_a_model_that_restores_images_is_refused(tasks, command):
    model = tiny_model()
    model.spec = replace(model.spec, restoration=RestorationSpec(tasks=tasks))
    with pytest.raises(UserError, match=f"it restores images .* Use `scorefield {command}` or sf.restore"):
        sample(model, 1)


@pytest.mark.parametrize("name", ["heun", "ddpm"])
def test_batches_from_any_number_on_are_those_of_the_whole_series(name):
    model = tiny_model()
    whole = sample(model, 150, sampler=name, steps=3)
    parts = list(sample_batches(model, 150, sampler=plan(model, name, 3), first=1))
    assert [len(part) for part in parts] == [64, 22]
    assert torch.equal(torch.cat(parts), whole[64:])


@pytest.mark.parametrize("start", ["gaussian", "uniform"])
def test_more_images_begin_with_fewer_and_the_batch_does_not_matter(start):
    model = tiny_model()
    many = sample(model, 130, steps=2, start=start)
    # σ_max = 80 is rounded to 80·2⁻²⁴ ≈ 5e-6 at each sum, which an untrained network may enlarge a thousand times
    for n, batch in ((130, 50), (130, 130), (64, 7)):
        torch.testing.assert_close(sample(model, n, steps=2, start=start, batch=batch), many[:n], rtol=0, atol=0.05)
