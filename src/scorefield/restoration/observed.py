"""From an image as a user has it to an observation, for restorers that are told the operator.

Whatever it was, y is brought onto what A can give, y ← A(A⁺y): levels are rounded, decoders clamp, and
nothing that A cannot give should be asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield.data.bit_depth import Levels, image_of
from scorefield.data.image import to_tensor
from scorefield.data.photo import Original
from scorefield.degradations import Degradation, DegradationSpec, known_pixels
from scorefield.errors import UserError
from scorefield.model import ScoreModel
from scorefield.restoration.levels import levels_of, to_levels, to_values, with_channels
from scorefield.restoration.tasks import ImageInput, Request


@dataclass(frozen=True, kw_only=True)
class Given:
    """An image as it came in.

    Args:
        levels: (H, W, C), 8 or 16 bits.
        where: what it is called in errors.
        source: its file, if it came from one.
    """

    levels: Levels
    where: object = "image"
    source: Original | None = None

    @classmethod
    def of(cls, image: ImageInput) -> "Given":
        """Read it, if it is not there already.

        Raises:
            UserError: it cannot be read.
        """
        if isinstance(image, str | Path):
            source = Original.read(image)
            return cls(levels=source.levels, where=image, source=source)
        return cls(levels=levels_of(image if isinstance(image, Tensor) else to_tensor(image)))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.levels.shape[0], self.levels.shape[1]

    def grown(self, lay: Callable[[Tensor], Tensor], size: tuple[int, int]) -> Original | None:
        """The file, its alpha laid on answers of another size; what was not there is opaque.

        Args:
            lay: from an image of the own size, (1, C, H, W), to one of the answers', 0 where nothing was.
            size: (H, W) of the answers.
        """
        if self.source is None or self.source.alpha is None or size == self.size:
            return self.source
        alpha = self.source.alpha
        most = np.iinfo(alpha.dtype).max
        clear = torch.from_numpy(1 - alpha / np.float32(most)).expand(1, self.levels.shape[2], *self.size)
        opaque = 1 - lay(clear)[0, 0].clamp(0, 1).numpy()
        return replace(self.source, alpha=(opaque * most).round().astype(alpha.dtype))

    def channels(self, count: int, wanted: str = "the model draws") -> Levels:
        """With so many channels: grey is repeated, and color whose channels are equal is grey.

        Raises:
            UserError: color, where grey is needed.
        """
        levels = with_channels(self.levels, count)
        if levels is None:
            mend = "Choose a model for color, or make the image grey first." if count == 1 else ""
            raise UserError(self.where, f"the image has {self.levels.shape[2]} channels, {wanted} {count}.", mend)
        return levels


def check_jpeg(given: Given, request: Request) -> None:
    """See that a file to be freed of JPEG's traces is a JPEG file, unless the quality is told.

    Raises:
        UserError: it is of another kind, which lost nothing that `dejpeg` could give back.
    """
    if request.quality is None and given.source is not None and given.source.format != "JPEG":
        raise UserError(
            given.where,
            f"is no JPEG file but {given.source.format}: nothing to restore.",
            "If it once was a JPEG, give the quality of that: --quality 10.",
        )


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a degradation leaves of an image.

    Args:
        levels: what is left, (H', W', C').
        degradation: A.
        shape: (C, H, W) of the whole image.
        noise: σ_y, in the model's range.
        clean: the image before, where it is known.
    """

    levels: Levels
    degradation: Degradation
    shape: tuple[int, int, int]
    noise: float
    clean: Levels | None


def left_of(
    model: ScoreModel,
    given: Given,
    spec: DegradationSpec | Degradation,
    *,
    simulate: bool = False,
    noise: float = 0.0,
    seed: int = 0,
) -> Left:
    """What the degradation left, or, with `simulate`, leaves of a clean image, rounded to its levels.

    Args:
        model: whose channels and value range it is for.
        given: what is left; with `simulate` the clean image.
        spec: what it went through.
        simulate: do the degradation first.
        noise: σ_y, in steps of 8 bits; with `simulate` it is added.
        seed: of that noise.

    Raises:
        UserError: an image of other channels or another size than the degradation leaves.
    """
    size, channels = given.size, model.shape[0]
    low, high = model.value_range
    if isinstance(spec, DegradationSpec):
        noise = noise or spec.noise
        shape = (channels, *(size if simulate else spec.before(size)))
        degradation = spec.operator(shape, model.value_range)
    else:
        degradation, shape = spec, shape_before(spec, given, channels, simulate=simulate)
    sigma = noise * (high - low) / 255
    left = degradation(torch.zeros(1, *shape)).shape[1:]
    clean = given.channels(channels) if simulate else None
    if clean is not None:
        y = degradation(to_values(clean, model.value_range)[None])
        z = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
        given = Given(levels=to_levels((y + sigma * z)[0], model.value_range, given.levels))
    wanted = "the model draws" if left[0] == channels else "after the degradation it has"
    levels = given.channels(left[0], wanted)
    if levels.shape[:2] != left[1:]:
        raise UserError("degradation", f"it leaves {left[1]}×{left[2]} pixels, the image has {size[0]}×{size[1]}.")
    return Left(levels=levels, degradation=degradation, shape=shape, noise=sigma, clean=clean)


def shape_before(degradation: Degradation, given: Given, channels: int, *, simulate: bool) -> tuple[int, int, int]:
    """(C, H, W) of the whole image, for an operator that was made beforehand."""
    if simulate:
        return channels, *given.size
    c, h, w = degradation.pinv(torch.zeros(1, given.levels.shape[2], *given.size)).shape[1:]
    return max(c, channels), h, w


@dataclass(frozen=True, kw_only=True)
class Job:
    """An observation ready to be restored.

    Args:
        y: what is left, (1, C', H', W'), in the model's value range.
        degradation: A.
        shape: (C, H, W) of the whole image.
        known: where answers must be `kept` byte for byte, bool (H, W, C).
        kept: levels, (H, W, C).
        degraded: what is left as an image; what is missing of it is grey.
        original: the clean image if there is one, or the image as it came in.
        noise: σ_y.
    """

    y: Tensor
    degradation: Degradation
    shape: tuple[int, int, int]
    known: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]"
    kept: Levels
    degraded: Image.Image
    original: Image.Image
    noise: float


def prepared(model: ScoreModel, left: Left) -> Job:
    """The observation that a degraded image is, or that degradation made of a clean one."""
    y = to_values(left.levels, model.value_range)[None]
    whole = left.degradation.pinv(y)
    which = known_pixels(left.degradation, (1, *left.shape))
    known, gone = (each[0].permute(1, 2, 0).numpy() for each in which)
    cut_out = bool((known | gone).all())
    kept = to_levels(whole[0], model.value_range, left.levels)
    degraded = image_of(np.where(known, kept, grey_of(kept)) if cut_out else left.levels)
    before = left.levels if left.clean is None else left.clean
    return Job(
        y=left.degradation(whole) if left.noise == 0 else y,
        degradation=left.degradation,
        shape=left.shape,
        known=known if left.noise == 0 else np.zeros_like(known),
        kept=kept,
        degraded=degraded,
        original=image_of(before) if cut_out or left.clean is not None else degraded,
        noise=left.noise,
    )


def grey_of(levels: Levels) -> Levels:
    """The middle level of such an image, as it stands for what is missing: 128, or 32896."""
    return np.array(128 if levels.dtype == np.uint8 else 128 * 257, levels.dtype)
