"""Score models: a network, what its output means, and the images it is for.

Denoiser, score and predicted noise are one function (Robbins 1956; Vincent 2011):

    D(x; σ) = E[x0 | x],    ∇ log p(x; σ) = (D(x; σ) − x) / σ²,    n(x; σ) = (x − D(x; σ)) / σ.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from scorefield.errors import UserError
from scorefield.networks.energy import HasEnergy
from scorefield.networks.flips import FlipAveraged
from scorefield.networks.resunet import HasTables
from scorefield.networks.unet import HasClasses
from scorefield.parameterization import Coefficients, HasSchedule, Parameterization, predicts_residual
from scorefield.schedules import check_schedule

__all__ = [
    "Condition",
    "ConditionedModel",
    "Denoiser",
    "HasLogDensity",
    "ModelSpec",
    "PredictsNoise",
    "PredictsScore",
    "RestorationSpec",
    "ScoreModel",
    "ScoreNetwork",
    "Specialist",
    "broadcast_sigma",
    "check_classes",
    "check_sigmas",
    "expand",
    "in_float32",
    "noise",
    "score",
]


class Denoiser(Protocol):
    """The part of a model that samplers use."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] for x (B, C, H, W) and σ (B,)."""
        ...


@runtime_checkable
class PredictsNoise(Protocol):
    """A denoiser that computes its noise directly; (x − D)/σ would cancel at small σ."""

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(x − D(x; σ))/σ."""
        ...


@runtime_checkable
class PredictsScore(Protocol):
    """A density that computes its score directly, at σ = 0 too."""

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """∇ log p(x; σ), the shape of x."""
        ...


@runtime_checkable
class HasLogDensity(Protocol):
    """A density known up to a factor that depends only on σ."""

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Log p(x; σ) + const, (B,)."""
        ...


def expand(values: Tensor, like: Tensor) -> Tensor:
    """(B,) reshaped to (B, 1, …, 1), to broadcast over `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def broadcast_sigma(sigma: Tensor | float, x: Tensor) -> Tensor:
    """σ for every image of x, (B,); σ may be one number for all."""
    if isinstance(sigma, Tensor):
        return sigma if sigma.ndim else sigma.to(x.device).expand(len(x))
    return torch.full((len(x),), sigma, device=x.device, dtype=x.dtype)


def noise(denoiser: Denoiser, x: Tensor, sigma: Tensor | float) -> Tensor:
    """The predicted noise n(x; σ) = (x − D(x; σ))/σ, the shape of x; σ is (B,) or one number."""
    sigma = broadcast_sigma(sigma, x)
    if isinstance(denoiser, PredictsNoise):
        return denoiser.noise(x, sigma)
    return (x - denoiser(x, sigma)) / expand(sigma, x)


def score(denoiser: Denoiser, x: Tensor, sigma: Tensor | float) -> Tensor:
    """∇ log p(x; σ) = −n(x; σ)/σ, the shape of x; σ is (B,) or one number."""
    sigma = broadcast_sigma(sigma, x)
    if isinstance(denoiser, PredictsScore):
        return denoiser.score(x, sigma)
    return -noise(denoiser, x, sigma) / expand(sigma, x)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The inputs of a network besides x and σ.

    Args:
        source: (B, K, H, W), concatenated to the network's input as further channels.
        mask: (B, 1, H, W), 1 where a pixel is to be filled. Where it is 0, the network's input is `source`
            itself, written in after the input scaling (Saharia et al. 2022, §4, inpainting).
        classes: (B,), int64, the class of each image, or one number for all; −1 is no class.
        tables: (B, 128), the quantisation steps of the JPEG file that `source` was read from, 1 to 255: 64 of luma,
            then 64 of chroma, row by row; all 0 where it was read from another file, or the steps are unknown. Used
            by networks that `HasTables`.

    Raises:
        ValueError: a mask without a source.
    """

    source: Tensor | None = None
    mask: Tensor | None = None
    classes: Tensor | int | None = None
    tables: Tensor | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.source is None:
            raise ValueError("a condition with a mask needs a source, which holds the known pixels")


def check_classes(count: int, classes: Tensor, n: int) -> None:
    """Check n class labels for a model of `count` classes.

    Values are checked on the CPU only; reading a GPU tensor would force a synchronisation.

    Raises:
        UserError: a model without classes, not one label for each image, or a label out of range.
    """
    if not count:
        raise UserError("classes", "this model was trained without class labels.", "Train one with data.labels = true.")
    if classes.shape != (n,) or classes.is_floating_point() or classes.dtype == torch.bool:
        raise UserError(
            "classes",
            f"{n} images need ({n},) whole numbers, got {tuple(classes.shape)} of {classes.dtype}.",
        )
    if classes.device.type != "cpu":
        return
    wrong = (classes < -1) | (classes >= count)
    if bool(wrong.any()):
        raise UserError(
            "classes",
            f"this model knows 0 to {count - 1}, got {int(classes[wrong][0])}.",
            "Write -1 for an image without a class.",
        )


_MAX_VALUES = 2**28  # of an image: 1 GB in float32


@dataclass(frozen=True, kw_only=True)
class RestorationSpec:
    """What a conditional model restores.

    Args:
        tasks: what it was trained to restore, such as "colorize".
        masked_input: how masked pixels enter the network: Gaussian noise of this std, or "smooth" (interpolated
            from the border).
        steps: the number of sampling steps that restores best, where it was measured.
        max_jpeg_quality: JPEG files above this quality, 1 to 100, are better left alone.
        tile: the side of the largest tiles in which it restores as well as in smaller ones, where it was measured.
        scale: how many times the network itself enlarges: it takes the small image, where for others a degraded
            image has the size of its result.
        overlap: of neighbouring tiles, where less than the usual 32 pixels was measured to suffice.
        rim: masked pixels deeper under a mask than so many are filled with patches of the image itself
            (`restoration.exemplar`), and the network restores those nearer to its border; None leaves all to it.
    """

    tasks: tuple[str, ...]
    masked_input: float | Literal["smooth"] = 1.0
    steps: int | None = None
    max_jpeg_quality: int | None = None
    tile: int | None = None
    scale: int = 1
    overlap: int | None = None
    rim: int | None = None

    def __post_init__(self) -> None:
        if self.masked_input != "smooth" and not 0 <= self.masked_input <= 1e6:
            raise ValueError(f'masked_input must lie from 0 to 1e+06, or be "smooth", got {self.masked_input}')
        if self.steps is not None and not 1 <= self.steps <= 100_000:
            raise ValueError(f"steps must lie from 1 to 100,000, got {self.steps}")
        if self.max_jpeg_quality is not None and not 1 <= self.max_jpeg_quality <= 100:
            raise ValueError(f"max_jpeg_quality must lie from 1 to 100, got {self.max_jpeg_quality}")
        if self.tile is not None and not 64 <= self.tile <= 16_384:
            raise ValueError(f"tile must lie from 64 to 16,384, got {self.tile}")
        if self.overlap is not None and (self.overlap % 16 or not 16 <= self.overlap <= 32):
            raise ValueError(f"overlap must lie at 16 or 32, got {self.overlap}")
        if not 1 <= self.scale <= 16:
            raise ValueError(f"scale must lie from 1 to 16, got {self.scale}")
        if self.rim is not None and not 1 <= self.rim <= 1000:
            raise ValueError(f"rim must lie from 1 to 1,000, got {self.rim}")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What images a model is for.

    Args:
        shape: (C, H, W) of the images it was trained on, or (D,) of points.
        value_range: darkest and brightest value of a pixel in the model's units.
        sigma_range: least and greatest σ that it was trained on.
        restoration: what a conditional model restores; None for an unconditional model.
    """

    shape: tuple[int, ...]
    value_range: tuple[float, float] = (-1.0, 1.0)
    sigma_range: tuple[float, float] = (0.002, 80.0)
    restoration: RestorationSpec | None = None

    def __post_init__(self) -> None:
        if len(self.shape) not in (1, 3) or min(self.shape) < 1 or math.prod(self.shape) > _MAX_VALUES:
            raise ValueError(f"shape {self.shape} is neither (C, H, W) nor (D,) of at most {_MAX_VALUES:,} values")
        low, high = self.value_range
        if not (low < high and low >= -1e6 and high <= 1e6):
            raise ValueError(f"value_range must rise within ±1e+06, got {low:g} to {high:g}")
        least, most = self.sigma_range
        if not 0 < least <= most < math.inf:
            raise ValueError(f"sigma_range must be positive and rise, got {least:g} to {most:g}")

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the model restores; empty for an unconditional model."""
        return () if self.restoration is None else self.restoration.tasks

    @property
    def scale(self) -> int:
        """How many times the network itself enlarges; see `RestorationSpec`."""
        return 1 if self.restoration is None else self.restoration.scale

    @property
    def masked_input(self) -> float | Literal["smooth"]:
        """How masked pixels are presented; see `RestorationSpec`."""
        return 1.0 if self.restoration is None else self.restoration.masked_input


class Specialist(Protocol):
    """A model that restores one task in the place of a general one; it may be loaded when it is first needed."""

    def __call__(self, general: "ScoreModel") -> "ScoreModel":
        """The model, on the device and in the precision of the general one."""
        ...


class ScoreModel(nn.Module):
    """A network with its parameterization; calling it denoises.

    Args:
        network: maps (c_in·x, label, source) to a tensor of x's shape. A network that `HasClasses` also takes
            the classes, one that `HasTables` the quantisation tables, where a condition has them.
        parameterization: what the network's output means.
        spec: what images it is for.
        precision: number format inside the network. Outside, all is float32.
        specialists: models that restore some tasks in this one's place, by task; no part of its weights.
    """

    def __init__(
        self,
        network: nn.Module,
        parameterization: Parameterization,
        spec: ModelSpec,
        *,
        precision: torch.dtype = torch.float32,
        specialists: Mapping[str, Specialist] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.parameterization = parameterization
        self.spec = spec
        self.precision = precision
        self.specialists: Mapping[str, Specialist] = specialists or {}

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it restores, by itself or by a specialist; none for a model that samples images."""
        return tuple(dict.fromkeys((*self.spec.tasks, *self.specialists)))

    def for_task(self, task: str | None) -> "ScoreModel":
        """The model that restores a task: the specialist where there is one, else this model."""
        specialist = self.specialists.get(task or "")
        return self if specialist is None else specialist(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of the images it was trained on, or (D,) of points."""
        return self.spec.shape

    @property
    def value_range(self) -> tuple[float, float]:
        """Darkest and brightest value of a pixel in the model's units."""
        return self.spec.value_range

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Least and greatest σ that it was trained on."""
        return self.spec.sigma_range

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def schedule(self) -> Tensor | None:
        """The noise levels that the model was trained on, decreasing, (L,), float32; None for a continuous range."""
        family = self.parameterization
        levels = family.sigmas if isinstance(family, HasSchedule) else None
        return None if levels is None else torch.tensor(levels)

    @property
    def classes(self) -> int:
        """How many classes the model knows; 0 if it was trained without labels."""
        return self.network.classes if isinstance(self.network, HasClasses) else 0

    @property
    def takes_tables(self) -> bool:
        """Whether the network is conditioned on quantisation tables of JPEG files."""
        return isinstance(self.network, HasTables) and self.network.tables

    def forward(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """D(x; σ) = E[x0 | x].

        Args:
            x: noisy images x0 + σn, (B, C, H, W), float32. H and W may differ from `shape`.
            sigma: noise levels, (B,), float32, or one number for all images.
            condition: the network's inputs besides x and σ.

        Returns:
            (B, C, H, W), float32.

        Raises:
            UserError: classes that the model does not know, or not one for each image.
        """
        sigma = broadcast_sigma(sigma, x)
        base = self._base(condition)
        z = x if base is None else x - base
        c, output = self._predict(z, sigma, condition)
        denoised = expand(c.c_skip, x) * z + expand(c.c_out, x) * output
        return denoised if base is None else denoised + base

    def noise(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """(x − D(x; σ))/σ, without the subtraction; shapes as in `forward`."""
        sigma = broadcast_sigma(sigma, x)
        base = self._base(condition)
        z = x if base is None else x - base
        c, output = self._predict(z, sigma, condition)
        return expand(c.noise_skip, x) * z + expand(c.noise_out, x) * output

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Log p(x; σ) up to a constant that depends only on σ; (B,).

        For a network F = −∇E it is

            log p(x; σ) = noise_out/(σ · c_in) E(c_in · x, label) − noise_skip/(2σ) ‖x‖² + const,

        whose gradient, −(noise_skip · x + noise_out · F)/σ, is the model's score. Computed in float32.

        Raises:
            UserError: the network is not an energy.
        """
        energy = _energy_of(self.network)
        c = self.parameterization(sigma)
        scalar = energy(expand(c.c_in, x) * x, c.label)
        return (c.noise_out / c.c_in * scalar - c.noise_skip / 2 * x.square().flatten(1).sum(1)) / sigma

    def with_precision(self, precision: torch.dtype) -> "ScoreModel":
        """The same model, sharing this one's network, that computes in another number format inside."""
        return self._copy(precision=precision)

    def with_size(self, height: int, width: int) -> "ScoreModel":
        """The same model, sharing this one's network, for images of another size.

        Raises:
            UserError: a model of points.
        """
        if len(self.shape) != 3:
            raise UserError("size", "this model draws points, not images.", "Leave it out.")
        spec = replace(self.spec, shape=(self.shape[0], height, width))
        return self._copy(spec=spec)

    def with_flips(self) -> "ScoreModel":
        """The same model, its denoiser the mean over the four flips of an image (`networks.FlipAveraged`).

        To save it, save the model itself: it has the same weights.

        Raises:
            UserError: a model of points.
        """
        if len(self.shape) != 3:
            raise UserError("flips", "this model draws points, not images.", "Leave it out.")
        flipped = {task: partial(_with_flips, each) for task, each in self.specialists.items()}
        return self._copy(network=FlipAveraged(self.network), specialists=flipped)

    def given(self, condition: Condition) -> "ConditionedModel":
        """The denoiser E[x0 | x, condition].

        Raises:
            UserError: classes that the model does not know.
        """
        classes = condition.classes
        if isinstance(classes, Tensor):
            check_classes(self.classes, classes.cpu(), len(classes) if classes.ndim else 1)
            condition = replace(condition, classes=classes.to(self.device))
        elif classes is not None:
            check_classes(self.classes, torch.tensor([classes]), 1)
        return ConditionedModel(model=self, condition=condition)

    def _copy(
        self,
        *,
        network: nn.Module | None = None,
        spec: ModelSpec | None = None,
        precision: torch.dtype | None = None,
        specialists: Mapping[str, Specialist] | None = None,
    ) -> "ScoreModel":
        model = ScoreModel(
            network or self.network,
            self.parameterization,
            spec or self.spec,
            precision=precision or self.precision,
            specialists=self.specialists if specialists is None else specialists,
        )
        model.training = self.training
        return model

    def _base(self, condition: Condition | None) -> Tensor | None:
        """The degraded image y, if the network predicts the residual x0 − y."""
        return condition.source if condition is not None and predicts_residual(self.parameterization) else None

    def _predict(self, z: Tensor, sigma: Tensor, condition: Condition | None) -> tuple[Coefficients, Tensor]:
        c = self.parameterization(sigma)
        scaled = expand(c.c_in, z) * z
        source = None if condition is None else condition.source
        if condition is not None and condition.mask is not None:
            scaled = torch.where(condition.mask > 0, scaled, cast(Tensor, source))
        classes = self._class_argument(condition, z)
        tables = {} if condition is None or not self.takes_tables else {"tables": condition.tables}
        half = self.precision != torch.float32
        with torch.autocast(z.device.type, self.precision, enabled=half):
            output = self.network(scaled, c.label, source, *classes, **tables)
        return c, cast(Tensor, output).float()

    def _class_argument(self, condition: Condition | None, x: Tensor) -> tuple[Tensor, ...]:
        """The network's last argument, the class of each image, if the condition has classes."""
        classes = None if condition is None else condition.classes
        if classes is None:
            return ()
        if isinstance(classes, int):
            check_classes(self.classes, torch.tensor([classes]), 1)
            return (torch.full((len(x),), classes, device=x.device),)
        check_classes(self.classes, classes, len(x))
        return (classes.to(x.device),)


def _with_flips(specialist: Specialist, general: ScoreModel) -> ScoreModel:
    return specialist(general).with_flips()


@dataclass(frozen=True, kw_only=True)
class ConditionedModel:
    """A model bound to a condition: a denoiser that samplers take like any other."""

    model: ScoreModel
    condition: Condition

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """E[x0 | x, condition]."""
        return cast(Tensor, self.model(x, sigma, self.condition))

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(x − E[x0 | x, condition])/σ."""
        return self.model.noise(x, sigma, self.condition)

    def with_precision(self, precision: torch.dtype) -> "ConditionedModel":
        """The same denoiser with another number format inside the network."""
        return replace(self, model=self.model.with_precision(precision))


def in_float32(denoiser: Denoiser) -> Denoiser:
    """The denoiser with its network in float32; one that is no ScoreModel as it is.

    The rounding of half precision distorts small losses and derivatives, and an adaptive solver takes it for
    curvature and shortens its steps.
    """
    return denoiser.with_precision(torch.float32) if isinstance(denoiser, ScoreModel | ConditionedModel) else denoiser


class ScoreNetwork(nn.Module):
    """A score network of one density, without noise levels: s(x) = network(x).

    As a denoiser it is D(x; σ) = x + σ² s(x), which samplers take like any other. It is exact at the one σ,
    possibly 0, whose density the network learned.

    Args:
        network: maps (x, label, source) to a tensor of x's shape; the label is 0 and the source None.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """D(x; σ) = x + σ² s(x); x (B, …), σ (B,) or one number."""
        sigma = broadcast_sigma(sigma, x)
        return x + expand(sigma, x) ** 2 * self.score(x, sigma)

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """s(x) at every σ."""
        return cast(Tensor, self.network(x, torch.zeros_like(sigma), None))

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(x − D(x; σ))/σ = −σ s(x)."""
        return -expand(sigma, x) * self.score(x, sigma)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Log p(x) = −E(x) + const at every σ; (B,).

        Raises:
            UserError: the network is not an energy.
        """
        return -_energy_of(self.network)(x, torch.zeros_like(sigma))


def _energy_of(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    if not isinstance(network, HasEnergy):
        raise UserError(
            "network",
            "gives a score but no density.",
            "Train `networks.Energy(network)`: its score is −∇E.",
        )
    return network.energy


def check_sigmas(model: ScoreModel, sigmas: Tensor) -> None:
    """Check that the positive noise levels lie within the model's σ range.

    Raises:
        UserError: not a schedule, or a noise level more than 0.1 % outside.
    """
    low, high = model.sigma_range
    levels = [s for s in check_schedule(sigmas) if s > 0]
    if min(levels) < low * 0.999 or max(levels) > high * 1.001:
        raise UserError(
            "sigmas",
            f"the schedule runs from {max(levels):g} to {min(levels):g}; this model knows {high:g} to {low:g}.",
            "Choose a schedule within that range.",
        )
