"""Pictures on the way: a grid of samples, always from the same noise, while a model is trained.

Ten steps of Heun's rule show what a model has learned, if it starts where noise drowns the pictures and may
stand on any σ between its ends. NCSN's ladder allows neither: its first rung, σ = 1, leaves a shadow of the
picture, and of what lies between its ten rungs the network knows nothing. A model of few rungs is therefore
walked down them as published, from uniform noise by annealed Langevin dynamics, with a tenth of the updates
and a last step that denoises.
"""

from PIL import Image

from scorefield.data.images import to_uint8
from scorefield.data.sheets import grid
from scorefield.model import ScoreModel
from scorefield.samplers import Tuning, has_few_rungs, sample

_UPDATES = 10  # on each rung


def preview(model: ScoreModel, count: int) -> Image.Image:
    """A grid of `count` samples."""
    ladder = model.ladder
    if ladder is None or not has_few_rungs(ladder):
        values = sample(model, count, steps=9, seed=0)
    else:
        tuning = Tuning(steps_each=_UPDATES, denoise=True)
        values = sample(model, count, sampler="annealed-langevin", tuning=tuning, start="uniform", seed=0)
    return grid(to_uint8(values, model.value_range).cpu())
