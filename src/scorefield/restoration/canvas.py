"""An observation at the size of the whole image, from which tiles are cut.

It keeps the image in its own levels of 8 or 16 bits: the floats of a tile are made when the tile is sampled, so
that a large image needs no float copy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.image import Levels
from scorefield.degradations import (
    Box,
    Degradation,
    Downscale,
    Local,
    Mask,
    MaskedInput,
    NetworkInput,
    Observation,
    network_input,
)
from scorefield.degradations.smooth import smooth_fill
from scorefield.restoration.file_cells import FileCells
from scorefield.restoration.pixels import Range, pooled, to_levels, to_values

__all__ = ["Canvas", "Observed", "masked_canvas", "network_canvas"]


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """The observation of a whole image.

    Args:
        levels: the image, (H, W, C); its values under the mask are not used. Of a canvas that a network is to
            enlarge it is the small image.
        mask: what is to be filled, bool (H, W); None where nothing is known for certain and all is predicted.
        value_range: of the model.
        masked_input: how masked pixels enter a conditional network.
        degradation: the operator A, or None where it is unknown (a conditional model does not need it).
        left: y = A(x) in levels, where that is another image than `levels`.
        noise: σ_y, in the model's range.
        source: what a conditional network sees in place of `levels`, (1, C, H, W), where an operator makes it.
        tables: the quantisation steps of the JPEG file that the image was read from, (1, 128), where they are known.
        scale: how many times the canvas is as large as `levels`. A network sees each pixel scale × scale times.
    """

    levels: Levels
    mask: NDArray[np.bool_] | None
    value_range: Range
    masked_input: MaskedInput = 1.0
    degradation: Degradation | None = None
    left: Levels | None = None
    noise: float = 0.0
    source: Tensor | None = None
    tables: Tensor | None = None
    scale: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.scale * self.levels.shape[0], self.scale * self.levels.shape[1]

    @property
    def whole(self) -> Box:
        """The box of the whole image."""
        return Box(0, 0, *self.size)

    def fills(self, box: Box) -> bool:
        """Whether there is anything to predict within a box."""
        return self.mask is None or self.noise > 0 or bool(self.mask[box.slices].any())

    def network_input(self, box: Box, noise: Callable[[Box], Tensor]) -> NetworkInput:
        """What a conditional network sees of a box, a batch of one.

        Args:
            box: the tile.
            noise: N(0, I) within a box, (C, h, w), for masked pixels.
        """
        if self.source is not None:
            source = self.source[(..., *box.slices)]
        else:
            operator = Downscale(factor=self.scale)
            source = operator.pinv(to_values(self.levels[operator.part(box).slices], self.value_range)[None])
        if self.mask is None:
            return NetworkInput(source=source, mask=torch.ones_like(source[:, :1]))
        mask = torch.from_numpy(self.mask[box.slices].astype(np.float32))[None, None]
        if self.source is not None:
            return NetworkInput(source=source, mask=mask)
        if self.masked_input == "smooth":
            return NetworkInput(source=smooth_fill(source, mask), mask=mask)
        return NetworkInput(source=torch.where(mask > 0, self.masked_input * noise(box)[None], source), mask=mask)

    def measured(self, boxes: Sequence[Box]) -> Observation:
        """What is known of tiles of one size, for methods that use the operator; a batch with one for each box.

        Raises:
            ValueError: the operator is unknown, or does not act on parts of an image.
        """
        operator = self.degradation
        if operator is None:
            raise ValueError("the operator of this observation is unknown")
        levels = self.levels if self.left is None else self.left
        if all(box == self.whole for box in boxes):
            y, cut = to_values(levels, self.value_range).expand(len(boxes), -1, -1, -1), operator
        else:
            if not isinstance(operator, Local):
                raise ValueError(f"{type(operator).__name__} acts on whole images alone")
            parts = [levels[operator.part(box).slices] for box in boxes]
            y, cut = torch.stack([to_values(part, self.value_range) for part in parts]), operator.cut(boxes)
        if self.noise == 0:  # levels are rounded and decoders clamp: ask for nothing that A cannot give
            y = cut(cut.pinv(y))
        return Observation(y=y, degradation=cut, noise=self.noise)

    @property
    def lacks_color(self) -> bool:
        """Whether the operator took the color away: then it is to be restored, of a grey image too."""
        return self.left is not None and self.left.shape[2] < self.levels.shape[2]

    @property
    def local(self) -> bool:
        """Whether it can be cut into tiles for methods that use the operator."""
        block = Box(16, 16, 16, 16)  # tiles begin at multiples of 16
        try:
            return isinstance(self.degradation, Local) and _cuts(self.degradation, block)
        except ValueError:
            return False

    def composite(self, drawn: Levels, rows: slice, there: NDArray[np.bool_]) -> Levels:
        """Rows of a sample with known pixels as they were, byte for byte.

        Args:
            drawn: (n, W, C).
            rows: which these are.
            there: where a tile was sampled, (n, W).
        """
        if self.mask is None or self.noise > 0:  # what is known with noise is not known for certain
            return drawn if there.all() else np.where(there[..., None], drawn, self.levels[rows])
        predicted = there & self.mask[rows]
        if predicted.all():
            return drawn
        return np.where(predicted[..., None], drawn, self.levels[rows])

    def reduced(self, size: tuple[int, int]) -> "Canvas":
        """The same at a smaller size: each pixel is the mean of the known pixels beneath it.

        A pixel is masked where less than half beneath it is known. The operator is left out unless it is a mask.
        """
        if size == self.size:
            return self
        known = None if self.mask is None else ~self.mask
        share = torch.ones(size) if known is None else pooled(known, size)
        planes: list[Tensor] = []
        for channel in range(self.levels.shape[2]):
            plane = self.levels[..., channel]
            planes.append(pooled(plane if known is None else np.where(known, plane, 0), size))
        means = (torch.stack(planes) / share.clamp(min=1e-6)).permute(1, 2, 0).round().numpy()
        levels = means.astype(self.levels.dtype)
        if known is None:
            return Canvas(
                levels=levels, mask=None, value_range=self.value_range, masked_input=self.masked_input,
                degradation=self.degradation, left=None if self.left is None else levels[..., : self.left.shape[2]],
                noise=self.noise,
            )  # fmt: skip
        return masked_canvas(
            levels, (share < 0.5).numpy(), value_range=self.value_range, masked_input=self.masked_input
        )


def _cuts(operator: Local, block: Box) -> bool:
    """Whether an operator acts on a block of pixels; a ValueError says that it does not."""
    operator.cut([block])
    operator.part(block)
    return True


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What a task makes of a photo.

    Args:
        canvas: the observation.
        degraded: what is left, for people: masked pixels are grey; (H', W', C).
        original: the clean image where there is one, or the photo where that is not what is left.
        lay: brings an image of the photo's size, (1, C, H, W), onto the canvas, 0 where there was none.
        cells: which results the JPEG file allows, where the photo was read from one that is to be restored.
    """

    canvas: Canvas
    degraded: Levels
    original: Levels | None = None
    lay: Callable[[Tensor], Tensor] | None = None
    cells: FileCells | None = None


def masked_canvas(levels: Levels, mask: NDArray[np.bool_], *, value_range: Range, masked_input: MaskedInput) -> Canvas:
    """The observation of an image with masked pixels; the mask is bool (H, W), True = fill."""
    return Canvas(
        levels=levels, mask=mask, value_range=value_range, masked_input=masked_input,
        degradation=Mask(mask=torch.from_numpy(mask.astype(np.float32))[None, None]),
    )  # fmt: skip


def network_canvas(
    degradation: Degradation, left: Levels, *, value_range: Range, masked_input: MaskedInput, noise: float, seed: int
) -> Canvas:
    """The observation of any operator: its network input is made once, for the whole image.

    Args:
        degradation: A.
        left: y = A(x), (H', W', C').
        value_range: of the model.
        masked_input: how masked pixels enter a conditional network.
        noise: σ_y, in the model's range.
        seed: of the noise under the mask.
    """
    y = to_values(left, value_range)[None]
    seen = network_input(degradation, y, generator=torch.Generator().manual_seed(seed), masked_input=masked_input)
    mask = (seen.mask[0, 0] > 0).numpy()
    return Canvas(
        levels=to_levels(seen.source[0], value_range, left),
        mask=None if mask.all() else mask,
        value_range=value_range,
        masked_input=masked_input,
        degradation=degradation,
        left=left,
        noise=noise,
        source=seen.source,
        tables=seen.tables,
    )
