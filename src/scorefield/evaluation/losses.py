"""Score-matching losses of a model on held-out images, noise level by noise level, with their uncertainty.

**Units.** Models see pixels in ranges of their own, x = a + w u with u in [0, 1], so that a noise level σ of
u is wσ of x. We compare in u:

    D_u(u; σ) = (D(a + w u; wσ) − a)/w,      n̂(u; σ) = (u − D_u)/σ = (x − D(x; wσ))/(wσ) = −σ ŝ(u; σ),

ŝ being the model's score. n̂ is the same number in all units, and so are the losses below: errors of the
score times σ, per pixel. A model that knows nothing, ŝ = 0, has L = 1 at every σ.

**Losses.** With d numbers an image, u = u0 + σn, p_σ the density of u and s = ∇ log p_σ,

    Fisher divergence    F(σ) = (σ²/d) E ‖ŝ − s‖²                             what is meant; s is unknown
    denoising            L(σ) = (1/d) E ‖(D_u(u; σ) − u0)/σ‖² = (1/d) E ‖σŝ + n‖²
    sliced               S(σ) = (2σ²/d) E [vᵀ∇ŝ v + ½ ‖ŝ‖²],                  E v vᵀ = I

E[n | u] = −σ s(u) (Tweedie), so n + σŝ = σ(ŝ − s) + (n + σs) falls into two orthogonal parts, and E ‖n‖² = d
into E ‖n + σs‖² + σ² E ‖s‖². Hence

    L(σ) = F(σ) + C(σ),      C(σ) = (1/d) E ‖n + σs‖² = 1 − (σ²/d) E ‖s‖²,      S(σ) = L(σ) − 1.

C depends on the data alone: it is the error of the best denoiser, which no model gets below, and F is what a
model adds to it. Therefore **differences of L between models are differences of their Fisher divergences**,
and so are differences of S (Vincent 2011, §4; Song & Ermon 2019, eqs. 1–2 and 5). S + 1 estimates the same
number as L without a look at the clean image; where the two differ by more than their intervals, the
model's output is not what its parameterization says. The mean over levels is eq. 6 with λ(σ) = σ².

**Uncertainty.** Images are independent and each has its own noise, so the mean of N of them has the
interval ± t s/√N at 95 %, s their standard deviation and t Student's of N − 1. All models see the same
images, the same noise and the same v. The differences of their losses, image by image, are then far
less scattered than the losses, and have intervals of their own.

References:
    Vincent (2011), §4. https://doi.org/10.1162/NECO_a_00142
    Song et al. (2019), sliced score matching. https://arxiv.org/abs/1905.07088
    Song & Ermon (2019), eqs. 1–6. https://arxiv.org/abs/1907.05600
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.metrics.intervals import student
from scorefield.model import Denoiser, ScoreModel, expand
from scorefield.objectives import denoising_score_matching, sliced_score_matching


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over images, known to ± half at 95 %."""

    mean: float
    half: float

    def __str__(self) -> str:
        """Both to two digits of the half-width, and at least four decimals."""
        small = math.floor(math.log10(self.half)) if self.half > 0 else 0
        digits = max(4, min(1 - small, 12))
        return f"{self.mean:.{digits}f} ± {self.half:.{digits}f}"

    def plus(self, shift: float) -> "Estimate":
        """The same, moved."""
        return Estimate(mean=self.mean + shift, half=self.half)


def estimate(values: Tensor) -> Estimate:
    """The mean of independent values, (N,), N ≥ 2, and its interval."""
    n = len(values)
    spread = values.double().std().item()
    return Estimate(mean=values.double().mean().item(), half=student(n - 1) * spread / n**0.5)


@dataclass(frozen=True, kw_only=True)
class InPixels:
    """A model as a denoiser of u = (x − a)/w in [0, 1]; see the module's equations."""

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


def level_losses(
    denoiser: Denoiser,
    images: Tensor,
    sigmas: Sequence[float],
    *,
    projections: int = 1,
    seed: int = 0,
    batch: int = 32,
    device: str | torch.device = "cpu",
    track: Callable[[float], None] = lambda share: None,
) -> Losses:
    """L and S of the module at each σ, image by image.

    Noise and directions depend on seed, level, batch and device alone: another denoiser meets the same.

    Args:
        denoiser: in units of the images.
        images: clean, float, (N, C, H, W), in [0, 1].
        sigmas: noise levels, in these units.
        projections: directions v of the sliced loss for each image; 0 leaves it out.
        seed: of noise and directions.
        batch: images at once.
        device: where the denoiser computes.
        track: told the share that is done.

    Raises:
        UserError: NaN or infinity among the images, or in what the denoiser makes of them.
    """
    bad = int((~images.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise UserError("images", f"{bad} of {len(images)} hold NaN or infinity.", "Look at those.")
    rows: list[Tensor] = []
    parts = images.split(batch)
    for level, value in enumerate(sigmas):
        found: list[Tensor] = []
        for part, x0 in enumerate(parts):
            generator = Generator(device).manual_seed(_seed(seed, level, part))
            found.append(_losses(denoiser, x0.to(device), value, projections, generator))
            track((level * len(parts) + part + 1) / (len(sigmas) * len(parts)))
        rows.append(torch.cat(found, 1))
        if not bool(rows[-1].isfinite().all()):
            raise UserError("model", f"gives NaN or infinity at σ = {value:g} of pixels in [0, 1].", "Train it again.")
    both = torch.stack(rows)
    return Losses(denoising=both[:, 0], sliced=both[:, 1] if projections else None)


def _seed(seed: int, level: int, part: int) -> int:
    """One of its own for every batch at every level."""
    return ((seed * 100_003 + level) * 1_000_003 + part) % 2**63


def _losses(denoiser: Denoiser, u0: Tensor, value: float, projections: int, generator: Generator) -> Tensor:
    """L, and S if asked for, of one batch at one level; (1 or 2, B)."""
    sigma = u0.new_full((len(u0),), value)
    begun = generator.get_state()
    with torch.no_grad():
        losses = [denoising_score_matching(denoiser, u0, sigma, generator=generator)]
        if projections:
            n = torch.randn(
                u0.shape, generator=generator.set_state(begun), device=u0.device, dtype=u0.dtype
            )  # the noise of L again: S + 1 − L is then all but free of it
            u = u0 + expand(sigma, u0) * n
            sliced = sliced_score_matching(denoiser, u, sigma, projections=projections, generator=generator)
            losses.append(2 * value**2 / u0[0].numel() * sliced)
    return torch.stack(losses).double().cpu()


def common_levels(models: Sequence[ScoreModel], count: int = 10) -> tuple[float, ...]:
    """Noise levels of pixels in [0, 1] that every model knows, falling.

    Where a model has a schedule, as NCSN's, it has learned no level between the noise levels, so the first schedule
    found gives the levels, thinned to `count`; otherwise they are evenly spaced in log σ.

    Raises:
        UserError: no level is common to all, or fewer than one is asked for.
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
    """The noise levels of one model's schedule, in units of pixels, that every model knows; all of them, or `count`.

    Raises:
        UserError: it has no schedule, or no noise level is common to all.
    """
    low, high = common_range(models)
    if owner.schedule is None:
        raise UserError("schedule", "this model has none: it knows every noise level in its range.", "Name another.")
    width = scale_of(owner)[1]
    levels = [s / width for s in owner.schedule.tolist() if low * 0.999 <= s / width <= high * 1.001]
    if not levels:
        raise UserError("schedule", f"no noise level lies within {low:g} … {high:g}, what all models know.")
    if count is None or count >= len(levels):
        return tuple(levels)
    picked = torch.linspace(0, len(levels) - 1, count).round().int().tolist()
    return tuple(levels[i] for i in picked)


def common_range(models: Sequence[ScoreModel]) -> tuple[float, float]:
    """Least and greatest σ, in units of pixels in [0, 1], that every model knows.

    Raises:
        UserError: there is none.
    """
    ranges = [(m.sigma_range[0] / scale_of(m)[1], m.sigma_range[1] / scale_of(m)[1]) for m in models]
    low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
    if low > high:
        told = "; ".join(f"{a:g} … {b:g}" for a, b in ranges)
        raise UserError("levels", f"no noise level is known to all models: {told}, of pixels in [0, 1].")
    return low, high
