"""Samplers by name, each with a noise schedule that fits the model.

`PRESETS` maps a name to a preset: what makes the sampler, and how its schedule and its remaining settings
follow from the model. `plan` applies one.

ODE and ancestral samplers use the schedule of Karras et al. (2022) over the model's σ range, then 0. For a
model with few noise levels whose σ_max does not drown the data (NCSN), a burn-in at σ_max runs first
(`BurnIn`).

Annealed Langevin dynamics depends on the model:

* Few noise levels, as NCSN's ten: the model's levels with the paper's numbers (Song & Ermon 2019, §5). These
  are T = 100 and ε = 2e-5 at σ_L = 0.01, written ε = 0.2 σ_L² to be free of units, and no last denoising step.
* Many noise levels: the model's levels with T = 5, ε by the variance rule of Song & Ermon (2020), Technique
  4, and a last denoising step.
* A continuous range of σ: a geometric schedule over that range, then as for many noise levels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import Parameter, signature
from typing import Any, cast, get_args, get_type_hints

import torch
from torch import Tensor

from scorefield import schedules
from scorefield.errors import UserError, did_you_mean
from scorefield.model import ScoreModel, check_sigmas
from scorefield.samplers.adaptive_ode import RungeKutta
from scorefield.samplers.ancestral import DDIM, Ancestral, ConsistentAnnealed
from scorefield.samplers.base import Sampler, as_sigmas
from scorefield.samplers.burn_in import BurnIn
from scorefield.samplers.langevin import AnnealedLangevin, Langevin
from scorefield.samplers.mala import MALA
from scorefield.samplers.multistep import AdamsBashforth, DPMSolver2M
from scorefield.samplers.ode import Euler, Heun
from scorefield.samplers.predictor_corrector import PredictorCorrector

__all__ = ["PRESETS", "Plan", "Preset", "Request", "Setting", "known_settings", "plan"]

Setting = float | int | str | bool
"""A value of a setting."""

Kind = tuple[Any, ...]
"""What a setting may be: types out of `float, int, str, bool`, or the words of a choice."""

_FEW = 50  # noise levels; NCSN has 10, the schedules of Song & Ermon (2020) have 232 and more
_PAPERS_RATE = 0.2  # ε/σ_L² of Song & Ermon (2019): 2e-5/0.01²
_LEAST = 0.01  # Langevin dynamics ends at this σ where the model's range goes lower: NCSN's σ_L
_STEPS = 18  # noise levels for a sampler object, Karras et al. (2022)'s number for CIFAR-10


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sampler and its noise schedule.

    Args:
        sampler: with its settings.
        sigmas: the schedule, (L,).
        schedule: its name: one in `schedules.SCHEDULES`, "own" for the model's noise levels, "one level", or
            "given".
        settings: the sampler's settings by the names that `plan` takes; empty for a sampler object.
        clamp: whether `sample` clips the denoised image D(x; σ) to the value range in every step, as DDPM's
            program does.
        max_mismatch: the largest factor between a noise level and the nearest that the model was trained on; 1 for
            a model of a continuous range.
    """

    sampler: Sampler
    sigmas: Tensor
    schedule: str = "given"
    settings: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    clamp: bool = False
    max_mismatch: float = 1.0

    @property
    def evaluations(self) -> int:
        """How often it calls the denoiser."""
        return self.sampler.evaluations(self.sigmas)

    def below(self, sigma: float) -> "Plan":
        """The rest of the plan from σ on, where x is near enough to the images to need no burn-in.

        Raises:
            UserError: σ is not positive and finite.
        """
        if not 0 < sigma < float("inf"):
            raise UserError("init_sigma", f"need a finite noise level above 0, got {sigma:g}.")
        sampler = self.sampler.sampler if isinstance(self.sampler, BurnIn) else self.sampler
        first = torch.tensor([sigma])
        return replace(self, sampler=sampler, sigmas=torch.cat([first, self.sigmas[self.sigmas < first]]))


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `plan` after its checks; None leaves the choice to the preset."""

    model: ScoreModel
    steps: int | None = None
    sigmas: Tensor | None = None
    schedule: str | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict[str, Setting])

    @property
    def steps_each(self) -> int | None:
        """T, updates on each noise level."""
        return cast(int | None, self.settings.get("steps_each"))


Levels = tuple[str, Tensor, dict[str, Setting]]
"""A schedule's name, the schedule, and the settings that follow from it and the model."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named sampler.

    Args:
        sampler: makes the sampler; its arguments are the settings.
        fit: chooses the schedule, and the settings that depend on it.
        burn_in: whether `BurnIn` goes first for a model of few noise levels.
    """

    sampler: Callable[..., Sampler]
    fit: Callable[[Request], Levels]
    burn_in: bool = True

    def plan(self, request: Request) -> Plan:
        """The sampler with its schedule."""
        name, sigmas, fitted = self.fit(request)
        settings = _defaults(self.sampler) | fitted | dict(request.settings)
        sampler = self.sampler(**settings)
        own = request.model.schedule
        if self.burn_in and own is not None and 1 < len(own) <= _FEW:
            sampler = BurnIn(sampler=sampler)
        return Plan(sampler=sampler, sigmas=sigmas, schedule=name, settings=settings)


def _descending(steps: int, *, few: int | None = None) -> Callable[[Request], Levels]:
    """The fit of a sampler that steps from noise level to noise level.

    Args:
        steps: noise levels above 0, by default.
        few: the same for a model of few noise levels.
    """

    def fit(request: Request) -> Levels:
        model, own = request.model, request.model.schedule
        if own is not None and len(own) == 1:  # a regression: one evaluation gives the image
            return "own", schedules.append_zero(own), {}
        if request.sigmas is not None:
            if request.steps is not None:
                raise UserError("steps", "a schedule of your own fixes the number of noise levels.", "Leave it out.")
            return "given", request.sigmas, {}
        count = request.steps or (few if few and _has_few(own) else steps)
        name = request.schedule or "karras"
        if name == "own":
            return name, schedules.append_zero(schedules.subsample(_own_levels(model), count)), {}
        low, high = model.sigma_range
        return name, schedules.SCHEDULES[name](high, low, count), {}

    return fit


def _annealing(request: Request) -> Levels:
    """Annealed Langevin dynamics: the schedule, T and ε; see the module."""
    name, own = _positive_levels(request)
    each = request.steps_each
    if own is None:
        steps = request.steps or 100 * (each or 5)
        each = each or (5 if steps >= 10 else 1)
        sigmas = _spaced(request.model, name, max(2, steps // each))
    elif request.steps is None:
        sigmas, each = own, each or (100 if _has_few(own) else 5)
    else:
        each = each or max(1, request.steps // max(1, len(own)))
        sigmas = schedules.subsample(own, request.steps // each)
    if _has_few(own):
        epsilon = _papers_step(sigmas)
    elif "step_size" in request.settings:
        epsilon = cast(float, request.settings["step_size"])
    else:
        epsilon = schedules.langevin_step_size(sigmas, each)
        epsilon = epsilon if request.settings.get("convention", "paper") == "paper" else epsilon / 2
    return name, sigmas, {"steps_each": each, "step_size": epsilon}


def _annealing_denoised(request: Request) -> Levels:
    """The same, with a last denoising step unless the noise levels are few."""
    name, sigmas, settings = _annealing(request)
    return name, sigmas, settings | {"denoise": not _has_few(_positive_levels(request)[1])}


def _one_level(request: Request) -> Levels:
    """Langevin dynamics at one small noise level: the ablation of Song & Ermon (2019), App. C.1."""
    if request.schedule not in (None, "own"):
        raise UserError("schedule", "the langevin sampler stays at one noise level.", "Give it as `sigmas`.")
    name, sigmas = _positive_levels(request)
    if name == "own":
        sigmas = _own_levels(request.model)[-1:]
    elif sigmas is None:
        name, sigmas = "one level", torch.tensor([max(request.model.sigma_range[0], _LEAST)])
    each = request.steps_each or max(1, (request.steps or 1000) // max(1, len(sigmas)))
    return name, sigmas, {"steps_each": each, "step_size": _papers_step(sigmas)}


def _sde(*, eta: float = 1.0) -> Sampler:
    """DPM-Solver++ 2M with all the noise of its SDE."""
    return DPMSolver2M(eta=eta)


def _corrected(*, snr: float = 0.16, updates: int = 1, eta: float = 0.0) -> Sampler:
    """DDIM with a corrector: at 100 evaluations a third of the distance of corrected reverse diffusion."""
    return PredictorCorrector(predictor=DDIM(eta=eta), snr=snr, updates=updates)


PRESETS: dict[str, Preset] = {
    "heun": Preset(sampler=Heun, fit=_descending(18, few=12)),
    "dpm++-2m": Preset(sampler=DPMSolver2M, fit=_descending(18)),
    "dpm++-2m-sde": Preset(sampler=_sde, fit=_descending(20)),
    "adams": Preset(sampler=AdamsBashforth, fit=_descending(18)),
    "euler": Preset(sampler=Euler, fit=_descending(20)),
    "ddim": Preset(sampler=DDIM, fit=_descending(20)),
    "ddpm": Preset(sampler=Ancestral, fit=_descending(250)),
    "predictor-corrector": Preset(sampler=_corrected, fit=_descending(250)),
    "consistent": Preset(sampler=ConsistentAnnealed, fit=_descending(250)),
    "runge-kutta": Preset(sampler=RungeKutta, fit=_descending(10)),
    "annealed-langevin": Preset(sampler=AnnealedLangevin, fit=_annealing_denoised, burn_in=False),
    "langevin": Preset(sampler=Langevin, fit=_one_level, burn_in=False),
    "mala": Preset(sampler=MALA, fit=_annealing, burn_in=False),
}
"""The samplers by name."""


def plan(
    model: ScoreModel,
    sampler: str | Sampler = "heun",
    steps: int | None = None,
    *,
    sigmas: Tensor | Sequence[float] | None = None,
    schedule: str | None = None,
    settings: Mapping[str, Setting] | None = None,
    init_sigma: float | None = None,
    clamp: bool = False,
) -> Plan:
    """A sampler with a schedule that fits the model.

    A sampler object is taken as it is: no burn-in is added, and its step size is its own.

    Args:
        model: gives the σ range, or the noise levels that it was trained on.
        sampler: a name in PRESETS, or a sampler object.
        steps: noise levels of the schedule. For the Langevin presets it is the number of updates in all: as many as
            whole updates of each noise level allow, on fewer levels if there are fewer updates than levels. By
            default the preset's own.
        sigmas: your own schedule. `ddpm` and `ddim` also take one that rises (`schedules.repaint`).
        schedule: a name in `schedules.SCHEDULES`, spanned over the model's σ range, or "own" for the noise levels
            that it was trained on. By default "karras"; for the Langevin samplers "own", or else "geometric".
        settings: of a preset, by name; see `known_settings`.
        init_sigma: start at this noise level: it comes first, and those above it are left out.
        clamp: see `Plan`.

    Raises:
        UserError: no such sampler, schedule or setting, steps < 1, or a schedule outside the model's σ range.
    """
    if steps is not None and steps < 1:
        raise UserError("steps", f"need at least one, got {steps}.")
    if schedule is not None:
        if sigmas is not None:
            raise UserError("schedule", "give either a schedule's name or your own sigmas.")
        if schedule not in (*schedules.SCHEDULES, "own"):
            known = [*schedules.SCHEDULES, "own"]
            raise UserError("schedule", f"no such schedule {schedule!r}.", did_you_mean(schedule, known))
    own = None if sigmas is None else as_sigmas(sigmas)
    request = Request(model=model, steps=steps, sigmas=own, schedule=schedule, settings=settings or {})
    if isinstance(sampler, str):
        if sampler not in PRESETS:
            raise UserError("sampler", f"no such sampler {sampler!r}.", did_you_mean(sampler, PRESETS))
        checked = _check_settings(sampler, request.settings)
        chosen = PRESETS[sampler].plan(replace(request, settings=checked))
    elif settings:
        raise UserError("settings", "a sampler object has its own settings.", "Give them to its class.")
    else:
        chosen = _plan_object(sampler, request)
    if init_sigma is not None:
        chosen = chosen.below(init_sigma)
    check_sigmas(model, _decreasing(chosen.sigmas))
    mismatch = 1.0 if model.schedule is None else schedules.max_mismatch(model.schedule, chosen.sigmas)
    return replace(chosen, clamp=clamp, max_mismatch=mismatch)


def known_settings() -> dict[str, dict[str, Kind]]:
    """The settings of every preset by name, and what each may be."""
    return {name: _kinds(preset.sampler) for name, preset in PRESETS.items()}


def _plan_object(sampler: Sampler, request: Request) -> Plan:
    """A sampler object with the kind of schedule that it can follow."""
    if isinstance(sampler, Langevin):
        if request.steps is not None:
            raise UserError("steps", "a Langevin object has its own number of updates.", "Set its `steps_each`.")
        name, sigmas, _ = _one_level(request)
    elif isinstance(sampler, AnnealedLangevin | MALA):
        name, own = _positive_levels(request)
        if own is None:
            sigmas = _spaced(request.model, name, max(2, request.steps or 100))
        else:
            sigmas = own if request.steps is None else schedules.subsample(own, request.steps)
    else:
        name, sigmas, _ = _descending(_STEPS)(request)
    return Plan(sampler=sampler, sigmas=sigmas, schedule=name)


def _positive_levels(request: Request) -> tuple[str, Tensor | None]:
    """The schedule's name for Langevin dynamics, and its noise levels unless they depend on the steps."""
    if request.sigmas is not None:
        return "given", request.sigmas
    if request.schedule == "own" or (request.schedule is None and request.model.schedule is not None):
        return "own", _own_levels(request.model)
    return request.schedule or "geometric", None


def _spaced(model: ScoreModel, name: str, count: int) -> Tensor:
    """`count` positive noise levels of a named schedule."""
    low, high = model.sigma_range
    sigmas = schedules.SCHEDULES[name](high, max(low, _LEAST), count)
    return sigmas[sigmas > 0]


def _own_levels(model: ScoreModel) -> Tensor:
    """The noise levels that the model was trained on.

    Raises:
        UserError: it was trained on a continuous range.
    """
    if model.schedule is None:
        raise UserError(
            "schedule",
            "this model was trained on a continuous range of σ and has no noise levels of its own.",
            f"Choose one of {', '.join(schedules.SCHEDULES)}.",
        )
    return model.schedule


def _papers_step(sigmas: Tensor) -> float:
    """ε = 0.2 σ_L²; 0 for an empty schedule, which the sampler then refuses."""
    return _PAPERS_RATE * sigmas[-1:].sum().item() ** 2


def _has_few(sigmas: Tensor | None) -> bool:
    """Whether noise levels are so far apart that a sampler notices the gaps."""
    return sigmas is not None and len(sigmas) <= _FEW


def _decreasing(sigmas: Tensor) -> Tensor:
    """The levels of a schedule that may rise, once each, from the largest down."""
    return sigmas.unique().flip(0) if sigmas.ndim == 1 else sigmas


# --- a sampler's settings: the arguments of what makes it --------------------------------------------


_WORDS: dict[Any, str] = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}


def _kinds(make: Callable[..., Sampler]) -> dict[str, Kind]:
    """The arguments of a sampler's class, or of a function that makes one, with their types or words."""
    hints = get_type_hints(make)
    return {name: get_args(hints[name]) or (hints[name],) for name in signature(make).parameters}


def _defaults(make: Callable[..., Sampler]) -> dict[str, Setting]:
    """The defaults of these arguments."""
    parameters = signature(make).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not Parameter.empty}


def _check_settings(sampler: str, settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """The settings, with whole numbers made floats where the sampler takes floats.

    Raises:
        UserError: the sampler has no such setting, or a value is of another kind.
    """
    known = known_settings()
    found: dict[str, Setting] = {}
    for name, value in settings.items():
        if name not in known[sampler]:
            raise UserError(name, f"the {sampler} sampler has no such setting.", _owners(sampler, name, known))
        kind = known[sampler][name]
        if not any(_is_of_kind(value, part) for part in kind):
            raise _misfit(name, value, kind)
        found[name] = float(value) if isinstance(value, int) and float in kind else value
        if name == "steps_each" and isinstance(value, int) and value < 1:
            raise UserError(name, f"need at least one, got {value}.")
    return found


def _is_of_kind(value: Setting, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind) if kind in _WORDS else value == kind


def _misfit(name: str, value: Setting, kind: Kind) -> UserError:
    words = [part for part in kind if part not in _WORDS]
    if words and isinstance(value, str):
        return UserError(name, f"no such {name} {value!r}.", did_you_mean(value, map(str, words)))
    expected = " or ".join(_WORDS.get(part, str(part)) for part in kind)
    return UserError(name, f"need {expected}, got {value!r}.")


def _owners(sampler: str, name: str, known: Mapping[str, Mapping[str, Kind]]) -> str:
    """Which samplers have the setting; if none has, which of this sampler's settings may be meant."""
    owners = [owner for owner, settings in known.items() if name in settings]
    if owners:
        return f"It belongs to {', '.join(owners)}{' alone' if len(owners) == 1 else ''}."
    own = known[sampler]
    return did_you_mean(name, own) if own else "It has no settings."
