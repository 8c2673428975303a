"""Scores whose error is known, and small networks in double precision."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from oracles import float64_mixture, seeded
from scorefield import objectives
from scorefield.distributions import GaussianMixture
from scorefield.model import expand


@dataclass
class Bent:
    """∇ log p of a mixture, made wrong by known amounts: s = scale · ∇ log p + shift + t · slope(bend)."""

    mixture: GaussianMixture
    scale: float = 1.0
    shift: float = 0.0
    bend: object = torch.ones_like
    t: object = 0.0

    def score(self, x, sigma):
        t = self.t if isinstance(self.t, float) else expand(self.t, x)
        return self.scale * self.mixture.score(x, sigma) + self.shift + t * self.bend(x)

    def __call__(self, x, sigma):
        return x + expand(sigma, x) ** 2 * self.score(x, sigma)


@dataclass
class BentDensity:
    """The density whose score is that of Bent: scale · log p + shift · Σx + t · bend, bend(x) a number."""

    mixture: GaussianMixture
    scale: float = 1.0
    shift: float = 0.0
    bend: object = None
    t: object = 0.0

    def log_density(self, x, sigma):
        bent = 0.0 if self.bend is None else self.t * self.bend(x)
        return self.scale * self.mixture.log_density(x, sigma) + self.shift * x.flatten(1).sum(1) + bent


class Net(nn.Module):
    """(B, …) of D numbers to the same, two smooth layers in float64, without a label."""

    def __init__(self, features=3, width=5, seed=0):
        super().__init__()
        generator = seeded(seed)
        for name, shape in {"a": (width, features), "b": (width,), "c": (features, width)}.items():
            setattr(self, name, nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)))

    def forward(self, x, label=None, source=None):
        hidden = nn.functional.softplus(x.flatten(1) @ self.a.T + self.b)
        return (hidden @ self.c.T).reshape(x.shape)


def seeded_each(function, **settings):
    """The objective with the same directions at every call."""
    return lambda model, x, sigma: function(model, x, sigma, **settings, generator=seeded(3))


SLICED = {
    f"{distribution}-{'reduced' if reduced else 'plain'}": seeded_each(
        objectives.sliced_score_matching, distribution=distribution, variance_reduced=reduced, projections=2
    )
    for distribution in ("rademacher", "gaussian", "sphere")
    for reduced in (True, False)
}
OF_SCORES = {
    "explicit": objectives.explicit_score_matching,
    "explicit-bounded": partial(objectives.explicit_score_matching, memory=1),
    "hutchinson": seeded_each(objectives.hutchinson_score_matching),
    **SLICED,
    "finite-difference": seeded_each(objectives.finite_difference_score_matching, step=0.02),
}
OF_DENSITIES = {"finite-difference-density": seeded_each(objectives.finite_difference_density_matching, step=0.02)}


def noisy(n, level, *, shape=(1, 1, 2)):
    """A mixture, n points of it with noise as images of two pixels, and their σ."""
    mixture = float64_mixture()
    clean = mixture.sample(n, generator=seeded(1)).reshape(n, *shape)
    noise = torch.randn(clean.shape, generator=seeded(2), dtype=clean.dtype)
    return mixture, clean + level * noise, torch.full((n,), level, dtype=clean.dtype)
