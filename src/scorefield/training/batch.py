"""What each step of training is fed: clean images and what the model is told of them.

Batch number `step` is a pure function of the seed and the step, degradation included. The next one is made by a
thread of its own while the network works on the last.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from scorefield.condition import Condition
from scorefield.data.batches import Batches
from scorefield.data.crops import Windows
from scorefield.data.image_set import ImageSet
from scorefield.training.degradation_settings import DegradationDistribution, Degraded, PairedDegradation, told_pairs
from scorefield.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Fed:
    """A batch.

    Args:
        x0: clean images, (B, C, H, W), in the model's value range.
        classes: (B,), int64, where the recipe tells them.
        condition: the degraded images, for a model that restores.
        weights: factors of the losses, (B,), for a model that restores.
    """

    x0: Tensor
    classes: Tensor | None
    condition: Condition | None = None
    weights: Tensor | None = None


class Feed:
    """The batches of a recipe by number; a context, whose end stops the thread.

    Args:
        recipe: what is trained.
        data: its images.
        device: where batches are delivered.

    Attributes:
        first: the first batch of a model that restores, to show by it how far the model is.
    """

    def __init__(self, recipe: Recipe, data: ImageSet | Windows, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.pairs = isinstance(data, Windows) and data.paired
        restores = bool(recipe.degradation)
        self.batches = Batches(
            data if isinstance(data, Windows) else data.images,
            recipe.optimizer.batch,
            seed=recipe.training.seed,
            flip=recipe.data.flip,
            dequantize=recipe.data.dequantize,
            value_range=recipe.data.value_range,
            device="cpu" if restores else device,
            labels=data.labels if recipe.data.labels else None,
        )
        made = [entry for entry in recipe.degradation if not isinstance(entry, PairedDegradation)]
        self.distribution = DegradationDistribution(
            entries=made, value_range=recipe.data.value_range, hole=recipe.data.hole
        )
        self.first = self.made(0) if restores else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._next: tuple[int, Future[Fed]] | None = None

    def __enter__(self) -> "Feed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> Fed:
        """Batch number `step`."""
        if not self.recipe.degradation:
            return self.made(step)
        ready = self._next[1].result() if self._next and self._next[0] == step else self.made(step)
        self._next = (step + 1, self._pool.submit(self.made, step + 1))
        return ready

    def made(self, step: int) -> Fed:
        """The same, made at once."""
        x0, classes = self.batches.batch(step), self.batches.classes(step)
        if not self.recipe.degradation:
            return Fed(x0=x0, classes=classes)
        degraded: Degraded
        if self.pairs:
            x0, degraded = told_pairs(x0)
        else:
            degraded = self.distribution(x0, generator=self.batches.generator("degradation", step))
        source, mask = degraded.condition.source, degraded.condition.mask
        assert source is not None
        assert mask is not None
        return Fed(
            x0=x0.to(self.device),
            classes=None if classes is None else classes.to(self.device),
            condition=Condition(source=source.to(self.device), mask=mask.to(self.device)),
            weights=degraded.weights.to(self.device),
        )
