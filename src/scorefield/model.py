"""A score model: a network, what its output means, and the images it is for.

The denoiser is the score in other clothes (Robbins 1956; Vincent 2011):

    D(x; σ) = E[x0 | x],    ∇ log p(x; σ) = (D(x; σ) − x) / σ²,    n(x; σ) = (x − D(x; σ)) / σ.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from scorefield.condition import Condition, check_classes
from scorefield.errors import UserError
from scorefield.networks.energy import HasEnergy
from scorefield.networks.unet import HasClasses
from scorefield.parameterization import Coefficients, HasSchedule, Parameterization, of_residual
from scorefield.schedules import check_schedule


class Denoiser(Protocol):
    """All that a sampler may know of a model."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] for x (B, C, H, W) and σ (B,)."""
        ...


@runtime_checkable
class PredictsNoise(Protocol):
    """A denoiser that gives its noise without the detour over D, exact where σ is small."""

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(x − D(x; σ))/σ."""
        ...


@runtime_checkable
class PredictsScore(Protocol):
    """A density that gives its score itself, at σ = 0 too."""

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """∇ log p(x; σ), the shape of x."""
        ...


@runtime_checkable
class HasLogDensity(Protocol):
    """A density known up to a factor that depends on σ alone."""

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Log p(x; σ) + const, (B,)."""
        ...


def expand(values: Tensor, like: Tensor) -> Tensor:
    """(B,) seen as (B, 1, …, 1), to be multiplied with `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def noise(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """The noise that the denoiser sees, (x − D(x; σ))/σ; shape of x."""
    if isinstance(denoiser, PredictsNoise):
        return denoiser.noise(x, sigma)
    return (x - denoiser(x, sigma)) / expand(sigma, x)


def score(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """∇ log p(x; σ) = −n(x; σ)/σ; shape of x."""
    if isinstance(denoiser, PredictsScore):
        return denoiser.score(x, sigma)
    return -noise(denoiser, x, sigma) / expand(sigma, x)


class ScoreModel(nn.Module):
    """A network with its parameterization; calling it denoises.

    Args:
        network: maps (scale·x, label, source) to a tensor of x's shape; one that `HasClasses` is given the
            classes too, where a condition tells them.
        parameterization: what the network's output means.
        shape: (C, H, W) of the images it was made for, or (D,) of points.
        value_range: darkest and brightest value of a pixel as the model sees it.
        sigma_range: least and greatest σ that it knows.
        precision: number format inside the network. Outside, all is float32.
        tasks: what a model of images given degraded ones was trained to restore, as "colorize"; empty for a
            model of images alone.
        hole: standard deviation of the noise that it is shown where nothing is known, or "smooth", a guess.
        steps: with which such a model restores best, where that is known of it.
        jpeg_up_to: quality of the JPEG files, 1 to 100, from beyond which it would do harm.
    """

    def __init__(
        self,
        network: nn.Module,
        parameterization: Parameterization,
        *,
        shape: tuple[int, ...],
        value_range: tuple[float, float] = (-1.0, 1.0),
        sigma_range: tuple[float, float] = (0.002, 80.0),
        precision: torch.dtype = torch.float32,
        tasks: tuple[str, ...] = (),
        hole: float | Literal["smooth"] = 1.0,
        steps: int | None = None,
        jpeg_up_to: int | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.parameterization = parameterization
        self.shape = tuple(shape)
        self.value_range = value_range
        self.sigma_range = sigma_range
        self.precision = precision
        self.tasks = tuple(tasks)
        self.hole: float | Literal["smooth"] = hole
        self.steps, self.jpeg_up_to = steps, jpeg_up_to

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def schedule(self) -> Tensor | None:
        """The noise levels that the model was trained on, falling, (L,), float32; None where it learned every σ."""
        family = self.parameterization
        levels = family.sigmas if isinstance(family, HasSchedule) else None
        return None if levels is None else torch.tensor(levels)

    @property
    def classes(self) -> int:
        """How many classes the model can be told; 0 where it was trained without labels."""
        return self.network.classes if isinstance(self.network, HasClasses) else 0

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        """D(x; σ) = E[x0 | x].

        Args:
            x: noisy images x0 + σn, (B, C, H, W), float32. H and W may differ from `shape`.
            sigma: (B,), float32.
            condition: what is known of the images.

        Returns:
            (B, C, H, W), float32.

        Raises:
            UserError: classes that the model does not know, or not one for each image.
        """
        base = self._base(condition)
        z = x if base is None else x - base
        c, output = self._predict(z, sigma, condition)
        denoised = expand(c.skip, x) * z + expand(c.out, x) * output
        return denoised if base is None else denoised + base

    def noise(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        """(x − D(x; σ))/σ, without the subtraction; shapes as in `forward`."""
        base = self._base(condition)
        z = x if base is None else x - base
        c, output = self._predict(z, sigma, condition)
        return expand(c.noise_skip, x) * z + expand(c.noise_out, x) * output

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Log p(x; σ) up to a constant that depends on σ alone; (B,).

        For a network F = −∇E it is

            log p(x; σ) = noise_out/(σ · scale) E(scale · x, label) − noise_skip/(2σ) ‖x‖² + const,

        whose gradient, −(noise_skip · x + noise_out · F)/σ, is the model's score. Computed in float32.

        Raises:
            UserError: the network is no energy.
        """
        energy = _energy_of(self.network)
        c = self.parameterization(sigma)
        scalar = energy(expand(c.scale, x) * x, c.label)
        return (c.noise_out / c.scale * scalar - c.noise_skip / 2 * x.square().flatten(1).sum(1)) / sigma

    def given(self, condition: Condition) -> "GivenModel":
        """The denoiser of images of which `condition` is known.

        Raises:
            UserError: classes that the model does not know.
        """
        classes = condition.classes
        if isinstance(classes, Tensor):
            check_classes(self.classes, classes.cpu(), len(classes) if classes.ndim else 1)
            condition = replace(condition, classes=classes.to(self.device))
        elif classes is not None:
            check_classes(self.classes, torch.tensor([classes]), 1)
        return GivenModel(model=self, condition=condition)

    def _base(self, condition: Condition | None) -> Tensor | None:
        """The image to which the network's answer is added, where it learned the residual."""
        return condition.source if condition is not None and of_residual(self.parameterization) else None

    def _predict(self, z: Tensor, sigma: Tensor, condition: Condition | None) -> tuple[Coefficients, Tensor]:
        c = self.parameterization(sigma)
        scaled = expand(c.scale, z) * z
        source = None if condition is None else condition.source
        if condition is not None and condition.mask is not None:
            scaled = torch.where(condition.mask > 0, scaled, cast(Tensor, source))
        further = self._classes_told(condition, z)
        half = self.precision != torch.float32
        with torch.autocast(z.device.type, self.precision, enabled=half):
            output = self.network(scaled, c.label, source, *further)
        return c, cast(Tensor, output).float()

    def _classes_told(self, condition: Condition | None, x: Tensor) -> tuple[Tensor, ...]:
        """The network's further argument: the class of each image, where any is told."""
        classes = None if condition is None else condition.classes
        if classes is None:
            return ()
        if isinstance(classes, int):
            check_classes(self.classes, torch.tensor([classes]), 1)
            return (torch.full((len(x),), classes, device=x.device),)
        check_classes(self.classes, classes, len(x))
        return (classes.to(x.device),)


@dataclass(frozen=True, kw_only=True)
class GivenModel:
    """A model bound to a condition: a denoiser that samplers take like any other."""

    model: ScoreModel
    condition: Condition

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x, condition]."""
        return cast(Tensor, self.model(x, sigma, self.condition))

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(x − E[x0 | x, condition])/σ."""
        return self.model.noise(x, sigma, self.condition)


@contextmanager
def full_precision(denoiser: Denoiser) -> Generator[None]:
    """A model's network in float32, for the while; any other denoiser stays as it is.

    Half precision adds an error of its own to small losses and derivatives, and a solver takes it for
    curvature and chases it.
    """
    model = denoiser.model if isinstance(denoiser, GivenModel) else denoiser
    if not isinstance(model, ScoreModel):
        yield
        return
    before, model.precision = model.precision, torch.float32
    try:
        yield
    finally:
        model.precision = before


class ScoreField(nn.Module):
    """A plain score network of one density, without noise levels: s(x) = network(x).

    As a denoiser it is D(x; σ) = x + σ² s(x), so that a sampler takes it like any other; it is right at the
    one σ, perhaps 0, whose density the network learned.

    Args:
        network: maps (x, label, source) to a tensor of x's shape; its label is 0 and it has no source.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; σ) = x + σ² s(x); x (B, …), σ (B,)."""
        return x + expand(sigma, x) ** 2 * self.score(x, sigma)

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """s(x), whatever σ."""
        return cast(Tensor, self.network(x, torch.zeros_like(sigma), None))

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(x − D(x; σ))/σ = −σ s(x)."""
        return -expand(sigma, x) * self.score(x, sigma)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Log p(x) = −E(x) + const, whatever σ; (B,).

        Raises:
            UserError: the network is no energy.
        """
        return -_energy_of(self.network)(x, torch.zeros_like(sigma))


def _energy_of(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    if not isinstance(network, HasEnergy):
        raise UserError(
            "network",
            "gives a score but no density.",
            "Train `networks.Energy(network)`, whose score is a slope.",
        )
    return network.energy


def check_sigmas(model: ScoreModel, sigmas: Tensor) -> None:
    """See that the positive noise levels lie within what the model knows.

    Raises:
        UserError: no schedule, or a noise level lies outside by more than a part in a thousand.
    """
    low, high = model.sigma_range
    levels = [s for s in check_schedule(sigmas) if s > 0]
    if min(levels) < low * 0.999 or max(levels) > high * 1.001:
        raise UserError(
            "sigmas",
            f"the schedule runs from {max(levels):g} to {min(levels):g}; this model knows {high:g} to {low:g}.",
            "Choose a schedule within.",
        )
