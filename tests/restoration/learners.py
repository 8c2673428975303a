"""Models that restore whose answers are known in closed form."""

import torch
from torch import nn

from oracles import lively
from restoration.gaussians import bayes, gaussian
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.networks import UNet
from scorefield.parameterization import EDM, Regression

EDM_1 = EDM(sigma_data=1.0)
TASKS = ("inpaint", "colorize", "uncrop", "dejpeg", "upscale", "deblur", "denoise", "descratch", "paired")


def as_network(denoised, scaled, label):
    """The output with which EDM(sigma_data=1) gives this D, and x, σ, from what the network is given."""
    sigma = (4 * label).exp()[:, None, None, None]
    root = (1 + sigma**2).sqrt()
    noisy = scaled * root
    return (denoised(noisy, sigma) - noisy / root**2) * root / sigma


class EachPixel(nn.Module):
    """Pixels x0 ~ N(0, s²), each by itself, shown as y = x0 + t n:

        D(x; σ, y) = (x/σ² + y/t²)/(1/σ² + 1/t² + 1/s²).

    It remembers the shapes of what it was given.
    """

    source_channels = 3

    def __init__(self, spread=0.3, seen=0.2):
        super().__init__()
        self.spread, self.seen, self.shapes = spread, seen, []
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, x, label, source=None):
        self.shapes.append(tuple(x.shape))

        def denoised(noisy, sigma):
            worth = sigma**-2, self.seen**-2
            return (worth[0] * noisy + worth[1] * source) / (sum(worth) + self.spread**-2)

        return as_network(denoised, x, label)


class Row(nn.Module):
    """Images of one row, of a Gaussian distribution, some of whose pixels are known and given clean in x itself."""

    source_channels = 1

    def __init__(self, distribution, known):
        super().__init__()
        eye = torch.eye(len(known), dtype=torch.float64)
        self.distribution, self.known, self.seen, self.unseen = distribution, known, eye[known], eye[~known]
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, x, label, source=None):
        def denoised(noisy, sigma):
            return torch.stack([self._mean(*each) for each in zip(x, noisy, sigma, strict=True)])

        return as_network(denoised, x, label)

    def _mean(self, clean, noisy, sigma):
        told = gaussian(*bayes(self.distribution, self.seen, self.seen @ clean.flatten().double(), 0.0))
        mean, _ = bayes(told, self.unseen, self.unseen @ noisy.flatten().double(), float(sigma))
        return mean.float().reshape(noisy.shape)


def model_of(network, *, shape=(3, 16, 16), tasks=TASKS, hole=1.0, sigma_range=(0.002, 20.0)):
    return ScoreModel(
        network,
        EDM_1,
        ModelSpec(shape=shape, sigma_range=sigma_range, restoration=RestorationSpec(tasks=tasks, hole_fill=hole)),
    ).eval()


def tiny_learner(channels=3, *, size=16, tasks=TASKS, regression=False):
    """A small untrained U-Net that is shown a source."""
    torch.manual_seed(0)
    network = lively(UNet(channels=channels, source_channels=channels, widths=(8, 8)))
    parameterization = Regression() if regression else EDM()
    return ScoreModel(
        network, parameterization, ModelSpec(shape=(channels, size, size), restoration=RestorationSpec(tasks=tasks))
    ).eval()
