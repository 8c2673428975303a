"""Noise levels: schedules, distributions of σ for training, and σ ↔ γ ↔ t.

Everywhere in this library a noisy image is x = x0 + σ·n with n ~ N(0, I). A *schedule* is a falling tensor
of σ, the noise levels that a sampler visits. A variance-preserving model knows √γ x0 + √(1−γ) n instead, which is
the same image divided by √(1+σ²), with

    γ = 1 / (1 + σ²),      σ = √((1 − γ) / γ).

DDPM counts time in steps t, γ_t = Π_{i≤t} (1 − β_i); stochastic differential equations in t from 0 to 1,
γ(t) = exp(−∫₀ᵗ β). Either is a schedule here, and log-SNR = ln(γ/(1−γ)) is −2 ln σ.

    levels      what a schedule is; σ ↔ γ ↔ t; the nearest noise level
    schedules     geometric, karras, log_snr, linear_beta, cosine, Palette's two, vp, sub_vp
    reshaped    one schedule from another: capped, thinned, climbing
    named       SCHEDULES, by name, fitted to a model
    distributions        distributions of σ in training
    proposal    a schedule for Langevin dynamics from the images themselves

References:
    Song & Ermon (2019), §4.1 (geometric schedule). https://arxiv.org/abs/1907.05600
    Song & Ermon (2020), Techniques 1, 2 and 4 (a schedule from data). https://arxiv.org/abs/2006.09011
    Ho et al. (2020), §4 (linear β). https://arxiv.org/abs/2006.11239
    Nichol & Dhariwal (2021), eq. 17 (cosine). https://arxiv.org/abs/2102.09672
    Song et al. (2021), eqs. 9, 11, 12 and App. B, C (VE, VP, sub-VP). https://arxiv.org/abs/2011.13456
    Kingma et al. (2021), App. I.1 (stratified noise levels). https://arxiv.org/abs/2107.00630
    Saharia et al. (2022), §4 (Palette's two schedules). https://arxiv.org/abs/2111.05826
    Lugmayr et al. (2022), Algorithm 1 (climbing). https://arxiv.org/abs/2201.09865
    Karras et al. (2022), eq. 5 (schedule) and Table 1 (log-normal σ). https://arxiv.org/abs/2206.00364
"""

from scorefield.schedules.langevin import OVERLAP, langevin_step_size, overlap, overlap_ratio, schedule_levels
from scorefield.schedules.levels import (
    check_schedule,
    gamma_to_sigma,
    nearest_level,
    off_schedule,
    read_schedule,
    sigma_to_gamma,
    sub_vp_sigma,
    sub_vp_time,
    vp_sigma,
    vp_time,
)
from scorefield.schedules.named import SCHEDULES, FittedSchedule, ended
from scorefield.schedules.published import (
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
from scorefield.schedules.reshaped import capped, climbing, thinned

__all__ = [
    "OVERLAP",
    "SCHEDULES",
    "FittedSchedule",
    "capped",
    "check_schedule",
    "climbing",
    "cosine",
    "ended",
    "gamma_to_sigma",
    "geometric",
    "karras",
    "langevin_step_size",
    "linear_beta",
    "log_snr",
    "nearest_level",
    "off_schedule",
    "overlap",
    "overlap_ratio",
    "palette_inference",
    "palette_training",
    "read_schedule",
    "schedule_levels",
    "sigma_to_gamma",
    "sub_vp",
    "sub_vp_sigma",
    "sub_vp_time",
    "thinned",
    "vp",
    "vp_sigma",
    "vp_time",
]
