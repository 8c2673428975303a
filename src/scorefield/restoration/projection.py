"""Restoration without retraining: known parts are overwritten as the sampler goes.

On each noise level σ_i the observation is made as noisy as the image, once, and laid over it after every update
(Song & Ermon 2019, Algorithm 2): with a mask m of what is to be filled,

    y_i = y + σ_i z,      x ← x ⊙ m + y_i ⊙ (1 − m).

Written with the operator A and its pseudo-inverse A⁺ it holds for any linear degradation,

    x ← (x − A⁺A x) + A⁺A (A⁺y + σ_i z),

which for a mask is the line above bit for bit: the bracket is 0 where a pixel is known and x where not. The
degradation of JPEG is not linear; the line then keeps what A leaves of the noisy observation, which is another
thing than what the noisy image would show, and the other restorers serve it better.

An observation that is noisy itself, σ_y > 0, is given only what noise is lacking, √(σ_i² − σ_y²), and is
laid over no longer once σ_i < σ_y. That is right where A has no singular values but 0 and 1, as masks and
crops do.

What it amounts to hangs on the sampler:

    * AnnealedLangevin: masked annealed Langevin, exact in the limit of many updates on the last noise levels.
    * Ancestral on `schedules.repaint(schedule)`: RePaint (Lugmayr et al. 2022, Algorithm 1). On the way down
      known and unknown fit each other badly, each being drawn without regard to the other's noise; after
      every `jump` noise levels the image is made noisy again, all of it, so that nothing is laid over it on a
      noise level up, and comes down once more, `times` times, and each time they fit better.
    * Ancestral, DDIM or Heun on a falling schedule: "replacement" (Song et al. 2021, App. I.2), the least
      good: on a Gaussian the unknown part comes out between its posterior's mean and the prior's.

References:
    Song & Ermon (2019), App. B.3, Algorithm 2. https://arxiv.org/abs/1907.05600
    Song et al. (2021), App. I.2. https://arxiv.org/abs/2011.13456
    Lugmayr et al. (2022), Algorithm 1. https://arxiv.org/abs/2201.09865
"""

import math
from dataclasses import dataclass

from torch import Generator, Tensor

from scorefield.degradations import Observation
from scorefield.model import Denoiser
from scorefield.restoration.posterior import Posterior
from scorefield.samplers.base import randn_like


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Masked annealed Langevin with AnnealedLangevin, RePaint with Ancestral on a schedule that climbs.

    It needs no derivative and no more evaluations than the sampler.

    Args:
        denoiser: an unconditional model.
    """

    denoiser: Denoiser

    def posterior(self, observation: Observation, *, generator: Generator) -> Posterior:
        """The plain denoiser, and a `project` that draws its noise once for each σ."""
        degradation, own = observation.degradation, observation.noise
        clean = degradation.pinv(observation.y)
        level, seen = -1.0, clean
        last = math.inf

        def project(x: Tensor, sigma: float) -> Tensor:
            nonlocal level, seen, last
            climbed, last = sigma > last, sigma
            if climbed or sigma < own:
                level = -1.0  # that noise is gone
                return x
            if sigma != level:
                lacking = math.sqrt(sigma**2 - own**2) if own > 0 else sigma
                noisy = clean + lacking * randn_like(clean, generator) if lacking > 0 else clean
                level, seen = sigma, degradation.pinv(degradation(noisy))
            return (x - degradation.pinv(degradation(x))) + seen

        return Posterior(denoiser=self.denoiser, project=project)
