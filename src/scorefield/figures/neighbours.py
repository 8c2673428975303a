"""Is a sample new? Samples and their nearest training images, in pixels and in features.

Song & Ermon (2019), Figs. 9 and 10, App. C.3: the nearest neighbours of samples in ℓ2 over pixels, and over the
features of Inception-V3. Here the features are those of a classifier of the data's labels, random ones without
labels, or a file's; their name goes with the numbers. A distance needs a yardstick, so held-out images are measured
too: samples much nearer to the training set than real new images are copies.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefield.data.image import to_uint8
from scorefield.data.image_set import ImageSet
from scorefield.evaluation.reference import MAX_QUERIES
from scorefield.figures.catalog import Neighbours
from scorefield.figures.drawing import tiles
from scorefield.figures.driver import Drawing, FigureInputs, check_count
from scorefield.metrics.features import Features
from scorefield.metrics.neighbours import nearest
from scorefield.samplers import plan, sample

__all__ = ["Space", "check", "draw", "find"]


@dataclass(frozen=True, kw_only=True)
class Space:
    """The nearest training images in one space.

    Args:
        name: "pixels", or that of the features.
        indices: of training images, nearest first, (samples, k).
        distances: ℓ2; of pixels, in [0, 1]; (samples, k).
        held_out: mean distance of held-out images to their nearest training image.
    """

    name: str
    indices: Tensor
    distances: Tensor
    held_out: float


def find(samples: Tensor, train: ImageSet, held_out: Tensor, features: Features, *, k: int) -> tuple[Space, Space]:
    """The k nearest training images of each sample, in pixels and in features.

    Args:
        samples: uint8, (n, C, H, W).
        train: the training images.
        held_out: held-out images, uint8, (M, C, H, W).
        features: the extractor.
        k: neighbours of each.
    """
    real = held_out[:MAX_QUERIES]
    extracted = [features(images).features for images in (samples, real, train.images)]
    return (
        _space("pixels", (samples, real, train.images), 255.0, k),
        _space(features.name, (extracted[0], extracted[1], extracted[2]), 1.0, k),
    )


def draw(options: Neighbours, inputs: FigureInputs) -> Drawing:
    """Samples with their neighbours: one image for pixels, one for features."""
    model, train = inputs.model, inputs.train
    drawn = sample(
        model,
        options.samples,
        sampler=options.sampler,
        steps=options.steps,
        seed=inputs.seed,
        progress=lambda done, total, step: inputs.progress(0.5 * done / total, "sampling"),
    )
    inputs.progress(0.5, "comparing")
    samples = to_uint8(drawn, model.value_range).cpu()
    spaces = find(samples, train, inputs.held_out.images, inputs.features, k=options.neighbours)
    names = ["sample", *(str(rank + 1) for rank in range(options.neighbours))]
    images = [
        tiles(torch.cat([samples[:, None], train.images[space.indices]], 1), columns=names, apart=(1,))
        for space in spaces
    ]
    inputs.progress(1.0, "")
    return Drawing(
        images=images,
        rows=[row for space in spaces for row in _rows(space)],
        numbers={f"nearest in {space.name}": _summary(space) for space in spaces},
    )


def check(options: Neighbours, inputs: FigureInputs) -> None:
    """Raise UserError where the options do not fit the inputs."""
    check_count("neighbours", options.neighbours, len(inputs.train))
    plan(inputs.model, options.sampler, options.steps)


def _space(name: str, values: tuple[Tensor, Tensor, Tensor], unit: float, k: int) -> Space:
    queries, real, reference = values
    indices, distances = nearest(queries, reference, k=k)
    _, theirs = nearest(real, reference, k=min(2, len(reference)))
    own = theirs[:, 0] == 0  # without a split of its own, a held-out image is its own nearest
    mean = torch.where(own, theirs[:, -1], theirs[:, 0]).mean()
    return Space(name=name, indices=indices, distances=distances / unit, held_out=float(mean) / unit)


def _rows(space: Space) -> list[dict[str, Any]]:
    return [
        {
            "space": space.name,
            "sample": i,
            "rank": rank + 1,
            "training_image": int(space.indices[i, rank]),
            "distance": float(space.distances[i, rank]),
            "held_out_distance": space.held_out,
        }
        for i in range(len(space.indices))
        for rank in range(space.indices.shape[1])
    ]


def _summary(space: Space) -> str:
    mean, least = float(space.distances[:, 0].mean()), float(space.distances[:, 0].min())
    return f"mean {mean:.3g}, least {least:.3g}; held-out images: {space.held_out:.3g}"
