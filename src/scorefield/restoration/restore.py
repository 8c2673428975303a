"""One call from a damaged picture to several mended ones.

A task or a damage says what the picture went through (`tasks`), a method says how that is answered
(`methods`), and a sampler draws the candidates.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from scorefield.data.images import to_pil, to_uint8
from scorefield.degradations import MASKS, Degradation, Observation, parse_damage
from scorefield.errors import UserError
from scorefield.hub import load
from scorefield.model import ScoreModel
from scorefield.restoration.methods import METHODS, USUAL, Approach, approach
from scorefield.restoration.restored import Restored
from scorefield.restoration.tasks import (
    TASKS,
    Job,
    Picture,
    Wish,
    prepared,
    read_picture,
    task_named,
)

__all__ = ["MASKS", "METHODS", "TASKS", "Restored", "restore"]

_PIXELS_AT_ONCE = 1 << 18  # bounds memory: candidates of a large picture are drawn one after another


@torch.no_grad()
def restore(
    model: ScoreModel | str | Path,
    picture: Picture,
    task: str | None = None,
    *,
    damage: str | Sequence[str] | Degradation | None = None,
    simulate: bool = False,
    mask: str | Path | Tensor = "center",
    invert: bool = False,
    sides: Sequence[str] = ("left", "right"),
    amount: float = 0.5,
    quality: int | None = None,
    factor: int | None = None,
    std: float = 1.0,
    noise: float = 0.0,
    method: str = USUAL,
    candidates: int = 1,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    track: Callable[[int, int], None] | None = None,
) -> Restored:
    """Mend a picture, several times over.

    Where a damage leaves pixels as they are (a mask, a crop), they come back byte for byte.

    Args:
        model: an unconditional score model, or what `load` takes.
        picture: the damaged picture: a path, a PIL picture, or uint8 (C, H, W).
        task: a name in TASKS; "inpaint" if no `damage` is given either.
        damage: in a task's place what the picture went through, as `degradations.parse_damage` reads it, in
            order, or an operator.
        simulate: the picture is clean; do the damage first.
        mask: inpaint: white = fill: a picture file, a name in MASKS, or a tensor (H, W) of 0 and 1.
        invert: inpaint: take the mask's black for what is to be filled.
        sides: uncrop: out of top, right, bottom, left.
        amount: uncrop: how much is drawn at each, as a part of the picture's width or height.
        quality: dejpeg: of the JPEG file, if it is not to be read from there.
        factor: upscale: by default the one that leads to the model's own size.
        std: deblur: of the blur, in pixels.
        noise: standard deviation of Gaussian noise in the picture, in steps of 8 bits.
        method: a name in METHODS.
        candidates: how many answers.
        sampler: a name in `samplers.SAMPLERS`; by default the method's.
        steps: see `methods.approach`.
        seed: of all noise.
        track: called with (evaluations done, evaluations in all).

    Raises:
        UserError: a picture or mask that cannot be read or does not fit, a setting that cannot be, or an
            unknown name.
    """
    if candidates < 1:
        raise UserError("candidates", f"need at least one, got {candidates}.")
    if task is not None and damage is not None:
        raise UserError(
            "damage", f"given beside the task {task!r}, which is one itself.", "Leave out either."
        )
    named = task_named(task or "inpaint")
    model = model if isinstance(model, ScoreModel) else load(model)
    chosen = approach(model, method, sampler, steps)
    pixels = read_picture(picture)
    if damage is None:
        wish = Wish(
            mask=mask, invert=invert, sides=sides, amount=amount, quality=quality, factor=factor, std=std
        )
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        done = named.damage(wish, picture, size, model)
        simulate = simulate or (named.strips and _in_color(pixels))
    else:
        done = parse_damage(damage) if isinstance(damage, str | Sequence) else damage
    job = prepared(model, picture, done, simulate=simulate, noise=noise, seed=seed)
    return _drawn(model, job, chosen, candidates, seed, track)


def _drawn(
    model: ScoreModel,
    job: Job,
    chosen: Approach,
    candidates: int,
    seed: int,
    track: Callable[[int, int], None] | None,
) -> Restored:
    """The candidates, so many at once as memory allows."""
    plan, restorer = chosen.plan, chosen.method.restorer(model)
    generator = torch.Generator(model.device).manual_seed(seed)
    pixels = job.shape[1] * job.shape[2] * chosen.method.memory
    at_once = max(1, min(candidates, _PIXELS_AT_ONCE // pixels))
    answers: list[Tensor] = []
    while len(answers) < candidates:
        count = min(at_once, candidates - len(answers))
        y = job.y.to(model.device).expand(count, -1, -1, -1)
        observation = Observation(y=y, degradation=job.degradation, noise=job.noise)
        posterior = restorer.posterior(observation, generator=generator)
        shape = (count, *job.shape)
        x = torch.randn(shape, generator=generator, device=model.device) * plan.sigmas[0].item()
        for step in plan.sampler.iterate(
            posterior.denoiser, x, plan.sigmas, generator=generator, project=posterior.project
        ):
            x = step.x
            if track is not None:
                done = len(answers) * plan.evaluations + step.evaluations * count
                track(done, candidates * plan.evaluations)
        answers.extend(to_uint8(x, model.value_range).cpu())
    drawn = torch.stack([torch.where(job.known, job.kept, answer) for answer in answers])
    return Restored(
        images=[to_pil(answer) for answer in drawn],
        damaged=job.damaged,
        original=job.original,
        uncertainty=drawn.float().std(0, correction=0).mean(0) / 255,
    )


def _in_color(pixels: Tensor) -> bool:
    return pixels.shape[0] == 3 and not bool((pixels == pixels[:1]).all())
