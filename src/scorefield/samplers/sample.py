"""One call from a model to images.

Sampling starts from noise or from images. A warm start (SDEdit, Meng et al. 2022, Algorithm 1) adds noise to
an image, x = x0 + σn, and follows only the noise levels below σ. The larger σ, the more the result may differ
from x0. For x0 from N(m, v²) and a model of N(μ, s²) the ODE gives

    N(μ + (m − μ) k, s² (v² + σ²)/(s² + σ²)),      k = s/√(s² + σ²).

References:
    Meng et al. (2022). https://arxiv.org/abs/2108.01073
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
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

__all__ = ["Start", "WarmStart", "sample", "sample_batches"]


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
    if steps is not None:
        sampler = _plan(model, sampler, steps, start.sigma if isinstance(start, WarmStart) else None)
    batches = sample_batches(
        model, n, sampler=sampler, start=start, classes=classes, guidance=guidance, seed=seed, batch=batch,
        progress=progress,
    )  # fmt: skip
    return torch.cat(list(batches))


@torch.no_grad()
def sample_batches(
    model: ScoreModel,
    n: int,
    *,
    sampler: str | Sampler | Plan = "heun",
    start: Start = "gaussian",
    classes: int | Sequence[int] | Tensor | None = None,
    guidance: float | Guidance = 1.0,
    seed: int = 0,
    batch: int = 64,
    first: int = 0,
    progress: Callable[[int, int, Step], None] | None = None,
) -> Iterator[Tensor]:
    """The images that `sample` draws, batch by batch, in the memory of one.

    A batch depends on its number, not on those before it, so that an interrupted series goes on where it stopped.

    Args:
        model: the score model.
        n: how many in all.
        sampler: a name in PRESETS, a sampler object or a `plan`.
        start: noise, or a WarmStart.
        classes: one class for all, or several in turn.
        guidance: weight of classifier-free guidance, or a `Guidance`.
        seed: of all batches.
        batch: images a batch.
        first: the number of the batch to begin with.
        progress: called after each update.

    Yields:
        (batch, C, H, W), the last one what is left.

    Raises:
        UserError: as `sample`.
    """
    _check_unconditional(model)
    if n < 1:
        raise UserError("n", f"need at least one image, got {n}.")
    warm = start if isinstance(start, WarmStart) else None
    chosen = _plan(model, sampler, None, None if warm is None else warm.sigma)
    labels = None if classes is None else expand_labels(model, n, classes)
    bind_classes(model, labels, guidance)  # reports a mistake before any work
    clean = None if warm is None else _images(model, warm.images, n)
    shape = model.shape if clean is None else tuple(clean.shape[1:])
    sigma = float(chosen.sigmas[0]) if warm is None else warm.sigma
    noise = _Noise(model, start if isinstance(start, str) else "gaussian", (n, *shape), sigma, seed)
    per_batch = chosen.evaluations
    total = per_batch * -(-n // batch)
    with prepacked():
        for number in range(first, -(-n // batch)):
            images = slice(number * batch, min(n, (number + 1) * batch))
            x, generator = noise.batch(images)
            if clean is not None:
                x = clean[images].to(model.device, torch.float32) + x
            rows = None if labels is None else labels[images].to(model.device)
            denoiser = bind_classes(model, rows, guidance)
            if chosen.clamp:
                denoiser = ClippedDenoiser(denoiser, *model.value_range)

            def report(step: Step, done: int = number * per_batch) -> None:
                if progress is not None:
                    progress(done + step.evaluations, total, step)

            yield run(chosen.sampler, denoiser, x, chosen.sigmas, generator=generator, progress=report)


_BLOCK = 64  # images; whatever the batch, so that the noise of an image does not depend on it


class _Noise:
    """The noise that a series of images starts from, drawn in blocks, each from a seed of its own.

    Args:
        model: for the device, and the value range of uniform noise.
        start: "gaussian" or "uniform".
        shape: (n, C, H, W), of the whole series.
        sigma: standard deviation of Gaussian noise.
        seed: of the series.

    Raises:
        UserError: no such start.
    """

    def __init__(self, model: ScoreModel, start: str, shape: tuple[int, ...], sigma: float, seed: int) -> None:
        if start not in ("gaussian", "uniform"):
            raise UserError("start", f"no such start {start!r}.", did_you_mean(start, ["gaussian", "uniform"]))
        self.model, self.start, self.shape, self.sigma, self.seed = model, start, shape, sigma, seed
        self._drawn: tuple[int, Tensor, Generator] | None = None

    def batch(self, images: slice) -> tuple[Tensor, Generator]:
        """The noise of these images, and a generator for the steps of their sampler."""
        parts: list[Tensor] = []
        generator = self._generator("steps", images.start)
        for number in range(images.start // _BLOCK, -(-images.stop // _BLOCK)):
            block, its_own = self._block(number)
            begin = number * _BLOCK
            parts.append(block[max(images.start - begin, 0) : images.stop - begin])
            if images.start == 0 and number == 0:
                generator = its_own
        return torch.cat(parts), generator

    def _block(self, number: int) -> tuple[Tensor, Generator]:
        if self._drawn is None or self._drawn[0] != number:
            count = min(_BLOCK, self.shape[0] - number * _BLOCK)
            shape, device = (count, *self.shape[1:]), self.model.device
            generator = self._generator("noise", number)
            if self.start == "gaussian":
                values = self.sigma * torch.randn(shape, generator=generator, device=device)
            else:
                low, high = self.model.value_range
                values = low + (high - low) * torch.rand(shape, generator=generator, device=device)
            self._drawn = (number, values, generator)
        return self._drawn[1:]

    def _generator(self, purpose: str, number: int) -> Generator:
        """A generator of its own for each number; the seed itself is that of the first."""
        digest = hashlib.sha256(f"{purpose}:{self.seed}:{number}".encode()).digest()
        return Generator(self.model.device).manual_seed(int.from_bytes(digest[:7], "big") if number else self.seed)


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
        verbs = "|".join(task for task in model.tasks if task != "paired") or "restore"
        raise UserError(
            "model",
            f"it restores images ({', '.join(model.tasks)}); it cannot sample without one.",
            f"Use `scorefield {verbs}` or sf.restore.",
        )
