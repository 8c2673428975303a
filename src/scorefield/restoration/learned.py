"""Restoration by a model that learned it: Palette.

A network trained on pairs is the denoiser of p(x0 | y) itself,

    D(x; σ, y) = E[x0 | x0 + σ n = x, A(x0) = y],

once it is shown y beside x (Saharia et al. 2022, §3). What is shown is the degradation's to say
(`degradations.shown`): the source, and where it is known. There the network's input is the source, clean,
and the answer is the source too; neither the degradation's strength nor its kind is told.

References:
    Saharia et al. (2022), §3–4. https://arxiv.org/abs/2111.05826
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.degradations import Observation, Shown, shown
from scorefield.model import Condition, ScoreModel
from scorefield.restoration.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The model, bound to what is left of the images.

    Args:
        model: trained on degraded images; a regression too, whose every D is its one answer.
    """

    model: ScoreModel

    def posterior(self, observation: Observation, *, generator: Generator) -> Posterior:
        """The model given y; `generator` draws the noise shown in holes.

        The noise of an observation, as its operator, is what the model was trained on: neither is told.
        """
        seen = shown(observation.degradation, observation.y, generator=generator)
        return self.given(seen.holed(self.model.spec.hole_fill))

    def given(self, seen: Shown) -> Posterior:
        """The model given what is shown; the last step ends with what is known."""
        source, fill = seen.source.to(self.model.device), seen.fill.to(self.model.device)

        def end(x: Tensor, sigma: float) -> Tensor:
            return x if sigma > 0 else torch.where(fill > 0, x, source)

        return Posterior(denoiser=self.model.given(Condition(source=source, mask=fill)), project=end)
