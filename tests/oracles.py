"""Closed forms and spies that several tests lean on."""

from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import nn

from scorefield.distributions import GaussianMixture
from scorefield.model import ModelSpec, ScoreModel
from scorefield.networks import UNet
from scorefield.parameterization import EDM


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def float32_mixture():
    """Three components in the plane, of different covariances, that overlap at σ of about 1."""
    return GaussianMixture(
        torch.tensor([0.3, 0.5, 0.2]),
        torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -2.0]]),
        torch.tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.2, -0.1], [-0.1, 0.4]], [[0.5, 0.0], [0.0, 0.1]]]),
    )


def float64_mixture():
    m = float32_mixture()
    return GaussianMixture(m.weights.double(), m.means.double(), m.covariances.double())


def mixture_moments(mixture, sigma=0.0):
    """Mean (D,) and covariance (D, D) of p(·; σ)."""
    w, mu = mixture.weights, mixture.means
    mean = w @ mu
    eye = torch.eye(mu.shape[1], dtype=mu.dtype)
    within = torch.einsum("k,kij->ij", w, mixture.covariances) + sigma**2 * eye
    return mean, within + torch.einsum("k,ki,kj->ij", w, mu - mean, mu - mean)


@dataclass
class Gaussian:
    """D(x; σ) = μ + s²/(s²+σ²) (x − μ), the denoiser of N(μ, s²) in every pixel."""

    mean: float = 0.7
    std: float = 0.5

    def __call__(self, x, sigma):
        sigma = sigma.reshape(-1, *[1] * (x.ndim - 1))
        return self.mean + self.std**2 / (self.std**2 + sigma**2) * (x - self.mean)


@dataclass
class Counting:
    """Counts the calls of a denoiser and keeps the σ of each."""

    denoiser: object
    sigmas: list = field(default_factory=list)

    @property
    def calls(self):
        return len(self.sigmas)

    def __call__(self, x, sigma):
        assert sigma.shape == (len(x),)
        self.sigmas.append(float(sigma[0]))
        return self.denoiser(x, sigma)


class Answers(nn.Module):
    """A network that gives a fixed output and remembers what it was shown."""

    def __init__(self, output):
        super().__init__()
        self.output, self.shown = output, None

    def forward(self, x, label, source=None):
        self.shown = (x, label, source)
        return self.output


class ExactNetwork(nn.Module):
    """The F that makes ScoreModel(F, EDM(sigma_data=1)) the denoiser of a mixture."""

    def __init__(self, mixture):
        super().__init__()
        self.mixture, self.anchor = mixture, nn.Parameter(torch.zeros(()))

    def forward(self, x, label, source=None):
        sigma = (4 * label).exp()[:, None]
        root = (1 + sigma**2).sqrt()
        noisy = x.flatten(1) * root
        denoised = self.mixture(noisy, sigma[:, 0])
        return ((denoised - noisy / root**2) * root / sigma).reshape(x.shape)


def exact_model(mixture, shape=(1, 1, 2)):
    return ScoreModel(
        ExactNetwork(mixture), EDM(sigma_data=1.0), ModelSpec(shape=shape, sigma_range=(0.002, 80.0))
    ).eval()


def lively(network, *, seed=0, spread=0.1):
    """The network with nothing at zero, as after training."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return network


def tiny_model(channels=1, *, size=8, value_range=(-1.0, 1.0)):
    """A small untrained U-Net model that depends on its input and its label."""
    torch.manual_seed(0)
    network = lively(UNet(channels=channels, widths=(8, 8)))
    return ScoreModel(network, EDM(), ModelSpec(shape=(channels, size, size), value_range=value_range)).eval()


def ramp(path, width, height):
    """An image whose red is its column and whose green is its row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width)[None], np.arange(height)[:, None]
    Image.fromarray(pixels).save(path)
    return path
