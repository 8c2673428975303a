"""The keystone: a restorer turns an observation into a denoiser, and any sampler does the rest."""

from dataclasses import dataclass
from typing import Protocol

from torch import Generator

from scorefield.degradations import Observation
from scorefield.model import Denoiser
from scorefield.samplers import Project

__all__ = ["Posterior", "Restorer"]


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """What a sampler needs to draw from p(x0 | y).

    Args:
        denoiser: E[x0 | x, y], in the place of the model's E[x0 | x].
        project: applied after every update, for methods that have such a step.
    """

    denoiser: Denoiser
    project: Project | None = None


class Restorer(Protocol):
    """A method of restoration, trained or training-free."""

    def posterior(self, observation: Observation, *, generator: Generator) -> Posterior:
        """The posterior given the observation; `generator` is the source of the method's own noise."""
        ...
