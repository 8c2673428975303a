"""The sliced loss of images, with noise on them and without."""

import sys

import pytest
import torch
from torch import nn

from scorefield.figures.catalog import FIGURES, MANIFOLD_PAPER, Manifold
from scorefield.figures.manifold import Autoencoder, losses

module = sys.modules["scorefield.figures.manifold"]


def flat(n=64):
    """Images of one grey each: they lie on a line."""
    greys = torch.arange(n) * 255 // (n - 1)
    return greys[:, None, None, None].expand(n, 1, 8, 8).to(torch.uint8).contiguous()


def test_the_papers_settings_are_kept():
    assert Manifold(iterations=50_000, batch=128, learning_rate=1e-3, width=32, sigma=0.01) == MANIFOLD_PAPER
    assert FIGURES["manifold"].default.learning_rate == MANIFOLD_PAPER.learning_rate
    assert FIGURES["manifold"].default.sigma == MANIFOLD_PAPER.sigma


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 9, 14)])
def test_the_network_takes_any_size(channels, height, width):
    network = Autoencoder(channels, 8)
    x = torch.rand(2, channels, height, width)
    assert network(x, torch.zeros(2)).shape == x.shape
    widths = [block.conv2.out_channels for block in network.blocks]
    assert widths == [8, 16, 16, 32, 32, 32, 16, 16, 8, 8]


class Pull(nn.Module):
    """s(x) = −k (x − mean x), which pulls an image to the line of flat ones; k is learned."""

    def __init__(self, channels, width):
        super().__init__()
        self.k = nn.Parameter(torch.ones(()))

    def forward(self, x, label, source=None):
        return -self.k * (x - x.mean((1, 2, 3), keepdim=True))


def test_without_noise_the_loss_falls_for_ever_and_with_noise_it_meets_its_bound(monkeypatch):
    """Flat images of D = 64 pixels: per pixel the loss is (−k + ½ k² σ²)(1 − 1/D).

    Adam moves k by about its rate each time, so without noise the loss ends at −(1 + 200·0.1); with noise it
    settles at k = 1/σ², that is at −(1 − 1/D)/2σ². Within 5 %, from 16 images and one v each.
    """
    monkeypatch.setattr(module, "Autoencoder", Pull)
    settings = Manifold(iterations=200, batch=16, learning_rate=0.1, sigma=0.5)
    clean, noisy = (losses(flat(), settings, sigma) for sigma in (0.0, settings.sigma))
    share = 1 - 1 / 64
    assert clean[-1] == pytest.approx(-21 * share, rel=0.2)
    assert clean == pytest.approx(sorted(clean, reverse=True), rel=0.4)
    assert sum(noisy[-50:]) / 50 == pytest.approx(-0.5 / settings.sigma**2 * share, rel=0.05)


def test_both_curves_begin_at_the_same_weights():
    """At almost no noise the first loss is that without."""
    settings = Manifold(iterations=1, batch=8, width=8)
    clean, noisy = (losses(flat(), settings, sigma)[0] for sigma in (0.0, 1e-6))
    assert clean == pytest.approx(noisy, abs=1e-2)
