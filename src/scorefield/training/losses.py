r"""The objectives of training, all on one scale, and the classes that a batch hides.

The denoising loss is, per number of an image of d numbers and with NCSN's weight λ(σ) = σ²,

    E‖(D(x; σ) − x0)/σ‖²/d,    x = x0 + σn.

The other objectives, J(σ) = E[tr ∇s(x) + ½‖s(x)‖²] in one form or another, see the noisy image x alone. As
E[n·s(x0 + σn)] = σ E[tr ∇s(x)] (Stein's lemma),

    E‖(D(x; σ) − x0)/σ‖²/d = E‖σ s(x) + n‖²/d = (2σ²/d) J(σ) + 1.

They return the right side, so learning rates, clipping and curves mean the same for every objective.

References:
    Chen et al. (2022). https://arxiv.org/abs/2204.04676
    Song & Ermon (2019), eqs. 1–6. https://arxiv.org/abs/1907.05600
    Vincent (2011), App. (the two objectives differ by a constant). https://doi.org/10.1162/NECO_a_00142
    Ho & Salimans (2022), Algorithm 1. https://arxiv.org/abs/2207.12598
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor

from scorefield.model import Condition, ConditionedModel, ScoreModel, expand
from scorefield.objectives import (
    denoising_score_matching,
    explicit_score_matching,
    output_weight,
    sliced_score_matching,
)


class Objective(Protocol):
    """The losses of a batch. Any callable of this signature serves."""

    def __call__(
        self, model: ScoreModel, x0: Tensor, sigma: Tensor, *, condition: Condition | None, generator: Generator
    ) -> Tensor:
        """Losses, (B,).

        Args:
            model: what is trained.
            x0: clean images, (B, C, H, W), in the model's value range.
            sigma: noise levels, (B,).
            condition: what the model is conditioned on.
            generator: source of all randomness.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class DenoisingObjective:
    """`objectives.denoising_score_matching`, weighted.

    Args:
        p: power of the norm.
        weight: "uniform" is λ = σ² (NCSN; with p = 2, DDPM's L_simple); "output" weighs the network's raw
            error alike at every σ (EDM).
    """

    p: Annotated[float, Ge(1)] = 2.0
    weight: Literal["uniform", "output"] = "output"

    def __call__(
        self, model: ScoreModel, x0: Tensor, sigma: Tensor, *, condition: Condition | None = None, generator: Generator
    ) -> Tensor:
        """Losses, (B,)."""
        plain = denoising_score_matching(model, x0, sigma, condition=condition, p=self.p, generator=generator)
        return plain * output_weight(model, sigma, p=self.p) if self.weight == "output" else plain


@dataclass(frozen=True, kw_only=True)
class PSNRObjective:
    """The logarithm of each image's mean squared error, for regression: minus its PSNR but for a constant factor.

        loss = ln((MSE + floor²)/floor²),   MSE = E(D(x; σ) − x0)² over the masked pixels, in levels of 255²

    Every image counts by its relative gain, whatever its file's quality (the PSNR loss of Chen et al. 2022).
    Below the floor an error counts as in a plain mean, or images that lack nothing would outweigh the others.

    Args:
        floor: in levels of 255.
    """

    floor: Annotated[float, Gt(0)] = 1.0

    def __call__(
        self, model: ScoreModel, x0: Tensor, sigma: Tensor, *, condition: Condition | None = None, generator: Generator
    ) -> Tensor:
        """Losses, (B,)."""
        low, high = model.value_range
        plain = denoising_score_matching(model, x0, sigma, condition=condition, p=2, generator=generator)
        mse = plain * (sigma * 255 / (high - low)) ** 2
        return (mse / self.floor**2).log1p()


@dataclass(frozen=True, kw_only=True)
class SlicedObjective:
    """`objectives.sliced_score_matching` of noisy images, with λ = σ².

    Args:
        projections: random directions per image.
        distribution: of the directions.
        variance_reduced: takes ½‖s‖² whole instead of its projection.
    """

    projections: Annotated[int, Ge(1)] = 1
    distribution: Literal["rademacher", "gaussian", "sphere"] = "rademacher"
    variance_reduced: bool = True

    def __call__(
        self, model: ScoreModel, x0: Tensor, sigma: Tensor, *, condition: Condition | None = None, generator: Generator
    ) -> Tensor:
        """Losses, (B,)."""
        x = _noisy(x0, sigma, generator)
        matched = sliced_score_matching(
            _given(model, condition),
            x,
            sigma,
            projections=self.projections,
            distribution=self.distribution,
            variance_reduced=self.variance_reduced,
            generator=generator,
        )
        return 2 * sigma**2 / x0[0].numel() * matched + 1


@dataclass(frozen=True, kw_only=True)
class ExplicitObjective:
    """`objectives.explicit_score_matching` of noisy images, with λ = σ²; for images of a few pixels."""

    def __call__(
        self, model: ScoreModel, x0: Tensor, sigma: Tensor, *, condition: Condition | None = None, generator: Generator
    ) -> Tensor:
        """Losses, (B,)."""
        x = _noisy(x0, sigma, generator)
        matched = explicit_score_matching(_given(model, condition), x, sigma)
        return 2 * sigma**2 / x0[0].numel() * matched + 1


def _noisy(x0: Tensor, sigma: Tensor, generator: Generator) -> Tensor:
    noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    return x0 + expand(sigma, x0) * noise


def _given(model: ScoreModel, condition: Condition | None) -> ScoreModel | ConditionedModel:
    return model if condition is None else ConditionedModel(model=model, condition=condition)


def hide_classes(condition: Condition | None, share: float, *, generator: Generator) -> Condition | None:
    """The condition with each image's class replaced by −1, "unknown", with a probability.

    So one network learns p(x | c) and p(x) (Ho & Salimans 2022, Algorithm 1, p_uncond).

    Args:
        condition: of a batch; without classes it is returned as it is.
        share: the probability.
        generator: of the choice.
    """
    if condition is None or not isinstance(condition.classes, Tensor):
        return condition
    classes = condition.classes
    hidden = torch.rand(len(classes), generator=generator, device=classes.device) < share
    return replace(condition, classes=classes.masked_fill(hidden, -1))


__all__ = [
    "DenoisingObjective",
    "ExplicitObjective",
    "Objective",
    "PSNRObjective",
    "SlicedObjective",
    "hide_classes",
]
