"""Completions: what stands under a mask, drawn several times over.

Song & Ermon (2019), Fig. 6 and App. B.3, Algorithm 2: annealed Langevin dynamics in which known pixels are
overwritten after every update. Parts of several images, left half, right half or centre, are taken away and
filled again and again: the answers agree with what is known and differ where it leaves them free.

The table holds the root mean square difference between an answer and the original under the mask, pixels in
[0, 1]. It measures surprise, not failure: many answers are right.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Generator, Tensor

from scorefield.data.image import to_tensor
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError, did_you_mean
from scorefield.figures.drawing import Made, Show, claim, silent, tiles, write_csv
from scorefield.model import ScoreModel
from scorefield.restoration import Restored, restore
from scorefield.restoration.restore import MASKS

FILES = ("completions.png", "completions.csv")


@dataclass(frozen=True, kw_only=True)
class Completions:
    """What is completed, and how often.

    Args:
        images: how many, spread evenly over the set.
        candidates: answers to each.
        masks: names in `restoration.restore.MASKS`.
        sampler: a name in `samplers.PRESETS`.
        steps: see `samplers.plan`.
    """

    images: int = 4
    candidates: int = 6
    masks: tuple[str, ...] = ("left", "right", "center")
    sampler: str = "annealed-langevin"
    steps: int | None = None


def completions(
    model: ScoreModel,
    held_out: ImageSet,
    out: Path,
    settings: Completions | None = None,
    *,
    seed: int = 0,
    overwrite: bool = False,
    show: Show = silent,
) -> Made:
    """Write completions.png and completions.csv into `out`.

    Raises:
        UserError: they are there already, more images are asked for than there are, a mask is
            unknown, or matplotlib is missing.
    """
    settings = settings or Completions()
    check(held_out, settings)
    image, table = claim(out, *FILES, overwrite=overwrite)
    jobs = [(i, mask) for i in _spread(len(held_out), settings.images) for mask in settings.masks]
    shown, rows = list[Tensor](), list[dict[str, object]]()
    for k, (index, mask) in enumerate(jobs):
        restored = restore(
            model,
            held_out.images[index],
            "inpaint",
            mask=mask,
            candidates=settings.candidates,
            method="projection",
            sampler=settings.sampler,
            steps=settings.steps,
            seed=seed + k,
            track=lambda done, total, k=k: show((k + done / total) / len(jobs), f"{k + 1} of {len(jobs)}"),
        )
        rows += _rows(restored, index, mask)
        shown.append(_row(restored))
    write_csv(table, rows)
    heads = ["original", "masked", *[""] * settings.candidates]
    tiles(torch.stack(shown), image, columns=heads, rows=[mask for _, mask in jobs], apart=(2,))
    return Made(files=(image, table), numbers=_numbers(rows, settings.masks))


def check(held_out: ImageSet, settings: Completions) -> None:
    """See that the settings can be met, before any work.

    Raises:
        UserError: more images than there are, or an unknown mask.
    """
    if not 1 <= settings.images <= len(held_out):
        raise UserError("images", f"{settings.images} of {len(held_out)} images.", "Ask for fewer.")
    for mask in settings.masks:
        if mask not in MASKS:
            raise UserError("masks", f"no such mask {mask!r}.", did_you_mean(mask, MASKS))


def _spread(n: int, count: int) -> list[int]:
    """Indices over the whole set, one further each time: classes may take turns."""
    every = n // count
    return [k * (every + 1) % n for k in range(count)]


def _row(restored: Restored) -> Tensor:
    return torch.stack([to_tensor(one) for one in (restored.original, restored.degraded, *restored.images)])


def _rows(restored: Restored, index: int, mask: str) -> list[dict[str, object]]:
    """For each answer its difference from the original under the mask, and the answers' spread there."""
    original, *answers = (to_tensor(one).float() / 255 for one in (restored.original, *restored.images))
    hole = MASKS[mask].draw((1, *original.shape), generator=Generator()).fill[0, 0].bool()
    spread = float(restored.uncertainty[hole].mean())
    return [
        {
            "image": index,
            "mask": mask,
            "answer": k + 1,
            "rms_difference": float((answer - original)[:, hole].square().mean().sqrt()),
            "spread_of_answers": spread,
        }
        for k, answer in enumerate(answers)
    ]


def _numbers(rows: list[dict[str, object]], masks: tuple[str, ...]) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for mask in masks:
        mine = [row for row in rows if row["mask"] == mask]
        far, wide = (
            sum(cast(float, row[key]) for row in mine) / len(mine) for key in ("rms_difference", "spread_of_answers")
        )
        numbers[mask] = f"rms difference from the original {far:.3f}, spread of the answers {wide:.3f}"
    return numbers
