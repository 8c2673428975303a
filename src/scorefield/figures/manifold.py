"""The manifold hypothesis: images lie on a manifold, so their score is undefined until noise is added.

Song & Ermon (2019), Fig. 1, §3.1, settings of App. B.1: the sliced score matching loss during training on CIFAR-10,
without noise and with noise N(0, 1e-4), σ = 0.01 on pixels in [0, 1], which is invisible. The network is a residual
autoencoder with blocks 32-64-64-128-128 wide on the way down, the second and the fourth halving the side, and
mirrored on the way up; Adam at 1e-3, batch 128, 50,000 iterations.

The loss of an image of D pixels is

    E_v [vᵀ ∇s(x) v] + ½ ‖s(x)‖²,

bounded below by −½ E‖∇log p‖² for data with a density p. With noise that bound is at least −D/2σ². Without noise
there is no bound: the loss decreases and jumps without end. Values are per pixel, divided by D.

Differences to the paper: the paper has ELU in pre-activation blocks, the authors' program group normalization in
post-activation ones; these blocks are pre-activation with group normalization. The way up doubles the side by
repeating pixels before a convolution. `CPU` is a network a quarter as wide, for 1,000 iterations of 32 images reduced
to 14×14; `PAPER` is the paper's.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import interpolate, pad

from scorefield.data.batches import Batches
from scorefield.data.datasets import open_images
from scorefield.figures.catalog import Manifold
from scorefield.figures.drawing import (
    BLUE,
    INK,
    ORANGE,
    caption,
    panels,
)
from scorefield.figures.driver import Drawing, FigureInputs
from scorefield.model import ScoreNetwork
from scorefield.networks.layers import groups_of
from scorefield.objectives import sliced_score_matching
from scorefield.progress import ProgressCallback, ignore_progress, portions

__all__ = ["Autoencoder", "draw", "losses"]


class Autoencoder(nn.Module):
    """Residual blocks down to a quarter of the side and up again; keeps the shape (B, C, H, W).

    Args:
        channels: C.
        width: of the first block.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        w = width
        block = _PreActivation
        down = [block(w, w), block(w, 2 * w, "halve"), block(2 * w, 2 * w), block(2 * w, 4 * w, "halve")]
        middle = [block(4 * w, 4 * w), block(4 * w, 4 * w)]
        up = [block(4 * w, 2 * w, "double"), block(2 * w, 2 * w), block(2 * w, w, "double"), block(w, w)]
        self.first, self.last = nn.Conv2d(channels, w, 3, padding=1), nn.Conv2d(w, channels, 3, padding=1)
        self.blocks = nn.Sequential(*down, *middle, *up)

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """s(x), x in [0, 1]; a side that 4 does not divide is padded inside."""
        height, width = x.shape[-2:]
        whole = pad(2 * x - 1, (0, -width % 4, 0, -height % 4), mode="replicate")
        return self.last(self.blocks(self.first(whole)))[..., :height, :width]


class _PreActivation(nn.Module):
    """x + conv(elu(norm(conv(elu(norm(x)))))), optionally at half or twice the side."""

    def __init__(self, into: int, out: int, size: str = "same") -> None:
        super().__init__()
        stride, self.doubles = (2 if size == "halve" else 1), size == "double"
        self.norm1, self.norm2 = nn.GroupNorm(groups_of(into), into), nn.GroupNorm(groups_of(out), out)
        self.conv1 = nn.Conv2d(into, out, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        same = into == out and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(into, out, 3, stride=stride, padding=1)
        self.elu = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.elu(self.norm1(x))
        if self.doubles:
            x, hidden = (interpolate(v, scale_factor=2.0, mode="nearest") for v in (x, hidden))
        return self.skip(x) + self.conv2(self.elu(self.norm2(self.conv1(hidden))))


def losses(
    images: Tensor,
    settings: Manifold,
    sigma: float,
    *,
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
) -> list[float]:
    """The sliced score matching loss of every iteration, per pixel; it ends early at NaN or infinity.

    Both curves start from the same weights and use the same images in the same order.

    Args:
        images: uint8, (N, C, H, W).
        settings: of the training.
        sigma: of the noise added to the images, 0 for none.
        seed: of weights, order and noise.
        progress: called after each iteration.
    """
    torch.manual_seed(seed)
    field = ScoreNetwork(Autoencoder(images.shape[1], settings.width))
    batches = Batches(images, settings.batch, seed=seed, value_range=(0.0, 1.0))
    generator = Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(field.parameters(), settings.learning_rate, fused=True)
    level, curve = torch.full((settings.batch,), sigma), list[float]()
    for k in range(settings.iterations):
        x = batches.batch(k)
        x = x + sigma * torch.randn(x.shape, generator=generator)
        loss = (
            sliced_score_matching(field, x, level, distribution="gaussian", generator=generator).mean() / x[0].numel()
        )
        curve.append(float(loss.detach()))
        if not math.isfinite(curve[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress((k + 1) / settings.iterations, f"σ = {sigma:g}, iteration {k + 1:,}, loss {curve[-1]:.4g}")
    return curve


def draw(options: Manifold, inputs: FigureInputs) -> Drawing:
    """Both curves of the loss."""
    images = open_images(options.data, size=options.size).images
    halves = portions(inputs.progress, (1, 1))
    curves = [
        losses(images, options, sigma, seed=inputs.seed, progress=half)
        for sigma, half in zip((0.0, options.sigma), halves, strict=True)
    ]
    rows = [
        {"iteration": k + 1, "loss_without_noise": _at(curves[0], k), "loss_with_noise": _at(curves[1], k)}
        for k in range(options.iterations)
    ]
    return Drawing(images=[_plot(curves, options)], rows=rows, numbers=_numbers(curves, options))


def _at(curve: list[float], k: int) -> float:
    return curve[k] if k < len(curve) else math.nan


def _numbers(curves: list[list[float]], settings: Manifold) -> dict[str, Any]:
    """The mean and the std of each curve's last quarter, and the bound that the noise sets."""
    numbers: dict[str, Any] = {}
    for curve, name in zip(curves, ("without noise", f"with noise σ = {settings.sigma:g}"), strict=True):
        last = torch.tensor(curve[-max(1, len(curve) // 4) :], dtype=torch.float64)
        numbers[f"loss per pixel {name}"] = (
            f"{last.mean():.4g} ± {last.std(correction=0):.2g} over the last {len(last)} iterations"
        )
    numbers["bound with noise"] = f"-1/2σ² = {-0.5 / settings.sigma**2:.4g} per pixel"
    return numbers


def _plot(curves: list[list[float]], settings: Manifold) -> Any:
    figure, axes = panels(1, 2, width=9.0, height=3.6)
    titles = ("without noise", f"with noise, σ = {settings.sigma:g}")
    for axis, curve, name, color in zip(axes, curves, titles, (ORANGE, BLUE), strict=True):
        steps = range(1, len(curve) + 1)
        axis.plot(steps, curve, color=color, linewidth=0.7, alpha=0.45)
        axis.plot(steps, _smooth(curve), color=color, linewidth=1.8)
        caption(axis, name)
        axis.set(xlabel="iteration", ylabel="sliced score matching loss per pixel")
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.grid(visible=True, alpha=0.25)
    figure.suptitle(f"{Path(settings.data).stem}: the same network, weights and images", fontsize=10, color=INK)
    return figure


def _smooth(curve: list[float]) -> list[float]:
    """The mean over the last fiftieth of the curve's length."""
    span = max(1, len(curve) // 50)
    total = torch.cat([torch.zeros(1, dtype=torch.float64), torch.tensor(curve).double().cumsum(0)])
    at = torch.arange(1, len(curve) + 1)
    before = (at - span).clamp_min(0)
    return ((total[at] - total[before]) / (at - before)).tolist()
