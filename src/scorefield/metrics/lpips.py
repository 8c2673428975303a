"""LPIPS: a perceptual distance on AlexNet's features, weighted to agree with people's judgements.

With φ_l(x) the rectified outputs of AlexNet's five convolutions, normalized at each place to unit length over
channels, and w_l ≥ 0 a weight for each channel,

    LPIPS(a, b) = Σ_l mean over places of Σ_c w_lc (φ_lc(a) − φ_lc(b))²        (Zhang et al. 2018, eq. 1).

An image of 8-bit values p is scaled to (p/127.5 − 1 − m)/s, m = (−0.030, −0.088, −0.188), s = (0.458, 0.448,
0.450), at its own size. The weights are two files: torchvision's AlexNet, and the linear heads that the authors
learned (`alex.pth` of version 0.1). The name holds the digests of both.

References:
    Zhang et al. (2018). https://arxiv.org/abs/1801.03924
    Krizhevsky (2014), the AlexNet that torchvision trained. https://arxiv.org/abs/1404.5997
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from scorefield.errors import UserError
from scorefield.files import sha256
from scorefield.metrics.classifier import check_images
from scorefield.metrics.weights import read_weights

__all__ = ["LPIPS", "AlexNet", "read_lpips"]

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_WIDTHS = (64, 192, 384, 256, 256)
_TAPS = (1, 4, 7, 9, 11)  # the rectified convolutions
_LEAST = 31  # pixels; smaller images vanish in the poolings
_FEATURES = "Give torchvision's weights of alexnet (alexnet-owt-7be5be79.pth)."
_HEADS = "Give the linear heads of LPIPS 0.1 for AlexNet (alex.pth)."


class AlexNet(nn.Module):
    """Maps scaled images to the five rectified layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> list[Tensor]:
        """Five of (N, C_l, H_l, W_l)."""
        layers: list[Tensor] = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _TAPS:
                layers.append(x)
        return layers


@dataclass(frozen=True, kw_only=True)
class LPIPS:
    """The distance (see the module).

    Args:
        name: holds the first digits of both digests.
        network: AlexNet, in evaluation mode.
        heads: w_l, (C_l,) each.
        batch: images at once.
    """

    name: str
    network: AlexNet
    heads: tuple[Tensor, ...]
    batch: int = 32

    @torch.inference_mode()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance of each pair, (N,), float32, on the CPU.

        Args:
            a: uint8, (N, 1 or 3, H, W), from 31 × 31.
            b: of the same shape.

        Raises:
            UserError: images of other forms, or smaller ones.
        """
        for one in (a, b):
            check_images(one)
        if a.shape != b.shape or a.shape[1] not in (1, 3):
            raise UserError("images", f"{tuple(a.shape)} and {tuple(b.shape)}: need two alike, grey or RGB.")
        if min(a.shape[-2:]) < _LEAST:
            raise UserError("images", f"{a.shape[-1]}×{a.shape[-2]} is too small for LPIPS.", f"From {_LEAST}.")
        parts = zip(a.split(self.batch), b.split(self.batch), strict=True)
        return torch.cat([self._distances(x, y) for x, y in parts])

    def _distances(self, a: Tensor, b: Tensor) -> Tensor:
        device = self.heads[0].device
        layers = zip(self.network(_scaled(a.to(device))), self.network(_scaled(b.to(device))), strict=True)
        total = torch.zeros(len(a), device=device)
        for head, (x, y) in zip(self.heads, layers, strict=True):
            square = (_unit(x) - _unit(y)).square().mean((2, 3))
            total = total + square @ head
        return total.cpu()


def read_lpips(features: Path, heads: Path, *, device: str | torch.device = "cpu") -> LPIPS:
    """LPIPS with its weights from two files.

    Args:
        features: torchvision's weights of AlexNet.
        heads: the five linear heads, `lin0.model.1.weight` (1, 64, 1, 1) and so on.
        device: where the network computes.

    Raises:
        UserError: no such file, or weights of another network.
    """
    with torch.random.fork_rng(devices=[]):
        network = AlexNet()
    network.load_state_dict(
        read_weights(features, network.state_dict(), network="AlexNet", mend=_FEATURES, ignore=("classifier.",))
    )
    names = OrderedDict((f"lin{i}.model.1.weight", torch.empty(1, w, 1, 1)) for i, w in enumerate(_WIDTHS))
    found = read_weights(heads, names, network="LPIPS", mend=_HEADS)
    return LPIPS(
        name=f"LPIPS[alexnet-{sha256(features)[:4]}-{sha256(heads)[:4]}]",
        network=network.eval().requires_grad_(False).to(device),
        heads=tuple(found[name].flatten().float().to(device) for name in names),
    )


def _scaled(images: Tensor) -> Tensor:
    shift, scale = (torch.tensor(v, device=images.device).reshape(3, 1, 1) for v in (_SHIFT, _SCALE))
    return (images.float().expand(-1, 3, -1, -1) / 127.5 - 1 - shift) / scale


def _unit(x: Tensor) -> Tensor:
    """Unit length over channels; 1e-10 as in the authors' program."""
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
