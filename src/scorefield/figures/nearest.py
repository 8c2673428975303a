"""Is a sample new? Samples beside their nearest training images, in pixels and in features.

Song & Ermon (2019), Figs. 9 and 10, App. C.3: the nearest neighbours in ℓ2 over pixels, and over the features
of an Inception-V3 network, of samples of CelebA and CIFAR-10. Here the features are those of a classifier of
the data's own labels, fixed random ones where there are none, or a file's; their name goes with the numbers.

A distance says little alone, so held-out images are measured too: samples that lie much nearer to the
training set than real new images do are copies.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scorefield.data.image import to_uint8
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.figures.drawing import Made, Show, claim, silent, tiles, write_csv
from scorefield.metrics.features import Features
from scorefield.metrics.neighbours import nearest
from scorefield.model import ScoreModel
from scorefield.samplers import plan, sample

FILES = ("neighbours-pixels.png", "neighbours-features.png", "neighbours.csv")

_PROBE = 500  # held-out images measured for comparison, at most


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """What is drawn and shown.

    Args:
        samples: rows.
        neighbours: k, columns beside each sample.
        sampler: a name in `samplers.PRESETS`.
        steps: see `samplers.plan`.
    """

    samples: int = 8
    neighbours: int = 9
    sampler: str = "heun"
    steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Space:
    """The neighbours in one space.

    Args:
        name: "pixels", or that of the features.
        indices: of training images, nearest first, (samples, k).
        distances: ℓ2; of pixels, in [0, 1]; (samples, k).
        usual: mean distance of held-out images to their nearest training image.
    """

    name: str
    indices: Tensor
    distances: Tensor
    usual: float


def find(samples: Tensor, train: ImageSet, held_out: Tensor, judge: Features, *, k: int) -> tuple[Space, Space]:
    """The k nearest training images of each sample, in pixels and in features.

    Args:
        samples: uint8, (n, C, H, W).
        train: what the model learned from.
        held_out: real images that it did not, uint8, (M, C, H, W).
        judge: gives the features.
        k: neighbours of each.
    """
    probe = held_out[:_PROBE]
    features = [judge(images).features for images in (samples, probe, train.images)]
    return (
        _space("pixels", samples, probe, train.images, 255.0, k),
        _space(judge.name, features[0], features[1], features[2], 1.0, k),
    )


def neighbours(
    model: ScoreModel,
    train: ImageSet,
    held_out: ImageSet,
    judge: Features,
    out: Path,
    settings: Neighbours | None = None,
    *,
    seed: int = 0,
    overwrite: bool = False,
    show: Show = silent,
) -> Made:
    """Write neighbours-pixels.png, neighbours-features.png and neighbours.csv into `out`.

    Raises:
        UserError: they are there already, k or n do not fit, or matplotlib is missing.
    """
    settings = settings or Neighbours()
    check(model, train, settings)
    *images, table = claim(out, *FILES, overwrite=overwrite)
    drawn = sample(
        model,
        settings.samples,
        sampler=settings.sampler,
        steps=settings.steps,
        seed=seed,
        progress=lambda done, total, step: show(0.5 * done / total, "sampling"),
    )
    show(0.5, "comparing")
    samples = to_uint8(drawn, model.value_range).cpu()
    spaces = find(samples, train, held_out.images, judge, k=settings.neighbours)
    write_csv(table, [row for space in spaces for row in _rows(space)])
    for space, path in zip(spaces, images, strict=True):
        shown = torch.cat([samples[:, None], train.images[space.indices]], 1)
        ranks = [str(rank) for rank in range(1, settings.neighbours + 1)]
        tiles(shown, path, columns=["sample", *ranks], apart=(1,))
    show(1.0, "")
    return Made(files=(*images, table), numbers={f"nearest in {s.name}": _told(s) for s in spaces})


def check(model: ScoreModel, train: ImageSet, settings: Neighbours) -> None:
    """See that the settings can be met, before any work.

    Raises:
        UserError: more neighbours than images, or no such sampler.
    """
    if not 1 <= settings.neighbours <= len(train):
        raise UserError("neighbours", f"{settings.neighbours} of {len(train)} training images.")
    plan(model, settings.sampler, settings.steps)


def _space(name: str, queries: Tensor, probe: Tensor, reference: Tensor, unit: float, k: int) -> Space:
    indices, distances = nearest(queries, reference, k=k)
    _, theirs = nearest(probe, reference, k=min(2, len(reference)))
    own = theirs[:, 0] == 0  # without a split of its own a held-out image meets itself first
    usual = torch.where(own, theirs[:, -1], theirs[:, 0]).mean()
    return Space(name=name, indices=indices, distances=distances / unit, usual=float(usual) / unit)


def _rows(space: Space) -> list[dict[str, object]]:
    return [
        {
            "space": space.name,
            "sample": i,
            "rank": rank + 1,
            "training_image": int(space.indices[i, rank]),
            "distance": float(space.distances[i, rank]),
            "held_out_distance": space.usual,
        }
        for i in range(len(space.indices))
        for rank in range(space.indices.shape[1])
    ]


def _told(space: Space) -> str:
    mean, least = float(space.distances[:, 0].mean()), float(space.distances[:, 0].min())
    return f"mean {mean:.3g}, least {least:.3g}; held-out images: {space.usual:.3g}"
