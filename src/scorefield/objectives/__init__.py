"""Training objectives of score networks.

Each is the Fisher divergence ½ E‖s(x) − ∇ log p(x)‖² in a form without ∇ log p. Integration by parts
gives, up to the constant ½ E‖∇ log p‖²,

    J(s) = E [ tr ∇s(x) + ½ ‖s(x)‖² ]                                            explicit
         = E E_v [ vᵀ ∇s(x) v + ½ (vᵀ s(x))² ],      E v vᵀ = I                  sliced
         = E E_v [ vᵀ ∇s(x) v + ½ ‖s(x)‖² ]                                      sliced, reduced; Hutchinson
         = E E_v [ vᵀ (s(x+hv) − s(x−hv))/2h + ⅛ ‖s(x+hv) + s(x−hv)‖² ] + O(h²)  finite differences

where x is drawn from the density whose score is learned: clean data, or data with noise of level σ. On noisy data,
x = x0 + σn, denoising score matching fits −n/σ instead. It differs from J by a constant:

    ℓ(σ) = ½ E‖s(x; σ) + n/σ‖²,        over a schedule  (1/L) Σ_i λ(σ_i) ℓ(σ_i).

**Sums and means.** These are sums over the D numbers of an image, with the papers' ½. The one exception is
`denoising_score_matching`. It is a mean over the numbers, E abs((D(x; σ) − x0)/σ)^p, which at p = 2 is 2σ² ℓ(σ)/D.
Under different distributions of σ, this one form is the objective of NCSN, DDPM and Palette.

**Cost** per image, in evaluations F of the score and Jacobian–vector products V, each about two F: explicit F + D·V,
Hutchinson and sliced F + K·V, finite differences 2K·F, denoising F, over a schedule L·F. Training differentiates each
product again. The network must treat the images of a batch independently (no batch normalization). Results are
differentiable in the weights, not in x.

References:
    Hutchinson (1989), trace estimator. https://doi.org/10.1080/03610918908812806
    Hyvärinen (2005), eq. 4. https://jmlr.org/papers/v6/hyvarinen05a.html
    Vincent (2011), eq. 11. https://doi.org/10.1162/NECO_a_00142
    Song et al. (2019), §3 (sliced, with variance reduction). https://arxiv.org/abs/1905.07088
    Song & Ermon (2019), eqs. 1–3, 5–6. https://arxiv.org/abs/1907.05600
    Pang et al. (2020), §4 (finite differences). https://arxiv.org/abs/2007.03317
    Karras et al. (2022), eq. 8. https://arxiv.org/abs/2206.00364
"""

from scorefield.objectives.denoising import denoising_score_matching, output_weight, schedule_score_matching
from scorefield.objectives.explicit import explicit_score_matching
from scorefield.objectives.finite import finite_difference_density_matching, finite_difference_score_matching
from scorefield.objectives.sliced import Distribution, hutchinson_score_matching, sliced_score_matching

__all__ = [
    "Distribution",
    "denoising_score_matching",
    "explicit_score_matching",
    "finite_difference_density_matching",
    "finite_difference_score_matching",
    "hutchinson_score_matching",
    "output_weight",
    "schedule_score_matching",
    "sliced_score_matching",
]
