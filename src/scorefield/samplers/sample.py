"""One call from a model to images.

Sampling starts from noise or from images. A warm start (SDEdit, Meng et al. 2022, Algorithm 1) adds noise to
an image, x = x0 + σn, and follows only the noise levels below σ. The larger σ, the more the result may differ
from x0. For x0 from N(m, v²) and a model of N(μ, s²) the ODE gives

    N(μ + (m − μ) k, s² (v² + σ²)/(s² + σ²)),      k = s/√(s² + σ²).

References:
    Meng et al. (2022). https://arxiv.org/abs/2108.01073
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError, did_you_mean
from scorefield.guidance import ClippedDenoiser, Guidance, bind_classes, expand_labels
from scorefield.kernels.prepacked import prepacked
from scorefield.model import ScoreModel
from scorefield.samplers.base import Sampler, Step, run
from scorefield.samplers.presets import Plan, plan

__all__ = ["Start", "WarmStart", "sample"]

_VERBS = {"colorize", "inpaint", "uncrop", "dejpeg", "upscale", "deblur"}  # tasks that are commands, too


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Images to start from in place of noise.

    Args:
        images: in the model's value range: one, (C, H, W) or (1, C, H, W), for all samples, or one for each.
        sigma: the std of the noise added to them, and the first noise level.
    """

    images: Tensor
    sigma: float


Start = Literal["gaussian", "uniform"] | WarmStart
"""N(0, σ_max²), uniform over the value range as in NCSN's program, or images with noise."""


@torch.no_grad()
def sample(
    model: ScoreModel,
    n: int,
    *,
    sampler: str | Sampler | Plan = "heun",
    steps: int | None = None,
    start: Start = "gaussian",
    classes: int | Sequence[int] | Tensor | None = None,
    guidance: float | Guidance = 1.0,
    seed: int = 0,
    batch: int = 64,
    progress: Callable[[int, int, Step], None] | None = None,
) -> Tensor:
    """Draw images from a model.

    With a deterministic sampler the images do not depend on `batch`; with a stochastic one they do.

    Args:
        model: the score model; `ScoreModel.with_size` draws images of another size.
        n: how many.
        sampler: a name in PRESETS, a sampler object, or a `plan` for other schedules and settings.
        steps: see `plan`.
        start: "gaussian", x ~ N(0, σ_max² I); "uniform" over the value range, as in NCSN's program; or a WarmStart.
        classes: for a model trained with labels: one class for all images, or several that the images take in turn;
            −1 is no class.
        guidance: weight of classifier-free guidance towards the class, or a `Guidance` with its interval of σ.
        seed: same seed, device and version give the same bytes.
        batch: images computed at once; bounds the memory.
        progress: called after each update with (evaluations done, evaluations in all, the Step).

    Returns:
        (n, C, H, W), float32, in the model's value range (values may exceed it unless the plan clamps).

    Raises:
        UserError: a model that restores images, n < 1, no such sampler or start, a schedule outside the model's σ
            range, images to start from that do not fit, a class that the model does not know, or guidance
            without a class.
    """
    _check_unconditional(model)
    if n < 1:
        raise UserError("n", f"need at least one image, got {n}.")
    chosen = _plan(model, sampler, steps, start.sigma if isinstance(start, WarmStart) else None)
    labels = None if classes is None else expand_labels(model, n, classes).to(model.device)
    bind_classes(model, labels, guidance)  # reports a mistake before any work
    generator = torch.Generator(model.device).manual_seed(seed)
    first = _first(model, n, start, float(chosen.sigmas[0]), generator)
    parts: list[Tensor] = []
    per_batch = chosen.evaluations
    total = per_batch * -(-n // batch)
    with prepacked():
        for part, x in enumerate(first.split(batch)):
            rows = None if labels is None else labels[part * batch : part * batch + len(x)]
            denoiser = bind_classes(model, rows, guidance)
            if chosen.clamp:
                denoiser = ClippedDenoiser(denoiser, *model.value_range)

            def report(step: Step, done: int = part * per_batch) -> None:
                if progress is not None:
                    progress(done + step.evaluations, total, step)

            parts.append(run(chosen.sampler, denoiser, x, chosen.sigmas, generator=generator, progress=report))
    return torch.cat(parts)


def _plan(
    model: ScoreModel,
    sampler: str | Sampler | Plan,
    steps: int | None,
    init_sigma: float | None,
) -> Plan:
    if not isinstance(sampler, Plan):
        return plan(model, sampler, steps, init_sigma=init_sigma)
    if steps is not None:
        raise UserError("steps", "a plan has its own schedule.", "Leave it out.")
    return plan(model, sampler.sampler, sigmas=sampler.sigmas, init_sigma=init_sigma, clamp=sampler.clamp)


def _first(model: ScoreModel, n: int, start: Start, sigma: float, generator: Generator) -> Tensor:
    """What sampling begins with at the noise level σ, (n, C, H, W)."""
    shape = (n, *model.shape)
    if isinstance(start, WarmStart):
        clean = _images(model, start.images, n).to(model.device, torch.float32)
        return clean + start.sigma * torch.randn(clean.shape, generator=generator, device=model.device)
    if start == "gaussian":
        return sigma * torch.randn(shape, generator=generator, device=model.device)
    if start == "uniform":
        low, high = model.value_range
        return low + (high - low) * torch.rand(shape, generator=generator, device=model.device)
    raise UserError("start", f"no such start {start!r}.", did_you_mean(start, ["gaussian", "uniform"]))


def _images(model: ScoreModel, images: Tensor, n: int) -> Tensor:
    """The n images to start from, (n, C, H, W)."""
    batch = images[None] if images.ndim == len(model.shape) else images
    fits = batch.ndim == len(model.shape) + 1 and batch.shape[1] == model.shape[0] and len(batch) in (1, n)
    if not fits:
        many = "one" if n == 1 else f"one or {n}"
        raise UserError("start", f"need {many} of shape {tuple(model.shape)}, got shape {tuple(images.shape)}.")
    if not images.is_floating_point():
        low, high = model.value_range
        raise UserError(
            "start",
            f"images of {images.dtype}; the model takes floats from {low:g} to {high:g}.",
            "Use scorefield.data.image.to_float.",
        )
    return batch.expand(n, *batch.shape[1:])


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
