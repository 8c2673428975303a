"""One call from a model to pictures."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield import noise
from scorefield.errors import UserError, did_you_mean
from scorefield.model import ScoreModel, check_sigmas
from scorefield.samplers.langevin import AnnealedLangevin, Langevin
from scorefield.samplers.ode import Heun
from scorefield.samplers.step import Sampler, Step


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sampler and the ladder it goes down."""

    sampler: Sampler
    sigmas: Tensor

    @property
    def evaluations(self) -> int:
        """How often it calls the denoiser."""
        return self.sampler.evaluations(self.sigmas)


def _heun(model: ScoreModel, steps: int | None) -> Plan:
    low, high = model.sigma_range
    return Plan(sampler=Heun(), sigmas=noise.karras(high, low, steps or 18))


def _annealed(model: ScoreModel, steps: int | None) -> Plan:
    """Five updates on each of steps/5 rungs, to where the eye sees no noise; ε by Song & Ermon (2020)."""
    low, high = model.sigma_range
    each = 5 if (steps or 500) >= 10 else 1
    sigmas = noise.geometric(high, max(low, 0.01), max(2, (steps or 500) // each))
    epsilon = noise.langevin_step_size(sigmas, each)
    return Plan(sampler=AnnealedLangevin(step_size=epsilon, steps=each, denoise=True), sigmas=sigmas)


def _langevin(model: ScoreModel, steps: int | None) -> Plan:
    """Langevin dynamics at one small level, with the paper's ratio of step to variance, ε/σ² = 0.2."""
    sigma = max(model.sigma_range[0], 0.01)
    return Plan(sampler=Langevin(step_size=0.2 * sigma**2, steps=steps or 1000), sigmas=torch.tensor([sigma]))


SAMPLERS: dict[str, Callable[[ScoreModel, int | None], Plan]] = {
    "heun": _heun,
    "annealed-langevin": _annealed,
    "langevin": _langevin,
}


def plan(model: ScoreModel, sampler: str = "heun", steps: int | None = None) -> Plan:
    """The named sampler with a ladder that fits the model.

    Args:
        model: whose noise levels the ladder spans.
        sampler: a name in SAMPLERS.
        steps: rungs for `heun`, updates in all for the Langevin samplers; by default the sampler's own.

    Raises:
        UserError: no such sampler, or steps < 1.
    """
    if sampler not in SAMPLERS:
        raise UserError("sampler", f"no such sampler {sampler!r}.", did_you_mean(sampler, SAMPLERS))
    if steps is not None and steps < 1:
        raise UserError("steps", f"need at least one, got {steps}.")
    return SAMPLERS[sampler](model, steps)


@torch.no_grad()
def sample(
    model: ScoreModel,
    n: int,
    *,
    sampler: str = "heun",
    steps: int | None = None,
    sigmas: Tensor | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    batch: int = 64,
    track: Callable[[int, int, Step], None] | None = None,
) -> Tensor:
    """Draw pictures, x ~ N(0, σ_max² I) followed down a ladder.

    Where the sampler draws no noise, the pictures do not depend on `batch`; where it does, they do.

    Args:
        model: the score model.
        n: how many.
        sampler: a name in SAMPLERS.
        steps: see `plan`.
        sigmas: a ladder of your own in place of the plan's.
        size: (H, W) where it is not the model's own.
        seed: same seed, same device, same version, same bytes.
        batch: pictures at once, a bound on memory.
        track: called after each update with (evaluations done, evaluations in all, the Step).

    Returns:
        (n, C, H, W), float32, in the model's value range (not clamped).

    Raises:
        UserError: n < 1, no such sampler, or a ladder outside of the model's noise levels.
    """
    if n < 1:
        raise UserError("n", f"need at least one picture, got {n}.")
    chosen = plan(model, sampler, steps)
    sigmas = chosen.sigmas if sigmas is None else sigmas
    check_sigmas(model, sigmas)
    shape = (*model.shape[:1], *size) if size else model.shape
    generator = torch.Generator(model.device).manual_seed(seed)
    start = float(sigmas[0]) * torch.randn(n, *shape, generator=generator, device=model.device)
    parts: list[Tensor] = []
    per_batch = chosen.sampler.evaluations(sigmas)
    total = per_batch * -(-n // batch)
    for part, x in enumerate(start.split(batch)):
        for step in chosen.sampler.iterate(model, x, sigmas, generator=generator):
            x = step.x
            if track is not None:
                track(part * per_batch + step.evaluations, total, step)
        parts.append(x)
    return torch.cat(parts)
