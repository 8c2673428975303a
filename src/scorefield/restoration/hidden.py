"""Colors that nobody sees, since alpha is 0 above them: programs leave black there, or anything.

They are no part of the image. Before a restoration they are replaced by a smooth continuation of the visible colors,
so that nothing bleeds from them; after it they are put back as they were, where they were not filled.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from scorefield.data.image import Levels
from scorefield.data.photo import Photo
from scorefield.degradations.smooth import smooth_fill
from scorefield.restoration.canvas import Observed
from scorefield.restoration.pixels import pixels_of, to_levels, to_values, with_channels

__all__ = ["with_hidden", "without_hidden"]

_RANGE = (0.0, 1.0)


def without_hidden(photo: Photo) -> Photo:
    """The photo with a smooth continuation of the visible colors where alpha is 0; the same if it is nowhere."""
    if photo.alpha is None or photo.alpha.all() or not photo.alpha.any():
        return photo
    hidden = photo.alpha == 0
    mask = torch.from_numpy(hidden.astype(np.float32))[None, None]
    smooth = to_levels(smooth_fill(to_values(photo.levels, _RANGE)[None], mask)[0], _RANGE, photo.levels)
    return replace(photo, levels=np.where(hidden[..., None], smooth, photo.levels))


def with_hidden(sample: Levels, photo: Photo, observed: Observed) -> Levels:
    """A sample with the photo's own colors where alpha is 0 and nothing was filled.

    An enlarged image has no such pixels, and is left as it is.
    """
    mask, own = observed.canvas.mask, with_channels(photo.levels, sample.shape[2])
    if photo.alpha is None or own is None:
        return sample
    hidden: NDArray[np.bool_] = photo.alpha == 0
    if sample.shape[:2] != hidden.shape:
        if observed.lay is None or mask is None:
            return sample
        planes = torch.cat([pixels_of(own).float(), torch.from_numpy(hidden[None].astype(np.float32))])
        laid = observed.lay(planes[None])[0].permute(1, 2, 0).numpy()
        own, hidden = laid[..., :-1].astype(sample.dtype), laid[..., -1] > 0
    kept = hidden if mask is None else hidden & ~mask
    return np.where(kept[..., None], own, sample)
