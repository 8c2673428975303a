"""Completions: masked parts of images, sampled several times.

Left half, right half or centre of several images are masked and filled again and again. The candidates agree with the
known pixels, and differ where these leave them free.

Song & Ermon (2019), Fig. 6, complete faces by Algorithm 2 (App. B.3): annealed Langevin dynamics in which known pixels
are overwritten after every update. That is `method = "projection"` with the sampler `annealed-langevin`, the paper's
options here. It needs very many updates for the two parts to agree: each is drawn with noise that the other does not
know. By default ΠGDM completes, in a twentieth of the evaluations: the denoiser itself receives the known pixels.

The table holds the root mean square difference of each candidate to the original under the mask, over pixels in
[0, 1]. It measures surprise, not failure: many candidates are right.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

from typing import Any

import torch
from torch import Generator, Tensor

from scorefield.data.image import to_tensor
from scorefield.degradations import MASKS
from scorefield.errors import UserError, did_you_mean
from scorefield.figures.catalog import Completions
from scorefield.figures.drawing import tiles
from scorefield.figures.driver import Drawing, FigureInputs, check_count, mean_of
from scorefield.restoration import Inpaint, Restoration, resolve_method, restore

__all__ = ["check", "draw"]


def draw(options: Completions, inputs: FigureInputs) -> Drawing:
    """Original, masked image and candidates, one row for each image and mask."""
    held_out = inputs.held_out
    every = len(held_out) // options.images + 1  # one further each time: classes may take turns
    chosen = [k * every % len(held_out) for k in range(options.images)]
    jobs = [(index, mask) for index in chosen for mask in options.masks]
    shown, rows = list[Tensor](), list[dict[str, Any]]()
    for k, (index, mask) in enumerate(jobs):
        restored = restore(
            inputs.model,
            held_out.images[index],
            Inpaint(mask=mask),
            candidates=options.candidates,
            method=options.method,
            sampler=options.sampler,
            steps=options.steps,
            seed=inputs.seed + k,
            progress=lambda done, total, k=k: inputs.progress(
                (k + done / total) / len(jobs), f"{k + 1} of {len(jobs)}"
            ),
        )
        rows += _rows(restored, index, mask)
        shown.append(torch.stack([to_tensor(one) for one in (restored.original, restored.degraded, *restored.images)]))
    names = ["original", "masked", *[""] * options.candidates]
    image = tiles(torch.stack(shown), columns=names, rows=[mask for _, mask in jobs], apart=(2,))
    chosen = resolve_method(inputs.model, options.method, options.sampler, options.steps)
    made = f"{chosen.name}, {type(chosen.plan.sampler).__name__}, {chosen.plan.evaluations:,} evaluations a candidate"
    numbers = {"completed by": made}
    for mask in options.masks:
        mine = [row for row in rows if row["mask"] == mask]
        far, wide = (mean_of(mine, key) for key in ("rms_difference", "std_of_candidates"))
        numbers[mask] = f"rms difference to the original {far:.3f}, std of the candidates {wide:.3f}"
    return Drawing(images=[image], rows=rows, numbers=numbers)


def check(options: Completions, inputs: FigureInputs) -> None:
    """Raise UserError where the options do not fit the inputs."""
    check_count("images", options.images, len(inputs.held_out))
    resolve_method(inputs.model, options.method, options.sampler, options.steps)
    for mask in options.masks:
        if mask not in MASKS:
            raise UserError("masks", f"no such mask {mask!r}.", did_you_mean(mask, MASKS))


def _rows(restored: Restoration, index: int, mask: str) -> list[dict[str, Any]]:
    """For each candidate its difference to the original under the mask, and the std of all candidates there."""
    original, *candidates = (to_tensor(one).float() / 255 for one in (restored.original, *restored.images))
    mask_pixels = MASKS[mask].draw((1, *original.shape), generator=Generator()).mask[0, 0].bool()
    spread = float(restored.std[mask_pixels].mean())
    return [
        {
            "image": index,
            "mask": mask,
            "candidate": k + 1,
            "rms_difference": float((candidate - original)[:, mask_pixels].square().mean().sqrt()),
            "std_of_candidates": spread,
        }
        for k, candidate in enumerate(candidates)
    ]
