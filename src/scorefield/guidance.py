"""Denoisers made of others: clipped to the pixel range, and guided towards a class.

By Bayes' rule, the conditional and the unconditional denoiser differ by the score of the class c,

    (D(x; σ, c) − D(x; σ))/σ² = ∇ log p(c | x; σ).

Classifier-free guidance extrapolates from the unconditional D_u beyond the conditional D_c by a weight w:

    D_w = D_u + w (D_c − D_u),      score_w = ∇ log p(x; σ) + w ∇ log p(c | x; σ).

w = 0 is D_u, w = 1 is D_c. w > 1 samples images that are more typical of their class. Our w is 1 + w of Ho & Salimans
(2022), eq. 6.

At σ = 0 this is the score of p(x|c)^w p(x)^(1−w), at σ > 0 not that of this density with noise added. So unless w is 0
or 1, samples follow neither it nor any density with a name. For two classes N(±1, 1) the tilted density has mean 1.29
and variance 0.74 at w = 2, the samples 1.59 and 0.58; at w = 4 1.54 and 0.59, the samples 2.32 and 0.35.

Kynkäänniemi et al. (2024) restrict guidance to an interval of σ: at large σ it
costs diversity, at small σ it has no effect. Outside the interval D_w is D_c.

References:
    Ho & Salimans (2022), eq. 6. https://arxiv.org/abs/2207.12598
    Kynkäänniemi et al. (2024). https://arxiv.org/abs/2404.07724
    Ho et al. (2020), whose sampler clips D. https://arxiv.org/abs/2006.11239
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.model import Condition, ConditionedModel, Denoiser, ScoreModel, check_classes, expand, noise

__all__ = [
    "NO_GUIDANCE",
    "NO_LIMITS",
    "ClassifierFreeGuidance",
    "ClippedDenoiser",
    "Guidance",
    "SigmaInterval",
    "bind_classes",
    "expand_labels",
]

SigmaInterval = tuple[float, float]
"""Noise levels low < σ ≤ high."""

NO_LIMITS: SigmaInterval = (0.0, math.inf)
"""Guidance at every noise level."""


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly classifier-free guidance acts, and where.

    Args:
        weight: w; 1 is no guidance.
        interval: the noise levels at which it guides.
    """

    weight: float = 1.0
    interval: SigmaInterval = NO_LIMITS


NO_GUIDANCE = Guidance()
"""The weight 1 at every level: the model as it is."""


_Quantity = Callable[[Denoiser, Tensor, Tensor], Tensor]  # D(x; σ), or the predicted noise


@dataclass(frozen=True)
class ClippedDenoiser:
    """A denoiser clipped to the pixel range, as in DDPM's sampler.

    Args:
        denoiser: whose D is clipped.
        low: the darkest value.
        high: the brightest value.

    Raises:
        ValueError: low is not below high.
    """

    denoiser: Denoiser
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; σ) within [low, high]; the shape of x."""
        return self.denoiser(x, sigma).clamp(self.low, self.high)


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """D_u + w (D_c − D_u) where low < σ ≤ high, D_c elsewhere.

    Two conditions of one ScoreModel go through its network as one batch. If w = 1, or if every σ lies outside
    the interval, only D_c is evaluated. The second test reads σ, which on a GPU would force a synchronisation:
    there both are evaluated and σ selects between them, with the same result.

    Args:
        conditional: D_c.
        unconditional: D_u.
        weight: w.
        interval: of σ, (low, high].

    Raises:
        UserError: a weight that is not finite, or an interval that is not increasing.
    """

    conditional: Denoiser
    unconditional: Denoiser
    weight: float
    interval: SigmaInterval = NO_LIMITS

    def __post_init__(self) -> None:
        low, high = self.interval
        if not math.isfinite(self.weight):
            raise UserError("guidance", f"must be a number, got {self.weight}.")
        if not 0 <= low < high:
            raise UserError(
                "interval",
                f"of guidance must rise from 0 or more, got {low:g} to {high:g}.",
                "Give low, high.",
            )

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D_w(x; σ), the shape of x."""
        return self._blend(_denoised, x, sigma)

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(x − D_w(x; σ))/σ, from the predicted noise of both, so it is as exact as theirs."""
        return self._blend(noise, x, sigma)

    def _blend(self, quantity: _Quantity, x: Tensor, sigma: Tensor) -> Tensor:
        low, high = self.interval
        always = low == 0 and high == math.inf
        inside = (sigma > low) & (sigma <= high)
        if self.weight == 1 or (not always and sigma.device.type == "cpu" and not bool(inside.any())):
            return quantity(self.conditional, x, sigma)
        conditional, unconditional = self._both(quantity, x, sigma)
        if always:
            return torch.lerp(unconditional, conditional, self.weight)  # exact at w = 0 and w = 1
        weights = torch.where(inside, self.weight, 1.0).to(conditional)
        return torch.lerp(unconditional, conditional, expand(weights, conditional))

    def _both(self, quantity: _Quantity, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The quantity of D_c and of D_u, in one call if they are two conditions of one model."""
        one, other = _bound(self.conditional), _bound(self.unconditional)
        joint = None
        if one is not None and other is not None and one.model is other.model:
            joint = _joined(one.condition, other.condition, x)
        if one is None or joint is None:
            return quantity(self.conditional, x, sigma), quantity(self.unconditional, x, sigma)
        twice = ConditionedModel(model=one.model, condition=joint)
        conditional, unconditional = quantity(twice, torch.cat([x, x]), torch.cat([sigma, sigma])).chunk(2)
        return conditional, unconditional


def _denoised(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    return denoiser(x, sigma)


def _bound(denoiser: Denoiser) -> ConditionedModel | None:
    """The denoiser as a model with its condition; None for any other denoiser."""
    if isinstance(denoiser, ScoreModel):
        return ConditionedModel(model=denoiser, condition=Condition())
    return denoiser if isinstance(denoiser, ConditionedModel) else None


def _joined(one: Condition, other: Condition, x: Tensor) -> Condition | None:
    """The two conditions as one of a doubled batch; None if only one of them has a source or a mask."""
    labelled = one.classes is not None or other.classes is not None
    classes = torch.cat([_labels(one.classes, x), _labels(other.classes, x)]) if labelled else None
    if one.source is None and other.source is None:
        return Condition(classes=classes)
    if one.source is None or other.source is None or (one.mask is None) != (other.mask is None):
        return None
    mask = None if one.mask is None or other.mask is None else torch.cat([one.mask, other.mask])
    return Condition(source=torch.cat([one.source, other.source]), mask=mask, classes=classes)


def _labels(classes: Tensor | int | None, x: Tensor) -> Tensor:
    """Classes as (B,), −1 for images without."""
    if isinstance(classes, Tensor):
        return classes.to(x.device)
    return torch.full((len(x),), -1 if classes is None else classes, device=x.device)


def expand_labels(model: ScoreModel, n: int, classes: int | Sequence[int] | Tensor) -> Tensor:
    """The given classes repeated in turn to n labels, (n,), int64.

    Raises:
        UserError: no classes, or classes that the model does not know.
    """
    try:
        given = torch.as_tensor(classes).reshape(-1).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError("classes", f"must be whole numbers, got {classes!r}.") from error
    if not len(given):
        raise UserError("classes", "none are given.", "Leave them out, or give at least one.")
    check_classes(model.classes, given, len(given))
    return given.long()[torch.arange(n) % len(given)]


def bind_classes(model: ScoreModel, classes: Tensor | None, guidance: float | Guidance = 1.0) -> Denoiser:
    """The denoiser of images of these classes: the model itself, conditioned on them, or guided.

    Args:
        model: a model, trained with class labels if any are given.
        classes: (B,), int64, or None.
        guidance: its weight w, or with an interval as well.

    Raises:
        UserError: guidance without a class, or what `ClassifierFreeGuidance` and `ScoreModel.given` refuse.
    """
    how = guidance if isinstance(guidance, Guidance) else Guidance(weight=guidance)
    if classes is None:
        if how != NO_GUIDANCE:
            raise UserError("guidance", "needs a class to guide towards.", "Give classes, or no guidance.")
        return model
    conditional = model.given(Condition(classes=classes))
    guided = ClassifierFreeGuidance(conditional, model, how.weight, how.interval)  # checks both
    return conditional if how.weight == 1 else guided
