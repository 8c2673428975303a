"""What a network's output means: the only file that knows families.

A network F sees scale·x and a label. Its output becomes a denoiser by four numbers that depend on σ alone,

    D(x; σ) = skip · x + out · F(scale · x, label),

and the noise by two more, written out in closed form because (x − D)/σ would cancel where σ is small:

    (x − D(x; σ)) / σ = noise_skip · x + noise_out · F.

A network that restores may learn the residual, what is to be added to the degraded image y: then all this holds
for z = x − y and D(x; σ) − y. Where y is near x0, nothing of it has to pass through the network, which starts
from D ≈ y, and what it does not know of y it does not spoil.

Variance-preserving networks see x/√(1+σ²), and are told one of three things (`Told`):

    gamma   γ = 1/(1+σ²), as Palette's
    index   the step t of a schedule, 0 at its least noise, as DDPM's; between two noise levels, the nearest by ratio
    time    999 t, t that of the VP equation with β from 0.1 to 20, as those of Song et al. (2021)

The label alone is rounded to a noise level: what else there is of σ stays exact.

References:
    Song & Ermon (2019), https://arxiv.org/abs/1907.05600; (2020), https://arxiv.org/abs/2006.09011
    Ho et al. (2020), https://arxiv.org/abs/2006.11239
    Song et al. (2021), https://arxiv.org/abs/2011.13456
    Salimans & Ho (2022), App. D. https://arxiv.org/abs/2202.00512
    Saharia et al. (2022), https://arxiv.org/abs/2111.05826
    Karras et al. (2022), Table 1 and eq. 7. https://arxiv.org/abs/2206.00364
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from scorefield.errors import UserError, did_you_mean
from scorefield.schedules import check_schedule, nearest_level, sigma_to_gamma, vp_time

Told = Literal["gamma", "index", "time"]
"""What a variance-preserving network is told of σ; see the module."""


class Coefficients(NamedTuple):
    """The numbers of the module's two equations for a batch of σ, each (B,)."""

    skip: Tensor
    out: Tensor
    noise_skip: Tensor
    noise_out: Tensor
    scale: Tensor
    label: Tensor


class Parameterization(Protocol):
    """Turns noise levels (B,) into coefficients."""

    kind: ClassVar[str]

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,), float32."""
        ...


@runtime_checkable
class HasSchedule(Protocol):
    """A parameterization that was trained on noise levels, or may have been."""

    @property
    def sigmas(self) -> tuple[float, ...] | None:
        """The noise levels, falling."""
        ...


@dataclass(frozen=True, kw_only=True)
class EDM:
    """Input and target at unit variance at every σ (Karras et al. 2022, Table 1); told ln(σ)/4.

    skip = σ_d²/(σ²+σ_d²), out = σ σ_d/√(σ²+σ_d²), scale = 1/√(σ²+σ_d²), σ_d the data's spread.

    Args:
        sigma_data: σ_d.
        input: how the network sees x: "unit", as above, or "wiener", scale = σ_d/(σ²+σ_d²), by which x is the
            best linear guess at x0, over σ_d. Then what is noise alone fades from sight as σ grows, and a
            network that is also given a degraded image looks there.
        residual: whether it learns what is to be added to the degraded image; σ_d is then the spread of
            x0 − y.
    """

    kind: ClassVar[str] = "edm"
    sigma_data: float = 0.5
    input: Literal["unit", "wiener"] = "unit"
    residual: bool = False

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        total = (sigma**2 + self.sigma_data**2).sqrt()
        return Coefficients(
            skip=(self.sigma_data / total) ** 2,
            out=sigma * (self.sigma_data / total),
            noise_skip=sigma / total / total,
            noise_out=-self.sigma_data / total,
            scale=self.sigma_data / total / total if self.input == "wiener" else 1 / total,
            label=sigma.log() / 4,
        )


@dataclass(frozen=True, kw_only=True)
class NoisePrediction:
    """The network predicts n, as in DDPM (told t) and Palette (told γ).

    D(x; σ) = x − σ F(x/√(1+σ²), label)

    Args:
        told: what the label is.
        sigmas: the schedule that it was trained on, falling; needed where the label is its index.

    Raises:
        UserError: `told` is none of the three, or `sigmas` are lacking, rise, repeat, or are not positive.
    """

    kind: ClassVar[str] = "noise"
    told: Told = "gamma"
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_told(self.told, self.sigmas)

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        one = torch.ones_like(sigma)
        return Coefficients(
            skip=one,
            out=-sigma,
            noise_skip=0 * one,
            noise_out=one,
            scale=sigma_to_gamma(sigma).sqrt(),
            label=_LABELS[self.told](sigma, self.sigmas),
        )


@dataclass(frozen=True, kw_only=True)
class DataPrediction:
    """The network predicts x0: D = F(x/√(1+σ²), label).

    Args:
        told: what the label is.
        sigmas: the schedule that it was trained on, falling; needed where the label is its index.

    Raises:
        UserError: `told` is none of the three, or `sigmas` are lacking, rise, repeat, or are not positive.
    """

    kind: ClassVar[str] = "data"
    told: Told = "gamma"
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_told(self.told, self.sigmas)

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        one = torch.ones_like(sigma)
        return Coefficients(
            skip=0 * one,
            out=one,
            noise_skip=1 / sigma,
            noise_out=-1 / sigma,
            scale=sigma_to_gamma(sigma).sqrt(),
            label=_LABELS[self.told](sigma, self.sigmas),
        )


@dataclass(frozen=True, kw_only=True)
class VelocityPrediction:
    """The network predicts v = √γ n − √(1−γ) x0 (Salimans & Ho 2022, App. D).

    D(x; σ) = x/(1+σ²) − σ/√(1+σ²) F(x/√(1+σ²), label)

    Args:
        told: what the label is.
        sigmas: the schedule that it was trained on, falling; needed where the label is its index.

    Raises:
        UserError: `told` is none of the three, or `sigmas` are lacking, rise, repeat, or are not positive.
    """

    kind: ClassVar[str] = "velocity"
    told: Told = "gamma"
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_told(self.told, self.sigmas)

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        gamma = sigma_to_gamma(sigma)
        root = gamma.sqrt()
        return Coefficients(
            skip=gamma,
            out=-sigma * root,
            noise_skip=sigma * gamma,
            noise_out=root,
            scale=root,
            label=_LABELS[self.told](sigma, self.sigmas),
        )


@dataclass(frozen=True, kw_only=True)
class ScorePrediction:
    """The network is the score and is told σ itself, as the VE networks of Song et al. (2021).

    D(x; σ) = x + σ² F(x, σ)
    """

    kind: ClassVar[str] = "score"

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        one = torch.ones_like(sigma)
        return Coefficients(skip=one, out=sigma**2, noise_skip=0 * one, noise_out=-sigma, scale=one, label=sigma)


@dataclass(frozen=True, kw_only=True)
class Regression:
    """The network gives the image itself, and sees nothing of x but what is known of it.

    D(x; σ) = F(0, 0)

    A network that is given a degraded image is so Palette's baseline of the same name (Saharia et al. 2022,
    §4): trained for p = 2 it tends to the mean of all answers. Whatever sampler goes down whatever schedule
    ends at D; its own has one noise level.

    Args:
        residual: whether it learns what is to be added to the degraded image, D = y + F.
    """

    kind: ClassVar[str] = "regression"
    residual: bool = False

    @property
    def sigmas(self) -> tuple[float, ...]:
        """One noise level, σ = 1."""
        return (1.0,)

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        zero = torch.zeros_like(sigma)
        return Coefficients(
            skip=zero,
            out=torch.ones_like(sigma),
            noise_skip=1 / sigma,
            noise_out=-1 / sigma,
            scale=zero,
            label=zero,
        )


@dataclass(frozen=True, kw_only=True)
class NCSN:
    """The network is the score on a schedule and is told the noise level's index (Song & Ermon 2019, §4.2).

    D(x; σ) = x + σ σ_i F(x, i),   σ_i the noise level nearest to σ by ratio

    On a noise level this is x + σ_i² F. Between two, what is kept of the noise level is its noise of unit variance,
    −σ_i F, and not its score F: where the data are narrow against σ, the noise is alike on all noise levels while
    the score goes as 1/σ. For x0 ~ N(0, s²), s ≪ σ = c σ_i, the noise comes out c times too large, where by
    the score it would be c² times. The score does better only from about s = √3 σ on, where there is little
    noise to find.

    Args:
        sigmas: the schedule, falling.

    Raises:
        UserError: `sigmas` rise, repeat, or are not positive.
    """

    kind: ClassVar[str] = "ncsn"
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.sigmas is not None:
            _check_levels(self.sigmas)

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        one = torch.ones_like(sigma)
        levels = _levels(_needed(self.sigmas), sigma.device, sigma.dtype)
        index = nearest_level(levels, sigma)
        return Coefficients(
            skip=one,
            out=sigma * levels[index],
            noise_skip=0 * one,
            noise_out=-levels[index],
            scale=one,
            label=index.to(sigma.dtype),
        )


@dataclass(frozen=True, kw_only=True)
class NCSNv2:
    """The score is an unconditional network over σ (Song & Ermon 2020, Technique 3).

    D(x; σ) = x + σ F(x)

    Args:
        sigmas: the schedule it was trained on and is to be sampled on; the network knows no schedule.
    """

    kind: ClassVar[str] = "ncsnv2"
    sigmas: tuple[float, ...] | None = None

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        one = torch.ones_like(sigma)
        return Coefficients(skip=one, out=sigma, noise_skip=0 * one, noise_out=-one, scale=one, label=sigma.log())


_KINDS = {
    cls.kind: cls
    for cls in (
        EDM,
        NoisePrediction,
        DataPrediction,
        VelocityPrediction,
        ScorePrediction,
        Regression,
        NCSN,
        NCSNv2,
    )
}


def of_residual(parameterization: Parameterization) -> bool:
    """Whether the network learns what is to be added to a degraded image."""
    return isinstance(parameterization, EDM | Regression) and parameterization.residual


def to_card(parameterization: Parameterization) -> dict[str, Any]:
    """The parameterization as plain data: its kind and its settings."""
    return {"kind": parameterization.kind, **asdict(parameterization)}  # pyright: ignore[reportArgumentType, reportCallIssue]


def from_card(card: dict[str, Any]) -> Parameterization:
    """The parameterization that `to_card` described; what a card leaves out has its default.

    Raises:
        UserError: an unknown kind or setting.
    """
    settings = dict(card)
    kind = settings.pop("kind", "")
    if kind not in _KINDS:
        raise UserError("parameterization", f"no such kind {kind!r}.", did_you_mean(kind, _KINDS))
    if settings.get("sigmas") is not None:
        settings["sigmas"] = tuple(settings["sigmas"])
    try:
        return _KINDS[kind](**settings)
    except TypeError as error:
        raise UserError(f"parameterization {kind}", str(error)) from error


@lru_cache(maxsize=32)
def _levels(sigmas: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The noise levels where they are needed, copied to a device once and not in every call."""
    with torch.inference_mode(False):
        return torch.tensor(sigmas, device=device, dtype=dtype)


def _index(sigma: Tensor, sigmas: tuple[float, ...] | None) -> Tensor:
    """DDPM's t, counted from the least noise."""
    levels = _levels(_needed(sigmas), sigma.device, sigma.dtype)
    return (len(levels) - 1 - nearest_level(levels, sigma)).to(sigma.dtype)


_LABELS: dict[str, Callable[[Tensor, tuple[float, ...] | None], Tensor]] = {
    "gamma": lambda sigma, _: sigma_to_gamma(sigma),
    "index": _index,
    "time": lambda sigma, _: 999 * vp_time(sigma),
}


def _check_told(told: str, sigmas: tuple[float, ...] | None) -> None:
    if told not in _LABELS:
        raise UserError("parameterization.told", f"no such label {told!r}.", did_you_mean(told, _LABELS))
    if sigmas is not None:
        _check_levels(sigmas)


def _needed(sigmas: tuple[float, ...] | None) -> tuple[float, ...]:
    if sigmas is None:
        raise UserError("sigmas", "a network that is told a step's index needs the schedule whose steps they are.")
    return sigmas


def _check_levels(sigmas: tuple[float, ...]) -> None:
    if check_schedule(torch.tensor(sigmas))[-1] == 0:
        raise UserError("sigmas", "a model's own noise levels are positive; this schedule ends at 0.")
