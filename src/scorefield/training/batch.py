"""The batches of training: clean images, what the model is conditioned on, and the weights of their losses.

Batch number `step` is a pure function of the seed and the step, degradations included. For a restoration
model the next one is made by a thread while the network works on the last.

References:
    Saharia et al. (2022): a multi-task model is not given the task. https://arxiv.org/abs/2111.05826
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Generator, Tensor

from scorefield.data.batches import Batches
from scorefield.data.image_set import ImageSet
from scorefield.degradations import (
    MaskedInput,
    NetworkInput,
    OneOf,
    network_input,
    with_masked_input,
)
from scorefield.model import Condition
from scorefield.training.data import TrainingData
from scorefield.training.recipe import Recipe
from scorefield.training.settings import Pairs, TrainingTask


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch.

    Args:
        x0: clean images, (B, C, H, W), in the model's value range.
        condition: degraded images, classes, or both; None for an unconditional model.
        weights: factors of the losses, (B,), for a restoration model.
    """

    x0: Tensor
    condition: Condition | None = None
    weights: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        moved = None
        if self.condition is not None:
            source, mask, classes = self.condition.source, self.condition.mask, self.condition.classes
            moved = Condition(
                source=None if source is None else source.to(device),
                mask=None if mask is None else mask.to(device),
                classes=classes.to(device) if isinstance(classes, Tensor) else classes,
            )
        weights = None if self.weights is None else self.weights.to(device)
        return Batch(x0=self.x0.to(device), condition=moved, weights=weights)


_STREAM = "damage"
"""Names the random stream of the degradations; under another name the same seed would give other batches."""


class Loader:
    """The batches of a recipe, by number; a context, whose end stops the thread.

    Args:
        recipe: what is trained.
        data: its images.
        device: where batches are delivered.

    Attributes:
        first: the first batch of a restoration model, for previews; else None.
    """

    def __init__(self, recipe: Recipe, data: TrainingData, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.restores = bool(recipe.degradation)
        self.batches = Batches(
            data.images if isinstance(data, ImageSet) else data,
            recipe.optimizer.batch,
            seed=recipe.training.seed,
            flip=recipe.data.flip,
            dequantize=recipe.data.dequantize,
            value_range=recipe.data.value_range,
            device="cpu" if self.restores else device,
            labels=data.labels if recipe.data.labels else None,
        )
        self.first = self.batch(0) if self.restores else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._next: tuple[int, Future[Batch]] | None = None

    def __enter__(self) -> "Loader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> Batch:
        """Batch number `step`; of a restoration model, the next one is begun."""
        if not self.restores:
            return self.batch(step)
        ready = self._next[1].result() if self._next and self._next[0] == step else self.batch(step)
        self._next = (step + 1, self._pool.submit(self.batch, step + 1))
        return ready

    def batch(self, step: int) -> Batch:
        """Batch number `step`, made in this thread."""
        x0, classes = self.batches.batch(step), self.batches.classes(step)
        if self.recipe.paired:
            return split_pairs(x0, classes).to(self.device)
        if self.restores:
            generator = self.batches.generator(_STREAM, step)
            degraded = degrade(
                self.recipe.degradation,
                x0,
                classes=classes,
                masked_input=self.recipe.data.masked_input,
                generator=generator,
            )
            return degraded.to(self.device)
        return Batch(x0=x0, condition=None if classes is None else Condition(classes=classes))


def degrade(
    tasks: Sequence[TrainingTask],
    x0: Tensor,
    *,
    classes: Tensor | None = None,
    masked_input: MaskedInput = 1.0,
    generator: Generator,
) -> Batch:
    """A batch of a multi-task model: each image is degraded by an operator of its own.

    Args:
        tasks: one is chosen for each image, by weight. Pairs are passed over: their images come degraded.
        x0: clean images, (B, C, H, W), on the CPU.
        classes: (B,), where the model takes them.
        masked_input: how masked pixels enter the network.
        generator: of tasks, operators, and the noise in masked pixels.
    """
    drawn = [(task.family, task.weight, task.loss) for task in tasks if not isinstance(task.family, Pairs)]
    families, shares, factors = zip(*drawn, strict=True)
    choice = OneOf(families=families, weights=shares)
    inputs: list[NetworkInput] = []
    weights: list[float] = []
    for image in x0.split(1):
        chosen = choice.choose(generator)
        degradation = families[chosen].draw(tuple(image.shape), generator=generator)
        inputs.append(network_input(degradation, degradation(image), generator=generator))
        weights.append(factors[chosen])
    sources, masks = zip(*inputs, strict=True)
    whole = NetworkInput(torch.cat(sources), torch.cat(masks))
    source, mask = with_masked_input(whole, masked_input)  # of the whole batch: interpolation takes many small steps
    return Batch(x0=x0, condition=Condition(source=source, mask=mask, classes=classes), weights=torch.tensor(weights))


def split_pairs(pairs: Tensor, classes: Tensor | None = None) -> Batch:
    """A batch from images after and before, stacked along the channels, (B, 2C, H, W)."""
    x0, source = pairs.chunk(2, 1)
    condition = Condition(source=source, mask=torch.ones_like(x0[:, :1]), classes=classes)
    return Batch(x0=x0, condition=condition, weights=torch.ones(len(x0)))


__all__ = ["Batch", "Loader", "degrade", "split_pairs"]
