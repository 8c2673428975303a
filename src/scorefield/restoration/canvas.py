"""A degraded image as a network that restores sees it, window by window.

What is shown (`degradations.shown`) is, for nearly every degradation, the image as it is stored, with noise in a
hole that a mask or a crop has left. So no float copy of a large image is needed: a window is made when it
is looked at. An operator that shows something else is asked once, for the whole image.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from scorefield.data.bit_depth import Levels
from scorefield.degradations import Degradation, Hole, Shown, shown
from scorefield.degradations.smooth import smooth_fill
from scorefield.model import ScoreModel
from scorefield.restoration.field import NoiseField
from scorefield.restoration.levels import Box, Range, to_levels, to_values


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What is known of an image of whole size.

    Args:
        levels: the image, (H, W, C); what a hole has of it is not looked at.
        hole: what is to be filled, bool (H, W), noise being shown there; None where the levels are shown
            everywhere and all is to be predicted.
        value_range: of the model.
        noise: what is shown in the hole.
        source: in place of the levels what an operator shows, (1, C, H, W), where that is something else.
    """

    levels: Levels
    hole: NDArray[np.bool_] | None
    value_range: Range
    noise: Hole = 1.0
    source: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.levels.shape[0], self.levels.shape[1]

    @property
    def whole(self) -> Box:
        """All of it."""
        return Box(0, 0, *self.size)

    def window(self, box: Box, field: NoiseField) -> Shown:
        """What is shown within a box, a batch of one."""
        if self.source is not None:
            source = self.source[(..., *box.slices)]
        else:
            source = to_values(self.levels[box.slices], self.value_range)[None]
        if self.hole is None:
            return Shown(source=source, fill=torch.ones_like(source[:, :1]))
        fill = torch.from_numpy(self.hole[box.slices].astype(np.float32))[None, None]
        if self.source is not None:
            return Shown(source=source, fill=fill)
        if self.noise == "smooth":
            return Shown(source=smooth_fill(source, fill), fill=fill)
        return Shown(source=torch.where(fill > 0, self.noise * field.window(box)[None], source), fill=fill)

    def fills(self, box: Box) -> bool:
        """Whether there is anything to predict within a box."""
        return self.hole is None or bool(self.hole[box.slices].any())

    def settled(self, answer: Levels, rows: slice, there: NDArray[np.bool_]) -> Levels:
        """Rows of an answer with what is known as it was, byte for byte.

        Args:
            answer: (n, W, C).
            rows: which these are.
            there: where there is an answer, (n, W).
        """
        drawn = there if self.hole is None else there & self.hole[rows]
        if drawn.all():
            return answer
        return np.where(drawn[..., None], answer, self.levels[rows])

    def reduced(self, size: tuple[int, int]) -> "Canvas":
        """The same at a smaller size: each pixel the mean of what is known beneath it.

        It is a hole where less than half beneath it is known.
        """
        h, w = self.size
        if size == (h, w):
            return self
        known = None if self.hole is None else ~self.hole
        share = torch.ones(size) if known is None else _pooled(known, size)
        planes: list[Tensor] = []
        for channel in range(self.levels.shape[2]):
            plane = self.levels[..., channel]
            planes.append(_pooled(plane if known is None else np.where(known, plane, 0), size))
        means = (torch.stack(planes) / share.clamp(min=1e-6)).permute(1, 2, 0).round().numpy()
        hole = None if known is None else (share < 0.5).numpy()
        return Canvas(levels=means.astype(self.levels.dtype), hole=hole, value_range=self.value_range, noise=self.noise)


def _pooled(plane: NDArray[np.generic], size: tuple[int, int]) -> Tensor:
    """Means of the pixels beneath each of a smaller image."""
    return adaptive_avg_pool2d(torch.from_numpy(plane.astype(np.float32))[None], size)[0]


def canvas_of(
    degradation: Degradation, y: Tensor, like: Levels, model: ScoreModel, *, generator: torch.Generator
) -> Canvas:
    """What any operator shows of y = A(x), asked for once and whole.

    Args:
        degradation: A.
        y: what is left, (1, C', H', W').
        like: an image of the bits that the answers shall have.
        model: whose value range and noise in holes it is for.
        generator: of that noise.
    """
    seen = shown(degradation, y, generator=generator).holed(model.spec.hole_fill)
    hole = (seen.fill[0, 0] > 0).numpy()
    return Canvas(
        levels=to_levels(seen.source[0], model.value_range, like),
        hole=None if hole.all() else hole,
        value_range=model.value_range,
        noise=model.spec.hole_fill,
        source=seen.source,
    )


def larger(small: Tensor, size: tuple[int, int], box: Box) -> Tensor:
    """A box of a small image (C, h, w) that is enlarged to `size`, (C, box height, box width); bilinear."""
    h, w = small.shape[-2:]
    down = _places(box.top, box.height, size[0], h)
    across = _places(box.left, box.width, size[1], w)
    rows = _mixed(small, down, -2)
    return _mixed(rows, across, -1)


def _places(start: int, length: int, size: int, small: int) -> Tensor:
    """Where the middles of pixels lie in the small image, held within its own middles."""
    return (((torch.arange(start, start + length) + 0.5) * (small / size)) - 0.5).clamp(0, small - 1)


def _mixed(image: Tensor, places: Tensor, axis: int) -> Tensor:
    below = places.floor().long().clamp(max=max(0, image.shape[axis] - 2))
    above = (below + 1).clamp(max=image.shape[axis] - 1)
    part = (places - below).unsqueeze(-1) if axis == -2 else places - below
    return torch.lerp(image.index_select(axis, below), image.index_select(axis, above), part)
