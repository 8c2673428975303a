"""Restoration without retraining: known parts are overwritten as the sampler goes.

On each rung σ_i the observation is made as noisy as the picture, once, and laid over it after every update
(Song & Ermon 2019, Algorithm 2): with a mask m of what is to be filled,

    y_i = y + σ_i z,      x ← x ⊙ m + y_i ⊙ (1 − m).

Written with the operator A and its pseudo-inverse A⁺ it holds for any linear damage,

    x ← (x − A⁺A x) + A⁺A (A⁺y + σ_i z),

which for a mask is the line above bit for bit: the bracket is 0 where a pixel is known and x where not.

References:
    Song & Ermon (2019), App. B.3, Algorithm 2. https://arxiv.org/abs/1907.05600
"""

from dataclasses import dataclass

from torch import Generator, Tensor

from scorefield.degradations import Observation
from scorefield.model import Denoiser
from scorefield.restoration.posterior import Posterior
from scorefield.samplers.step import fresh_noise


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Masked annealed Langevin when sampled with AnnealedLangevin; it works with any sampler.

    Args:
        denoiser: an unconditional model.
    """

    denoiser: Denoiser

    def posterior(self, observation: Observation, *, generator: Generator) -> Posterior:
        """The plain denoiser, and a `project` that draws its noise once for each σ."""
        damage = observation.degradation
        clean = damage.pinv(observation.y)
        level, seen = -1.0, clean

        def project(x: Tensor, sigma: float) -> Tensor:
            nonlocal level, seen
            if sigma != level:
                noisy = clean + sigma * fresh_noise(clean, generator) if sigma > 0 else clean
                level, seen = sigma, damage.pinv(damage(noisy))
            return (x - damage.pinv(damage(x))) + seen

        return Posterior(denoiser=self.denoiser, project=project)
