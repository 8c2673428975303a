"""Our samplers take the steps of diffusers' schedulers, on the same weights and the same noise.

Both walk all the way down from one x. Ours is x0 + σn; theirs is that over √(1+σ²) for DDPM, DDIM and
DPM-Solver++, and compared so. What is set on their side, so that both compute the same: no clipping of x0,
time steps on whole numbers of the schedule (spacing "trailing" or "leading"), and a last step to σ = 0.

Networks and states are float64, so that no processor's kernels show. Only diffusers' tables and the sine
embedding of their time steps stay in float32.
"""

from itertools import pairwise, product

import pytest
import torch

from hub.pipelines import PLAIN, SKIPPING, exported, images, unet
from oracles import seeded
from scorefield.guidance import ClippedDenoiser
from scorefield.hub.schedules import read_schedule
from scorefield.model import ModelSpec, ScoreModel
from scorefield.networks.diffusers_unet import Diffusers
from scorefield.samplers.ancestral import DDIM, Ancestral
from scorefield.samplers.multistep import DPMSolver2M
from scorefield.samplers.ode import Euler, Heun

diffusers = pytest.importorskip("diffusers")
multistep = pytest.importorskip("diffusers.schedulers.scheduling_dpmsolver_multistep")

DISTRIBUTION = {"num_train_timesteps": 40, "beta_start": 2e-3, "beta_end": 0.3}  # σ from 0.04 to 26
FREE = DISTRIBUTION | {"clip_sample": False}
STEPS = 8
EPS = torch.finfo(torch.float32).eps
# A step reads four numbers of float32 tables (two α, two σ), and a fifth to turn σ into a time step. A step
# shrinks the error of the steps before it: the errors of two steps bound the sum.
TABLES = 2 * 5 * EPS


def model_of(settings, name, network=PLAIN):
    """The model whose network and schedule these are, as `import_diffusers` builds it."""
    torch.manual_seed(0)
    wrapped = Diffusers(config={**network})
    wrapped.unet.load_state_dict(unet(network).state_dict())
    schedule = read_schedule({"_class_name": name, **settings}, name)
    shape = (network["in_channels"], 8, 8)
    spec = ModelSpec(shape=shape, sigma_range=schedule.sigma_range)
    return ScoreModel(wrapped, schedule.parameterization, spec).double().eval()


def widened(distribution):
    """Their scheduler with its float32 tables in float64, rounded as they are."""
    for name, table in vars(distribution).items():
        if isinstance(table, torch.Tensor) and table.dtype == torch.float32:
            setattr(distribution, name, table.double())
    return distribution


def theirs(model, distribution, x, **options):
    """Their state after each call of `step`."""
    states = []
    for step in distribution.timesteps:
        output = model.network.unet(distribution.scale_model_input(x, step), step).sample
        x = distribution.step(output, step, x, **options).prev_sample
        states.append(x)
    return states


def schedule(distribution):
    """σ at their time steps, and 0."""
    signal = distribution.alphas_cumprod[distribution.timesteps.long()]
    return torch.cat([((1 - signal) / signal).sqrt(), torch.zeros(1)])


def walk(model, sampler, x, sigmas, seed=1):
    return [step.x for step in sampler.iterate(model, x, sigmas, generator=seeded(seed))]


def apart(ours, others, sigmas, *, shrunk):
    """The largest difference of any state, both divided by √(1+σ²), for states of size 1."""
    assert len(ours) == len(others) == len(sigmas) - 1
    worst = 0.0
    for x, y, sigma in zip(ours, others, sigmas[1:], strict=True):
        share = (1 + sigma**2).sqrt()
        x, y = x / share, y if shrunk else y / share
        worst = max(worst, float((x - y).abs().max() / x.abs().max()))
    return worst


def start(sigmas, channels=1):
    """X in our coordinate and in theirs."""
    x = images(channels=channels).double() * (1 + sigmas[0] ** 2).sqrt()
    return x, x / (1 + sigmas[0] ** 2).sqrt()


VARIANCES = (("fixed_small", "posterior"), ("fixed_large", "forward"))
EVERY = set(product(("epsilon", "sample", "v_prediction"), VARIANCES, (STEPS, 20)))
SOME = {("epsilon", VARIANCES[0], 20), ("sample", VARIANCES[1], STEPS), ("v_prediction", VARIANCES[0], STEPS)}


@pytest.mark.parametrize(
    ("prediction", "variances", "steps"),
    [*sorted(SOME), *(pytest.param(*case, marks=pytest.mark.slow) for case in sorted(EVERY - SOME))],
)
@torch.no_grad()
def test_ancestral_steps_are_those_of_the_ddpm_scheduler(prediction, variances, steps):
    variance, ours = variances
    settings = FREE | {"prediction_type": prediction, "variance_type": variance}
    distribution = diffusers.DDPMScheduler(**settings)
    distribution.set_timesteps(steps)
    widened(distribution)
    model, sigmas = model_of(settings, "DDPMScheduler"), schedule(distribution)
    x, shrunk = start(sigmas)
    mine = walk(model, Ancestral(variance=ours), x, sigmas)
    other = theirs(model, distribution, shrunk, generator=seeded(1))
    assert apart(mine, other, sigmas, shrunk=True) < TABLES


@torch.no_grad()
def test_a_clipped_denoiser_is_their_clip_sample():
    settings = DISTRIBUTION | {"clip_sample": True, "clip_sample_range": 0.3}
    distribution = diffusers.DDPMScheduler(**settings)
    distribution.set_timesteps(STEPS)
    widened(distribution)
    model, sigmas = model_of(settings, "DDPMScheduler"), schedule(distribution)
    x, shrunk = start(sigmas)
    clipped = walk(ClippedDenoiser(model, -0.3, 0.3), Ancestral(), x, sigmas)
    other = theirs(model, distribution, shrunk, generator=seeded(1))
    assert float((clipped[-1] - walk(model, Ancestral(), x, sigmas)[-1]).abs().max()) > 0.1
    assert apart(clipped, other, sigmas, shrunk=True) < TABLES


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@torch.no_grad()
def test_ddim_steps_are_those_of_the_ddim_scheduler(eta):
    distribution = diffusers.DDIMScheduler(**FREE)
    distribution.set_timesteps(STEPS)
    widened(distribution)
    model, sigmas = model_of(FREE, "DDIMScheduler"), schedule(distribution)
    x, shrunk = start(sigmas)
    mine = walk(model, DDIM(eta=eta), x, sigmas)
    other = theirs(model, distribution, shrunk, eta=eta, generator=seeded(1))
    assert apart(mine, other, sigmas, shrunk=True) < TABLES


@torch.no_grad()
def test_ddim_clips_alike_once_they_clip_the_noise_too():
    distribution = diffusers.DDIMScheduler(**DISTRIBUTION, clip_sample_range=0.3)
    distribution.set_timesteps(STEPS)
    widened(distribution)
    model, sigmas = model_of(DISTRIBUTION, "DDIMScheduler"), schedule(distribution)
    x, shrunk = start(sigmas)
    mine = walk(ClippedDenoiser(model, -0.3, 0.3), DDIM(), x, sigmas)
    other = theirs(model, distribution, shrunk, use_clipped_model_output=True)
    assert apart(mine, other, sigmas, shrunk=True) < TABLES


@torch.no_grad()
def test_euler_steps_are_those_of_the_euler_scheduler():
    distribution = diffusers.EulerDiscreteScheduler(**DISTRIBUTION, timestep_spacing="trailing")
    distribution.set_timesteps(STEPS)
    widened(distribution)
    model, sigmas = model_of(DISTRIBUTION, "EulerDiscreteScheduler"), distribution.sigmas
    torch.testing.assert_close(sigmas, schedule(distribution), rtol=1e-5, atol=0)  # of 1 − ᾱ ≥ 2e-3, twice rounded
    x, _ = start(sigmas)
    mine = walk(model, Euler(), x, sigmas)
    assert apart(mine, theirs(model, distribution, x), sigmas, shrunk=False) < TABLES


@torch.no_grad()
def test_heun_steps_are_those_of_the_heun_scheduler():
    distribution = diffusers.HeunDiscreteScheduler(**DISTRIBUTION, timestep_spacing="trailing")
    distribution.set_timesteps(STEPS)
    widened(distribution)
    model = model_of(DISTRIBUTION, "HeunDiscreteScheduler")
    sigmas = torch.cat(
        [distribution.sigmas[:1], distribution.sigmas[1::2]]
    )  # they name a noise level for each of its two evaluations
    x, _ = start(sigmas)
    mine = walk(model, Heun(), x, sigmas)
    states = theirs(model, distribution, x)
    assert apart(mine, states[1::2] + states[-1:], sigmas, shrunk=False) < TABLES


@pytest.mark.parametrize(("algorithm", "eta"), [("dpmsolver++", 0.0), ("sde-dpmsolver++", 1.0)])
@pytest.mark.parametrize("steps", [STEPS, pytest.param(20, marks=pytest.mark.slow)])
@torch.no_grad()
def test_dpm_solver_steps_are_those_of_the_multistep_scheduler(algorithm, eta, steps, monkeypatch):
    """Its second order by midpoint; the first step, and the last one to 0, are of first order in both."""
    theirs_drawn = multistep.randn_tensor
    monkeypatch.setattr(  # which draws float32 whatever the state is
        multistep, "randn_tensor", lambda *a, **k: theirs_drawn(*a, **k | {"dtype": torch.float64})
    )
    distribution = diffusers.DPMSolverMultistepScheduler(
        **DISTRIBUTION, timestep_spacing="trailing", algorithm_type=algorithm, solver_order=2, solver_type="midpoint"
    )
    distribution.set_timesteps(steps)
    widened(distribution)
    model, sigmas = model_of(DISTRIBUTION, "DPMSolverMultistepScheduler"), distribution.sigmas
    x, shrunk = start(sigmas)
    mine = walk(model, DPMSolver2M(eta=eta), x, sigmas)
    other = theirs(model, distribution, shrunk, generator=seeded(1))
    assert apart(mine, other, sigmas, shrunk=True) < TABLES


@torch.no_grad()
def test_reverse_diffusion_steps_are_those_of_the_ve_scheduler():
    """With `sampling_eps` 0, at which they tell the network the σ that they step from."""
    settings = {"sigma_min": 0.05, "sigma_max": 20.0}
    distribution = diffusers.ScoreSdeVeScheduler(**settings, sampling_eps=0.0)
    distribution.set_timesteps(5)
    distribution.set_sigmas(5)
    widened(distribution)
    model = model_of(settings, "ScoreSdeVeScheduler", SKIPPING)
    sigmas = torch.cat([distribution.discrete_sigmas.flip(0), torch.zeros(1)])
    torch.testing.assert_close(distribution.sigmas, sigmas[:-1])
    x = 20 * images(channels=3).double()
    mine = walk(model, Ancestral(variance="reverse-diffusion"), x, sigmas)
    noise, others = seeded(1), []
    for step, sigma in zip(distribution.timesteps, distribution.sigmas, strict=True):
        output = model.network.unet(x, sigma.expand(len(x))).sample
        made = distribution.step_pred(output, step, x, generator=noise)
        x = made.prev_sample
        others.append(x)
    others[-1] = made.prev_sample_mean  # what their pipeline shows
    assert apart(mine, others, sigmas, shrunk=False) < TABLES


@torch.no_grad()
def test_a_pipeline_of_ours_draws_our_own_images(tmp_path):
    model, folder = exported(tmp_path / "pipeline")
    pipeline = diffusers.DDPMPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(batch_size=2, num_inference_steps=50, generator=seeded(1), output_type="np").images
    generator = seeded(1)
    sigmas = torch.cat([model.schedule, torch.zeros(1)])
    assert all(s > t for s, t in pairwise(sigmas.tolist()))
    x = torch.randn(2, 1, 8, 8, generator=generator) * (1 + sigmas[0] ** 2).sqrt()
    *_, last = Ancestral().iterate(ClippedDenoiser(model, -1, 1), x, sigmas, generator=generator)
    ours = (last.x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert abs(drawn - ours).max() < 50 * 4 * EPS  # 50 evaluations in float32, of 16 layers each: √16 eps
    assert ours.std() > 0.1
