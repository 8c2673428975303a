"""What an observation asks of an image: the least squares that restorers share.

If an image D is thought to be off by errors of covariance V, the Gaussian estimate given y = A x0 + σ_y n is

    D' = D + V Aᵀ (A V Aᵀ + σ_y² I)⁻¹ (y − A D).

V is v I in some restorers and σ² ∂D/∂x in another; all of them come here. With the lift L, u ↦ V Aᵀu / v, and
t = σ_y²/(v + σ_y²), which stays between 0 and 1 whatever σ is, it reads

    D' = D + L w,      (t + (1 − t) A L) w = (1 − t) (y − A D).

Matrices are never formed. Reverse-mode differentiation gives u ↦ Aᵀu (for any A, its derivative at D,
transposed), and v ↦ A v as the derivative of that, which is linear in u. The system is solved one lift at a
time, whose sum is L w, each image of a batch by itself. Where A L is A Aᵀ, conjugate gradients do that
(Hestenes & Stiefel 1952). Where it comes from a network, it is only nearly symmetric and need not be
positive, and conjugate gradients run off after two or three iterations; there it is conjugate residuals
(Eisenstat et al. 1983), which let the residual fall with each iteration whatever the matrix. Noise of y
that no image can explain is taken off beforehand, y ← A A⁺ y, so that A L may be singular, as it is for a
mask.

References:
    Hestenes & Stiefel (1952). https://doi.org/10.6028/jres.049.044
    Eisenstat, Elman & Schultz (1983), §2 (generalized conjugate residuals). https://doi.org/10.1137/0720023
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.degradations import Degradation, Observation
from scorefield.errors import UserError
from scorefield.model import expand
from scorefield.samplers import Project

Product = Callable[[Tensor], Tensor]
"""A matrix, by what it does to a vector."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """An observation, as far as an image can explain it.

    Args:
        degradation: A.
        inverse: A⁺y.
        y: A A⁺y; that is the observation itself where it has no noise.
        noise: σ_y.
    """

    degradation: Degradation
    inverse: Tensor
    y: Tensor
    noise: float

    @classmethod
    def of(cls, observation: Observation) -> "Evidence":
        """What can be explained of an observation."""
        degradation = observation.degradation
        inverse = degradation.pinv(observation.y)
        return cls(degradation=degradation, inverse=inverse, y=degradation(inverse), noise=observation.noise)

    def share(self, variance: Tensor) -> Tensor:
        """t = σ_y²/(v + σ_y²), (B,): 0 trusts the observation, 1 the image."""
        if self.noise == 0:
            return torch.zeros_like(variance)
        return self.noise**2 / (variance + self.noise**2)

    def correction(self, denoised: Tensor, variance: Tensor, iterations: int) -> Tensor:
        """Aᵀ(A Aᵀ + (σ_y²/v) I)⁻¹ (y − A D), what brings D to y if each value of D is off by √v.

        Without noise it is A⁺y − A⁺(A D), which needs no derivative of A.

        Args:
            denoised: D, (B, C, H, W).
            variance: v, (B,).
            iterations: of conjugate gradients, where there is noise.

        Returns:
            (B, C, H, W).
        """
        if self.noise == 0:
            return self.inverse - self.degradation.pinv(self.degradation(denoised))
        value, push, pull = linearized(self.degradation, denoised)
        return lifted(pull, push, self.share(variance), self.y - value, iterations)

    def ending(self) -> Project | None:
        """Where y has no noise, x ← x + A⁺y − A⁺(A x) at σ = 0, so that the result agrees with y; else None."""
        if self.noise > 0:
            return None

        def end(x: Tensor, sigma: float) -> Tensor:
            return x if sigma > 0 else (x - self.degradation.pinv(self.degradation(x))) + self.inverse

        return end


def pullback(function: Product, x: Tensor) -> tuple[Tensor, Product]:
    """function(x), computed once, and u ↦ Jᵀu with its derivative J; also under `torch.no_grad`.

    What it takes to differentiate is kept only as long as the second is.

    Raises:
        UserError: the function cannot be differentiated.
    """
    with torch.inference_mode(False), torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        value = function(at)
    if not value.requires_grad:
        raise UserError(
            "denoiser",
            "cannot be differentiated, and this restorer needs its derivative.",
            "Use Projection or NullSpace, which need none.",
        )

    def pull(u: Tensor) -> Tensor:
        return torch.autograd.grad(value, at, u, retain_graph=True)[0]

    return value.detach(), pull


def linearized(operator: Product, x: Tensor) -> tuple[Tensor, Product, Product]:
    """A(x), v ↦ Hv and u ↦ Hᵀu with the derivative H of A at x, which is A itself where A is linear."""
    with torch.inference_mode(False), torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        value = operator(at)
        probe = torch.zeros_like(value).requires_grad_()
        (pulled,) = torch.autograd.grad(value, at, probe, create_graph=True)

    def push(v: Tensor) -> Tensor:
        return torch.autograd.grad(pulled, probe, v, retain_graph=True)[0]

    def pull(u: Tensor) -> Tensor:
        return torch.autograd.grad(value, at, u, retain_graph=True)[0]

    return value.detach(), push, pull


def lifted(lift: Product, push: Product, share: Tensor, misfit: Tensor, iterations: int) -> Tensor:
    """L w with (t + (1 − t) A L) w = (1 − t) b, by conjugate gradients from w = 0.

    An image is left as it is once its residual has fallen to rounding, or where the matrix turns out not to
    be positive.

    Args:
        lift: L, from what is observed to images.
        push: A.
        share: t, (B,).
        misfit: b = y − A D.
        iterations: as many calls of `lift`.

    Returns:
        The shape of an image.

    Raises:
        UserError: iterations < 1.
    """
    _check(iterations)
    t = expand(share, misfit)
    residual = direction = (1 - t) * misfit
    square = _dot(residual, residual)
    enough = (4 * torch.finfo(misfit.dtype).eps) ** 2 * square
    alive, image = square > 0, lift(direction)
    total = torch.zeros_like(image)
    for index in range(iterations):
        if index > 0:
            image = lift(direction)
        pushed = t * direction + (1 - t) * push(image)
        curvature = _dot(direction, pushed)
        alive = alive & (curvature > 0) & (square > enough)
        length = torch.where(alive, square / curvature, 0)
        total = total + length * image
        residual = residual - length * pushed
        before, square = square, _dot(residual, residual)
        direction = residual + torch.where(alive, square / before, 0) * direction
    return total


def steadily_lifted(
    lift: Product,
    push: Product,
    share: Tensor,
    misfit: Tensor,
    iterations: int | None = None,
    tolerance: float = 1e-4,
) -> Tensor:
    """As `lifted`, by conjugate residuals: for matrices that are neither quite symmetric nor surely positive.

    Each iteration minimises the residual along one more direction. An image for which the matrix is not
    positive along that direction is left as it is.

    Args:
        lift: L, from what is observed to images.
        push: A.
        share: t, (B,).
        misfit: b = y − A D.
        iterations: at most so many calls of `lift`; None allows as many as an image has observed values.
        tolerance: stop once the norm of every image's residual is at most this part of its first.

    Returns:
        The shape of an image.

    Raises:
        UserError: iterations < 1.
    """
    most = misfit[0].numel() if iterations is None else iterations
    _check(most)
    t = expand(share, misfit)
    residual = (1 - t) * misfit
    enough = tolerance**2 * _dot(residual, residual)
    total, kept = None, list[tuple[Tensor, Tensor]]()
    active = torch.ones_like(enough, dtype=torch.bool)  # an image that is done stays as it is, whatever the others need
    while len(kept) < most:
        image = lift(residual)
        pushed = t * residual + (1 - t) * push(image)
        whole = _dot(pushed, pushed)
        for other_pushed, other_image in kept:
            part = _dot(pushed, other_pushed)
            pushed, image = pushed - part * other_pushed, image - part * other_image
        square = _dot(pushed, pushed)
        new = square > whole * (100 * torch.finfo(square.dtype).eps) ** 2
        scale = torch.where(new, square.rsqrt(), 0)
        pushed, image = scale * pushed, scale * image
        length = torch.where(active, _dot(residual, pushed).clamp_min(0), 0)
        total = length * image if total is None else total + length * image
        residual = residual - length * pushed
        kept.append((pushed, image))
        active = active & new & (_dot(residual, residual) > enough)
        if not bool(active.any()):
            break
    assert total is not None
    return total


def _check(iterations: int) -> None:
    if iterations < 1:
        raise UserError("iterations", f"need at least one, got {iterations}.")


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of the images of a batch, (B, 1, 1, 1)."""
    return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))
