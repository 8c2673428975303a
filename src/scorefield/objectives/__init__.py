"""Objectives: what a score network is trained to make small.

Each is the Fisher divergence ½ E‖s(x) − ∇ log p(x)‖² in a form that needs no ∇ log p. Integration by parts
leaves, but for the constant ½ E‖∇ log p‖²,

    J(s) = E [ tr ∇s(x) + ½ ‖s(x)‖² ]                                            explicit
         = E E_v [ vᵀ ∇s(x) v + ½ (vᵀ s(x))² ],      E v vᵀ = I                  sliced
         = E E_v [ vᵀ ∇s(x) v + ½ ‖s(x)‖² ]                                      sliced, reduced; Hutchinson
         = E E_v [ vᵀ (s(x+hv) − s(x−hv))/2h + ⅛ ‖s(x+hv) + s(x−hv)‖² ] + O(h²)  finite differences

where x is drawn from the density whose score is wanted: clean data, or noisy at the σ given. On noisy data,
x = x0 + σn, denoising score matching fits the score of the noise instead and differs from J by a constant,

    ℓ(σ) = ½ E‖s(x; σ) + n/σ‖²,        over a schedule  (1/L) Σ_i λ(σ_i) ℓ(σ_i).

**Sums and means.** All these are sums over the D numbers of an image and carry the papers' ½. The one
exception is `denoising_score_matching`, in the denoiser's terms a mean over them,
E abs((D(x; σ) − x0)/σ)^p, which is 2σ² ℓ(σ)/D at p = 2: that one form, under different distributions of σ, is
NCSN's objective, DDPM's and Palette's.

**Cost** of an image, in evaluations F of the score and products V of its Jacobian with a vector, each of
about two F: explicit F + D·V, Hutchinson and sliced F + K·V, finite differences 2K·F, denoising F, over a
schedule L·F. Training differentiates each product again, which all networks here can. Images must not depend on
one another, as they do under batch normalization. Results are differentiable in the weights, not in x.

References:
    Hutchinson (1989), trace estimator. https://doi.org/10.1080/03610918908812806
    Hyvärinen (2005), eq. 4. https://jmlr.org/papers/v6/hyvarinen05a.html
    Vincent (2011), eq. 11. https://doi.org/10.1162/NECO_a_00142
    Song et al. (2019), §3 (sliced, with variance reduction). https://arxiv.org/abs/1905.07088
    Song & Ermon (2019), eqs. 1–3, 5–6. https://arxiv.org/abs/1907.05600
    Pang et al. (2020), §4 (finite differences). https://arxiv.org/abs/2007.03317
    Karras et al. (2022), eq. 8. https://arxiv.org/abs/2206.00364
"""

from scorefield.objectives.denoising import denoising_score_matching as denoising_score_matching
from scorefield.objectives.denoising import output_weight as output_weight
from scorefield.objectives.denoising import schedule_score_matching as schedule_score_matching
from scorefield.objectives.directions import Distribution as Distribution
from scorefield.objectives.explicit import explicit_score_matching as explicit_score_matching
from scorefield.objectives.explicit import hutchinson_score_matching as hutchinson_score_matching
from scorefield.objectives.finite import (
    finite_difference_density_matching as finite_difference_density_matching,
)
from scorefield.objectives.finite import finite_difference_score_matching as finite_difference_score_matching
from scorefield.objectives.sliced import sliced_score_matching as sliced_score_matching
