"""Training batches: batch number `step` is a pure function of the seed and the step.

Epoch e visits the images in a permutation drawn from (seed, e). Batches of B images cut the
endless row of permutations into equal parts, so a batch may run across the end of an epoch and
none is short: position p = step · B + i belongs to epoch ⌊p / N⌋, place p mod N. Mirroring and
dequantisation are drawn from (seed, step). Hence a run resumes exactly by its step alone.

References:
    Uniform dequantisation: Theis et al. (2016), §3.1. https://arxiv.org/abs/1511.01844
"""

import hashlib
from typing import Protocol

import torch
from torch import Generator, Tensor

from scorefield.data.color import LUMA
from scorefield.data.image import to_float


class Cuts(Protocol):
    """A set that makes the images of a batch when they are needed, as `RandomCrops` does."""

    def __len__(self) -> int: ...

    def cut(self, indices: Tensor, *, generator: Generator) -> Tensor:
        """The images at `indices`: uint8, (B, C, H, W), with the random choices of `generator`."""
        ...


class Batches:
    """Shuffled batches of a set of images.

    Args:
        images: uint8, (N, C, H, W), or random crops; N may be smaller than a batch.
        batch_size: images a batch, B.
        seed: of permutations, mirroring and dequantisation.
        flip: mirror each image left to right with probability ½.
        grey: probability that an image is made grey (ITU-R BT.601 luma in all channels).
        value_range: (a, b) of the floats.
        dequantize: v → (v + U[0, 1)) / 256 in place of v / 255, so that pixels have a density.
        device: where batches are delivered.
        labels: int64, (N,), the images' classes, or None.
    """

    def __init__(
        self,
        images: Tensor | Cuts,
        batch_size: int,
        *,
        seed: int,
        flip: bool = False,
        grey: float = 0.0,
        value_range: tuple[float, float] = (-1.0, 1.0),
        dequantize: bool = False,
        device: torch.device | str = "cpu",
        labels: Tensor | None = None,
    ) -> None:
        if len(images) == 0 or batch_size < 1:
            raise ValueError(f"no batches of {batch_size} can be drawn from {len(images)} images")
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.flip, self.grey = flip, grey
        self.value_range, self.dequantize = value_range, dequantize
        self.device = torch.device(device)
        self.labels = labels
        self._permutations: dict[int, Tensor] = {}

    def batch(self, step: int) -> Tensor:
        """Batch number `step`: float32, (B, C, H, W), in `value_range`."""
        pixels = self._pixels(step)
        if self.flip:
            mirrored = torch.rand(len(pixels), generator=self.generator("flip", step)) < 0.5
            pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
        if self.grey and pixels.shape[1] == 3:
            chosen = torch.rand(len(pixels), generator=self.generator("grey", step)) < self.grey
            pixels[chosen] = _luma(pixels[chosen])
        pixels = pixels.to(self.device)
        if not self.dequantize:
            return to_float(pixels, self.value_range)
        low, high = self.value_range
        generator = self.generator("dequantize", step, self.device)
        within = torch.rand(pixels.shape, generator=generator, device=self.device)
        return within.add_(pixels).mul_((high - low) / 256).add_(low)

    def classes(self, step: int) -> Tensor | None:
        """The classes of batch number `step`: int64, (B,); None where the images have no labels."""
        if self.labels is None:
            return None
        return self.labels.index_select(0, self.indices(step)).to(self.device)

    def indices(self, step: int) -> Tensor:
        """Which images make up batch `step`: int64, (B,)."""
        n, position, left = len(self.images), step * self.batch_size, self.batch_size
        parts: list[Tensor] = []
        while left:
            epoch, place = divmod(position, n)
            part = self._permutation(epoch)[place : place + left]
            parts.append(part)
            position, left = position + len(part), left - len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _pixels(self, step: int) -> Tensor:
        indices = self.indices(step)
        if isinstance(self.images, Tensor):
            return self.images.index_select(0, indices)
        return self.images.cut(indices, generator=self.generator("window", step))

    def epoch(self, step: int) -> float:
        """How many epochs end before batch `step`."""
        return step * self.batch_size / len(self.images)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch not in self._permutations:
            while len(self._permutations) > 1:  # a batch spans two epochs; older ones are not needed again
                self._permutations.pop(min(self._permutations))
            drawn = torch.randperm(len(self.images), generator=self.generator("order", epoch))
            self._permutations[epoch] = drawn
        return self._permutations[epoch]

    def generator(self, purpose: str, number: int, device: torch.device | None = None) -> Generator:
        """Generator of a purpose at a step or an epoch, seeded by (purpose, seed, number)."""
        digest = hashlib.sha256(f"{purpose}:{self.seed}:{number}".encode()).digest()
        return Generator(device or "cpu").manual_seed(int.from_bytes(digest[:7], "big"))


def _luma(pixels: Tensor) -> Tensor:
    """ITU-R BT.601 luma in all three channels: uint8, (B, 3, H, W)."""
    weights = torch.tensor(LUMA)
    return torch.einsum("c,bchw->bhw", weights, pixels.float()).round().to(torch.uint8)[:, None].expand_as(pixels)
