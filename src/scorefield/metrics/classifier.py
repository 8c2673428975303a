"""A small classifier of a data set's own labels, whose last hidden layer serves as features.

Trained by cross-entropy with momentum under a one-cycle learning rate, on images shifted by up to one pixel.
(Shifts of two cost 1 % of accuracy in so short a training; mirroring would turn a digit into another thing.)
60,000 images of 28×28 take about 95 seconds on two cores. Distances compare only on identical weights, which their
SHA-256 identifies.

References:
    Smith & Topin (2018), one-cycle learning rates. https://arxiv.org/abs/1708.07120
    He et al. (2015), initial weights. https://arxiv.org/abs/1502.01852
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from scorefield.errors import UserError
from scorefield.files import atomic
from scorefield.progress import ProgressCallback, ignore_progress

__all__ = [
    "Classifier",
    "Facts",
    "check_images",
    "load_classifier",
    "save_classifier",
    "train_classifier",
]

WIDTH = 128  # number of features

_FORMAT = "scorefield-classifier-1"

Facts = dict[str, str | int | float]


class Classifier(nn.Module):
    """Maps uint8 images (N, C, H, W), of any size from 8×8, to features and class scores.

    Pixels are standardized inside by the training set's mean and std of each channel. The features are the mean
    over the image of the last rectified layer, (N, 128).

    Args:
        channels: 1 to 4.
        class_count: number of classes K.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, channels: int, class_count: int) -> None:
        super().__init__()
        self.channels, self.class_count = channels, class_count
        self.register_buffer("mean", torch.full((channels, 1, 1), 127.5))
        self.register_buffer("deviation", torch.full((channels, 1, 1), 64.0))
        self.body = nn.Sequential(
            *_layer(channels, 16),
            nn.MaxPool2d(2),
            *_layer(16, 48),
            nn.MaxPool2d(2),
            _ResidualLayer(48),
            *_layer(48, WIDTH),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(WIDTH, class_count)

    def features(self, images: Tensor) -> Tensor:
        """Features, (N, 128), of uint8 images."""
        return self.body((images.float() - self.mean) / self.deviation)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores before the softmax, (N, K), of uint8 images."""
        return self.head(self.features(images))

    def digest(self) -> str:
        """SHA-256 of all weights, in hexadecimal: the identity of the features."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    class_count: int,
    epochs: int,
    seed: int,
    batch: int = 128,
    lr: float = 0.1,
    device: str | torch.device = "cpu",
    progress: ProgressCallback = ignore_progress,
) -> Classifier:
    """Train from scratch; the same seed, machine and number of threads give the same weights.

    Args:
        images: uint8, (N, C, H, W).
        labels: integers 0 … class_count − 1, (N,).
        class_count: number of classes.
        epochs: passes over the images.
        seed: of the initial weights, the order and the shifts.
        batch: images a step.
        lr: the largest learning rate of the cycle.
        device: where to train and where the classifier stays.
        progress: called after each step.

    Raises:
        UserError: images or labels of another form, or a class without images.
    """
    check_images(images)
    if labels.shape != (len(images),) or labels.is_floating_point():
        raise UserError("labels", f"must be {len(images)} integers, not {tuple(labels.shape)}.")
    if class_count < 2 or int(labels.min()) < 0 or int(labels.max()) >= class_count:
        raise UserError("labels", f"lie in {labels.min()}…{labels.max()}, not in 0…{class_count - 1}.")
    counts = labels.bincount(minlength=class_count)
    if not counts.all():
        raise UserError(
            "labels",
            f"class {int(counts.argmin())} of {class_count} has no images.",
            "Number the classes without gaps, or add images of it.",
        )
    generator = Generator().manual_seed(seed)
    classifier = _initial(images, class_count, generator).to(device)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    batch = min(batch, len(images))
    total = epochs * (len(images) // batch)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=max(total, 8), pct_start=0.25)
    half = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=_has_bfloat16(device))
    done = 0
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for rows in order.split(batch)[: total // epochs]:
            with half:
                scores = classifier(_shifted(images[rows], generator).to(device))
            loss = F.cross_entropy(scores.float(), labels[rows].long().to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            done += 1
            progress(done / total, f"step {done} of {total}")
    return classifier.eval()


def save_classifier(classifier: Classifier, path: Path, facts: Facts) -> Facts:
    """Write weights and facts as one safetensors file, whole or not at all; return the facts completed."""
    facts = facts | {
        "channels": classifier.channels,
        "class_count": classifier.class_count,
        "weights_digest": classifier.digest(),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in classifier.state_dict().items()}
    with atomic(path) as part:
        save_file(tensors, part, metadata={"format": _FORMAT, "facts": json.dumps(facts)})
    return facts


def load_classifier(path: Path) -> tuple[Classifier, Facts]:
    """Read what `save_classifier` wrote, in evaluation mode, and check the digest of the weights.

    Raises:
        UserError: no such file, not a classifier of ours, or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise UserError(path, "is not a classifier that scorefield saved.")
            facts = json.loads(metadata["facts"])
            class_count, width = file.get_slice("head.weight").get_shape()
            channels = file.get_slice("mean").get_shape()[0]
            if (facts["channels"], facts["class_count"], width) != (channels, class_count, WIDTH):
                raise ValueError("its facts do not fit its weights")
            with torch.random.fork_rng(devices=[]):
                classifier = Classifier(channels=channels, class_count=class_count)
            classifier.load_state_dict({k: file.get_tensor(k) for k in file.keys()})  # noqa: SIM118
            sound = classifier.digest() == facts["weights_digest"]
    except FileNotFoundError as error:
        raise UserError(path, "no such file.") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(path, f"cannot be read as a classifier ({reason}).") from error
    if not sound:
        raise UserError(path, "is damaged: its weights differ from those that were saved.")
    return classifier.eval(), facts


def check_images(images: Tensor, *, channels: int | None = None) -> None:
    """Raise UserError unless `images` are uint8 (N, C, H, W), of `channels` and at least 8×8."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise UserError("images", f"must be uint8 (N, C, H, W), not {images.dtype} {tuple(images.shape)}.")
    count, c, height, width = images.shape
    if not count:
        raise UserError("images", "there are none.")
    if not 1 <= c <= 4 or min(height, width) < 8:
        raise UserError("images", f"{c} channels of {height}×{width}.", "Use 1 to 4 channels from 8×8.")
    if channels is not None and c != channels:
        raise UserError("images", f"{c} channels, but these features take {channels}.", "Convert the images.")


class _ResidualLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*_layer(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


def _initial(images: Tensor, class_count: int, generator: Generator) -> Classifier:
    with torch.random.fork_rng(devices=[]):  # torch's layers draw their initial weights from the global generator
        classifier = Classifier(channels=images.shape[1], class_count=class_count)
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    some = images[torch.randperm(len(images), generator=generator)[:10_000]].float()
    classifier.mean.copy_(some.mean((0, 2, 3)).reshape(-1, 1, 1))
    classifier.deviation.copy_(some.std((0, 2, 3)).clamp_min(1).reshape(-1, 1, 1))
    return classifier


def _shifted(images: Tensor, generator: Generator, *, reach: int = 1) -> Tensor:
    """Each image shifted by up to `reach` pixels in each direction, with its border repeated."""
    n, _, height, width = images.shape
    dy, dx = torch.randint(-reach, reach + 1, (2, n, 1), generator=generator)
    rows = (torch.arange(height) + dy).clamp(0, height - 1)
    columns = (torch.arange(width) + dx).clamp(0, width - 1)
    picked = images[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()


def _has_bfloat16(device: str | torch.device) -> bool:
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]
