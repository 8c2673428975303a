"""Consistent annealed sampling: Langevin updates that leave exactly the next noise level's noise.

After an update of annealed Langevin dynamics the noise of x is that of no noise level. Here an update on the noise level σ
is made for the next, τ (Jolicoeur-Martineau et al. 2021, §3, Algorithm 2),

    x ← x + η (D(x; σ) − x) + β τ z,      β² = 1 − (1 − η)² (σ/τ)²,      z ~ N(0, I).

Of x's noise it keeps the part 1 − η and draws what is lacking to τ². So 1 − η is at most τ/σ, and on a
geometric schedule one η serves all noise levels. Serrà et al. (2021) write it as a power,

    1 − η = (τ/σ)^r,      β² = 1 − (τ/σ)^(2(r − 1)),      r ≥ 1,

which gives any falling schedule its own η on each noise level. As noise levels grow dense this is, with ℓ = −ln σ,

    dx = r (D − x) dℓ + √(2(r − 1)) σ dw,

the probability-flow ODE and r − 1 parts of Langevin dynamics, however the noise levels are spaced: r = 1 is Euler's
rule and DDIM, r = 2 ancestral sampling, r = ∞ keeps no noise at all, x ← D + τ z.

References:
    Jolicoeur-Martineau et al. (2021), §3. https://arxiv.org/abs/2009.05475
    Serrà et al. (2021). https://arxiv.org/abs/2104.03725
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser
from scorefield.samplers.ancestral import at_least_two, walk
from scorefield.samplers.base import Project, Step
from scorefield.schedules import check_schedule


@dataclass(frozen=True, kw_only=True)
class ConsistentAnnealed:
    """Algorithm 2 of Jolicoeur-Martineau et al. (2021); a schedule that ends in 0 ends with x ← D.

    Several updates a noise level are, as in the authors' program, so many times as dense a schedule. A model that
    knows its noise levels alone is told the nearest at those between.

    Args:
        rate: r, in [1, ∞]. The authors' η = 0.18 on their 232 noise levels for CIFAR-10 is r = 5.4. (They allow η up
            to 1 + τ/σ too, where the kept noise changes its sign; no r gives η > 1.)
        steps: n_σ, updates for each noise level above 0, in equal ratios of σ.

    Raises:
        UserError: r < 1, or no update.
    """

    rate: float = 5.4
    steps: int = 1

    def __post_init__(self) -> None:
        if not self.rate >= 1:
            raise UserError("rate", f"consistent annealing needs a rate of 1 or more, got {self.rate:g}.")
        if self.steps < 1:
            raise UserError("steps", f"need at least one update for each noise level, got {self.steps}.")

    def evaluations(self, sigmas: Tensor) -> int:
        """`steps` for every noise level that is followed by one above 0, one for a step to 0."""
        to_zero = int(float(sigmas[-1]) == 0)
        return self.steps * (len(sigmas) - 1 - to_zero) + to_zero

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each update; see `Sampler.iterate`."""
        levels = _denser(at_least_two(check_schedule(sigmas)), self.steps)
        return walk(denoiser, x, levels, self._move, generator, project)

    def _move(self, s: float, t: float) -> tuple[float, float]:
        ratio = t / s
        return ratio**self.rate, t * math.sqrt(1 - ratio ** (2 * (self.rate - 1)))


def _denser(levels: list[float], parts: int) -> list[float]:
    """A schedule with each gap above 0 divided into so many equal ratios."""
    dense = levels[:1]
    for s, t in pairwise(levels):
        if t > 0:
            dense += [s * (t / s) ** (k / parts) for k in range(1, parts)]
        dense.append(t)
    return dense
