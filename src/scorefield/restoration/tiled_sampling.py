"""Samples of an image given an observation, tile by tile, several candidates at once.

Every tile is sampled on its own, from noise that is a function of position (`tiles.NoiseField`). Overlapping tiles
therefore begin alike and, with a sampler that draws no noise of its own, end alike as far as they see the same; the
rest is blended. Tiles with nothing to fill are skipped. Memory is that of one batch of tiles and one row of them.

Sampling begins with noise, or warm, with a result of a smaller size: x = x' + σ n with x' enlarged, and only the
noise levels below σ are visited (SDEdit, Meng et al. 2022).

References:
    Meng et al. (2022), Algorithm 1. https://arxiv.org/abs/2108.01073
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Generator, Tensor

from scorefield.data.image import Levels
from scorefield.degradations import Box, Identity, NetworkInput, Observation
from scorefield.model import ScoreModel
from scorefield.restoration.canvas import Canvas
from scorefield.restoration.methods import MethodPlan
from scorefield.restoration.pixels import enlarged, to_levels
from scorefield.restoration.tiles import GRID, BlendBuffer, Cut, NoiseField, Tiling, round_up
from scorefield.samplers import Step, run

__all__ = ["STAGES", "Report", "TiledSampler"]

STAGES = 32
"""The largest number of sizes at which one image is sampled; see `TiledSampler.stage`."""
_START, _MASKED = 0, 1
PIXELS_AT_ONCE = 1 << 16
"""Pixels of one batch of tiles: larger batches are no faster on a CPU."""

Report = Callable[[int], None]
"""Called with the number of evaluations of one tile that were done since the last call."""

Piece = tuple[int, Box]
"""A candidate and a tile of it."""


@dataclass(frozen=True, kw_only=True)
class TiledSampler:
    """How an image is sampled.

    Args:
        model: the score model.
        chosen: the method, with its sampler and noise schedule.
        candidates: samples for each image.
        seed: of all noise.
        tile: the longest side of a tile, see `Tiling`.
        overlap: of tiles.
        first: the number of the first candidate.
        stage: a number from 0: noise of different stages (sizes of one image, or parts of a panorama) is independent.
    """

    model: ScoreModel
    chosen: MethodPlan
    candidates: int
    seed: int
    tile: int
    overlap: int
    first: int = 0
    stage: int = 0

    def evaluations(self, canvas: Canvas) -> int:
        """How many evaluations of one tile it takes."""
        tiling = self._tiling(canvas)
        tiles = sum(canvas.fills(box) for row in tiling.rows for box in tiling.boxes(row))
        return tiles * self.candidates * self.chosen.plan.evaluations

    def sample(self, canvas: Canvas, *, report: Report, start: Sequence[Tensor] | None = None) -> list[Levels]:
        """The samples, each of the canvas's size.

        Args:
            canvas: the observation.
            report: called as evaluations are done.
            start: results of a smaller size, (C, h, w), one for each candidate; the schedule's first noise level is
                the noise added to them.
        """
        tiling, channels = self._tiling(canvas), self.model.shape[0]
        height, width = canvas.size
        samples = [np.empty((height, width, channels), canvas.levels.dtype) for _ in range(self.candidates)]
        buffer = BlendBuffer.of(tiling, self.candidates, channels)
        generator = torch.Generator(self.model.device).manual_seed(self.seed)
        ends = [top for top, _ in tiling.rows[1:]] + [height]
        for row, end in zip(tiling.rows, ends, strict=True):
            for batch in self._batches(canvas, tiling, row):
                values = self._sampled(canvas, batch, start, generator, report).cpu()
                for (candidate, box), value in zip(batch, values, strict=True):
                    buffer.add(box, tiling.weight(box), [candidate], value[None])
            done = slice(buffer.top, end)
            means, there = buffer.pop_rows(end)
            for sample, mean in zip(samples, means, strict=True):
                levels = to_levels(mean, canvas.value_range, canvas.levels)
                sample[done] = canvas.composite(levels, done, there.numpy())
        return samples

    def from_level(self, sigma: float, stages: int) -> "TiledSampler":
        """The same from a noise level on, for a size so many stages later."""
        plan = self.chosen.plan
        if float(plan.sigmas[0]) > sigma:
            rest = plan.sigmas[plan.sigmas < sigma]
            plan = replace(plan, sigmas=torch.cat([torch.tensor([sigma]), rest]))
        return replace(self, chosen=replace(self.chosen, plan=plan), stage=self.stage + stages)

    def with_tile(self, side: int) -> "TiledSampler":
        """The same with tiles that take in an image of that side whole."""
        return replace(self, tile=max(self.tile, round_up(side)))

    def _tiling(self, canvas: Canvas) -> Tiling:
        whole = not self.chosen.method.conditional and not canvas.local
        tile = max(self.tile, round_up(max(canvas.size))) if whole else self.tile
        grid = math.lcm(GRID, canvas.scale)
        return Tiling(size=canvas.size, tile=round_up(tile, grid), overlap=round_up(self.overlap, grid), grid=grid)

    def _batches(self, canvas: Canvas, tiling: Tiling, row: Cut) -> Iterator[list[Piece]]:
        """The tiles of a row that have something to fill, of one size in each batch."""
        boxes = sorted((box for box in tiling.boxes(row) if canvas.fills(box)), key=lambda box: box.width)
        for width, alike in groupby(boxes, lambda box: box.width):
            pieces = [(k, box) for box in alike for k in range(self.candidates)]
            count = max(1, PIXELS_AT_ONCE // (row[1] * width * self.chosen.method.memory))
            yield from (pieces[i : i + count] for i in range(0, len(pieces), count))

    def _sampled(
        self,
        canvas: Canvas,
        pieces: list[Piece],
        start: Sequence[Tensor] | None,
        generator: Generator,
        report: Report,
    ) -> Tensor:
        """Samples of a batch of tiles, (n, C, h, w)."""
        plan = self.chosen.plan
        x = torch.stack([self._noise(k, _START).window(box) for k, box in pieces]) * plan.sigmas[0]
        guess = None
        if start is not None:
            guess = torch.stack([enlarged(start[k], canvas.size, box) for k, box in pieces])
            x = x + guess
        observation = self._observed(canvas, pieces, guess)
        restorer = self.chosen.method.restorer(self.model)
        posterior = restorer.posterior(observation, generator=generator)
        done = 0

        def progress(step: Step) -> None:
            nonlocal done
            report((step.evaluations - done) * len(pieces))
            done = step.evaluations

        return run(
            plan.sampler, posterior.denoiser, x.to(self.model.device), plan.sigmas, generator=generator,
            project=posterior.project, progress=progress,
        )  # fmt: skip

    def _observed(self, canvas: Canvas, pieces: list[Piece], guess: Tensor | None) -> Observation:
        if not self.chosen.method.conditional:
            measured = canvas.measured([box for _, box in pieces])
            return replace(measured, y=measured.y.to(self.model.device))
        windows = [canvas.network_input(box, self._noise(k, _MASKED).window) for k, box in pieces]
        source = torch.cat([window.source for window in windows])
        mask = torch.cat([window.mask for window in windows])
        if guess is not None and canvas.masked_input == "smooth" and canvas.mask is not None:
            source = torch.where(mask > 0, guess, source)  # better than what this tile alone suggests
        tables = None if canvas.tables is None else canvas.tables.expand(len(pieces), -1)
        seen = NetworkInput(source=source, mask=mask, tables=tables)
        return Observation(y=source, degradation=Identity(), network_input=seen)

    def _noise(self, candidate: int, kind: int) -> NoiseField:
        stream = (self.first + candidate, self.stage, kind)
        return NoiseField(seed=self.seed, stream=stream, channels=self.model.shape[0])
