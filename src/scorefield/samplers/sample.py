"""One call from a model to images.

Sampling begins with noise, or warm: an image x0 is brought to a noise level, x = x0 + σn, and only the noise levels
below are walked (SDEdit, Meng et al. 2022, Algorithm 1). The larger σ, the freer the result; for x0 from
N(m, v²) and a model of N(μ, s²) the ODE leads it to

    N(μ + (m − μ) k, s² (v² + σ²)/(s² + σ²)),      k = s/√(s² + σ²).

References:
    Meng et al. (2022). https://arxiv.org/abs/2108.01073
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError, did_you_mean
from scorefield.guidance import NO_LIMITS, ClippedDenoiser, SigmaInterval, bind_classes, expand_labels
from scorefield.kernels.prepacked import ready
from scorefield.model import ScoreModel
from scorefield.samplers.base import Step, run
from scorefield.samplers.presets import plan
from scorefield.samplers.settings import Setting

Start = Literal["gaussian", "uniform"]
"""What sampling begins with: N(0, σ_max²), or values spread evenly over the value range."""

_VERBS = {"colorize", "inpaint", "uncrop", "dejpeg", "upscale", "deblur"}  # tasks that are commands, too


@torch.no_grad()
def sample(
    model: ScoreModel,
    n: int,
    *,
    sampler: str = "heun",
    steps: int | None = None,
    sigmas: Tensor | None = None,
    schedule: str | None = None,
    settings: Mapping[str, Setting] | None = None,
    start: Start = "gaussian",
    init: Tensor | None = None,
    init_sigma: float | None = None,
    clamp: bool = False,
    classes: int | Sequence[int] | Tensor | None = None,
    guidance: float = 1.0,
    interval: SigmaInterval = NO_LIMITS,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    batch: int = 64,
    track: Callable[[int, int, Step], None] | None = None,
) -> Tensor:
    """Draw images: a start that is all noise, or an image made noisy, followed down a schedule.

    Where the sampler draws no noise, the images do not depend on `batch`; where it does, they do.

    Args:
        model: the score model.
        n: how many.
        sampler: a name in SAMPLERS.
        steps: see `plan`.
        sigmas: a schedule of your own in place of the plan's.
        schedule: a schedule's name, see `plan`.
        settings: of the sampler, by name, see `plan`.
        start: "gaussian", x ~ N(0, σ_max² I), or "uniform" over the value range, as NCSN's program starts.
        init: images to begin with in place of noise, in the model's value range: one, (C, H, W) or
            (1, C, H, W), for all, or n of them.
        init_sigma: the noise that they are given, and the first noise level.
        clamp: keep what the model sees in the noise, D(x; σ), within the value range, as DDPM's program does.
        classes: of the images, for a model trained with labels: one number for all, or several that the
            images take in turn; −1 is not told.
        guidance: towards the class, w of `denoisers.ClassifierFreeGuidance`; 1 is none.
        interval: where in σ it guides.
        size: (H, W) where it is not the model's own.
        seed: same seed, same device, same version, same bytes.
        batch: images at once, a bound on memory.
        track: called after each update with (evaluations done, evaluations in all, the Step).

    Returns:
        (n, C, H, W), float32, in the model's value range (clamped only if asked to).

    Raises:
        UserError: a model that restores images, n < 1, no such sampler, schedule, setting or start, a schedule outside of the model's noise
            levels, images to begin with that do not fit, a class that the model does not know, or guidance
            without a class.
    """
    _check_unconditional(model)
    if n < 1:
        raise UserError("n", f"need at least one image, got {n}.")
    if (init is None) != (init_sigma is None):
        raise UserError("init", "images to begin with and their noise level go together.", "Give init and init_sigma.")
    chosen = plan(model, sampler, steps, sigmas=sigmas, schedule=schedule, settings=settings, init_sigma=init_sigma)
    told = None if classes is None else expand_labels(model, n, classes).to(model.device)
    bind_classes(model, told, guidance=guidance, interval=interval)  # a mistake is told before any work
    generator = torch.Generator(model.device).manual_seed(seed)
    if init is None or init_sigma is None:
        shape = (n, *model.shape[:1], *size) if size else (n, *model.shape)
        begun = _start(model, start, shape, float(chosen.sigmas[0]), generator)
    else:
        clean = _images(model, init, n, size).to(model.device, torch.float32)
        begun = clean + init_sigma * torch.randn(clean.shape, generator=generator, device=model.device)
    parts: list[Tensor] = []
    per_batch = chosen.evaluations
    total = per_batch * -(-n // batch)
    with ready(model.network):
        for part, x in enumerate(begun.split(batch)):
            rows = None if told is None else told[part * batch : part * batch + len(x)]
            denoiser = bind_classes(model, rows, guidance=guidance, interval=interval)
            if clamp:
                denoiser = ClippedDenoiser(denoiser, *model.value_range)

            def report(step: Step, done: int = part * per_batch) -> None:
                if track is not None:
                    track(done + step.evaluations, total, step)

            parts.append(run(chosen.sampler, denoiser, x, chosen.sigmas, generator=generator, progress=report))
    return torch.cat(parts)


def _check_unconditional(model: ScoreModel) -> None:
    """Check that the model is unconditional.

    Raises:
        UserError: it restores images.
    """
    if model.spec.tasks:
        verbs = "|".join(task for task in model.spec.tasks if task in _VERBS) or "restore"
        raise UserError(
            "model",
            f"it restores images ({', '.join(model.spec.tasks)}); it cannot sample without one.",
            f"Use `scorefield {verbs}` or sf.restore.",
        )


def _start(model: ScoreModel, start: str, shape: tuple[int, ...], sigma: float, generator: Generator) -> Tensor:
    if start == "gaussian":
        return sigma * torch.randn(shape, generator=generator, device=model.device)
    if start == "uniform":
        low, high = model.value_range
        return low + (high - low) * torch.rand(shape, generator=generator, device=model.device)
    raise UserError("start", f"no such start {start!r}.", did_you_mean(start, ["gaussian", "uniform"]))


def _images(model: ScoreModel, init: Tensor, n: int, size: tuple[int, int] | None) -> Tensor:
    """The n images to begin with, (n, C, H, W)."""
    images = init[None] if init.ndim == len(model.shape) else init
    fits = (
        images.ndim == len(model.shape) + 1
        and images.shape[1] == model.shape[0]
        and len(images) in (1, n)
        and size in (None, tuple(images.shape[2:]))
    )
    if not fits:
        wanted = (*model.shape[:1], *size) if size else model.shape
        many = "one" if n == 1 else f"one or {n}"
        raise UserError("init", f"need {many} of shape {tuple(wanted)}, got shape {tuple(init.shape)}.")
    if not init.is_floating_point():
        raise UserError(
            "init",
            f"images of {init.dtype}; the model takes floats from {model.value_range[0]:g} to "
            f"{model.value_range[1]:g}.",
            "Use scorefield.data.image.to_float.",
        )
    return images.expand(n, *images.shape[1:])
