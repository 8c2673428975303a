"""Grids that show the state of a run: samples, or degraded images and their restorations."""

import torch
from PIL import Image

from scorefield.data.grids import grid
from scorefield.data.image import to_uint8
from scorefield.model import Condition, ScoreModel
from scorefield.samplers import plan, run, sample
from scorefield.training.batch import Batch

_STEPS = 9


def sample_grid(model: ScoreModel, count: int) -> Image.Image:
    """Samples from constant noise, with a column for each class where there are several rows."""
    k = model.classes
    values = sample(model, count, classes=range(k) if k else None, steps=_STEPS, seed=0)
    columns = k if 1 < k <= count // 2 else None
    return grid(to_uint8(values.nan_to_num(), model.value_range).cpu(), columns=columns)  # early on, anything


@torch.no_grad()
def restored_grid(model: ScoreModel, batch: Batch, count: int) -> Image.Image:
    """Three rows: degraded images, their restorations, and the clean images.

    Args:
        model: a restoration model.
        batch: degraded images and what they were.
        count: the largest number of images in all.
    """
    given = batch.condition
    if given is None or given.source is None or given.mask is None:
        raise ValueError("the batch has no degraded images")
    n = min(len(batch.x0), max(1, count // 3))
    source, mask = given.source[:n], given.mask[:n]
    classes = given.classes[:n] if isinstance(given.classes, torch.Tensor) else given.classes
    denoiser = model.given(Condition(source=source, mask=mask, classes=classes))
    chosen = plan(model, "heun", _STEPS)
    generator = torch.Generator(model.device).manual_seed(0)
    x = torch.randn(source.shape, generator=generator, device=model.device) * chosen.sigmas[0].item()
    x = run(chosen.sampler, denoiser, x, chosen.sigmas, generator=generator)
    rows = torch.cat([source, torch.where(mask > 0, x, source), batch.x0[:n]])
    return grid(to_uint8(rows.nan_to_num(), model.value_range).cpu(), columns=n)


__all__ = ["restored_grid", "sample_grid"]
