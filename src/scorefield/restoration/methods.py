"""Methods of restoration by name: a restorer, with the sampler and noise schedule that it goes well with.

`repaint` is `projection` on a schedule that climbs back from time to time, so that what is sampled can agree with
what is known (Lugmayr et al. 2022).
"""

from collections.abc import Callable
from dataclasses import dataclass

from scorefield import schedules
from scorefield.errors import UserError, did_you_mean
from scorefield.model import ScoreModel
from scorefield.restoration.null_space import NullSpace
from scorefield.restoration.observation_guidance import DPS, MomentMatching, PiGDM
from scorefield.restoration.palette import Palette
from scorefield.restoration.posterior import Restorer
from scorefield.restoration.projection import Projection
from scorefield.samplers import Plan, Sampler, plan

_SLACK = 1 + 1e-6  # float32 noise levels against limits written in decimals

__all__ = ["DEFAULT_METHOD", "METHODS", "Method", "MethodPlan", "palette_plan", "resolve_method"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method's name stands for.

    Args:
        restorer: made for a model.
        sampler: the name of its sampler, in `samplers.PRESETS`.
        about: one line for the help.
        steps: of that sampler; None takes the sampler's own.
        schedule: of the noise levels, a name in `schedules.SCHEDULES`; None takes the sampler's own.
        repaint: whether the schedule climbs as RePaint's.
        memory: how much memory a pixel needs, in units of the plain network's.
        conditional: whether it needs a conditional model, trained on degraded images.
    """

    restorer: Callable[[ScoreModel], Restorer]
    sampler: str
    about: str
    steps: int | None = None
    schedule: str | None = None
    repaint: bool = False
    memory: int = 1
    conditional: bool = False


def _unit(model: ScoreModel) -> float:
    """Half the width of the value range: 1 for pixels from −1 to 1, for which the papers state s and ζ."""
    return (model.value_range[1] - model.value_range[0]) / 2


METHODS: dict[str, Method] = {
    "palette": Method(
        restorer=lambda model: Palette(model=model), sampler="dpm++-2m", steps=10, conditional=True,
        about="a conditional model, trained on degraded images (Saharia et al. 2022); fast",
    ),
    "projection": Method(
        restorer=lambda model: Projection(denoiser=model), sampler="annealed-langevin",
        about="known pixels replace the state's at every update (Song & Ermon 2019)",
    ),
    "repaint": Method(
        restorer=lambda model: Projection(denoiser=model), sampler="ddpm", steps=50, repaint=True,
        about="projection on a schedule that climbs back (Lugmayr et al. 2022)",
    ),
    "null-space": Method(
        restorer=lambda model: NullSpace(denoiser=model), sampler="ddpm", steps=100,
        about="the observation replaces its part of every denoised image (Wang et al. 2023); fast",
    ),
    "pigdm": Method(
        restorer=lambda model: PiGDM(denoiser=model, sigma_data=_unit(model)), sampler="ddpm", steps=100, memory=4,
        about="the same, through the network's Jacobian (Song et al. 2023)",
    ),
    "dps": Method(
        restorer=lambda model: DPS(denoiser=model), sampler="ddpm", steps=250, memory=4,
        about="down the gradient of the misfit, with a step length of our own (Chung et al. 2023)",
    ),
    "dps-published": Method(
        restorer=lambda model: DPS(denoiser=model, step="published", zeta=_unit(model)),
        sampler="ddpm", steps=1000, schedule="linear-beta", memory=4,
        about="the same with the published steps, 1,000 of them (Chung et al. 2023); slow",
    ),
    "moment-matching": Method(
        restorer=lambda model: MomentMatching(denoiser=model, iterations=3), sampler="heun", steps=25, memory=8,
        about="as pigdm, with the network's own covariance (Rozet et al. 2024); slow",
    ),
}  # fmt: skip
"""The methods of restoration by name."""

CONDITIONAL_METHOD, DEFAULT_METHOD = "palette", "pigdm"
"""The methods of a conditional and of an unconditional model. ΠGDM serves every task well; on masks too it beats
projection, in a third of the time."""


@dataclass(frozen=True, kw_only=True)
class MethodPlan:
    """A method with its sampler and noise schedule, for one model."""

    name: str
    method: Method
    plan: Plan


def resolve_method(
    model: ScoreModel,
    method: str | None = None,
    sampler: str | Sampler | Plan | None = None,
    steps: int | None = None,
    *,
    tasks: tuple[str, ...] = (),
    task_steps: int | None = None,
) -> MethodPlan:
    """The named method, with the given sampler or its own.

    Args:
        model: a model.
        method: a name in METHODS; by default "palette" for a conditional model, else DEFAULT_METHOD.
        sampler: a name in `samplers.PRESETS`, a sampler, or a plan with its own schedule.
        steps: see `samplers.plan`; of a schedule that climbs, the noise levels on one way down.
        tasks: what a conditional model must have been trained for.
        task_steps: the number of steps that suits the task with a conditional model.

    Raises:
        UserError: an unknown method or sampler, a model that the method is not for or that was not trained for the
            task, a schedule that climbs for a sampler that cannot, or steps that do not fit.
    """
    name = method or (CONDITIONAL_METHOD if model.spec.tasks else DEFAULT_METHOD)
    if name not in METHODS:
        raise UserError("method", f"no such method {name!r}.", did_you_mean(name, METHODS))
    known = METHODS[name]
    _check_kind(model, name, tasks)
    if isinstance(sampler, Plan):
        return MethodPlan(name=name, method=known, plan=sampler)
    chosen = sampler or known.sampler
    if steps is None and chosen == known.sampler:
        own = model.spec.restoration.steps if model.spec.restoration is not None else None
        steps = (own or task_steps or known.steps) if known.conditional else known.steps
    if known.schedule is not None and chosen != known.sampler:
        raise UserError("sampler", f"{name} follows the steps of {known.sampler}, not of {chosen}.", "Leave it out.")
    made = plan(model, chosen, steps, schedule=known.schedule)
    if known.repaint:
        if chosen != "ddpm":
            raise UserError("sampler", f"{name} climbs, which {chosen} cannot.", "Leave out the sampler, or take ddpm.")
        if len(made.sigmas) < 3:
            raise UserError("steps", f"{name} needs two steps or more to climb.")
        jump = min(10, max(1, (len(made.sigmas) - 1) // 3))
        made = plan(model, chosen, sigmas=schedules.repaint(made.sigmas, jump=jump, times=5))
    return MethodPlan(name=name, method=known, plan=made)


def palette_plan(model: ScoreModel, sampler: str = "ddpm", steps: int | None = None) -> Plan:
    """Palette's published sampling: its 1,000 noise levels without those above the largest σ of training (§4).

    With the sampler `ddpm` the variance of its steps is Palette's too.

    Raises:
        UserError: none of the noise levels lies within the model's.
    """
    low, high = model.sigma_range
    sigmas = schedules.palette_inference()
    sigmas = sigmas[(sigmas <= high * _SLACK) & (sigmas >= low / _SLACK)]
    if not len(sigmas):
        raise UserError("schedule", f"none of its noise levels lies within the model's {high:g} to {low:g}.")
    if steps is not None:
        sigmas = schedules.subsample(sigmas, steps)
    settings = {"variance": "forward"} if sampler == "ddpm" else None
    return plan(model, sampler, sigmas=schedules.append_zero(sigmas), settings=settings)


def _check_kind(model: ScoreModel, method: str, tasks: tuple[str, ...]) -> None:
    """See that the method is for such a model, and that the model was trained for the tasks."""
    trained = ", ".join(model.tasks)
    if METHODS[method].conditional and not model.spec.tasks:
        others = ", ".join(name for name, other in METHODS.items() if not other.conditional)
        raise UserError("method", "this model is unconditional: it was not trained to restore.", f"Choose of {others}.")
    if model.spec.tasks and not METHODS[method].conditional:
        raise UserError(
            "method", f"{method} is for unconditional models; this one was trained for {trained}.", "Leave it out."
        )
    missing = [task for task in tasks if task not in model.spec.tasks]
    if model.spec.tasks and missing and missing[0] in model.specialists:
        what = f"restores {missing[0]} by a specialist, which does nothing else; itself {', '.join(model.spec.tasks)}."
        raise UserError("model", what, "Restore one after the other.")
    if model.spec.tasks and missing:
        raise UserError("model", f"was not trained for {missing[0]}; it was trained for {trained}.", "Choose another.")
