"""Features of MobileNetV2 as torchvision defines it and trained it on ImageNet: small, and knows its classes.

    convolution 3×3 to 32 channels, half the size
    17 blocks: 1×1 to t times the channels, 3×3 of each channel by itself, 1×1 to c (Table 2); added to
    the input where neither size nor channels change
    1×1 to 1280 channels, mean over the image: the features
    a linear layer to 1000 logits: ImageNet's classes

with a normalization after every convolution and min(max(·, 0), 6) after all but each block's last. An image
of 8-bit values p is resized to 224 × 224, bilinear with half-pixel centres and antialiasing, whatever its
aspect, and scaled, (p/255 − m)/s with ImageNet's m = (0.485, 0.456, 0.406) and s = (0.229, 0.224, 0.225);
grey is repeated to RGB. torchvision's own classification cuts the middle 224 of 256 pixels; nothing is cut
here, so that a distance sees the whole image.

A distance on these features is no FID and is not called so: FD[mobilenet-b035].

References:
    Sandler et al. (2018), MobileNetV2. https://arxiv.org/abs/1801.04381
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scorefield.metrics.features import Extracted, seen_by
from scorefield.metrics.weights import read_weights, sha256

SIDE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MEND = "Give torchvision's weights of mobilenet_v2 (mobilenet_v2-b0353104.pth)."
_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
           (6, 320, 1, 1))  # fmt: skip
"""t, c, how many, and the first one's stride (Table 2)."""


def normalized(images: Tensor, *, side: int | None = SIDE) -> Tensor:
    """uint8 (N, 1 or 3, H, W) as networks of ImageNet see it, (N, 3, side, side), float32."""
    x = images.float().expand(-1, 3, -1, -1)
    if side is not None and x.shape[-2:] != (side, side):
        x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)
    mean, deviation = (torch.tensor(v, device=x.device).reshape(3, 1, 1) for v in (MEAN, DEVIATION))
    return (x / 255 - mean) / deviation


class MobileNetV2(nn.Module):
    """Normalized images (N, 3, H, W) to features (N, 1280) and logits (N, 1000), float32."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_layer(3, 32, stride=2)]
        width = 32
        for expansion, channels, count, stride in _BLOCKS:
            for i in range(count):
                layers.append(_Block(width, channels, stride if i == 0 else 1, expansion))
                width = channels
        layers.append(_layer(width, 1280, kernel=1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(OrderedDict({"1": nn.Linear(1280, 1000)}))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        features = self.features(images).mean((2, 3))
        return features, self.classifier(features)


@dataclass(frozen=True, kw_only=True)
class MobileNetFeatures:
    """The 1280 features, and the probabilities of ImageNet's 1,000 classes.

    Args:
        name: holds the beginning of the weights' digest, as in "mobilenet-b035".
        network: in evaluation mode.
        batch: images at once.
    """

    name: str
    network: MobileNetV2
    batch: int = 8

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Extracted:
        """Features (N, 1280) and probabilities (N, 1000), float32, of uint8 images (N, 1 or 3, H, W).

        Raises:
            UserError: images of another form.
        """
        features, logits = seen_by(
            self.network,
            images,
            batch=self.batch,
            name="MobileNet",
            prepare=lambda x: _laid_out(normalized(x)),
        )
        return Extracted(features=features, probabilities=logits.softmax(1))


def mobilenet_features(path: Path, *, device: str | torch.device = "cpu") -> MobileNetFeatures:
    """The network with its weights from torchvision's file.

    Args:
        path: of the weights.
        device: where the network computes.

    Raises:
        UserError: no such file, or weights of another network.
    """
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn from the global state, and replaced
        network = MobileNetV2()
    network.load_state_dict(read_weights(path, network.state_dict(), network="MobileNetV2", mend=_MEND))
    _fuse(network.eval().requires_grad_(False))
    return MobileNetFeatures(name=f"mobilenet-{sha256(path)[:4]}", network=network.to(device))


class _Block(nn.Module):
    """A block whose middle is wide (Sandler et al. 2018, Table 1)."""

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


def _laid_out(x: Tensor) -> Tensor:
    """Channels last, in which convolutions of single channels take half the time."""
    return x.contiguous(memory_format=torch.channels_last)


def _fuse(module: nn.Module) -> None:
    """Let every convolution do the normalization that follows it: the same numbers in a third less time."""
    for child in module.children():
        if isinstance(child, nn.Sequential):
            for index, (first, then) in enumerate(pairwise(child)):
                if isinstance(first, nn.Conv2d) and isinstance(then, nn.BatchNorm2d):
                    child[index], child[index + 1] = fuse_conv_bn_eval(first, then), nn.Identity()
        _fuse(child)
