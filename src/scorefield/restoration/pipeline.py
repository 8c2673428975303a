"""One call from a degraded image to restored ones; every restoration goes through it.

image → Photo → Task.observe → Observed → tiles → Restorer.posterior → samplers.run → blend → composite → Restoration
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scorefield.data.photo import Photo, as_photo
from scorefield.errors import UserError
from scorefield.hub import load
from scorefield.kernels.prepacked import prepacked
from scorefield.model import ScoreModel
from scorefield.restoration.hidden import with_hidden, without_hidden
from scorefield.restoration.methods import resolve_method
from scorefield.restoration.pixels import as_grey, is_grey
from scorefield.restoration.result import Restoration, pixelwise_std
from scorefield.restoration.tasks import Task, named_task, steps_of, tasks_of
from scorefield.restoration.tiled_sampling import TiledSampler
from scorefield.restoration.tiles import round_up
from scorefield.samplers import Plan, Sampler

__all__ = ["ImageInput", "restore"]

ImageInput = str | Path | Image.Image | NDArray[np.generic] | Tensor | Photo
"""An image to restore: a file, or pixels; see `restore`."""

_TILE, _WIDE, _OVERLAP = 2, 256, 32
"""The side of tiles in units of the model's own, at most, and their overlap. The farther from the sizes of training,
the worse: a regression trained on 64 pixels lost 0.06 dB on JPEG of quality 10 with tiles of 96, 0.1 with 128 and 0.25
with 512. Small tiles repeat more work. With an overlap of 32 pixels a clear sky changes less across tiles than within
them; with 16, a third more. What JPEG lost lies within blocks of 8 or 16 pixels: there 16 instead of 32 lost 0.0014 dB
at quality 10 and nothing at 40, and steps across tiles grew by less than 0.1 levels of 255; the card of such a model
says so (`RestorationSpec.overlap`)."""


@torch.no_grad()
def restore(
    model: ScoreModel | str | Path,
    image: ImageInput,
    task: str | Task = "inpaint",
    *,
    method: str | None = None,
    candidates: int = 1,
    sampler: str | Sampler | Plan | None = None,
    steps: int | None = None,
    tile: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Restoration:
    """Restore an image; each candidate is a sample of p(x0 | y).

    Pixels that the task leaves as they are come back byte for byte, and so do colors under full transparency, which
    nothing is taken from. Filled pixels become opaque. A grey image comes back grey, but from colorizing.
    Where a JPEG file's own compression is undone, the result stays within its quantisation cells, as the original does.
    Results have the bits of the image, 8 or 16.

    Args:
        model: a score model, or what `load` takes: a conditional one, or an unconditional one. A specialist that it
            has for the task takes its place (`ScoreModel.for_task`).
        image: the degraded image: a path, a PIL image, uint8 or uint16 (H, W, C), or a uint8 tensor (C, H, W).
        task: a task, or its name for its default settings.
        method: a name in METHODS; by default "palette" for a conditional model, else "pigdm".
        candidates: how many samples.
        sampler: a name in `samplers.PRESETS`, a sampler, or a plan with its own noise schedule; by default the
            method's.
        steps: see `samplers.plan`.
        tile: the side of the squares in which a large image is sampled.
        seed: of all noise.
        progress: called with (evaluations done, evaluations in all); a tile of each candidate counts by itself.

    Raises:
        UserError: an image or mask that cannot be read or does not fit, a setting out of its range, an unknown name,
            or a model that was not trained for the task.
    """
    if candidates < 1:
        raise UserError("candidates", f"need at least one, got {candidates}.")
    task = named_task(task) if isinstance(task, str) else task
    tasks = tasks_of(task)
    model = model if isinstance(model, ScoreModel) else load(model)
    model = model.for_task(tasks[0] if len(tasks) == 1 else None)
    chosen = resolve_method(model, method, sampler, steps, tasks=tasks, task_steps=steps_of(task))
    photo = as_photo(image)
    seen = without_hidden(photo)
    observed = task.observe(seen, model)
    if observed.canvas.lacks_color and (converted := seen.in_srgb_grey()) is not seen:
        seen, photo = converted, photo.in_srgb_grey()
        observed = task.observe(seen, model)
    tiles = TiledSampler(
        model=model,
        chosen=chosen,
        candidates=candidates,
        seed=seed,
        tile=_tile(model, tile),
        overlap=_overlap(model),
    )
    draft, done = task.draft(tiles, observed.canvas), 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None and count:
            progress(done, draft.evaluations)

    with prepacked():
        levels = draft.samples(report)
    if not observed.canvas.lacks_color and is_grey(seen.levels):
        channels = photo.levels.shape[2]
        levels = [as_grey(sample, observed.canvas.mask, channels) for sample in levels]
    if observed.cells is not None:
        levels = [observed.cells.nearest(sample) for sample in levels]
    if seen is not photo:
        levels = [with_hidden(sample, photo, observed) for sample in levels]
    return Restoration(
        levels=levels,
        degraded_levels=observed.degraded,
        original_levels=observed.original,
        std=pixelwise_std(levels),
        photo=photo.grown(observed.lay, levels[0].shape[:2]).opaque(observed.canvas.mask),
        evaluations=done,
    )


def _overlap(model: ScoreModel) -> int:
    """Of tiles: as the model's card says; of a network that enlarges, so many pixels of the small image."""
    measured = None if model.spec.restoration is None else model.spec.restoration.overlap
    return (measured or _OVERLAP) * model.spec.scale


def _tile(model: ScoreModel, tile: int | None) -> int:
    """The side of tiles, a multiple of 16: the given one, the one that the model's card names, or a few of its own."""
    least, own = 2 * _overlap(model), max(model.shape[-2:])
    if tile is not None and tile < least:
        raise UserError("tile", f"need {least} pixels or more, got {tile}.", "Leave it out.")
    measured = None if model.spec.restoration is None else model.spec.restoration.tile
    return round_up(tile or measured or max(least, own, min(_TILE * own, _WIDE)))
