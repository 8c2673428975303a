"""Null-space restoration: the observation replaces its part of D, and the model fills in the rest.

An image is the sum of A⁺A x, which A observes, and x − A⁺A x, which lies in its null space. The denoised
image keeps the second and takes the first from y (Wang et al. 2023, eq. 13):

    D' = D + A⁺(y − A D).

With noise σ_y in y that would copy the noise. Along a direction of A with singular value a there are two
estimates: D, with an error of about σ, and y/a, with an error of σ_y/a. Weighted by their precisions,

    D' = D + Aᵀ (A Aᵀ + (σ_y/σ)² I)⁻¹ (y − A D),     that is, a part λ = a²σ²/(a²σ² + σ_y²) of the way.

DDRM and DDNM+ switch instead: λ = 1 while σ ≥ σ_y/a; below that, λ is such that the noise λσ_y/a of y does
not exceed the noise that their sampler adds, and the sampler adds that much less. A denoiser adds no noise
and needs no switch: along the ODE dx/d ln σ = x − D' with D ≈ x this λ ends in x = y/a + (σ_y/a) n, the
posterior of a flat prior. (min(1, aσ/σ_y) would end with a standard deviation of 1/e of that.)

No derivative of D is taken: one evaluation costs as much as the model's. D' ignores how the unobserved part
depends on the *exact* y: D fills in from x, in which the observed part is as noisy as the rest. It is exact

    * for N(μ, s² I) without noise, whatever A is, and for a flat prior with noise;
    * in general only where the sampler forgets what it did at large σ: Langevin dynamics with many updates on
      the last noise levels.

Along the ODE with correlated images the samples keep a part of the start's noise, and their mean stays
between the posterior's and the prior's: for neighbours that correlate by 0.9 see
`docs/restoration-methods.md`.

References:
    Wang, Yu & Zhang (2023), DDNM: eq. 13; DDNM+: §3.3. https://arxiv.org/abs/2212.00490
    Kawar et al. (2022), DDRM, §3.2. https://arxiv.org/abs/2201.11793
"""

from dataclasses import dataclass

from torch import Generator, Tensor

from scorefield.degradations import Observation
from scorefield.model import Denoiser
from scorefield.restoration.linear_solve import Evidence
from scorefield.restoration.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class NullSpace:
    """D' = D + Aᵀ(A Aᵀ + (σ_y/σ)² I)⁻¹(y − A D); without noise D + A⁺(y − A D), for any A.

    Args:
        denoiser: an unconditional model.
        iterations: of conjugate gradients where the observation is noisy; a mask, a crop or a grey image
            need one, a blur as many as it has singular values of note.
    """

    denoiser: Denoiser
    iterations: int = 10

    def posterior(self, observation: Observation, *, generator: Generator) -> Posterior:
        """The corrected denoiser; without noise the last step ends with A x = y."""
        evidence = Evidence.of(observation)

        def corrected(x: Tensor, sigma: Tensor) -> Tensor:
            denoised = self.denoiser(x, sigma)
            return denoised + evidence.correction(denoised, sigma**2, self.iterations)

        return Posterior(denoiser=corrected, project=evidence.ending())
