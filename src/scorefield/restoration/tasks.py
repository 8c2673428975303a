"""Restoration tasks: what happened to a photo, as one class each.

A task turns a photo into an observation (`observe`) and says what must be in view when it is sampled (`draft`): tiles
of the image as it is, a reduced image for color and for wide masks, or one part after the other for a panorama.

Masks are 1 (white) where an image is to be filled. Noise is given as a standard deviation in steps of 8 bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scorefield.data.image import Levels
from scorefield.data.photo import Photo, as_photo
from scorefield.degradations import (
    JPEG,
    Blur,
    Composed,
    Crop,
    Degradation,
    DegradationSpec,
    Downscale,
    Grey,
    Identity,
    Mask,
    array_mask,
    checked_mask,
    jpeg_operator,
    mask_from,
    named_mask,
    nearest_quality,
    parse_degradation,
)
from scorefield.degradations.jpeg import Tables, standard_tables, table_tensor, tables_of
from scorefield.degradations.rotated import upright_tables
from scorefield.errors import NothingToRestore, UserError, did_you_mean
from scorefield.model import ScoreModel
from scorefield.restoration import multiscale
from scorefield.restoration.canvas import Canvas, Observed, masked_canvas, network_canvas
from scorefield.restoration.file_cells import FileCells
from scorefield.restoration.hints import ColorHint, check_hints
from scorefield.restoration.inspection import former_quality
from scorefield.restoration.multiscale import Draft
from scorefield.restoration.pixels import grey_level, has_color, to_levels, to_values, with_channels
from scorefield.restoration.tiled_sampling import TiledSampler

__all__ = [
    "SIDES", "TASKS", "Colorize", "Custom", "Deblur", "Dejpeg", "Denoise", "Descratch", "Inpaint", "Paired", "Task",
    "Uncrop", "Upscale", "named_task", "steps_of", "tasks_of",
]  # fmt: skip

SIDES = ("top", "right", "bottom", "left")

MAX_QUALITY = 95
"""A JPEG file of this quality or a higher one differs from its original by rounding alone."""


class Task(Protocol):
    """A task of restoration."""

    name: ClassVar[str]

    steps: ClassVar[int | None]
    """Steps that suit the task with a conditional model; None takes the method's. What is nearly determined by the
    observation needs few, and with few a sample is near the mean of all samples."""

    def observe(self, photo: Photo, model: ScoreModel) -> Observed:
        """The observation that the photo is, for this model.

        Raises:
            UserError: a photo that does not fit the task or the model, or that has nothing to restore.
        """
        ...

    def draft(self, sampler: TiledSampler, canvas: Canvas) -> Draft:
        """How the canvas is sampled."""
        ...


class _Tiled:
    """A task whose observation is sampled tile by tile."""

    def draft(self, sampler: TiledSampler, canvas: Canvas) -> Draft:
        """By tiles of the image as it is; coarse to fine under wide masks."""
        if canvas.mask is not None and canvas.source is None:
            return multiscale.fill(sampler, canvas)
        return multiscale.tiled(sampler, canvas)


@dataclass(frozen=True, kw_only=True)
class Inpaint(_Tiled):
    """Fill the pixels under a mask; the others come back byte for byte.

    Args:
        mask: white = fill: an image file, a PIL image, a name in `degradations.MASKS`, "alpha" (what is transparent),
            "#rrggbb" (what was painted in this color), or an array or tensor (H, W), see `degradations.array_mask`.
        invert: fill the mask's black instead.
        grow: pixels by which what is filled grows to all sides.
    """

    name: ClassVar[str] = "inpaint"
    steps: ClassVar[int | None] = None
    mask: str | Path | Image.Image | Tensor | NDArray[np.generic] = "center"
    invert: bool = False
    grow: int = 0

    def __post_init__(self) -> None:
        if self.grow < 0:
            raise UserError("grow", f"need 0 or more pixels, got {self.grow}.")

    def observe(self, photo: Photo, model: ScoreModel) -> Observed:
        """The image without the pixels under the mask."""
        levels = _channels(photo, model)
        mask = self._mask(photo, (levels.shape[0], levels.shape[1])).mask[0, 0].numpy() > 0
        return _masked(levels, mask, photo, model)

    def _mask(self, photo: Photo, size: tuple[int, int]) -> Mask:
        if isinstance(self.mask, str | Path):
            return named_mask(self.mask, size, invert=self.invert, grow=self.grow, image=photo)
        if isinstance(self.mask, Image.Image) and self.mask.mode != "F":
            if (self.mask.height, self.mask.width) != size:
                shape = (self.mask.height, self.mask.width)
                raise UserError("mask", f"shape {shape} does not fit an image of {size}.")
            return mask_from(as_photo(self.mask), size, where="mask", invert=self.invert, grow=self.grow)
        values = np.asarray(self.mask) if isinstance(self.mask, Image.Image) else self.mask
        return checked_mask("mask", array_mask(values, size), invert=self.invert, grow=self.grow)


@dataclass(frozen=True, kw_only=True)
class Uncrop:
    """Extend an image beyond its edges; its own pixels come back byte for byte.

    Args:
        sides: out of top, right, bottom, left.
        amount: how much is added at each, as a part of the image's width or height.
        times: how often, each time beyond the last: a panorama. More than once needs a conditional model.
    """

    name: ClassVar[str] = "uncrop"
    steps: ClassVar[int | None] = None
    sides: Sequence[str] = ("left", "right")
    amount: float = 0.5
    times: int = 1

    def __post_init__(self) -> None:
        unknown = [side for side in self.sides if side not in SIDES]
        if unknown or not self.sides:
            named = f"no such side {unknown[0]!r}." if unknown else "none is named."
            raise UserError("sides", named, f"Known: {', '.join(SIDES)}.")
        if not 0 < self.amount <= 10:
            raise UserError("amount", f"need more than 0 and at most 10 of a side, got {self.amount:g}.")
        if self.times < 1:
            raise UserError("times", f"need at least one, got {self.times}.")

    def observe(self, photo: Photo, model: ScoreModel) -> Observed:
        """The image amid pixels that are unknown."""
        if self.times > 1 and not model.spec.tasks:
            raise UserError("times", "needs a model that was trained on uncropping.", "Leave it out.")
        levels = _channels(photo, model)
        h, w = levels.shape[:2]
        grown = {side: h if side in ("top", "bottom") else w for side in SIDES}
        top, right, bottom, left = (
            self.times * max(1, round(self.amount * grown[side])) if side in self.sides else 0 for side in SIDES
        )
        wide = np.zeros((top + h + bottom, left + w + right, levels.shape[2]), levels.dtype)
        mask = np.ones(wide.shape[:2], np.bool_)
        wide[top : top + h, left : left + w], mask[top : top + h, left : left + w] = levels, False

        def lay(x: Tensor) -> Tensor:
            whole = x.new_zeros(*x.shape[:2], *wide.shape[:2])
            whole[..., top : top + h, left : left + w] = x
            return whole

        observed = _masked(wide, mask, photo, model)
        return Observed(canvas=observed.canvas, degraded=observed.degraded, original=photo.levels, lay=lay)

    def draft(self, sampler: TiledSampler, canvas: Canvas) -> Draft:
        """Coarse to fine, or one part after the other."""
        if self.times == 1:
            return multiscale.fill(sampler, canvas)
        assert canvas.mask is not None
        rows, columns = np.flatnonzero((~canvas.mask).any(1)), np.flatnonzero((~canvas.mask).any(0))
        levels = canvas.levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return multiscale.panorama(sampler, levels, canvas, sides=self.sides, amount=self.amount, times=self.times)


@dataclass(frozen=True, kw_only=True)
class Colorize:
    """Color a grey image; an image in color is made grey first.

    Args:
        keep_luminance: the result's luma is the image's, to rounding. Where the image is larger than the model
            samples at once it is kept in any case.
        hints: colors of places in the upright image; they spread to the next edges (`restoration.hints`). For
            conditional models.
    """

    name: ClassVar[str] = "colorize"
    steps: ClassVar[int | None] = None
    keep_luminance: bool = True
    hints: tuple[ColorHint, ...] = ()

    def observe(self, photo: Photo, model: ScoreModel) -> Observed:
        """The image's luma."""
        check_hints(self.hints, (photo.levels.shape[0], photo.levels.shape[1]), photo.path)
        if model.shape[0] != 3:
            raise UserError("model", "samples grey images.", "Choose a model for color.")
        clean = photo.levels if has_color(photo.levels) else None
        if clean is None:
            grey = photo.levels[..., :1]
        else:
            grey = to_levels(Grey()(to_values(clean, model.value_range)[None])[0], model.value_range, clean)
        canvas = Canvas(
            levels=np.broadcast_to(grey, (*grey.shape[:2], 3)), mask=None, value_range=model.value_range,
            masked_input=model.spec.masked_input, degradation=Grey(), left=grey,
        )  # fmt: skip
        return Observed(canvas=canvas, degraded=grey, original=clean)

    def draft(self, sampler: TiledSampler, canvas: Canvas) -> Draft:
        """On a reduced image."""
        if sampler.chosen.method.conditional:
            return multiscale.colorize(sampler, canvas, keep_luminance=self.keep_luminance, hints=self.hints)
        if self.hints:
            raise UserError("hints", "only a conditional model takes them.", "Choose another model or method.")
        return multiscale.tiled(sampler, canvas)


@dataclass(frozen=True, kw_only=True)
class Dejpeg(_Tiled):
    """Undo JPEG compression.

    Args:
        quality: of the JPEG file, 1 to 100, where it is not to be read from the file.
    """

    name: ClassVar[str] = "dejpeg"
    steps: ClassVar[int | None] = 3
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.quality is not None:
            parse_degradation(f"jpeg:{self.quality}")

    def observe(self, photo: Photo, model: ScoreModel) -> Observed:
        """The image as it is; its quantization tables make the operator, where they are known.

        An image that is in no JPEG file has the tables of the quality at which it was one once, as its pixels show.

        Raises:
            NothingToRestore: it shows no trace of compression, or has lost less than the model can give back.
        """
        operator: Degradation | None = None
        quality = self.quality
        if quality is None:
            quality = None if photo.jpeg is not None else former_quality(photo.levels)
            self._refuse_good(photo, model, quality)
        if quality is not None:
            operator = JPEG(quality=quality, value_range=model.value_range)
        elif not model.spec.tasks:
            operator = self._read(photo, model)
        return _compressed(photo, model, operator, None if quality is None else standard_tables(quality))

    def _refuse_good(self, photo: Photo, model: ScoreModel, former: int | None) -> None:
        """Refuse what shows no trace of JPEG, and what has lost less than the model can give back."""
        if photo.jpeg is None and former is None:
            if photo.sha256:
                raise NothingToRestore(
                    photo.path, "nothing to restore: its pixels show no trace of JPEG compression.",
                    "If it was a JPEG file once, give the quality: 30, say.",
                )  # fmt: skip
            if not model.spec.tasks:  # it was in memory: it may have been read from a JPEG file, and changed since
                raise UserError("quality", "only a JPEG file says how it was made.", "Give the quality.")
            return
        quality = former if photo.jpeg is None else nearest_quality(photo.jpeg)
        assert quality is not None
        limit = model.spec.restoration.max_jpeg_quality if model.spec.restoration is not None else None
        mend = "Give the quality to restore it all the same."
        if quality >= MAX_QUALITY:
            raise NothingToRestore(photo.path, f"nothing to restore: saved at quality {quality}.", mend)
        if limit is not None and quality > limit:
            known = f"saved at quality {quality}; this model helps up to {limit}"
            raise NothingToRestore(photo.path, f"nothing to restore: {known}.", mend)

    def _read(self, photo: Photo, model: ScoreModel) -> Degradation:
        assert photo.jpeg is not None
        return jpeg_operator(photo.jpeg, photo.path, model.value_range)


@dataclass(frozen=True, kw_only=True)
class Upscale(_Tiled):
    """Enlarge an image.

    Args:
        factor: how many times; by default the model's own factor or 2 for conditional models, else the one that leads
            to the model's own size.
    """

    name: ClassVar[str] = "upscale"
    steps: ClassVar[int | None] = 5
    factor: int | None = None

    def __post_init__(self) -> None:
        if self.factor is not None and self.factor < 2:
            raise UserError("factor", f"need 2 or more, got {self.factor}.")

    def observe(self, photo: Photo, model: ScoreModel) -> Observed:
        """The small image, of which each pixel is the mean of factor² pixels."""
        operator = Downscale(factor=self.factor or self._factor(photo, model))
        canvas = _laid(operator, _channels(photo, model), model)
        return Observed(canvas=canvas, degraded=photo.levels, lay=operator.pinv)

    def _factor(self, photo: Photo, model: ScoreModel) -> int:
        if model.spec.tasks:
            return model.spec.scale if model.spec.scale > 1 else 2
        h, w = photo.levels.shape[:2]
        factor, rest = divmod(model.shape[-2], h)
        if rest or factor < 2 or model.shape[-1] != factor * w:
            raise UserError(
                "factor", f"no factor leads from {h}×{w} to the model's {model.shape[-2]}×{model.shape[-1]}.",
                "Give one, e.g. 2.",
            )  # fmt: skip
        return factor


@dataclass(frozen=True, kw_only=True)
class Deblur(_Tiled):
    """Sharpen an image that is out of focus.

    Args:
        std: standard deviation of the Gaussian blur, in pixels.
    """

    name: ClassVar[str] = "deblur"
    steps: ClassVar[int | None] = 5
    std: float = 1.0

    def __post_init__(self) -> None:
        parse_degradation(f"blur:{self.std}")

    def observe(self, photo: Photo, model: ScoreModel) -> Observed:
        """The image as it is."""
        return _as_it_is(photo, model, Blur(std=self.std))


@dataclass(frozen=True, kw_only=True)
class Denoise(_Tiled):
    """Remove Gaussian noise.

    Args:
        std: its standard deviation, in steps of 8 bits, e.g. 25. A conditional model estimates it by itself.
    """

    name: ClassVar[str] = "denoise"
    steps: ClassVar[int | None] = 3
    std: float = 0.0

    def observe(self, photo: Photo, model: ScoreModel) -> Observed:
        """The image as it is, of which no pixel is known for certain."""
        if self.std <= 0 and not model.spec.tasks:
            raise UserError("std", "the strength of the noise is unknown.", "Give it in steps of 8 bits, e.g. 25.")
        return _as_it_is(photo, model, Identity(), noise=_in_range(self.std, model))


class _Learned(_Tiled):
    """A task for conditional models alone."""

    name: ClassVar[str]

    def observe(self, photo: Photo, model: ScoreModel) -> Observed:
        """The image as it is."""
        if not model.spec.tasks:
            raise UserError("task", f"{self.name} needs a model that was trained on it.", "Choose another model.")
        return _as_it_is(photo, model, None)


@dataclass(frozen=True, kw_only=True)
class Descratch(_Learned):
    """Remove scratches and dust wherever they are; for conditional models alone."""

    name: ClassVar[str] = "descratch"
    steps: ClassVar[int | None] = None


@dataclass(frozen=True, kw_only=True)
class Paired(_Learned):
    """What a model learned from pairs of images; for conditional models alone."""

    name: ClassVar[str] = "paired"
    steps: ClassVar[int | None] = 5


@dataclass(frozen=True, kw_only=True)
class Custom(_Tiled):
    """Any degradation, by name or as an operator of your own.

    Args:
        degradation: as `degradations.parse_degradation` reads it, one or several in their order, or an operator.
        noise_std: standard deviation of Gaussian noise in the image, in steps of 8 bits.
        simulate: the image is clean: apply the degradation first.
        seed: of simulated noise.
        stands_for: the name of a task in TASKS that this is one of: a conditional model must have been trained for
            it, and takes its steps.
    """

    name: ClassVar[str] = "restore"
    steps: ClassVar[int | None] = None
    degradation: str | Sequence[str] | Degradation
    noise_std: float = 0.0
    simulate: bool = False
    seed: int = 0
    stands_for: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.degradation, str | Sequence):
            parse_degradation(self.degradation)

    def observe(self, photo: Photo, model: ScoreModel) -> Observed:
        """What the operator leaves."""
        operator, noise = self._operator(photo, model)
        if isinstance(operator, JPEG) and not (self.simulate or noise):  # that of the file, if the photo is from one
            return _compressed(photo, model, operator, operator.tables or standard_tables(operator.quality))
        sigma, clean, levels = _in_range(noise, model), None, photo.levels
        if self.simulate:
            clean = _channels(photo, model)
            y = operator(to_values(clean, model.value_range)[None])
            z = torch.randn(y.shape, generator=torch.Generator().manual_seed(self.seed))
            levels = to_levels((y + sigma * z)[0], model.value_range, clean)
        levels = self._fitted(operator, levels, photo, model)
        canvas = _laid(operator, levels, model, noise=sigma, seed=self.seed)
        if canvas.mask is not None and isinstance(operator, Mask | Crop) and not sigma:
            canvas = masked_canvas(
                canvas.levels, canvas.mask, value_range=canvas.value_range, masked_input=canvas.masked_input
            )
        degraded = levels
        if canvas.mask is not None:
            degraded = np.where(canvas.mask[..., None], grey_level(canvas.levels), canvas.levels)
        return Observed(canvas=canvas, degraded=degraded, original=clean, lay=operator.pinv)

    def draft(self, sampler: TiledSampler, canvas: Canvas) -> Draft:
        """On a reduced image where nothing but color is missing, else by tiles."""
        if tasks_of(self) == ("colorize",) and sampler.chosen.method.conditional:
            return multiscale.colorize(sampler, canvas, keep_luminance=True)
        return super().draft(sampler, canvas)

    def _operator(self, photo: Photo, model: ScoreModel) -> tuple[Degradation, float]:
        if not isinstance(self.degradation, str | Sequence):
            return self.degradation, self.noise_std
        spec: DegradationSpec = parse_degradation(self.degradation)
        h, w = photo.levels.shape[:2]
        size = (h, w) if self.simulate else spec.before((h, w))
        return spec.operator((model.shape[0], size[0], size[1]), model.value_range), self.noise_std or spec.noise

    def _fitted(self, operator: Degradation, levels: Levels, photo: Photo, model: ScoreModel) -> Levels:
        """The levels with the channels that the operator leaves."""
        whole = operator.pinv(to_values(levels, model.value_range)[None])
        shape = operator(whole.expand(-1, max(whole.shape[1], model.shape[0]), -1, -1)).shape[1:]
        if tuple(shape[1:]) != tuple(levels.shape[:2]):
            raise UserError(
                "degradation", f"it leaves {shape[1]}×{shape[2]} pixels, the image has "
                f"{levels.shape[0]}×{levels.shape[1]}.",
            )  # fmt: skip
        return _with_channels(levels, shape[0], photo, "after the degradation it has")


_KINDS: tuple[type[Task], ...] = (
    Inpaint, Colorize, Uncrop, Dejpeg, Upscale, Deblur, Denoise, Descratch, Paired,
)  # fmt: skip

TASKS: dict[str, type[Task]] = {kind.name: kind for kind in _KINDS}
"""The tasks by name."""

_TASK_OF = {
    "grey": "colorize",
    "downscale": "upscale",
    "blur": "deblur",
    "jpeg": "dejpeg",
    "noise": "denoise",
    "scratches": "descratch",
    "mask": "inpaint",
    "crop": "uncrop",
}


def named_task(name: str) -> Task:
    """The task of that name with its default settings.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise UserError("task", f"no such task {name!r}.", did_you_mean(name, TASKS))
    return TASKS[name]()


def steps_of(task: Task) -> int | None:
    """The steps that suit the task, or the task that it stands for, with a conditional model."""
    if isinstance(task, Custom) and task.stands_for is not None:
        return TASKS[task.stands_for].steps
    return task.steps


def tasks_of(task: Task) -> tuple[str, ...]:
    """The tasks that a conditional model must have been trained for; none where they are unknown."""
    if not isinstance(task, Custom):
        return (task.name,) if task.name in TASKS else ()
    if task.stands_for is not None:
        return (task.stands_for,)
    if not isinstance(task.degradation, str | Sequence):
        return ()
    texts = [task.degradation] if isinstance(task.degradation, str) else task.degradation
    return tuple(_TASK_OF[text.strip().partition(":")[0]] for text in texts)


def _channels(photo: Photo, model: ScoreModel) -> Levels:
    return _with_channels(photo.levels, model.shape[0], photo, "the model samples")


def _with_channels(levels: Levels, count: int, photo: Photo, wanted: str) -> Levels:
    """With so many channels: grey is repeated, and color whose channels are equal is grey."""
    made = with_channels(levels, count)
    if made is None:
        mend = "Choose a model for color, or make the image grey first." if count == 1 else ""
        raise UserError(photo.path, f"the image has {levels.shape[2]} channels, {wanted} {count}.", mend)
    return made


def _in_range(noise_std: float, model: ScoreModel) -> float:
    """From steps of 8 bits to the model's value range."""
    low, high = model.value_range
    return noise_std * (high - low) / 255


def _laid(operator: Degradation, left: Levels, model: ScoreModel, *, noise: float = 0.0, seed: int = 0) -> Canvas:
    """The observation y = A(x) of any operator, for this model.

    Raises:
        UserError: the model enlarges by itself, and another operator is to be undone.
    """
    scale, value_range = model.spec.scale, model.value_range
    if scale == 1:
        return network_canvas(
            operator, left, value_range=value_range, masked_input=model.spec.masked_input, noise=noise, seed=seed
        )
    only = operator.parts[0] if isinstance(operator, Composed) and len(operator.parts) == 1 else operator
    if only != Downscale(factor=scale):
        raise UserError("factor", f"this model enlarges {scale} times, and does nothing else.", f"Take {scale}.")
    return Canvas(levels=left, mask=None, value_range=value_range, degradation=operator, left=left, scale=scale)


def _masked(levels: Levels, mask: NDArray[np.bool_], photo: Photo, model: ScoreModel) -> Observed:
    canvas = masked_canvas(levels, mask, value_range=model.value_range, masked_input=model.spec.masked_input)
    degraded = np.where(mask[..., None], grey_level(levels), levels)
    return Observed(canvas=canvas, degraded=degraded, original=photo.levels)


def _compressed(photo: Photo, model: ScoreModel, operator: Degradation | None, tables: Tables | None) -> Observed:
    """A compressed image as it is: with the cells and the tables of its file, or the given tables where it has none.

    Coarser tables than the file's are of an earlier file: then the original need not lie within this one's cells.
    """
    observed = _as_it_is(photo, model, operator)
    if photo.jpeg is None or (tables is not None and _mean_step(tables) > _COARSER * _mean_step(tables_of(photo.jpeg))):
        steps = None if tables is None else table_tensor(tables, torch.zeros(1))
        return replace(observed, canvas=replace(observed.canvas, tables=steps))
    steps = upright_tables(table_tensor(tables_of(photo.jpeg), torch.zeros(1)), photo.jpeg.orientation)
    return replace(observed, canvas=replace(observed.canvas, tables=steps), cells=FileCells.of(photo))


_COARSER = 1.25
"""Ratio of mean steps above which a stated quality is not the file's: programs' tables of one quality differ."""


def _mean_step(tables: Tables) -> float:
    return sum(tables[0]) / len(tables[0])


def _as_it_is(photo: Photo, model: ScoreModel, operator: Degradation | None, *, noise: float = 0.0) -> Observed:
    levels = _channels(photo, model)
    canvas = Canvas(
        levels=levels,
        mask=None,
        value_range=model.value_range,
        masked_input=model.spec.masked_input,
        degradation=operator,
        noise=noise,
    )
    return Observed(canvas=canvas, degraded=photo.levels)
