"""Noise schedules of `diffusers`: their schedulers' settings, read and written as plain data.

Their variance-preserving schedulers keep the β_t of Ho et al. (2020), t = 0 the least noise; ours is the same
image divided by its share of signal, so that

    ᾱ_t = Π_{s≤t} (1 − β_s),    σ_t = √((1 − ᾱ_t)/ᾱ_t),    β_t = 1 − ᾱ_t/ᾱ_{t−1}.

Their networks receive √ᾱ_t x0 + √(1−ᾱ_t) n and t. ᾱ is computed in float32, as they compute it, so that it
equals the one of training to the last bit. The networks of the variance-exploding SDE receive x0 + σn and σ,
and return the score.

References:
    Ho et al. (2020), §2. https://arxiv.org/abs/2006.11239
    Nichol & Dhariwal (2021), eq. 17 (cosine). https://arxiv.org/abs/2102.09672
    Song et al. (2021), App. C (the VE SDE). https://arxiv.org/abs/2011.13456
    Lin et al. (2024), Algorithm 1 (no signal at the end). https://arxiv.org/abs/2305.08891
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from scorefield.errors import UserError, did_you_mean
from scorefield.parameterization import (
    Parameterization,
    Score,
    VariancePreserving,
)

__all__ = ["Schedule", "read_schedule", "write_schedule"]

Settings = dict[str, Any]

_PRESERVING = {  # the ends of β that each scheduler takes where its settings name none
    "DDIMParallelScheduler": (1e-4, 0.02),
    "DDIMScheduler": (1e-4, 0.02),
    "DDPMParallelScheduler": (1e-4, 0.02),
    "DDPMScheduler": (1e-4, 0.02),
    "DEISMultistepScheduler": (1e-4, 0.02),
    "DPMSolverMultistepScheduler": (1e-4, 0.02),
    "DPMSolverSinglestepScheduler": (1e-4, 0.02),
    "EulerAncestralDiscreteScheduler": (1e-4, 0.02),
    "EulerDiscreteScheduler": (1e-4, 0.02),
    "HeunDiscreteScheduler": (8.5e-4, 0.012),
    "LMSDiscreteScheduler": (1e-4, 0.02),
    "PNDMScheduler": (1e-4, 0.02),
    "UniPCMultistepScheduler": (1e-4, 0.02),
}
_PREDICTIONS: dict[str, Literal["noise", "x0", "velocity"]] = {
    "epsilon": "noise",
    "sample": "x0",
    "v_prediction": "velocity",
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a scheduler's settings say of a network.

    Args:
        parameterization: what its output means, and its schedule.
        sigma_range: least and greatest σ.
        value_range: of pixels, as their pipelines turn samples into images.
    """

    parameterization: Parameterization
    sigma_range: tuple[float, float]
    value_range: tuple[float, float]


def read_schedule(settings: Settings, where: object) -> Schedule:
    """The schedule that a `scheduler_config.json` holds.

    Args:
        settings: its content.
        where: named in errors.

    Raises:
        UserError: a scheduler, a distribution of β or a prediction that is not known here, or settings out of range.
    """
    name = str(settings.get("_class_name"))
    known = ["ScoreSdeVeScheduler", "KarrasVeScheduler", *_PRESERVING]
    if name not in known:
        raise UserError(where, f"no way to read the scheduler {name}.", did_you_mean(name, known))
    try:
        if name == "ScoreSdeVeScheduler":
            return _exploding(settings.get("sigma_min", 0.01), settings.get("sigma_max", 1348.0))
        if name == "KarrasVeScheduler":  # asks such a network about (x + 1)/2 at σ/2, for pixels in [−1, 1]
            return _exploding(settings.get("sigma_min", 0.02) / 2, settings.get("sigma_max", 100.0) / 2)
        return _preserving(settings, _PRESERVING[name], where)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise UserError(where, f"its settings make no schedule: {reason}.") from error


def write_schedule(parameterization: Parameterization, where: object) -> Settings:
    """The settings of a DDPMScheduler with the parameterization's schedule.

    β that rises linearly is written by its ends, any other one by one.

    Raises:
        UserError: a parameterization that their schedulers cannot represent.
    """
    mend = 'Train one with parameterization = { kind = "variance-preserving", conditioning = "index" }.'
    if not isinstance(parameterization, VariancePreserving):
        raise UserError(where, f"their schedulers know no {parameterization.kind} parameterization.", mend)
    if parameterization.conditioning != "index" or parameterization.sigmas is None:
        label = parameterization.conditioning
        raise UserError(where, f"their networks receive the step as label; this one receives {label}.", mend)
    prediction = next(key for key, predicts in _PREDICTIONS.items() if predicts == parameterization.predicts)
    schedule = torch.tensor(parameterization.sigmas, dtype=torch.float64).flip(0)
    signal = 1 / (1 + schedule**2)
    betas = 1 - signal / torch.cat([signal.new_ones(1), signal[:-1]])
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": len(schedule),
        **_distribution_of(betas, schedule),
        "prediction_type": prediction,
        "variance_type": "fixed_small",
        "clip_sample": True,
        "clip_sample_range": 1.0,
    }


def _distribution_of(betas: Tensor, schedule: Tensor) -> Settings:
    first, last = (float(f"{float(beta):.4g}") for beta in (betas[0], betas[-1]))
    linear = torch.linspace(first, last, len(betas), dtype=torch.float64)
    if torch.allclose(_sigmas((1 - linear).cumprod(0)), schedule, rtol=1e-4, atol=0):
        return {"beta_schedule": "linear", "beta_start": first, "beta_end": last, "trained_betas": None}
    return {"trained_betas": betas.tolist()}


def _exploding(sigma_min: float, sigma_max: float) -> Schedule:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"need 0 < sigma_min < sigma_max, got {sigma_min:g} and {sigma_max:g}")
    return Schedule(
        parameterization=Score(),
        sigma_range=(float(sigma_min), float(sigma_max)),
        value_range=(0.0, 1.0),
    )


def _preserving(settings: Settings, ends: tuple[float, float], where: object) -> Schedule:
    prediction = settings.get("prediction_type", "epsilon")
    if settings.get("predict_epsilon") is False:  # as versions before 0.10 wrote it
        prediction = "sample"
    if prediction not in _PREDICTIONS:
        raise UserError(where, f"no such prediction_type {prediction!r}.", did_you_mean(str(prediction), _PREDICTIONS))
    if settings.get("timestep_type") == "continuous":
        raise UserError(where, "its network is conditioned on ln(σ)/4 (timestep_type continuous), which is not read.")
    betas = _betas(settings, ends, where)
    if betas.ndim != 1 or len(betas) < 2 or not bool(((betas > 0) & (betas < 1)).all()):
        raise ValueError("β must be two numbers or more between 0 and 1")
    signal = (1 - betas).cumprod(0)
    if settings.get("rescale_betas_zero_snr"):
        if prediction == "epsilon":
            raise UserError(where, "without signal at the end (rescale_betas_zero_snr) the noise leaves x0 open.")
        signal = _without_signal_at_the_end(signal)
    sigmas = tuple(_sigmas(signal).flip(0).tolist())
    return Schedule(
        parameterization=VariancePreserving(predicts=_PREDICTIONS[prediction], conditioning="index", sigmas=sigmas),
        sigma_range=(sigmas[-1], sigmas[0]),
        value_range=(-1.0, 1.0),
    )


def _sigmas(signal: Tensor) -> Tensor:
    return ((1 - signal) / signal).sqrt()


def _betas(settings: Settings, ends: tuple[float, float], where: object) -> Tensor:
    """β_t, float32."""
    if settings.get("trained_betas") is not None:
        return torch.tensor(settings["trained_betas"], dtype=torch.float32)
    steps, distribution = settings.get("num_train_timesteps", 1000), settings.get("beta_schedule", "linear")
    if distribution not in _DISTRIBUTIONS:
        raise UserError(
            where, f"no such beta_schedule {distribution!r}.", did_you_mean(str(distribution), _DISTRIBUTIONS)
        )
    return _DISTRIBUTIONS[distribution](settings.get("beta_start", ends[0]), settings.get("beta_end", ends[1]), steps)


def _linear(first: float, last: float, steps: int) -> Tensor:
    return torch.linspace(first, last, steps, dtype=torch.float32)


def _scaled_linear(first: float, last: float, steps: int) -> Tensor:
    """Linear in √β."""
    return _linear(first**0.5, last**0.5, steps) ** 2


def _sigmoid(first: float, last: float, steps: int) -> Tensor:
    return torch.linspace(-6, 6, steps).sigmoid() * (last - first) + first


def _cosine(_first: float, _last: float, steps: int) -> Tensor:
    """ᾱ = cos²(π/2 · (t/T + 0.008)/1.008), with β no more than 0.999."""

    def signal(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return torch.tensor([min(1 - signal((i + 1) / steps) / signal(i / steps), 0.999) for i in range(steps)])


_DISTRIBUTIONS: dict[str, Callable[[float, float, int], Tensor]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "sigmoid": _sigmoid,
    "squaredcos_cap_v2": _cosine,
}


def _without_signal_at_the_end(signal: Tensor) -> Tensor:
    """√ᾱ shifted and stretched so that its last value is 0 and its first stays.

    σ = ∞ is no noise level: in place of 0, the last √ᾱ is half the one before, no signal that a network could see.
    """
    root = signal.sqrt()
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    root[-1] = root[-2] / 2
    return root**2
