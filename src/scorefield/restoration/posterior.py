"""What a restorer makes of an observation."""

from dataclasses import dataclass
from typing import Protocol

from torch import Generator

from scorefield.degradations import Observation
from scorefield.model import Denoiser
from scorefield.samplers import Project


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """What a sampler needs to draw from p(x0 | y).

    Args:
        denoiser: to be sampled in the model's place.
        project: to be applied after every update, where the method has one.
    """

    denoiser: Denoiser
    project: Project | None = None


class Restorer(Protocol):
    """A method of restoration, learned or training-free."""

    def posterior(self, observation: Observation, *, generator: Generator) -> Posterior:
        """The posterior of what was observed; `generator` is the source of the method's own noise."""
        ...
