"""Restoration by guidance: the score of what was observed, added to the model's.

By Bayes ∇ log p(x; σ | y) = ∇ log p(x; σ) + ∇ log p(y | x), and so, with D = x + σ² × score,

    D' = D + σ² ∇ₓ log p(y | x).

What is not known is p(y | x) = ∫ p(y | x0) p(x0 | x) dx0. All here take p(x0 | x) for a Gaussian around D,
so that p(y | x) ≈ N(y; A D, σ_y² I + A V Aᵀ), hold V fixed while they differentiate, and with J = ∂D/∂x
come to

    D' = D + σ² Jᵀ Aᵀ (σ_y² I + A V Aᵀ)⁻¹ (y − A D).

They differ in V, the covariance of x0 given x:

    PiGDM            V = r² I,      r² = σ²s²/(σ²+s²)          right if images are N(·, s² I)
    MomentMatching   V = σ² J                                  Tweedie's covariance, right for any images
    DPS              (…)⁻¹ = α I,  α by the curvature along the gradient, or as published

Jᵀu is one pass backwards through the network, and D is evaluated once for all of them. Everything that is
needed for a pass is given free when the call returns.

J of an exact denoiser is symmetric: it is Cov[x0 | x]/σ². That of a network nearly is.

References:
    Song et al. (2023), ΠGDM, eq. 7–8. https://openreview.net/forum?id=9_gsMA8MRKQ
    Chung et al. (2023), DPS, Algorithm 1. https://arxiv.org/abs/2209.14687
    Rozet et al. (2024), moment matching posterior sampling. https://arxiv.org/abs/2405.13712
    Boys et al. (2023), Tweedie moment projection. https://arxiv.org/abs/2310.06721
    Efron (2011), Tweedie's formula. https://doi.org/10.1198/jasa.2011.tm11181
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Generator, Tensor

from scorefield.degradations import Observation
from scorefield.errors import UserError, did_you_mean
from scorefield.model import Denoiser, expand
from scorefield.restoration.linear_solve import Evidence, Product, lifted, linearized, pullback, steadily_lifted
from scorefield.restoration.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class PiGDM:
    """Pseudo-inverse guidance: V = r² I, r² = σ²s²/(σ²+s²) (Song et al. 2023, eq. 7–8).

        D' = D + (σ²/r²) Jᵀ Aᵀ (A Aᵀ + (σ_y²/r²) I)⁻¹ (y − A D),      σ²/r² = 1 + (σ/s)²

    Without noise the middle is A⁺y − A⁺(A D), which any A has, JPEG too, and no derivative of A is taken.
    Exact for N(μ, s² I) with any linear A. For correlated images, J carries the observed part over to the
    unobserved one and the mean is nearly right; the isotropic r² ignores that directions differ in variance.

    Their Algorithm 1 adds Jᵀ(…) to each step of DDIM with a weight of its own, which does not shrink as steps
    become more; here it has the weight of eq. 7, so that any sampler and any number of steps mean the same.
    Along what many pixels share, images vary far more than s, and at large σ that weight would shoot 20 to
    60 times past y. So it is bounded, which is ours, by what brings c = Aᵀ(…) there and no farther,

        σ²/r² ≤ ‖c‖²/⟨c, Jᵀc⟩,

    with equality for N(μ, s² I): s then hardly matters on images, and nothing is lost where it is right.

    Args:
        denoiser: an unconditional model, that can be differentiated.
        sigma_data: s. Song et al. take 1, for pixels from −1 to 1; for pixels from 0 to 1 that is 0.5.
        iterations: of conjugate gradients where the observation is noisy.
    """

    denoiser: Denoiser
    sigma_data: float = 1.0
    iterations: int = 10

    def posterior(self, observation: Observation, *, generator: Generator) -> Posterior:
        """The guided denoiser; without noise the last step ends with A x = y."""
        evidence = Evidence.of(observation)

        def guided(x: Tensor, sigma: Tensor) -> Tensor:
            denoised, pull = pullback(lambda x: self.denoiser(x, sigma), x)
            gain = 1 + (sigma / self.sigma_data) ** 2
            change = evidence.correction(denoised, sigma**2 / gain, self.iterations)
            pulled = pull(change)
            along, size = ((change * v).flatten(1).sum(1) for v in (pulled, change))
            gain = torch.where(along > 0, torch.minimum(gain, size / along), 0)
            return denoised + expand(gain, x) * pulled

        return Posterior(denoiser=guided, project=evidence.ending())


@dataclass(frozen=True, kw_only=True)
class MomentMatching:
    """V = σ² J, the covariance that Tweedie's formula gives (Rozet et al. 2024; Boys et al. 2023).

        D' = D + σ² Jᵀ Aᵀ (σ_y² I + σ² A J Aᵀ)⁻¹ (y − A D)

    The inverse is by conjugate residuals, one pass backwards for each iteration, until the residual is 1e-4 of the
    first: exact to that for any Gaussian and any linear A. It takes at most as many iterations as there are observed
    values, and fewer where the spectrum is short. For other images it takes p(x0 | x) for the Gaussian with its true
    mean and covariance, which at large σ joins modes that lie apart.

    Stopped early it corrects most what is most uncertain, and is exact no more. Rozet et al. stop after one to five
    iterations: the J of a network is wrong where it is small, and every iteration is a pass. `restoration.METHODS`
    takes three.

    A that is not linear is replaced by its derivative at D; JPEG passes gradients through its rounding.

    Args:
        denoiser: an unconditional model, that can be differentiated.
        iterations: of conjugate residuals; None ends at a residual of 1e-4, after at most as many as observed values.
    """

    denoiser: Denoiser
    iterations: int | None = None

    def posterior(self, observation: Observation, *, generator: Generator) -> Posterior:
        """The guided denoiser; without noise the last step ends with A x = y."""
        tolerance = 1e-4 if self.iterations is None else 0.0
        solve = partial(steadily_lifted, iterations=self.iterations, tolerance=tolerance)
        return _matched(self.denoiser, observation, solve, 1.0)


@dataclass(frozen=True, kw_only=True)
class DPS:
    """A step down the gradient of the misfit (Chung et al. 2023), with our length or the published one.

    With r = y − A D both move along Jᵀ Aᵀ r. `step = "published"` is their Algorithm 1: D stays as it is, and each
    update of DDPM from σ to τ is followed by

        x ← x − ζ_i √((1+σ²)(1+τ²)) ∇ₓ‖r‖²,      ζ_i = ζ/‖r‖,

    the gradient taken at the x before the update. (The root is the change of coordinates: theirs is x/√(1+σ²).) ζ has
    the units of an image. They choose it by task, 1 for most, for pixels from −1 to 1 and 1,000 steps; in their program
    the gradient is that of ‖r‖, half as long, and its factor is 0.5 for masks and 0.3 for small images. The length
    does not shrink as the misfit falls or as steps become more, and the result need not agree with y.

    `step = "curvature"` is ours, and needs no choice. An update from σ to τ moves x by 1 − (τ/σ)² of what is added to
    D, so that the same direction in D' serves any sampler and any number of steps:

        D' = D + ζ α Jᵀ Aᵀ r,      α = σ² ‖r‖² / rᵀ(σ_y² I + σ² A J Aᵀ) r.

    α is where the quadratic that r's likelihood is along this direction has its optimum, so that ζ has no units, and 1
    is right for one observed value, or where all are alike uncertain. It is the first conjugate gradient of
    MomentMatching's system. Exact for Gaussians with one observed value; with several the directions that A sees
    clearest are corrected too little, and only the ending brings them to y.

    Either costs one pass backwards for each evaluation.

    Args:
        denoiser: an unconditional model, that can be differentiated.
        step: "curvature" for any sampler, or "published" for `Ancestral` with 1,000 steps.
        zeta: ζ.

    Raises:
        UserError: no such step.
    """

    denoiser: Denoiser
    step: Literal["curvature", "published"] = "curvature"
    zeta: float = 1.0

    def __post_init__(self) -> None:
        known = ("curvature", "published")
        if self.step not in known:
            raise UserError("step", f"no such step {self.step!r}.", did_you_mean(self.step, known))

    def posterior(self, observation: Observation, *, generator: Generator) -> Posterior:
        """The guided denoiser, whose last step without noise ends with A x = y; or the published descent."""
        if self.step == "published":
            return _descent(self.denoiser, observation, self.zeta)
        return _matched(self.denoiser, observation, partial(lifted, iterations=1), self.zeta)


def _descent(denoiser: Denoiser, observation: Observation, zeta: float) -> Posterior:
    """Algorithm 1 of Chung et al. (2023): D as it is, and after each update a step down the misfit of the x before."""
    slope: Tensor | None = None  # √(1+σ²) ∇ₓ‖r‖²/‖r‖ of the last evaluation, until an update has used it

    def watched(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal slope
        denoised, pull = pullback(lambda x: denoiser(x, sigma), x)
        value, _, adjoint = linearized(observation.degradation, denoised)
        misfit = observation.y - value
        norm = misfit.flatten(1).norm(dim=1)
        length = torch.where(norm > 0, -2 * (1 + sigma**2).sqrt() / norm, 0)
        slope = pull(adjoint(expand(length, misfit) * misfit))
        return denoised

    def descend(x: Tensor, tau: float) -> Tensor:
        nonlocal slope
        if slope is not None:  # None on a step up, which evaluates nothing
            x, slope = x - zeta * (1 + tau**2) ** 0.5 * slope, None
        return x

    return Posterior(denoiser=watched, project=descend)


_Solver = Callable[[Product, Product, Tensor, Tensor], Tensor]
"""`lifted` or `steadily_lifted` of so many iterations: of the lift, the push, the share and the misfit."""


def _matched(denoiser: Denoiser, observation: Observation, solve: _Solver, scale: float) -> Posterior:
    """D + scale × what the solver finds on the way to the Gaussian estimate with V = σ² J."""
    evidence = Evidence.of(observation)

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        denoised, pull = pullback(lambda x: denoiser(x, sigma), x)
        value, push, adjoint = linearized(evidence.degradation, denoised)

        def lift(u: Tensor) -> Tensor:
            return pull(adjoint(u))

        change = solve(lift, push, evidence.share(sigma**2), evidence.y - value)
        return denoised + scale * change

    return Posterior(denoiser=guided, project=evidence.ending())
