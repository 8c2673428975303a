"""An image answered by a model that learned to restore, tile by tile, several candidates at once.

Every tile is sampled on its own, from noise that hangs on the place alone (`field`), so that tiles that
overlap begin alike and, with a sampler that draws no noise of its own, end alike as far as they see the same;
what differs is blended (`tiling`). Tiles with nothing to fill are left out. Memory is that of a few tiles and
of one row of them.

A tile can begin from noise, or warm, from an answer at a smaller size: x = x' + σ n with x' enlarged, and
only the noise levels below σ are walked (SDEdit, Meng et al. 2022).

References:
    Meng et al. (2022), Algorithm 1. https://arxiv.org/abs/2108.01073
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Generator, Tensor

from scorefield.data.bit_depth import Levels
from scorefield.degradations import Shown
from scorefield.kernels.prepacked import ready
from scorefield.restoration.canvas import Canvas, larger
from scorefield.restoration.field import NoiseField
from scorefield.restoration.learned import Learned
from scorefield.restoration.levels import Box, to_levels
from scorefield.restoration.tiling import Cut, Strip, Tiling, up
from scorefield.samplers import Plan

STAGES = 32
"""Sizes at which one image is answered, at most; see `Painter`."""
_START, _HOLE = 0, 1
PIXELS_AT_ONCE = 1 << 16
"""Of tiles in one batch: more are no faster on a processor."""

Tell = Callable[[int], None]
"""Told of so many evaluations of one tile."""

Piece = tuple[int, Box]
"""A candidate and a tile of it."""


@dataclass(frozen=True, kw_only=True)
class Painter:
    """How images are answered.

    Args:
        learned: the model.
        plan: sampler and schedule.
        candidates: how many answers.
        seed: of all noise.
        tile: the longest side of a tile, see `Tiling`.
        overlap: of tiles.
        at_once: pixels of one batch of tiles.
        first: the number of the first candidate.
        stage: a number from 0 that sets the noise of one size of an image, or of one image of several,
            apart from that of another.
    """

    learned: Learned
    plan: Plan
    candidates: int
    seed: int
    tile: int
    overlap: int
    at_once: int = PIXELS_AT_ONCE
    first: int = 0
    stage: int = 0

    def evaluations(self, canvas: Canvas) -> int:
        """How many evaluations of a tile it takes."""
        tiling = self._tiling(canvas)
        tiles = sum(canvas.fills(box) for row in tiling.rows for box in tiling.boxes(row))
        return tiles * self.candidates * self.plan.evaluations

    def paint(self, canvas: Canvas, *, tell: Tell, start: Sequence[Tensor] | None = None) -> list[Levels]:
        """The answers, each of the canvas's size.

        Args:
            canvas: what is known.
            tell: told as evaluations are done.
            start: answers at a smaller size, (C, h, w), one for each candidate; the plan's first noise level is the
                noise that they are given.
        """
        tiling, channels = self._tiling(canvas), self.learned.model.shape[0]
        height, width = canvas.size
        answers = [np.empty((height, width, channels), canvas.levels.dtype) for _ in range(self.candidates)]
        strip = Strip.of(tiling, self.candidates, channels)
        generator = torch.Generator(self.learned.model.device).manual_seed(self.seed)
        ends = [top for top, _ in tiling.rows[1:]] + [height]
        with ready(self.learned.model.network):
            for row, end in zip(tiling.rows, ends, strict=True):
                for batch in self._batches(canvas, tiling, row):
                    values = self._answered(canvas, batch, start, generator, tell).cpu()
                    for (candidate, box), value in zip(batch, values, strict=True):
                        strip.add(box, tiling.weight(box), [candidate], value[None])
                done = slice(strip.top, end)
                means, there = strip.until(end)
                for answer, mean in zip(answers, means, strict=True):
                    levels = to_levels(mean, canvas.value_range, canvas.levels)
                    answer[done] = canvas.settled(levels, done, there.numpy())
        return answers

    def warm(self, sigma: float, stages: int) -> "Painter":
        """The same from a noise level on, for a size so many stages on."""
        levels = self.plan.sigmas
        if float(levels[0]) > sigma:
            levels = torch.cat([torch.tensor([sigma]), levels[levels < sigma]])
        return replace(self, plan=replace(self.plan, sigmas=levels), stage=self.stage + stages)

    def seeing(self, side: int) -> "Painter":
        """The same with tiles that take in an image of that side whole."""
        return replace(self, tile=max(self.tile, up(side)))

    def _tiling(self, canvas: Canvas) -> Tiling:
        return Tiling(size=canvas.size, tile=self.tile, overlap=self.overlap)

    def _batches(self, canvas: Canvas, tiling: Tiling, row: Cut) -> Iterator[list[Piece]]:
        """The tiles of a row that have something to fill, of one size in each batch."""
        boxes = [box for box in tiling.boxes(row) if canvas.fills(box)]
        for width, alike in groupby(boxes, lambda box: box.width):
            pieces = [(k, box) for box in alike for k in range(self.candidates)]
            count = max(1, self.at_once // (row[1] * width))
            yield from (pieces[i : i + count] for i in range(0, len(pieces), count))

    def _answered(
        self,
        canvas: Canvas,
        pieces: list[Piece],
        start: Sequence[Tensor] | None,
        generator: Generator,
        tell: Tell,
    ) -> Tensor:
        """The answers to a batch of tiles, (n, C, h, w)."""
        windows = [canvas.window(box, self._noise(k, _HOLE)) for k, box in pieces]
        seen = Shown(
            source=torch.cat([window.source for window in windows]),
            fill=torch.cat([window.fill for window in windows]),
        )
        x = torch.stack([self._noise(k, _START).window(box) for k, box in pieces]) * self.plan.sigmas[0]
        if start is not None:
            guess = torch.stack([larger(start[k], canvas.size, box) for k, box in pieces])
            x = x + guess
            if canvas.noise == "smooth" and canvas.hole is not None:  # a better one than from this tile alone
                seen = Shown(source=torch.where(seen.fill > 0, guess, seen.source), fill=seen.fill)
        x = x.to(self.learned.model.device)
        posterior, done = self.learned.given(seen), 0
        for step in self.plan.sampler.iterate(
            posterior.denoiser, x, self.plan.sigmas, generator=generator, project=posterior.project
        ):
            x = step.x
            tell((step.evaluations - done) * len(pieces))
            done = step.evaluations
        return x

    def _noise(self, candidate: int, kind: int) -> NoiseField:
        numbers = (self.first + candidate, self.stage, kind)
        return NoiseField(seed=self.seed, stream=numbers, channels=self.learned.model.shape[0])
