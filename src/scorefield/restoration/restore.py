"""One call from a damaged picture to several mended ones."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from scorefield.data.images import read_image, to_float, to_pil, to_tensor, to_uint8
from scorefield.data.sheets import grid, save_image
from scorefield.degradations import CenterBox, Mask, Observation, Side, read_mask
from scorefield.errors import UserError, did_you_mean
from scorefield.files import refuse_existing
from scorefield.hub import load
from scorefield.model import ScoreModel
from scorefield.restoration.projection import Projection
from scorefield.samplers import plan

MASKS = {"center": CenterBox(), **{side: Side(side=side) for side in ("left", "right", "top", "bottom")}}
"""Masks by name, for want of a mask file."""

_PIXELS_AT_ONCE = 1 << 18  # bounds memory: candidates of a large picture are drawn one after another


@dataclass(frozen=True, kw_only=True)
class Restored:
    """Candidates for a mended picture.

    Args:
        images: the candidates.
        damaged: the picture with its missing pixels grey.
        original: the picture as it was read.
        uncertainty: where the candidates disagree, their standard deviation over the value range, (H, W).
    """

    images: list[Image.Image]
    damaged: Image.Image
    original: Image.Image
    uncertainty: Tensor

    def sheet(self) -> Image.Image:
        """Damaged picture, candidates and original side by side."""
        shown = [self.damaged, *self.images, self.original]
        return grid(torch.stack([to_tensor(image) for image in shown]), columns=len(shown))

    def save(self, out: str | Path, *, stem: str = "picture", overwrite: bool = False) -> list[Path]:
        """Write `stem`-1.png, … and `stem`-sheet.png into the folder `out`; the paths.

        Raises:
            UserError: a file is already there.
        """
        names = [f"{stem}-{k + 1}.png" for k in range(len(self.images))] + [f"{stem}-sheet.png"]
        paths = [refuse_existing(Path(out) / name, overwrite=overwrite) for name in names]
        for path, image in zip(paths, [*self.images, self.sheet()], strict=True):
            save_image(image, path)
        return paths


@torch.no_grad()
def restore(
    model: ScoreModel | str | Path,
    picture: str | Path | Image.Image | Tensor,
    task: str = "inpaint",
    *,
    mask: str | Path | Tensor = "center",
    invert: bool = False,
    candidates: int = 1,
    sampler: str = "annealed-langevin",
    steps: int | None = None,
    seed: int = 0,
    track: Callable[[int, int], None] | None = None,
) -> Restored:
    """Mend a picture, several times over.

    Known pixels come back byte for byte.

    Args:
        model: a score model, or what `load` takes.
        picture: a path, a PIL picture, or uint8 (C, H, W).
        task: inpaint.
        mask: white = fill: a picture file, a name in MASKS, or a tensor (H, W) of 0 and 1.
        invert: take the mask's black for what is to be filled.
        candidates: how many answers.
        sampler: a name in `samplers.SAMPLERS`.
        steps: see `samplers.plan`.
        seed: of all noise.
        track: called with (evaluations done, evaluations in all).

    Raises:
        UserError: a picture or mask that cannot be read or does not fit, or an unknown name.
    """
    if task != "inpaint":
        raise UserError("task", f"no such task {task!r}.", did_you_mean(task, ["inpaint"]))
    if candidates < 1:
        raise UserError("candidates", f"need at least one, got {candidates}.")
    model = model if isinstance(model, ScoreModel) else load(model)
    pixels = _pixels(picture, model.shape[0])
    damage = _mask(mask, pixels, invert)
    original = to_float(pixels, model.value_range).to(model.device)[None]

    chosen = plan(model, sampler, steps)
    generator = torch.Generator(model.device).manual_seed(seed)
    at_once = max(1, min(candidates, _PIXELS_AT_ONCE // pixels[0].numel()))
    answers: list[Tensor] = []
    while len(answers) < candidates:
        count = min(at_once, candidates - len(answers))
        observation = Observation(y=damage(original.expand(count, -1, -1, -1)), degradation=damage)
        posterior = Projection(denoiser=model).posterior(observation, generator=generator)
        x = (
            torch.randn(observation.y.shape, generator=generator, device=model.device)
            * chosen.sigmas[0].item()
        )
        for step in chosen.sampler.iterate(
            posterior.denoiser, x, chosen.sigmas, generator=generator, project=posterior.project
        ):
            x = step.x
            if track is not None:
                done = len(answers) * chosen.evaluations + step.evaluations * count
                track(done, candidates * chosen.evaluations)
        answers.extend(to_uint8(x, model.value_range).cpu())

    fill = damage.fill[0].bool()
    drawn = torch.stack([torch.where(fill, answer, pixels) for answer in answers])
    return Restored(
        images=[to_pil(answer) for answer in drawn],
        damaged=to_pil(torch.where(fill, torch.full_like(pixels, 128), pixels)),
        original=to_pil(pixels),
        uncertainty=drawn.float().std(0, correction=0).mean(0) / 255,
    )


def _pixels(picture: str | Path | Image.Image | Tensor, channels: int) -> Tensor:
    """The picture as uint8 (channels, H, W)."""
    where = picture if isinstance(picture, str | Path) else "picture"
    if not isinstance(picture, Tensor):
        image = picture if isinstance(picture, Image.Image) else read_image(Path(picture))
        picture = to_tensor(image)
    if picture.shape[0] == channels:
        return picture
    if picture.shape[0] == 1:
        return picture.expand(channels, -1, -1).clone()
    if channels == 1 and bool((picture == picture[:1]).all()):
        return picture[:1]
    raise UserError(
        where,
        f"the picture has {picture.shape[0]} channels, the model draws {channels}.",
        "Choose a model for color, or make the picture grey first." if channels == 1 else "",
    )


def _mask(mask: str | Path | Tensor, pixels: Tensor, invert: bool) -> Mask:
    size = tuple(pixels.shape[-2:])
    if isinstance(mask, Tensor):
        if tuple(mask.shape[-2:]) != size or mask.numel() != size[0] * size[1]:
            raise UserError("mask", f"shape {tuple(mask.shape)} does not fit a picture of {size}.")
        fill = (mask.reshape(1, 1, *size) > 0.5).float()
        return Mask(fill=1 - fill if invert else fill)
    if str(mask) in MASKS:
        drawn = MASKS[str(mask)].draw((1, *pixels.shape), generator=torch.Generator())
        return Mask(fill=1 - drawn.fill) if invert else drawn
    if not Path(mask).exists():
        raise UserError(
            mask, "no such mask.", f"Give a picture file (white = fill) or one of {', '.join(MASKS)}."
        )
    return read_mask(mask, size, invert=invert)
