"""Denoisers made of others: clipped to the values that pixels have, and guided towards a class.

A denoiser that knows the class c of an image and one that does not differ by how likely the class is,

    (D(x; σ, c) − D(x; σ))/σ² = ∇ log p(c | x; σ)        (Bayes),

and to go further that way than the first does, by a weight w, is classifier-free guidance:

    D_w = D_u + w (D_c − D_u),      score_w = ∇ log p(x; σ) + w ∇ log p(c | x; σ).

w = 0 is D_u, w = 1 is D_c, and w > 1 draws images more typical of their class and less different from one
another. Ho & Salimans (2022), eq. 6, write 1 + w where we write w. Kynkäänniemi et al. (2024) find guidance
best left out where σ is large, where it takes away variety, and where σ is small, where it does nothing:
outside of an interval D_w is D_c.

References:
    Ho & Salimans (2022), eq. 6. https://arxiv.org/abs/2207.12598
    Kynkäänniemi et al. (2024), guidance in an interval. https://arxiv.org/abs/2404.07724
    Ho et al. (2020), whose program clips D. https://arxiv.org/abs/2006.11239
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.model import Condition, ConditionedModel, Denoiser, ScoreModel, check_classes, expand, noise

Interval = tuple[float, float]
EVERYWHERE: Interval = (0.0, math.inf)

_Seen = Callable[[Denoiser, Tensor, Tensor], Tensor]  # the denoised image, or its noise


@dataclass(frozen=True)
class Clamped:
    """A denoiser whose images stay within the values that pixels have, as DDPM's program clips x0.

    Args:
        denoiser: whose D is clipped.
        low: the darkest value.
        high: the brightest value.

    Raises:
        UserError: low does not lie below high.
    """

    denoiser: Denoiser
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError("range", f"must rise, got {self.low:g} to {self.high:g}.")

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; σ) within [low, high]; the shape of x."""
        return self.denoiser(x, sigma).clamp(self.low, self.high)


@dataclass(frozen=True)
class Guided:
    """D_u + w (D_c − D_u) where low < σ ≤ high, D_c elsewhere; see the module's equations.

    Two conditions of one ScoreModel go through its network as one batch. Where w = 1, or σ lies outside of
    the interval, D_c alone is asked. Whether σ does costs nothing to know where it lies in the processor's
    own memory. To read it from an accelerator would make the processor wait at each step: there both are
    evaluated, and σ chooses between them on the accelerator, to the same result.

    Args:
        conditional: D_c.
        unconditional: D_u.
        weight: w.
        interval: of σ, (low, high].

    Raises:
        UserError: a weight that is no number, or an interval that does not rise.
    """

    conditional: Denoiser
    unconditional: Denoiser
    weight: float
    interval: Interval = EVERYWHERE

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
        """(x − D_w(x; σ))/σ, by the noise of both: exact where theirs is."""
        return self._blend(noise, x, sigma)

    def _blend(self, seen: _Seen, x: Tensor, sigma: Tensor) -> Tensor:
        low, high = self.interval
        always = low == 0 and high == math.inf
        inside = (sigma > low) & (sigma <= high)
        if self.weight == 1 or (not always and sigma.device.type == "cpu" and not bool(inside.any())):
            return seen(self.conditional, x, sigma)
        told, untold = self._both(seen, x, sigma)
        if always:
            return torch.lerp(untold, told, self.weight)  # exact at w = 0 and w = 1
        weights = torch.where(inside, self.weight, 1.0).to(told)
        return torch.lerp(untold, told, expand(weights, told))

    def _both(self, seen: _Seen, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """What the conditional and the unconditional see, by one call where they are one model's."""
        one, other = _bound(self.conditional), _bound(self.unconditional)
        joint = None
        if one is not None and other is not None and one.model is other.model:
            joint = _joined(one.condition, other.condition, x)
        if one is None or joint is None:
            return seen(self.conditional, x, sigma), seen(self.unconditional, x, sigma)
        twice = ConditionedModel(model=one.model, condition=joint)
        told, untold = seen(twice, torch.cat([x, x]), torch.cat([sigma, sigma])).chunk(2)
        return told, untold


def _denoised(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    return denoiser(x, sigma)


def _bound(denoiser: Denoiser) -> ConditionedModel | None:
    """A ScoreModel with its condition, if it is one."""
    if isinstance(denoiser, ScoreModel):
        return ConditionedModel(model=denoiser, condition=Condition())
    return denoiser if isinstance(denoiser, ConditionedModel) else None


def _joined(one: Condition, other: Condition, x: Tensor) -> Condition | None:
    """The condition of x under one and once more under the other; None where but one of them has pixels."""
    told = one.classes is not None or other.classes is not None
    classes = torch.cat([_rows(one.classes, x), _rows(other.classes, x)]) if told else None
    if one.source is None and other.source is None:
        return Condition(classes=classes)
    if one.source is None or other.source is None or (one.mask is None) != (other.mask is None):
        return None
    mask = None if one.mask is None or other.mask is None else torch.cat([one.mask, other.mask])
    return Condition(source=torch.cat([one.source, other.source]), mask=mask, classes=classes)


def _rows(classes: Tensor | int | None, x: Tensor) -> Tensor:
    """Classes as (B,), -1 where they are not told."""
    if isinstance(classes, Tensor):
        return classes.to(x.device)
    return torch.full((len(x),), -1 if classes is None else classes, device=x.device)


def class_rows(model: ScoreModel, n: int, classes: int | Sequence[int] | Tensor) -> Tensor:
    """The classes of n images, (n,), int64: those given, in turn, again and again.

    Raises:
        UserError: none are given, or the model does not know them.
    """
    try:
        given = torch.as_tensor(classes).reshape(-1).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError("classes", f"are whole numbers, got {classes!r}.") from error
    if not len(given):
        raise UserError("classes", "none are given.", "Leave them out, or give at least one.")
    check_classes(model.classes, given, len(given))
    return given.long()[torch.arange(n) % len(given)]


def conditioned(
    model: ScoreModel,
    classes: Tensor | None,
    *,
    guidance: float = 1.0,
    interval: Interval = EVERYWHERE,
) -> Denoiser:
    """The denoiser of images whose classes are these: the model itself, bound to them, or guided.

    Args:
        model: a model, trained with class labels if any are given.
        classes: (B,), int64, or None.
        guidance: w; 1 is no guidance.
        interval: where in σ it guides.

    Raises:
        UserError: guidance without a class, or what `Guided` and `ScoreModel.given` refuse.
    """
    if classes is None:
        if guidance != 1 or interval != EVERYWHERE:
            raise UserError("guidance", "needs a class to guide towards.", "Give classes, or no guidance.")
        return model
    told = model.given(Condition(classes=classes))
    guided = Guided(told, model, guidance, interval)  # which looks at both settings
    return told if guidance == 1 else guided
