"""Images of independent Gaussian pixels, for which every loss is known."""

import torch
from torch import nn

from oracles import Gaussian, seeded

MEAN, STD = 0.5, 0.15


def data(n, *, seed=0, side=4):
    """Images in which every pixel is N(MEAN, STD²), (n, 1, side, side)."""
    return MEAN + STD * torch.randn(n, 1, side, side, generator=seeded(seed))


def fisher(model, sigma):
    """(σ²/d) E‖ŝ − s‖², ŝ = (m − u)/(v + σ²), s = (μ − u)/(s² + σ²), for u ~ N(μ, s² + σ²)."""
    a, b = 1 / (model.std**2 + sigma**2), 1 / (STD**2 + sigma**2)
    return sigma**2 * ((a - b) ** 2 / b + (a * (model.mean - MEAN)) ** 2)


def best(sigma):
    """C(σ): the posterior variance of a pixel over σ²."""
    return STD**2 / (STD**2 + sigma**2)


class GaussianNetwork(nn.Module):
    """The F of a network that predicts x0, for N(mean, std²): it sees x/√(1+σ²) and γ."""

    def __init__(self, mean, std):
        super().__init__()
        self.exact, self.anchor = Gaussian(mean, std), nn.Parameter(torch.zeros(()))

    def forward(self, x, label, source=None):
        sigma = ((1 - label) / label).sqrt()
        return self.exact(x / label.sqrt().reshape(-1, 1, 1, 1), sigma)
