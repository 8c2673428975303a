"""Noise levels: ladders, distributions of σ for training, and σ ↔ γ ↔ t.

Everywhere in this library a noisy image is x = x0 + σ·n with n ~ N(0, I). A *ladder* is a falling tensor
of σ, the rungs that a sampler visits. A variance-preserving model knows √γ x0 + √(1−γ) n instead, which is
the same image divided by √(1+σ²), with

    γ = 1 / (1 + σ²),      σ = √((1 − γ) / γ).

DDPM counts time in steps t, γ_t = Π_{i≤t} (1 − β_i); stochastic differential equations in t from 0 to 1,
γ(t) = exp(−∫₀ᵗ β). Either is a ladder here, and log-SNR = ln(γ/(1−γ)) is −2 ln σ.

    levels      what a ladder is; σ ↔ γ ↔ t; the nearest rung
    ladders     geometric, karras, log_snr, linear_beta, cosine, Palette's two, vp, sub_vp
    reshaped    one ladder from another: capped, thinned, climbing
    named       LADDERS, by name, fitted to a model
    laws        distributions of σ in training
    proposal    a ladder for Langevin dynamics from the pictures themselves

References:
    Song & Ermon (2019), §4.1 (geometric ladder). https://arxiv.org/abs/1907.05600
    Song & Ermon (2020), Techniques 1, 2 and 4 (a ladder from data). https://arxiv.org/abs/2006.09011
    Ho et al. (2020), §4 (linear β). https://arxiv.org/abs/2006.11239
    Nichol & Dhariwal (2021), eq. 17 (cosine). https://arxiv.org/abs/2102.09672
    Song et al. (2021), eqs. 9, 11, 12 and App. B, C (VE, VP, sub-VP). https://arxiv.org/abs/2011.13456
    Kingma et al. (2021), App. I.1 (stratified noise levels). https://arxiv.org/abs/2107.00630
    Saharia et al. (2022), §4 (Palette's two ladders). https://arxiv.org/abs/2111.05826
    Lugmayr et al. (2022), Algorithm 1 (climbing). https://arxiv.org/abs/2201.09865
    Karras et al. (2022), eq. 5 (ladder) and Table 1 (log-normal σ). https://arxiv.org/abs/2206.00364
"""

from scorefield.noise.ladders import (
    cosine,
    geometric,
    karras,
    linear_beta,
    log_snr,
    palette_inference,
    palette_training,
    sub_vp,
    vp,
)
from scorefield.noise.laws import LogNormal, LogUniform, NoiseDistribution, Rungs, draw_sigma
from scorefield.noise.levels import (
    check_ladder,
    gamma_to_sigma,
    nearest_rung,
    off_ladder,
    read_ladder,
    sigma_to_gamma,
    sub_vp_sigma,
    sub_vp_time,
    vp_sigma,
    vp_time,
)
from scorefield.noise.named import LADDERS, FittedLadder, ended
from scorefield.noise.proposal import (
    OVERLAP,
    LadderProposal,
    ladder_levels,
    langevin_step_size,
    overlap,
    overlap_ratio,
    propose_ladder,
)
from scorefield.noise.reshaped import capped, climbing, thinned

__all__ = [
    "LADDERS",
    "OVERLAP",
    "FittedLadder",
    "LadderProposal",
    "LogNormal",
    "LogUniform",
    "NoiseDistribution",
    "Rungs",
    "capped",
    "check_ladder",
    "climbing",
    "cosine",
    "draw_sigma",
    "ended",
    "gamma_to_sigma",
    "geometric",
    "karras",
    "ladder_levels",
    "langevin_step_size",
    "linear_beta",
    "log_snr",
    "nearest_rung",
    "off_ladder",
    "overlap",
    "overlap_ratio",
    "palette_inference",
    "palette_training",
    "propose_ladder",
    "read_ladder",
    "sigma_to_gamma",
    "sub_vp",
    "sub_vp_sigma",
    "sub_vp_time",
    "thinned",
    "vp",
    "vp_sigma",
    "vp_time",
]
