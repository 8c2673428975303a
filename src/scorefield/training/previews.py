"""Grids that show how far a run is: samples, or degraded images and how they are restored."""

import torch
from PIL import Image
from torch import Tensor

from scorefield.condition import Condition
from scorefield.data.grids import grid
from scorefield.data.image import to_uint8
from scorefield.model import ScoreModel
from scorefield.samplers import plan, sample
from scorefield.training.batch import Fed

_STEPS = 9


def sample_grid(model: ScoreModel, count: int) -> Image.Image:
    """Samples from constant noise, a column for each class where they have several rows."""
    k = model.classes
    values = sample(model, count, classes=range(k) if k else None, steps=_STEPS, seed=0)
    columns = k if 1 < k <= count // 2 else None
    return grid(to_uint8(values, model.value_range).cpu(), columns=columns)


@torch.no_grad()
def restored_grid(model: ScoreModel, fed: Fed, count: int) -> Image.Image:
    """In three rows degraded images, how the model restores them, and how they were.

    Args:
        model: that restores.
        fed: a batch.
        count: how many images at most are drawn in all.
    """
    n = min(len(fed.x0), max(1, count // 3))
    condition = fed.condition
    assert condition is not None
    assert condition.source is not None
    assert condition.mask is not None
    source, mask = condition.source[:n], condition.mask[:n]
    classes = None if fed.classes is None else fed.classes[:n]
    denoiser = model.given(Condition(source=source, mask=mask, classes=classes))
    way = plan(model, "heun", _STEPS)
    generator = torch.Generator(model.device).manual_seed(0)
    x = torch.randn(source.shape, generator=generator, device=model.device) * way.sigmas[0].item()
    for step in way.sampler.iterate(denoiser, x, way.sigmas, generator=generator):
        x = step.x
    restored: Tensor = torch.where(mask > 0, x, source)
    rows = torch.cat([source, restored, fed.x0[:n]])
    return grid(to_uint8(rows, model.value_range).cpu(), columns=n)
