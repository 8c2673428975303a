"""Score-matching losses of a model on held-out images at each noise level, with confidence intervals.

**Units.** Models use pixels in ranges of their own, x = a + w u with u in [0, 1], so a noise level σ of u is wσ of
x. We compare in u:

    D_u(u; σ) = (D(a + w u; wσ) − a)/w,      n̂(u; σ) = (u − D_u)/σ = (x − D(x; wσ))/(wσ) = −σ ŝ(u; σ),

ŝ being the model's score. n̂ is the same number in all units, and so are the losses below: errors of the score
times σ, per pixel. A model with ŝ = 0 has L = 1 at every σ.

**Losses.** With d the number of values of an image, u = u0 + σn, p_σ the density of u and s = ∇ log p_σ,

    Fisher divergence    F(σ) = (σ²/d) E ‖ŝ − s‖²                             the target; s is unknown
    denoising            L(σ) = (1/d) E ‖(D_u(u; σ) − u0)/σ‖² = (1/d) E ‖σŝ + n‖²
    sliced               S(σ) = (2σ²/d) E [vᵀ∇ŝ v + ½ ‖ŝ‖²],                  E v vᵀ = I

E[n | u] = −σ s(u) (Tweedie), so n + σŝ = σ(ŝ − s) + (n + σs) is a sum of two orthogonal parts, and
E ‖n‖² = d is the sum of E ‖n + σs‖² and σ² E ‖s‖². Hence

    L(σ) = F(σ) + C(σ),      C(σ) = (1/d) E ‖n + σs‖² = 1 − (σ²/d) E ‖s‖²,      S(σ) = L(σ) − 1.

C depends on the data alone: it is the error of the best denoiser, a lower bound for every model, and F is what a
model adds to it. Therefore **differences of L between models are differences of their Fisher divergences**, and
so are differences of S (Vincent 2011, §4; Song & Ermon 2019, eqs. 1–2 and 5). S + 1 estimates the same number as L
without the clean image. Where the two differ by more than their intervals, the network's output is not what its
parameterization states. The mean over levels is eq. 6 with λ(σ) = σ².

**Confidence.** Images are independent and each has its own noise, so a mean of N losses has the 95 % interval
± t s/√N, with s their standard deviation and t Student's quantile of N − 1 degrees. All models get the same images,
the same noise and the same v, so the differences of their losses, image by image, vary far less than the losses;
they have intervals of their own.

References:
    Vincent (2011), §4. https://doi.org/10.1162/NECO_a_00142
    Song et al. (2019), sliced score matching. https://arxiv.org/abs/1905.07088
    Song & Ermon (2019), eqs. 1–6. https://arxiv.org/abs/1907.05600
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.metrics.confidence import student_quantile
from scorefield.model import Denoiser, ScoreModel, expand
from scorefield.objectives import denoising_score_matching, sliced_score_matching
from scorefield.progress import ProgressCallback, ignore_progress

__all__ = [
    "Estimate",
    "InPixels",
    "LossSettings",
    "Losses",
    "common_levels",
    "common_range",
    "estimate",
    "level_losses",
    "schedule_levels",
]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over images, with the half-width of its 95 % interval."""

    mean: float
    half: float

    def __str__(self) -> str:
        """Mean ± half-width, to two digits of the half-width and at least four decimals."""
        small = math.floor(math.log10(self.half)) if self.half > 0 else 0
        digits = max(4, min(1 - small, 12))
        return f"{self.mean:.{digits}f} ± {self.half:.{digits}f}"

    def plus(self, shift: float) -> "Estimate":
        """The estimate plus a constant."""
        return Estimate(mean=self.mean + shift, half=self.half)


def estimate(values: Tensor) -> Estimate:
    """The mean of independent values, (N,), N ≥ 2, with its interval."""
    n = len(values)
    spread = values.double().std().item()
    return Estimate(mean=values.double().mean().item(), half=student_quantile(n - 1) * spread / n**0.5)


@dataclass(frozen=True, kw_only=True)
class InPixels:
    """A model as a denoiser of u = (x − a)/w in [0, 1]; see the equations of the module."""

    model: ScoreModel

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D_u(u; σ) at u = x, the shape of x."""
        low, width = scale_of(self.model)
        return (self.model(low + width * x, width * sigma) - low) / width

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(u − D_u(u; σ))/σ at u = x, without the subtraction."""
        low, width = scale_of(self.model)
        return self.model.noise(low + width * x, width * sigma)


def scale_of(model: ScoreModel) -> tuple[float, float]:
    """A and w of x = a + w u."""
    low, high = model.value_range
    return low, high - low


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Per noise level and image, (L, N), float64: L of the module, and S or None."""

    denoising: Tensor
    sliced: Tensor | None


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """How losses are estimated.

    Args:
        n: number of images, a fixed random choice; all if there are fewer.
        projections: directions v of the sliced loss for each image; 0 leaves it out.
        seed: of noise and directions.
        batch: images at once. Noise depends on it: the same batch gives the same noise.
    """

    n: int = 500
    projections: int = 1
    seed: int = 0
    batch: int = 32


def level_losses(
    denoiser: Denoiser,
    images: Tensor,
    sigmas: Sequence[float],
    settings: LossSettings | None = None,
    *,
    device: str | torch.device = "cpu",
    progress: ProgressCallback = ignore_progress,
) -> Losses:
    """L(σ) and S(σ) of each image.

    Noise and directions depend only on seed, level, batch and device, so every denoiser gets the same.

    Args:
        denoiser: in units of the images.
        images: clean, float, (N, C, H, W), in [0, 1]; all are used, whatever `settings.n`.
        sigmas: noise levels, in these units.
        settings: projections, seed and batch.
        device: where the denoiser computes.
        progress: called after each batch.

    Raises:
        UserError: NaN or infinity in the images, or in the denoiser's output.
    """
    settings = settings or LossSettings()
    bad = int((~images.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise UserError("images", f"{bad} of {len(images)} hold NaN or infinity.", "Look at those.")
    rows: list[Tensor] = []
    parts = images.split(settings.batch)
    for level, sigma in enumerate(sigmas):
        losses: list[Tensor] = []
        for part, u0 in enumerate(parts):
            generator = Generator(device).manual_seed(_seed(settings.seed, level, part))
            losses.append(_losses(denoiser, u0.to(device), sigma, settings.projections, generator))
            progress((level * len(parts) + part + 1) / (len(sigmas) * len(parts)), "")
        rows.append(torch.cat(losses, 1))
        if not bool(rows[-1].isfinite().all()):
            raise UserError("model", f"gives NaN or infinity at σ = {sigma:g} of pixels in [0, 1].", "Train it again.")
    both = torch.stack(rows)
    return Losses(denoising=both[:, 0], sliced=both[:, 1] if settings.projections else None)


def _seed(seed: int, level: int, part: int) -> int:
    """A seed for each batch at each level."""
    return ((seed * 100_003 + level) * 1_000_003 + part) % 2**63


def _losses(denoiser: Denoiser, u0: Tensor, level: float, projections: int, generator: Generator) -> Tensor:
    """L, and S where there are projections, of one batch at one noise level; (1 or 2, B)."""
    sigma = u0.new_full((len(u0),), level)
    state = generator.get_state()
    with torch.no_grad():
        losses = [denoising_score_matching(denoiser, u0, sigma, generator=generator)]
        if projections:
            n = torch.randn(
                u0.shape, generator=generator.set_state(state), device=u0.device, dtype=u0.dtype
            )  # the same noise as in L, so that it nearly cancels in S + 1 − L
            u = u0 + expand(sigma, u0) * n
            sliced = sliced_score_matching(denoiser, u, sigma, projections=projections, generator=generator)
            losses.append(2 * level**2 / u0[0].numel() * sliced)
    return torch.stack(losses).double().cpu()


def common_levels(models: Sequence[ScoreModel], count: int = 10) -> tuple[float, ...]:
    """Noise levels of pixels in [0, 1] in the range of every model, decreasing.

    A model with a schedule, like NCSN, is trained on its levels only. So the first schedule among the models gives
    the levels, subsampled to `count`. Without a schedule they are evenly spaced in log σ.

    Raises:
        UserError: no level is common to all, or count < 1.
    """
    if count < 1:
        raise UserError("levels", f"need at least one, got {count}.")
    low, high = common_range(models)
    for model in models:
        if model.schedule is not None:
            return schedule_levels(model, models, count)
    ends = math.log10(high), math.log10(low)
    return tuple(torch.logspace(*ends, count, dtype=torch.float64).tolist())


def schedule_levels(owner: ScoreModel, models: Sequence[ScoreModel], count: int | None = None) -> tuple[float, ...]:
    """The noise levels of one model's schedule that lie in the range of every model, for pixels in [0, 1].

    Args:
        owner: the model of the schedule.
        models: all models.
        count: subsample to so many levels; None takes all.

    Raises:
        UserError: the model has no schedule, or no noise level is common to all.
    """
    low, high = common_range(models)
    if owner.schedule is None:
        raise UserError("schedule", "this model has none: it takes every noise level in its range.", "Name another.")
    width = scale_of(owner)[1]
    levels = [s / width for s in owner.schedule.tolist() if low * 0.999 <= s / width <= high * 1.001]
    if not levels:
        raise UserError("schedule", f"no noise level lies within {low:g} … {high:g}, the range of all models.")
    if count is None or count >= len(levels):
        return tuple(levels)
    picked = torch.linspace(0, len(levels) - 1, count).round().int().tolist()
    return tuple(levels[i] for i in picked)


def common_range(models: Sequence[ScoreModel]) -> tuple[float, float]:
    """The smallest and the largest σ, for pixels in [0, 1], in the range of every model.

    Raises:
        UserError: the ranges do not overlap.
    """
    ranges = [(m.sigma_range[0] / scale_of(m)[1], m.sigma_range[1] / scale_of(m)[1]) for m in models]
    low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
    if low > high:
        listed = "; ".join(f"{a:g} … {b:g}" for a, b in ranges)
        raise UserError("levels", f"no noise level is common to all models: {listed}, for pixels in [0, 1].")
    return low, high
