"""From coarse to fine: what needs the whole image in view is sampled at a small size first.

A model was trained on images of one size, and a tile of a large image sees only its own part. Whether a car is red,
or what stands in the middle of a wide mask, tiles would each decide for themselves. So color is sampled on a reduced
image, and enlarged along the edges of the known luma (`guided_upsample`). A model that
restores only the rim of wide masks (`RestorationSpec.rim`) finds patches of the image itself farther within
(`exemplar`), and joins them to what is known; for other models wide masks are filled in a reduced image, and
then at sizes of at most twice the last, each from the result before, enlarged and noised to a middle σ (SDEdit; as in
cascades, Ho et al. 2022).

A panorama is uncropped again and again (Saharia et al. 2022, who do so eight times): each time the model sees the
outermost part of what there is, about square, and extends it. What was sampled is known from then on.

References:
    Meng et al. (2022), SDEdit, Algorithm 1. https://arxiv.org/abs/2108.01073
    Ho et al. (2022), Cascaded diffusion models, §3. https://arxiv.org/abs/2106.15282
    Saharia et al. (2022). https://arxiv.org/abs/2111.05826
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from scorefield.data.image import Levels
from scorefield.degradations import Box
from scorefield.restoration.canvas import Canvas, masked_canvas
from scorefield.restoration.exemplar import bounding_box, depth, exemplar_fill
from scorefield.restoration.guided_upsample import recolored
from scorefield.restoration.hints import ColorHint, add_hints
from scorefield.restoration.pixels import enlarged, to_levels, to_values
from scorefield.restoration.tiled_sampling import STAGES, Report, TiledSampler

__all__ = ["Draft", "colorize", "contains_square", "fill", "fit_within", "panorama", "sizes_between", "tiled"]

REFILL = 0.2
"""σ, in units of half the value range, to which an enlarged result is noised. Below 0.1 the enlargement's blur stays;
above 0.3 tiles disagree about what they see."""
_FACTOR, _ROWS = 2.0, 256
_FEW_EVALUATIONS = 3
"""With fewer, a sample does not depend on its start, or keeps the start's noise: no warm stages then."""
_PATCHES_NEAR = 128
"""Pixels around a mask in which patches are looked for at least: enough to choose from at each size of the search."""
_COARSE = 2.0
"""The longest side of a reduced image, in units of the model's own."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Sampling that is planned and counted, but not done.

    Args:
        evaluations: of one tile.
        samples: samples; reports each evaluation.
    """

    evaluations: int
    samples: Callable[[Report], list[Levels]]


def tiled(sampler: TiledSampler, canvas: Canvas) -> Draft:
    """By tiles of the image as it is."""
    return Draft(evaluations=sampler.evaluations(canvas), samples=lambda report: sampler.sample(canvas, report=report))


def colorize(sampler: TiledSampler, canvas: Canvas, *, keep_luminance: bool, hints: Sequence[ColorHint] = ()) -> Draft:
    """Color for a grey image, (H, W, 3) with equal channels.

    Args:
        sampler: how images are sampled.
        canvas: the grey image.
        keep_luminance: keep the luma also where the image is sampled at its own size; elsewhere it is kept always.
        hints: colors of places.
    """
    side = round(_COARSE * max(sampler.model.shape[-2:]))
    small, sampler = canvas.reduced(fit_within(canvas.size, side)), sampler.with_tile(side)

    def samples(report: Report) -> list[Levels]:
        drawn = sampler.sample(small, report=report)
        if hints:
            drawn = add_hints(drawn, small.levels[..., :1], hints, canvas.size)
        if small is canvas and not keep_luminance:
            return drawn
        return [recolored(each, small.levels[..., :1], canvas.levels[..., :1]) for each in drawn]

    return Draft(evaluations=sampler.evaluations(small), samples=samples)


def fill(sampler: TiledSampler, canvas: Canvas) -> Draft:
    """What is under a mask: by tiles, or from coarse to fine where a tile would see nothing but mask.

    Where the model restores the rim of masks alone, patches of the image fill what lies deeper.
    """
    restoration = sampler.model.spec.restoration
    if restoration is not None and restoration.rim is not None and canvas.mask is not None and canvas.noise == 0:
        depths = depth(torch.from_numpy(canvas.mask), restoration.rim + 1).numpy()
        if (depths > restoration.rim).any():
            return _rim(sampler, canvas, canvas.mask, (depths > 0) & (depths <= restoration.rim))
    shape = sampler.model.shape[-2:]
    side, max_square = round(_COARSE * max(shape)), max(shape) // 2
    if max(canvas.size) <= side:
        return tiled(sampler.with_tile(side), canvas)
    if canvas.mask is None or not contains_square(canvas.mask, max_square):
        return tiled(sampler, canvas)
    low, high = canvas.value_range
    middle = REFILL * (high - low) / 2
    sizes = sizes_between(canvas.size, side)
    if sampler.chosen.plan.evaluations < _FEW_EVALUATIONS:
        sizes = sizes[:1]
    canvases = [canvas.reduced(size) for size in sizes]
    samplers = [sampler.with_tile(side), *(sampler.from_level(middle, k) for k in range(1, len(canvases)))]

    def samples(report: Report) -> list[Levels]:
        drawn = samplers[0].sample(canvases[0], report=report)
        for by, at in zip(samplers[1:], canvases[1:], strict=True):
            start = [to_values(each, at.value_range) for each in drawn]
            drawn = by.sample(at, report=report, start=start)
        return drawn if sizes[-1] == canvas.size else [_enlarged(each, canvas) for each in drawn]

    parts = zip(samplers, canvases, strict=True)
    return Draft(evaluations=sum(by.evaluations(at) for by, at in parts), samples=samples)


def _rim(sampler: TiledSampler, canvas: Canvas, mask: NDArray[np.bool_], rim: NDArray[np.bool_]) -> Draft:
    """The rim of a mask by tiles, around patches of the image: one filling for each candidate."""
    window = _window_of_patches(mask)
    masked = to_values(canvas.levels[window.slices], canvas.value_range)
    inside = torch.from_numpy(mask[window.slices])
    one = replace(sampler, candidates=1)

    def samples(report: Report) -> list[Levels]:
        return [drawn(candidate, report) for candidate in range(sampler.candidates)]

    def drawn(candidate: int, report: Report) -> Levels:
        by = replace(one, first=sampler.first + candidate)
        key = np.random.SeedSequence([by.seed % 2**64, by.first, by.stage]).generate_state(1, np.uint64)[0]
        filled = exemplar_fill(masked, inside, generator=torch.Generator().manual_seed(int(key >> 1)))
        known = canvas.levels.copy()
        known[window.slices][inside.numpy()] = to_levels(filled, canvas.value_range, canvas.levels)[inside.numpy()]
        (sample,) = by.sample(_with_mask(canvas, known, rim), report=report)
        return sample

    evaluations = sampler.candidates * one.evaluations(_with_mask(canvas, canvas.levels, rim))
    return Draft(evaluations=evaluations, samples=samples)


def _window_of_patches(mask: NDArray[np.bool_]) -> Box:
    """Where patches are looked for: the mask's box, grown by its longest side and by 128 pixels at least."""
    box = bounding_box(torch.from_numpy(mask))
    assert box is not None
    whole = bounding_box(torch.from_numpy(mask), max(_PATCHES_NEAR, box.height, box.width))
    assert whole is not None
    return whole


def _with_mask(canvas: Canvas, levels: Levels, mask: NDArray[np.bool_]) -> Canvas:
    return masked_canvas(levels, mask, value_range=canvas.value_range, masked_input=canvas.masked_input)


def _enlarged(sample: Levels, canvas: Canvas) -> Levels:
    """A small sample, enlarged, under the canvas's mask."""
    small, out = to_values(sample, canvas.value_range), np.empty(canvas.levels.shape, sample.dtype)
    for top in range(0, canvas.size[0], _ROWS):
        box = Box(top, 0, min(_ROWS, canvas.size[0] - top), canvas.size[1])
        drawn = to_levels(enlarged(small, canvas.size, box), canvas.value_range, sample)
        out[box.slices] = canvas.composite(drawn, box.slices[0], np.ones(drawn.shape[:2], np.bool_))
    return out


def fit_within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size (H, W), reduced until no side is longer."""
    scale = min(1.0, side / max(size))
    h, w = (max(1, round(scale * length)) for length in size)
    return h, w


def sizes_between(size: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """From a size whose longest side is `side` to the whole one, by equal factors of at most 2."""
    steps = max(0, math.ceil(math.log(max(size) / side, _FACTOR) - 1e-9))
    longest = [side * (max(size) / side) ** (step / max(1, steps)) for step in range(steps)]
    sizes = [fit_within(size, round(length)) for length in longest]
    kept = [small for small, large in pairwise([*sizes, size]) if small != large]
    return [*kept, size]


def contains_square(mask: NDArray[np.bool_], side: int) -> bool:
    """Whether a square of that side lies within the mask."""
    h, w = mask.shape
    if min(h, w) < side:
        return bool(mask.all())
    sums = np.zeros((h + 1, w + 1), np.int32)
    np.cumsum(mask, 0, out=sums[1:, 1:], dtype=np.int32)
    np.cumsum(sums[1:, 1:], 1, out=sums[1:, 1:])
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return bool((inside == side * side).any())


def panorama(
    sampler: TiledSampler, levels: Levels, canvas: Canvas, *, sides: Sequence[str], amount: float, times: int
) -> Draft:
    """An image extended `times` times at each side, one panorama for each candidate.

    Args:
        sampler: how images are sampled.
        levels: the image, with the model's channels.
        canvas: of the whole panorama.
        sides: out of top, right, bottom, left, in the order in which they are extended.
        amount: of the image's height or width, each time at each side.
        times: how often at each side.
    """
    image, steps = panorama_steps(levels.shape[:2], sides, amount, times)
    one = replace(sampler, candidates=1)
    empty = np.broadcast_to(np.zeros(1, levels.dtype), (*canvas.size, levels.shape[2]))
    each = sum(fill(one, _window(canvas, empty, *step)).evaluations for step in steps)

    def samples(report: Report) -> list[Levels]:
        return [drawn(candidate, report) for candidate in range(sampler.candidates)]

    def drawn(candidate: int, report: Report) -> Levels:
        wide = np.zeros((*canvas.size, levels.shape[2]), levels.dtype)
        wide[image.slices] = levels
        for number, (seen, extended) in enumerate(steps):
            by = replace(one, first=sampler.first + candidate, stage=STAGES * (number + 1))
            (sample,) = fill(by, _window(canvas, wide, seen, extended)).samples(report)
            wide[seen.slices] = sample
        return wide

    return Draft(evaluations=sampler.candidates * each, samples=samples)


def panorama_steps(
    size: tuple[int, int], sides: Sequence[str], amount: float, times: int
) -> tuple[Box, list[tuple[Box, Box]]]:
    """Where the image lies in its panorama, and for each step the visible box and the box to fill."""
    new = {side: max(1, round(amount * size[_axis(side)])) for side in sides}
    before = [times * new.get("top", 0), times * new.get("left", 0)]
    begins, ends = list(before), [b + length for b, length in zip(before, size, strict=True)]
    steps: list[tuple[Box, Box]] = []
    for _ in range(times):
        for side in sides:
            axis = _axis(side)
            across = ends[1 - axis] - begins[1 - axis]
            known = min(ends[axis] - begins[axis], max(new[side], across - new[side]))
            if side in ("top", "left"):
                begins[axis] -= new[side]
                first, start = begins[axis], begins[axis]
            else:
                first, start = ends[axis] - known, ends[axis]
                ends[axis] += new[side]
            along = (first, known + new[side]), (start, new[side])
            seen, extended = (_box(axis, part, begins, across) for part in along)
            steps.append((seen, extended))
    return Box(before[0], before[1], *size), steps


def _axis(side: str) -> int:
    return 0 if side in ("top", "bottom") else 1


def _box(axis: int, along: tuple[int, int], begins: list[int], across: int) -> Box:
    if axis == 0:
        return Box(along[0], begins[1], along[1], across)
    return Box(begins[0], along[0], across, along[1])


def _window(canvas: Canvas, wide: Levels, seen: Box, extended: Box) -> Canvas:
    mask = np.zeros((seen.height, seen.width), np.bool_)
    mask[extended._replace(top=extended.top - seen.top, left=extended.left - seen.left).slices] = True
    return _with_mask(canvas, wide[seen.slices], mask)
