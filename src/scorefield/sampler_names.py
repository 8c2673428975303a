"""The names of the samplers, with one line on each; loads no torch, so that help texts can show them.

`scorefield.samplers.PRESETS` says what each name stands for; a test compares the two.
"""

__all__ = ["SAMPLER_SUMMARIES"]

SAMPLER_SUMMARIES = {
    "heun": "ODE of order 2, two evaluations a step (Karras 2022)",
    "dpm++-2m": "ODE of order 2, one evaluation a step: fast (Lu 2022)",
    "dpm++-2m-sde": "the same with fresh noise in every step",
    "adams": "ODE of order 1 to 4, one evaluation a step (Zhang 2023)",
    "euler": "ODE of order 1; churn=... adds noise",
    "ddim": "ODE of order 1; eta=1 draws DDPM's noise (Song 2021)",
    "ddpm": "the reverse chain, noise in every step (Ho 2020)",
    "predictor-corrector": "DDIM and Langevin dynamics in turn (Song 2021)",
    "consistent": "Langevin, one update a level (Jolicoeur-Martineau 2021)",
    "runge-kutta": "ODE with error control: rtol, atol; needs torchdiffeq",
    "annealed-langevin": "NCSN's: many updates on each level (Song & Ermon 2019)",
    "langevin": "at one low noise level: only refines an image",
    "mala": "annealed, with a Metropolis test; for energy networks",
}
