"""What a network's output means: the only file that knows families.

A network F receives c_in·x and a label. Its output becomes a denoiser by four numbers that depend only on σ,

    D(x; σ) = c_skip · x + c_out · F(c_in · x, label),

and the predicted noise by two more, in closed form because (x − D)/σ would cancel at small σ:

    (x − D(x; σ)) / σ = noise_skip · x + noise_out · F.

The label is what EDM calls c_noise.

A restoration network may predict the residual x0 − y, y the degraded image. All equations then hold for z = x − y and
D(x; σ) − y. An F of 0 returns y at small σ, so pixels that the network cannot improve stay as they are.

References:
    Song & Ermon (2019), https://arxiv.org/abs/1907.05600; (2020), https://arxiv.org/abs/2006.09011
    Ho et al. (2020), https://arxiv.org/abs/2006.11239
    Song et al. (2021), https://arxiv.org/abs/2011.13456
    Chen et al. (2021), WaveGrad. https://arxiv.org/abs/2009.00713
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
from scorefield.plain import check_settings
from scorefield.schedules import check_schedule, nearest_level, sigma_to_gamma, vp_time

__all__ = [
    "EDM",
    "NCSN",
    "Coefficients",
    "HasSchedule",
    "NCSNv2",
    "Parameterization",
    "Regression",
    "Score",
    "VariancePreserving",
    "from_card",
    "predicts_residual",
    "to_card",
]


class Coefficients(NamedTuple):
    """The numbers of the module's two equations for a batch of σ, each (B,)."""

    c_skip: Tensor
    c_out: Tensor
    noise_skip: Tensor
    noise_out: Tensor
    c_in: Tensor
    label: Tensor


class Parameterization(Protocol):
    """Turns noise levels (B,) into coefficients."""

    kind: ClassVar[str]

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,), float32."""
        ...


@runtime_checkable
class HasSchedule(Protocol):
    """A parameterization that may have been trained on a discrete schedule."""

    @property
    def sigmas(self) -> tuple[float, ...] | None:
        """The noise levels, decreasing; None for a continuous range."""
        ...


@dataclass(frozen=True, kw_only=True)
class EDM:
    """Input and target of unit variance at every σ (Karras et al. 2022, Table 1); the label is ln(σ)/4.

    c_skip = σ_d²/(σ²+σ_d²), c_out = σ σ_d/√(σ²+σ_d²), c_in = 1/√(σ²+σ_d²).

    Args:
        sigma_data: σ_d, the std of the data; with `residual`, of x0 − y.
        input: the input scaling: "unit", as above, or "wiener", c_in = σ_d/(σ²+σ_d²), which makes σ_d c_in x the best
            linear estimate of x0. The input then fades as σ grows, and a restoration network relies on y.
        residual: whether the network predicts the residual x0 − y.

    Raises:
        ValueError: a sigma_data that float32 cannot square.
    """

    kind: ClassVar[str] = "edm"
    sigma_data: float = 0.5
    input: Literal["unit", "wiener"] = "unit"
    residual: bool = False

    def __post_init__(self) -> None:
        if not 1e-6 <= self.sigma_data <= 1e6:  # its square and that of σ stay within float32
            raise ValueError(f"sigma_data must lie from 1e-06 to 1e+06, got {self.sigma_data:g}")

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        total = (sigma**2 + self.sigma_data**2).sqrt()
        return Coefficients(
            c_skip=(self.sigma_data / total) ** 2,
            c_out=sigma * (self.sigma_data / total),
            noise_skip=sigma / total / total,
            noise_out=-self.sigma_data / total,
            c_in=self.sigma_data / total / total if self.input == "wiener" else 1 / total,
            label=sigma.log() / 4,
        )


@dataclass(frozen=True, kw_only=True)
class VariancePreserving:
    """A network of DDPM's kind: sees x/√(1+σ²), predicts the noise, the clean image or the velocity.

    With γ = 1/(1+σ²), the share of the variance that is signal, F is

        noise       n,                          D(x; σ) = x − σ F
        x0          x0,                         D(x; σ) = F
        velocity    √γ n − √(1−γ) x0,           D(x; σ) = γ x − σ√γ F    (Salimans & Ho 2022, App. D)

    and the label is

        gamma       γ, as Palette states it; see below
        root-gamma  5,000 √γ, in the manner of Chen et al. (2021)
        index       the step t of the schedule, 0 at its least noise, as in DDPM
        time        999 t, t the time of the VP equation with β from 0.1 to 20, as in Song et al. (2021)

    Between two levels of the schedule the index is that of the nearest by ratio. Only the label is rounded; the
    coefficients use σ itself.

    A sinusoidal embedding turns γ itself into angles of at most one radian: over Palette's 2,000 levels its features
    span 5 dimensions of 256, where those of the index or of 5,000 √γ span 120 to 150. Palette's paper conditions on γ
    and does not state how γ is embedded. Points then leave small σ indistinguishable; a large image shows σ itself.

    Args:
        predicts: what F is.
        conditioning: what the label is.
        sigmas: the schedule that the network was trained on, decreasing. The index needs it.

    Raises:
        ValueError: an unknown `predicts` or `conditioning`.
        UserError: `sigmas` that do not decrease, or are not positive.
    """

    kind: ClassVar[str] = "variance-preserving"
    predicts: Literal["noise", "x0", "velocity"] = "noise"
    conditioning: Literal["gamma", "root-gamma", "index", "time"] = "gamma"
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, value, known in [
            ("predicts", self.predicts, _PREDICTIONS),
            ("conditioning", self.conditioning, _LABELS),
        ]:
            if value not in known:
                raise ValueError(f"no such {name} {value!r}. {did_you_mean(value, known)}")
        if self.sigmas is not None:
            _check_levels(self.sigmas)

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,).

        Raises:
            ValueError: an index without a schedule.
        """
        gamma = sigma_to_gamma(sigma)
        root = gamma.sqrt()
        c_skip, c_out, noise_skip, noise_out = _PREDICTIONS[self.predicts](sigma, gamma, root)
        return Coefficients(
            c_skip=c_skip,
            c_out=c_out,
            noise_skip=noise_skip,
            noise_out=noise_out,
            c_in=root,
            label=_LABELS[self.conditioning](sigma, self.sigmas),
        )


@dataclass(frozen=True, kw_only=True)
class Score:
    """The network is the score and its label is σ, as in the VE networks of Song et al. (2021).

    D(x; σ) = x + σ² F(x, σ)
    """

    kind: ClassVar[str] = "score"

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        one = torch.ones_like(sigma)
        return Coefficients(c_skip=one, c_out=sigma**2, noise_skip=0 * one, noise_out=-sigma, c_in=one, label=sigma)


@dataclass(frozen=True, kw_only=True)
class Regression:
    """The network returns the image and sees only the condition: D(x; σ) = F(0, 0).

    Given a degraded image, this is Palette's regression baseline (Saharia et al. 2022, §4): trained with p = 2, F
    tends to the posterior mean. Every sampler on every schedule ends at D. Its own schedule has one level.

    Args:
        residual: whether the network predicts the residual x0 − y: D = y + F.
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
            c_skip=zero,
            c_out=torch.ones_like(sigma),
            noise_skip=1 / sigma,
            noise_out=-1 / sigma,
            c_in=zero,
            label=zero,
        )


@dataclass(frozen=True, kw_only=True)
class NCSN:
    """The network is the score on a schedule; its label is the index of the level (Song & Ermon 2019, §4.2).

    D(x; σ) = x + σ σ_i F(x, i),   σ_i the level nearest to σ by ratio

    On a level this is x + σ_i² F. Between two, the network's noise −σ_i F is kept, not its score F: for x0 ~ N(0, s²),
    s ≪ σ = c σ_i, the noise comes out c times too large, where the score would make it c² times. The score is better
    only from about s = √3 σ on, where there is little noise to find.

    Args:
        sigmas: the schedule, decreasing. It must be given before the first call.

    Raises:
        UserError: `sigmas` that do not decrease, or are not positive.
    """

    kind: ClassVar[str] = "ncsn"
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.sigmas is not None:
            _check_levels(self.sigmas)

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,).

        Raises:
            ValueError: no schedule.
        """
        one = torch.ones_like(sigma)
        levels = _levels(_needed(self.sigmas), sigma.device, sigma.dtype)
        index = nearest_level(levels, sigma)
        return Coefficients(
            c_skip=one,
            c_out=sigma * levels[index],
            noise_skip=0 * one,
            noise_out=-levels[index],
            c_in=one,
            label=index.to(sigma.dtype),
        )


@dataclass(frozen=True, kw_only=True)
class NCSNv2:
    """The score is an unconditional network divided by σ (Song & Ermon 2020, Technique 3).

    D(x; σ) = x + σ F(x)

    Args:
        sigmas: the schedule that it was trained on and samples on; the network itself depends on no schedule.
    """

    kind: ClassVar[str] = "ncsnv2"
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.sigmas is not None:
            _check_levels(self.sigmas)

    def __call__(self, sigma: Tensor) -> Coefficients:
        """The coefficients at σ, (B,)."""
        one = torch.ones_like(sigma)
        return Coefficients(c_skip=one, c_out=sigma, noise_skip=0 * one, noise_out=-one, c_in=one, label=sigma.log())


_KINDS = {cls.kind: cls for cls in (EDM, VariancePreserving, Score, Regression, NCSN, NCSNv2)}


def predicts_residual(parameterization: Parameterization) -> bool:
    """Whether the network predicts the residual x0 − y of a degraded image y."""
    return isinstance(parameterization, EDM | Regression) and parameterization.residual


def to_card(parameterization: Parameterization) -> dict[str, Any]:
    """The parameterization as plain data: its kind and its settings."""
    return {"kind": parameterization.kind, **asdict(parameterization)}  # pyright: ignore[reportArgumentType, reportCallIssue]


def from_card(card: dict[str, Any]) -> Parameterization:
    """The parameterization that `to_card` wrote. Settings that the card lacks take their defaults.

    Raises:
        UserError: an unknown kind or setting, or a value that the class refuses.
    """
    settings = dict(card)
    kind: object = settings.pop("kind", "")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError("parameterization", f"no such kind {kind!r}.", did_you_mean(str(kind), _KINDS))
    check_settings(_KINDS[kind], settings, f"parameterization {kind}")
    if settings.get("sigmas") is not None:
        settings["sigmas"] = tuple(settings["sigmas"])
    try:
        return _KINDS[kind](**settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"parameterization {kind}", str(error)) from error


@lru_cache(maxsize=32)
def _levels(sigmas: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The levels as a tensor, copied to each device once."""
    with torch.inference_mode(False):
        return torch.tensor(sigmas, device=device, dtype=dtype)


def _predicts_noise(sigma: Tensor, gamma: Tensor, root: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, noise_skip, noise_out of a network that predicts n."""
    one = torch.ones_like(sigma)
    return one, -sigma, 0 * one, one


def _predicts_x0(sigma: Tensor, gamma: Tensor, root: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    one = torch.ones_like(sigma)
    return 0 * one, one, 1 / sigma, -1 / sigma


def _predicts_velocity(sigma: Tensor, gamma: Tensor, root: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return gamma, -sigma * root, sigma * gamma, root


_PREDICTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]] = {
    "noise": _predicts_noise,
    "x0": _predicts_x0,
    "velocity": _predicts_velocity,
}


def _index(sigma: Tensor, sigmas: tuple[float, ...] | None) -> Tensor:
    """DDPM's t, counted from the least noise."""
    levels = _levels(_needed(sigmas), sigma.device, sigma.dtype)
    return (len(levels) - 1 - nearest_level(levels, sigma)).to(sigma.dtype)


_LABELS: dict[str, Callable[[Tensor, tuple[float, ...] | None], Tensor]] = {
    "gamma": lambda sigma, _: sigma_to_gamma(sigma),
    "root-gamma": lambda sigma, _: 5000 * sigma_to_gamma(sigma).sqrt(),
    "index": _index,
    "time": lambda sigma, _: 999 * vp_time(sigma),
}


def _needed(sigmas: tuple[float, ...] | None) -> tuple[float, ...]:
    if sigmas is None:
        raise ValueError("a network conditioned on the index of a noise level needs `sigmas`, its schedule")
    return sigmas


def _check_levels(sigmas: tuple[float, ...]) -> None:
    if check_schedule(torch.tensor(sigmas))[-1] == 0:
        raise UserError("sigmas", "a model's own noise levels are positive; this schedule ends at 0.")
