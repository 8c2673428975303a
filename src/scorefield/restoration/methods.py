"""Ways of restoration by name: a restorer, and the sampler and schedule that it goes well with.

`repaint` is `projection` on a schedule that climbs now and then, so that what was drawn can fall in with what
is known (Lugmayr et al. 2022).
"""

from collections.abc import Callable
from dataclasses import dataclass

from scorefield import schedules
from scorefield.errors import UserError, did_you_mean
from scorefield.model import ScoreModel
from scorefield.restoration.guidance import DPS, MomentMatching, PiGDM
from scorefield.restoration.learned import Learned
from scorefield.restoration.null_space import NullSpace
from scorefield.restoration.posterior import Restorer
from scorefield.restoration.projection import Projection
from scorefield.samplers import Plan, plan
from scorefield.schedules import SLACK


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a name stands for.

    Args:
        restorer: made of a model.
        sampler: a name in `samplers.PRESETS`, where none is asked for.
        steps: of that sampler; None leaves them to the plan.
        climbs: whether the schedule is made to climb.
        memory: how much it needs, in that of the plain network.
        learned: whether its model is one of images given degraded ones, and not of images alone.
    """

    restorer: Callable[[ScoreModel], Restorer]
    sampler: str
    steps: int | None = None
    climbs: bool = False
    memory: int = 1
    learned: bool = False


PALETTE = "palette"
"""The schedule of Palette's own sampling (Saharia et al. 2022, §4)."""

LEARNED, USUAL = "learned", "pigdm"
"""The method of a model that restores, and the one that serves every task well with a model of images alone;
on masks too it beats projection, in a third of the time."""


def _half(model: ScoreModel) -> float:
    """ΠGDM's spread of images: 1 for pixels from −1 to 1, as Song et al. (2023) have it."""
    return (model.value_range[1] - model.value_range[0]) / 2


STEPS: dict[str, int] = {
    "dejpeg": 3,
    "denoise": 3,
    "deblur": 5,
    "upscale": 5,
    "paired": 5,
}
"""Steps of a model that was trained to restore, where a task wants others than the method's: what is nearly
determined by what is left wants few, and the fewer there are, the nearer an answer is to the mean of all."""

METHODS: dict[str, Method] = {
    "learned": Method(restorer=lambda d: Learned(model=d), sampler="dpm++-2m", steps=10, learned=True),
    "projection": Method(restorer=lambda d: Projection(denoiser=d), sampler="annealed-langevin"),
    "repaint": Method(restorer=lambda d: Projection(denoiser=d), sampler="ddpm", steps=50, climbs=True),
    "null-space": Method(restorer=lambda d: NullSpace(denoiser=d), sampler="ddpm", steps=100),
    "pigdm": Method(restorer=lambda d: PiGDM(denoiser=d, spread=_half(d)), sampler="ddpm", steps=100, memory=4),
    "dps": Method(restorer=lambda d: DPS(denoiser=d), sampler="ddpm", steps=250, memory=4),
    "moment-matching": Method(restorer=lambda d: MomentMatching(denoiser=d), sampler="heun", steps=25, memory=8),
}


@dataclass(frozen=True, kw_only=True)
class Approach:
    """A method with its sampler and schedule, fitted to a model."""

    method: Method
    plan: Plan


def approach(
    model: ScoreModel,
    method: str | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    *,
    schedule: str | None = None,
    task: str | None = None,
) -> Approach:
    """The named method, with the named sampler or the method's own.

    Args:
        model: a model.
        method: a name in METHODS; by default LEARNED for a model that learned to restore, else USUAL.
        sampler: a name in `samplers.PRESETS`.
        steps: see `samplers.plan`; of a climbing schedule, the noise levels on one way down.
        schedule: see `samplers.plan`; or "palette", all noise levels of Palette's sampling that the model knows, which
            with the sampler `ddpm` has the variance of its steps too.
        task: that a model which learned to restore must have learned.

    Raises:
        UserError: no such method, sampler or schedule, a model that the method is not for or that lacks the
            task, a schedule that climbs for a sampler that cannot, or steps that do not fit.
    """
    method = method or (LEARNED if model.spec.tasks else USUAL)
    if method not in METHODS:
        raise UserError("method", f"no such method {method!r}.", did_you_mean(method, METHODS))
    known = METHODS[method]
    _check_kind(model, method, task)
    chosen = sampler or known.sampler
    if schedule == PALETTE:
        return Approach(method=known, plan=_published(model, chosen, steps))
    if steps is None and chosen == known.sampler and schedule != "own":
        best = None if model.spec.restoration is None else model.spec.restoration.steps
        steps = (best or STEPS.get(task or "", known.steps)) if known.learned else known.steps
    made = plan(model, chosen, steps, schedule=schedule)
    if known.climbs:
        if chosen != "ddpm":
            raise UserError(
                "sampler", f"{method} climbs, which {chosen} cannot.", "Leave out the sampler, or take ddpm."
            )
        if len(made.sigmas) < 3:
            raise UserError("steps", f"{method} needs two steps or more to climb.")
        jump = min(10, max(1, (len(made.sigmas) - 1) // 3))
        made = plan(model, chosen, sigmas=schedules.repaint(made.sigmas, jump=jump, times=5))
    return Approach(method=known, plan=made)


def _published(model: ScoreModel, sampler: str, steps: int | None) -> Plan:
    """Palette's sampling: 1,000 noise levels, those above the largest σ of training left out (§4)."""
    low, high = model.sigma_range
    levels = schedules.palette_inference()
    levels = levels[(levels <= high * SLACK) & (levels >= low / SLACK)]
    if not len(levels):
        raise UserError("schedule", f"none of its noise levels lies within the model's {high:g} to {low:g}.")
    if steps is not None:
        levels = schedules.subsample(levels, steps)
    settings = {"variance": "forward"} if sampler == "ddpm" else None
    return plan(model, sampler, sigmas=schedules.append_zero(levels), settings=settings)


def _check_kind(model: ScoreModel, method: str, task: str | None) -> None:
    """See that the method is for such a model, and that the model knows the task."""
    learned = ", ".join(model.spec.tasks)
    if METHODS[method].learned and not model.spec.tasks:
        others = ", ".join(name for name, other in METHODS.items() if not other.learned)
        raise UserError("method", "this model learned images, not to restore them.", f"Choose of {others}.")
    if model.spec.tasks and not METHODS[method].learned:
        raise UserError(
            "method",
            f"{method} is for models of images alone; this one learned to restore ({learned}).",
            "Leave out the method.",
        )
    if model.spec.tasks and task is not None and task not in model.spec.tasks:
        raise UserError("model", f"did not learn to {task}; it learned to {learned}.", "Choose another.")
