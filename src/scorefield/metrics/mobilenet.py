"""MobileNetV2 with torchvision's ImageNet weights: a small network whose features know objects.

    convolution 3×3 to 32 channels, stride 2
    17 blocks: 1×1 to t times the channels, depthwise 3×3, 1×1 to c (Table 2); added to the input where
    neither size nor channels change
    1×1 to 1280 channels, mean over the image: the features
    a linear layer to 1000 logits: ImageNet's classes

Every convolution is followed by a normalization, and all but each block's last by ReLU6. An image of 8-bit values p
is resized to 224 × 224, bilinear with half-pixel centres and antialiasing, whatever its aspect, and scaled,
(p/255 − m)/s with ImageNet's m = (0.485, 0.456, 0.406) and s = (0.229, 0.224, 0.225). Grey is repeated to RGB.
torchvision's own classification takes the central 224 of 256 pixels; here nothing is cropped, so that a distance
covers the whole image.

A distance on these features is no FID and is named FD[mobilenet-b035].

References:
    Sandler et al. (2018), MobileNetV2. https://arxiv.org/abs/1801.04381
"""

from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scorefield.files import sha256
from scorefield.metrics.features import NetworkFeatures
from scorefield.metrics.weights import read_weights

__all__ = ["MobileNetV2", "mobilenet_features", "normalized"]

SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MEND = "Give torchvision's weights of mobilenet_v2 (mobilenet_v2-b0353104.pth)."
_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
           (6, 320, 1, 1))  # fmt: skip
"""t, c, number of blocks, stride of the first (Table 2)."""


def normalized(images: Tensor, *, side: int | None = SIDE) -> Tensor:
    """uint8 (N, 1 or 3, H, W) as the input of ImageNet networks, (N, 3, side, side), float32."""
    x = images.float().expand(-1, 3, -1, -1)
    if side is not None and x.shape[-2:] != (side, side):
        x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(v, device=x.device).reshape(3, 1, 1) for v in (MEAN, STD))
    return (x / 255 - mean) / std


class MobileNetV2(nn.Module):
    """Maps normalized images (N, 3, H, W) to features (N, 1280) and logits (N, 1000), float32."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_layer(3, 32, stride=2)]
        width = 32
        for expansion, channels, count, stride in _BLOCKS:
            for i in range(count):
                layers.append(_InvertedResidual(width, channels, stride if i == 0 else 1, expansion))
                width = channels
        layers.append(_layer(width, 1280, kernel=1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(OrderedDict({"1": nn.Linear(1280, 1000)}))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        features = self.features(images).mean((2, 3))
        return features, self.classifier(features)


def mobilenet_features(path: Path, *, device: str | torch.device = "cpu") -> NetworkFeatures:
    """Features (N, 1280) and probabilities (N, 1000) of MobileNetV2, with weights from torchvision's file.

    Args:
        path: file of the weights.
        device: where the network computes.

    Raises:
        UserError: no such file, or weights of another network.
    """
    with torch.device("meta"):  # no initial weights, which the file's replace
        network = MobileNetV2().to_empty(device="cpu")
    network.load_state_dict(read_weights(path, network.state_dict(), network="MobileNetV2", mend=_MEND))
    _fuse(network.eval().requires_grad_(False))
    return NetworkFeatures(
        name=f"mobilenet-{sha256(path)[:4]}",
        network=network.to(device),
        # Depthwise convolutions take half the time in this layout.
        prepare=lambda images: normalized(images).contiguous(memory_format=torch.channels_last),
        batch=8,
    )


class _InvertedResidual(nn.Module):
    """Inverted residual block: wide in the middle (Sandler et al. 2018, Table 1)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        wide = [_layer(inputs, width, kernel=1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *wide,
            _layer(width, width, stride=stride, groups=width),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


def _layer(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


def _fuse(module: nn.Module) -> None:
    """Fold every batch normalization into the convolution before it: the same numbers in a third less time."""
    for child in module.children():
        if isinstance(child, nn.Sequential):
            for index, (first, then) in enumerate(pairwise(child)):
                if isinstance(first, nn.Conv2d) and isinstance(then, nn.BatchNorm2d):
                    child[index], child[index + 1] = fuse_conv_bn_eval(first, then), nn.Identity()
        _fuse(child)
