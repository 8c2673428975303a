"""Several answers to one degraded image: how they are drawn, and where they disagree."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield.data.bit_depth import Levels
from scorefield.data.photo import Original
from scorefield.degradations import Observation
from scorefield.model import ScoreModel
from scorefield.restoration.coarse import Answering
from scorefield.restoration.levels import to_levels, white
from scorefield.restoration.methods import Approach
from scorefield.restoration.observed import Job
from scorefield.restoration.restored import Restored

Track = Callable[[int, int], None]
"""Called with (evaluations done, evaluations in all)."""

_PIXELS_AT_ONCE = 1 << 18  # bounds memory: candidates of a large image are drawn one after another
_ROWS = 256


def drawn(answering: Answering, track: Track | None) -> list[Levels]:
    """The answers, with the evaluations counted."""
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if track is not None and count:
            track(done, answering.evaluations)

    return answering.answers(tell)


def observed(
    model: ScoreModel, job: Job, chosen: Approach, candidates: int, seed: int, track: Track | None
) -> list[Levels]:
    """Answers by a method that is told the operator, so many at once as memory allows."""
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
        answers.extend(x)
    levels = [to_levels(answer, model.value_range, job.kept) for answer in answers]
    return [np.where(job.known, job.kept, each) for each in levels]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is shown beside the answers; see `Restored`."""

    degraded: Image.Image
    original: Image.Image
    source: Original | None


def gathered(answers: list[Levels], beside: Beside, *, average: bool) -> Restored:
    """The answers, or their mean, with where they disagree."""
    spread = disagreement(answers)
    return Restored(
        levels=[mean_of(answers)] if average else answers,
        degraded=beside.degraded,
        original=beside.original,
        uncertainty=spread,
        source=beside.source,
    )


def disagreement(answers: list[Levels]) -> Tensor:
    """The standard deviation over the answers, of the value range, mean of the channels: (H, W)."""
    height, width = answers[0].shape[:2]
    spread = torch.zeros(height, width)
    if len(answers) > 1:
        for top in range(0, height, _ROWS):
            rows = np.stack([answer[top : top + _ROWS] for answer in answers]).astype(np.float32)
            spread[top : top + _ROWS] = torch.from_numpy(rows).std(0, correction=0).mean(-1)
    return spread / white(answers[0])


def mean_of(answers: list[Levels]) -> Levels:
    """The mean of the answers, rounded: nearer to the original than each, and less sharp."""
    total = sum(answer.astype(np.uint32) for answer in answers)
    return np.asarray((total + len(answers) // 2) // len(answers)).astype(answers[0].dtype)
