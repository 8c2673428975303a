"""The Inception network of published FID, KID and IS.

Papers measure with one network: the TensorFlow graph "inception-2015-12-05", whose weights pytorch-fid converted to
PyTorch and every later tool uses. This file computes torch-fidelity's function of them. An image of 8-bit values p is

- resized to 299×299, out[i] = lerp(in[⌊i H/299⌋], in[⌊i H/299⌋ + 1]) along either axis, TensorFlow 1's
  bilinear: no shift by half a pixel, no smoothing, the last row repeated;
- scaled, (p − 128)/128;
- passed through 94 layers of convolution, normalization by stored moments (ε = 10⁻³) and ReLU;
- averaged over 8×8 places into 2048 features, for FID and KID;
- mapped by the last layer without its bias to 1008 logits; IS takes their softmax.

Three things differ from the paper's network: average pools leave the padding out of the mean, the very last block
takes a maximum where the others take the average, and grey images are repeated to RGB. Another resize, or
torchvision's own network, gives another number. A number is called FID, KID or IS only with the published file of
weights; other weights are named after the first digits of their SHA-256.

References:
    Szegedy et al. (2015), the architecture. https://arxiv.org/abs/1512.00567
    Heusel et al. (2017), FID. https://arxiv.org/abs/1706.08500
    Obukhov et al. (2020), torch-fidelity. https://doi.org/10.5281/zenodo.4957738
    Seitzer (2020), pytorch-fid, the weights. https://github.com/mseitzer/pytorch-fid
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.metrics.features import NetworkFeatures
from scorefield.metrics.weights import INCEPTION_URL, fetch_inception, inception_name, read_weights
from scorefield.progress import ProgressCallback, ignore_progress

__all__ = ["Inception", "inception_features", "resize"]

SIDE = 299

Conv = tuple[int, int, int]  # outputs, height and width of the kernel
Stage = tuple[Conv, ...]  # convolutions of one input, side by side


def resize(pixels: Tensor, *, side: int = SIDE) -> Tensor:
    """TensorFlow 1's bilinear resize without aligned corners, (N, C, H, W) to (N, C, side, side), float32."""
    for axis in (3, 2):
        size = pixels.shape[axis]
        places = torch.arange(side, dtype=torch.float32, device=pixels.device)
        places = places * torch.tensor(size / side, dtype=torch.float32, device=pixels.device)
        low = places.long()
        near = pixels.index_select(axis, low)
        far = pixels.index_select(axis, (low + 1).clamp_max(size - 1))
        share = (places - low).reshape(-1, *[1] * (3 - axis))
        pixels = near + (far - near) * share
    return pixels


class Inception(nn.Module):
    """Maps uint8 images (N, 3, H, W) to features (N, 2048) and logits without bias (N, 1008), float32."""

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {
            "Conv2d_1a_3x3": _Conv(3, (32, 3, 3), stride=2, pad=False),
            "Conv2d_2a_3x3": _Conv(32, (32, 3, 3), pad=False),
            "Conv2d_2b_3x3": _Conv(32, (64, 3, 3)),
            "MaxPool_1": nn.MaxPool2d(3, 2),
            "Conv2d_3b_1x1": _Conv(64, (80, 1, 1)),
            "Conv2d_4a_3x3": _Conv(80, (192, 3, 3), pad=False),
            "MaxPool_2": nn.MaxPool2d(3, 2),
            "Mixed_5b": _small(192, 32),
            "Mixed_5c": _small(256, 64),
            "Mixed_5d": _small(288, 64),
            "Mixed_6a": _first_reduction(288),
            "Mixed_6b": _long(768, 128),
            "Mixed_6c": _long(768, 160),
            "Mixed_6d": _long(768, 160),
            "Mixed_6e": _long(768, 192),
            "Mixed_7a": _second_reduction(768),
            "Mixed_7b": _wide(1280, _average),
            "Mixed_7c": _wide(2048, _maximum),
        }
        self.body = nn.Sequential(OrderedDict(layers))
        self.fc = nn.Linear(2048, 1008)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        features = self.body((resize(images.float()) - 128) / 128).mean((2, 3))
        return features, features @ self.fc.weight.T


def inception_features(
    path: Path | None = None,
    *,
    device: str | torch.device = "cpu",
    progress: ProgressCallback = ignore_progress,
) -> NetworkFeatures:
    """Features (N, 2048) and probabilities (N, 1008) of Inception, with weights from a file or the published ones.

    Args:
        path: file of the weights; by default the published one, downloaded once into the cache.
        device: where the network computes.
        progress: of the download.

    Raises:
        UserError: no such file, other weights, or a failed download.
    """
    path = fetch_inception(progress=progress) if path is None else path
    with torch.device("meta"):  # no initial weights, which the file's replace
        network = Inception().to_empty(device="cpu")
    own_names = {name.removeprefix("body."): name for name in network.state_dict()}
    published = {name: network.state_dict()[own] for name, own in own_names.items()}
    weights = read_weights(path, published, network="Inception", mend=f"Download {INCEPTION_URL}.")
    network.load_state_dict({own_names[name]: tensor for name, tensor in weights.items()})
    return NetworkFeatures(
        name=inception_name(path),
        network=network.eval().requires_grad_(False).to(device),
        prepare=lambda images: images,
        probability_dtype=torch.float64,
    )


class _Conv(nn.Module):
    """Convolution, batch normalization, ReLU."""

    def __init__(self, inputs: int, conv: Conv, *, stride: int = 1, pad: bool = True) -> None:
        super().__init__()
        outputs, *kernel = conv
        padding = (kernel[0] // 2, kernel[1] // 2) if pad else 0
        self.conv = nn.Conv2d(inputs, outputs, (kernel[0], kernel[1]), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu_()


class _Mixed(nn.Module):
    """Parallel paths of convolutions and a pool, their outputs concatenated.

    Args:
        inputs: channels.
        paths: name → consecutive stages. The weights of a stage are named after the path, with the stage's number
            if there are several and a letter for parallel convolutions.
        pool: of the input.
        pooled: outputs of a 1×1 convolution after the pool; 0 means a block that halves the image.
    """

    def __init__(
        self,
        inputs: int,
        paths: dict[str, Sequence[Stage]],
        pool: Callable[[Tensor], Tensor],
        pooled: int = 0,
    ) -> None:
        super().__init__()
        self.pool, self.pooled = pool, pooled
        self.paths: list[list[list[str]]] = []
        for path, stages in paths.items():
            self.paths.append([])
            width = inputs
            for i, stage in enumerate(stages, 1):
                halves = not pooled and i == len(stages)
                number = f"_{i}" if len(stages) > 1 else ""
                names = [f"{path}{number}{'ab'[j] if len(stage) > 1 else ''}" for j in range(len(stage))]
                for name, conv in zip(names, stage, strict=True):
                    self.add_module(name, _Conv(width, conv, stride=1 + halves, pad=not halves))
                self.paths[-1].append(names)
                width = sum(conv[0] for conv in stage)
        if pooled:
            self.branch_pool = _Conv(inputs, (pooled, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for stages in self.paths:
            y = x
            for names in stages:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            outputs.append(y)
        side = self.pool(x)
        return torch.cat([*outputs, self.branch_pool(side) if self.pooled else side], 1)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def _halving(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


def _small(inputs: int, pooled: int) -> _Mixed:
    """35×35 (Szegedy et al. 2015, Figs 4 and 5)."""
    paths: dict[str, Sequence[Stage]] = {
        "branch1x1": [((64, 1, 1),)],
        "branch5x5": [((48, 1, 1),), ((64, 5, 5),)],
        "branch3x3dbl": [((64, 1, 1),), ((96, 3, 3),), ((96, 3, 3),)],
    }
    return _Mixed(inputs, paths, _average, pooled)


def _first_reduction(inputs: int) -> _Mixed:
    """35×35 to 17×17 (Fig. 10)."""
    paths: dict[str, Sequence[Stage]] = {
        "branch3x3": [((384, 3, 3),)],
        "branch3x3dbl": [((64, 1, 1),), ((96, 3, 3),), ((96, 3, 3),)],
    }
    return _Mixed(inputs, paths, _halving)


def _long(inputs: int, c: int) -> _Mixed:
    """17×17, separable kernels (Fig. 6)."""
    paths: dict[str, Sequence[Stage]] = {
        "branch1x1": [((192, 1, 1),)],
        "branch7x7": [((c, 1, 1),), ((c, 1, 7),), ((192, 7, 1),)],
        "branch7x7dbl": [((c, 1, 1),), ((c, 7, 1),), ((c, 1, 7),), ((c, 7, 1),), ((192, 1, 7),)],
    }
    return _Mixed(inputs, paths, _average, 192)


def _second_reduction(inputs: int) -> _Mixed:
    """17×17 to 8×8."""
    paths: dict[str, Sequence[Stage]] = {
        "branch3x3": [((192, 1, 1),), ((320, 3, 3),)],
        "branch7x7x3": [((192, 1, 1),), ((192, 1, 7),), ((192, 7, 1),), ((192, 3, 3),)],
    }
    return _Mixed(inputs, paths, _halving)


def _wide(inputs: int, pool: Callable[[Tensor], Tensor]) -> _Mixed:
    """8×8, with paths that end in parallel convolutions (Fig. 7)."""
    parted = ((384, 1, 3), (384, 3, 1))
    paths: dict[str, Sequence[Stage]] = {
        "branch1x1": [((320, 1, 1),)],
        "branch3x3": [((384, 1, 1),), parted],
        "branch3x3dbl": [((448, 1, 1),), ((384, 3, 3),), parted],
    }
    return _Mixed(inputs, paths, pool, 192)
