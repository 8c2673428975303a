"""The way from noise to images, as an animation."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from scorefield.data.grids import grid, save_animation
from scorefield.data.image import to_uint8
from scorefield.samplers import Step


class Trace:
    """Collects the steps of the first batch that a sampler yields and shows them one after another.

    A noisy image at σ is shown as x/√(1+σ²) around the middle of the value range, so that its noise stays
    on the screen; next to it stands the denoised image, D(x; σ).

    Args:
        value_range: of the model.
        count: images shown.
        frames: greatest number of frames kept.
    """

    def __init__(self, value_range: tuple[float, float], *, count: int = 16, frames: int = 60) -> None:
        self.value_range, self.count, self.frames = value_range, count, frames
        self._kept: list[Tensor] = []
        self._every, self._seen, self._last = 1, 0, -1
        self._final: Tensor | None = None

    @property
    def empty(self) -> bool:
        """Whether no step was noted."""
        return not self._kept

    def add(self, step: Step) -> None:
        """Note a step; of a long run only every so manieth is kept."""
        if step.index <= self._last:
            return
        self._last = step.index
        middle = sum(self.value_range) / 2
        shrunk = middle + (step.x[: self.count] - middle) / (1 + step.sigma**2) ** 0.5
        self._final = to_uint8(torch.cat([shrunk, step.denoised[: self.count]]), self.value_range).cpu()
        if self._seen % self._every == 0:
            self._kept.append(self._final)
            if len(self._kept) > self.frames:
                self._kept = self._kept[::2]
                self._every *= 2
        self._seen += 1

    def images(self) -> list[Image.Image]:
        """The frames: on the left the noisy images, on the right what the model makes of them."""
        frames = self._kept
        if self._final is not None and self._final is not frames[-1]:
            frames = [*frames, self._final]
        return [_side_by_side(frame) for frame in frames]

    def save(self, path: Path) -> Path:
        """Write the animation; GIF, WebP or APNG by suffix."""
        return save_animation(self.images(), path, milliseconds=90)


def _side_by_side(frame: Tensor) -> Image.Image:
    noisy, denoised = (grid(half, scale=max(1, 56 // frame.shape[-1])) for half in frame.chunk(2))
    sheet = Image.new(noisy.mode, (noisy.width * 2 + 12, noisy.height), "white")
    sheet.paste(noisy, (0, 0))
    sheet.paste(denoised, (noisy.width + 12, 0))
    return sheet
