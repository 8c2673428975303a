"""One call from a model to pictures.

A plan fits a sampler to a model. Heun's rule goes from the largest noise level to the least that the model
knows; where its rungs are few and the first leaves a shadow of the picture, as NCSN's, it is `Settled` there
before. For annealed Langevin dynamics there are three ways.

* A model of few rungs, as NCSN's ten, is walked down them with the paper's numbers (Song & Ermon 2019, §5):
  T = 100, and ε = 2e-5 at σ_L = 0.01, which is ε = 0.2 σ_L² in whatever units, and no last denoising.
* A model of many rungs is walked down them with T = 5, ε by the variance rule of Song & Ermon (2020),
  Technique 4, and a last denoising.
* A model of no rungs is given a geometric ladder over its noise levels, and then treated as the second.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Generator, Tensor

from scorefield import noise
from scorefield.errors import UserError, did_you_mean
from scorefield.model import ScoreModel, check_sigmas
from scorefield.samplers.langevin import AnnealedLangevin, Convention, Langevin
from scorefield.samplers.mala import MALA
from scorefield.samplers.ode import Heun
from scorefield.samplers.settled import Settled
from scorefield.samplers.step import Sampler, Step

Start = Literal["gaussian", "uniform"]
"""What sampling begins with: N(0, σ_max²), or values spread evenly over the value range."""

_FEW = 50  # rungs; NCSN has 10, the ladders of Song & Ermon (2020) have 232 and more
_PAPERS_RATE = 0.2  # ε/σ_L² of Song & Ermon (2019): 2e-5/0.01²


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sampler and the ladder it goes down."""

    sampler: Sampler
    sigmas: Tensor

    @property
    def evaluations(self) -> int:
        """How often it calls the denoiser."""
        return self.sampler.evaluations(self.sigmas)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What may be asked of the Langevin samplers; None leaves it to the plan.

    Args:
        steps_each: T, updates on each rung.
        step_size: ε, or α where there is one rung, in the convention.
        convention: how step sizes are meant, see `langevin.Convention`. The paper's ε of a model of few
            rungs is then read in it, so that "code" walks as the authors' program does, with twice the step.
        denoise: end with the denoised picture.
    """

    steps_each: int | None = None
    step_size: float | None = None
    convention: Convention | None = None
    denoise: bool | None = None

    @property
    def asked(self) -> list[str]:
        """The names of what is not None."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """All that a plan is made from."""

    model: ScoreModel
    steps: int | None
    sigmas: Tensor | None
    tuning: Tuning

    @property
    def convention(self) -> Convention:
        return self.tuning.convention or "paper"


def _heun(wish: _Wish) -> Plan:
    low, high = wish.model.sigma_range
    ladder = wish.model.ladder
    few = ladder is not None and _has_few(ladder)
    steps = wish.steps or (12 if few else 18)
    sigmas = noise.karras(high, low, steps) if wish.sigmas is None else wish.sigmas
    return Plan(sampler=Settled(sampler=Heun()) if few else Heun(), sigmas=sigmas)


def _annealed(wish: _Wish) -> Plan:
    sigmas, each, epsilon, few = _way_down(wish)
    denoise = not few if wish.tuning.denoise is None else wish.tuning.denoise
    sampler = AnnealedLangevin(step_size=epsilon, steps=each, denoise=denoise, convention=wish.convention)
    return Plan(sampler=sampler, sigmas=sigmas)


def _mala(wish: _Wish) -> Plan:
    sigmas, each, epsilon, _ = _way_down(wish)
    sampler = MALA(step_size=epsilon, steps=each, convention=wish.convention)
    return Plan(sampler=sampler, sigmas=sigmas)


def _langevin(wish: _Wish) -> Plan:
    """Langevin dynamics at one small level: the ablation of Song & Ermon (2019), App. C.1."""
    ladder, low = wish.model.ladder, wish.model.sigma_range[0]
    own = torch.tensor([max(low, 0.01)]) if ladder is None else ladder[-1:]
    sigmas = own if wish.sigmas is None else wish.sigmas
    each = wish.tuning.steps_each or max(1, (wish.steps or 1000) // max(1, len(sigmas)))
    alpha = _PAPERS_RATE * sigmas[-1:].sum().item() ** 2
    if wish.tuning.step_size is not None:
        alpha = wish.tuning.step_size
    return Plan(sampler=Langevin(step_size=alpha, steps=each, convention=wish.convention), sigmas=sigmas)


def _way_down(wish: _Wish) -> tuple[Tensor, int, float, bool]:
    """The ladder, T, ε in the wish's convention, and whether the rungs are few; see the module."""
    own = wish.model.ladder if wish.sigmas is None else wish.sigmas
    few = own is not None and _has_few(own)
    each = wish.tuning.steps_each
    if own is None:
        low, high = wish.model.sigma_range
        steps = wish.steps or 100 * (each or 5)
        each = each or (5 if steps >= 10 else 1)
        sigmas = noise.geometric(high, max(low, 0.01), max(2, steps // each))
    elif wish.steps is None:
        sigmas, each = own, each or (100 if few else 5)
    else:
        each = each or max(1, wish.steps // max(1, len(own)))
        sigmas = _thinned(own, wish.steps // each)
    if wish.tuning.step_size is not None:
        return sigmas, each, wish.tuning.step_size, few
    if few:
        return sigmas, each, _PAPERS_RATE * sigmas[-1:].sum().item() ** 2, few
    epsilon = noise.langevin_step_size(sigmas, each)
    return sigmas, each, epsilon if wish.convention == "paper" else epsilon / 2, few


def _has_few(sigmas: Tensor) -> bool:
    """Whether a ladder's rungs lie so far apart that what is between them counts."""
    return len(sigmas) <= _FEW


def _thinned(sigmas: Tensor, count: int) -> Tensor:
    """About `count` rungs, at least the first and the last, evenly from all of them."""
    if count >= len(sigmas):
        return sigmas
    return sigmas[torch.linspace(0, len(sigmas) - 1, max(2, count)).round().long()]


SAMPLERS: dict[str, Callable[[_Wish], Plan]] = {
    "heun": _heun,
    "annealed-langevin": _annealed,
    "langevin": _langevin,
    "mala": _mala,
}

_UNTUNED = {"heun": {field.name for field in fields(Tuning)}, "langevin": {"denoise"}, "mala": {"denoise"}}
_TUNED_BY = {"denoise": "annealed-langevin alone"}


def plan(
    model: ScoreModel,
    sampler: str = "heun",
    steps: int | None = None,
    *,
    sigmas: Tensor | None = None,
    tuning: Tuning | None = None,
) -> Plan:
    """The named sampler with a ladder that fits the model.

    Args:
        model: whose noise levels the ladder spans, or whose own rungs it takes.
        sampler: a name in SAMPLERS.
        steps: rungs for `heun`, updates in all for the Langevin samplers (as many as whole updates of each
            rung allow; fewer than there are rungs thin the ladder); by default the sampler's own.
        sigmas: a ladder of your own in place of the plan's.
        tuning: settings of the Langevin samplers.

    Raises:
        UserError: no such sampler, steps < 1, or a setting that the sampler does not have.
    """
    tuning = tuning or Tuning()
    if sampler not in SAMPLERS:
        raise UserError("sampler", f"no such sampler {sampler!r}.", did_you_mean(sampler, SAMPLERS))
    for name, number in (("steps", steps), ("steps_each", tuning.steps_each)):
        if number is not None and number < 1:
            raise UserError(name, f"need at least one, got {number}.")
    for name in tuning.asked:
        if name in _UNTUNED.get(sampler, ()):
            whose = _TUNED_BY.get(name, "the Langevin samplers")
            raise UserError(name, f"the {sampler} sampler has no such setting.", f"It belongs to {whose}.")
    return SAMPLERS[sampler](_Wish(model=model, steps=steps, sigmas=sigmas, tuning=tuning))


@torch.no_grad()
def sample(
    model: ScoreModel,
    n: int,
    *,
    sampler: str = "heun",
    steps: int | None = None,
    sigmas: Tensor | None = None,
    tuning: Tuning | None = None,
    start: Start = "gaussian",
    size: tuple[int, int] | None = None,
    seed: int = 0,
    batch: int = 64,
    track: Callable[[int, int, Step], None] | None = None,
) -> Tensor:
    """Draw pictures: a start that is all noise, followed down a ladder.

    Where the sampler draws no noise, the pictures do not depend on `batch`; where it does, they do.

    Args:
        model: the score model.
        n: how many.
        sampler: a name in SAMPLERS.
        steps: see `plan`.
        sigmas: a ladder of your own in place of the plan's.
        tuning: settings of the Langevin samplers.
        start: "gaussian", x ~ N(0, σ_max² I), or "uniform" over the value range, as NCSN's program starts.
        size: (H, W) where it is not the model's own.
        seed: same seed, same device, same version, same bytes.
        batch: pictures at once, a bound on memory.
        track: called after each update with (evaluations done, evaluations in all, the Step).

    Returns:
        (n, C, H, W), float32, in the model's value range (not clamped).

    Raises:
        UserError: n < 1, no such sampler or start, or a ladder outside of the model's noise levels.
    """
    if n < 1:
        raise UserError("n", f"need at least one picture, got {n}.")
    chosen = plan(model, sampler, steps, sigmas=sigmas, tuning=tuning)
    check_sigmas(model, chosen.sigmas)
    shape = (n, *model.shape[:1], *size) if size else (n, *model.shape)
    generator = torch.Generator(model.device).manual_seed(seed)
    begun = _start(model, start, shape, float(chosen.sigmas[0]), generator)
    parts: list[Tensor] = []
    per_batch = chosen.evaluations
    total = per_batch * -(-n // batch)
    for part, x in enumerate(begun.split(batch)):
        for step in chosen.sampler.iterate(model, x, chosen.sigmas, generator=generator):
            x = step.x
            if track is not None:
                track(part * per_batch + step.evaluations, total, step)
        parts.append(x)
    return torch.cat(parts)


def _start(
    model: ScoreModel, start: str, shape: tuple[int, ...], sigma: float, generator: Generator
) -> Tensor:
    if start == "gaussian":
        return sigma * torch.randn(shape, generator=generator, device=model.device)
    if start == "uniform":
        low, high = model.value_range
        return low + (high - low) * torch.rand(shape, generator=generator, device=model.device)
    raise UserError("start", f"no such start {start!r}.", did_you_mean(start, ["gaussian", "uniform"]))
