"""Palette: a conditional model as a restorer.

A network trained on pairs is itself the denoiser of p(x0 | y),

    D(x; σ, y) = E[x0 | x0 + σ n = x, A(x0) = y],

with y as a condition beside x (Saharia et al. 2022, §3). The condition is the network's source and mask
(`degradations.network_input`). Where the mask is 0 the source is the image: the network sees it there without
noise, and the result equals it. The network does not know the operator A.

References:
    Saharia et al. (2022), §3–4. https://arxiv.org/abs/2111.05826
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.degradations import Observation, network_input
from scorefield.model import Condition, ScoreModel
from scorefield.restoration.posterior import Posterior

__all__ = ["Palette"]


@dataclass(frozen=True, kw_only=True)
class Palette:
    """A conditional model, bound to the degraded images.

    Args:
        model: trained on degraded images; a regression model too, whose every D is its one result.
    """

    model: ScoreModel

    def posterior(self, observation: Observation, *, generator: Generator) -> Posterior:
        """The model given y.

        Args:
            observation: with its `network_input`, or else one is made from the operator; `generator` then draws
                the noise shown in masked pixels.
            generator: see above.
        """
        seen = observation.network_input
        if seen is None:
            seen = network_input(
                observation.degradation, observation.y, generator=generator, masked_input=self.model.spec.masked_input
            )
        source, mask = seen.source.to(self.model.device), seen.mask.to(self.model.device)

        def keep_known(x: Tensor, sigma: float) -> Tensor:
            return x if sigma > 0 else torch.where(mask > 0, x, source)

        return Posterior(denoiser=self.model.given(Condition(source=source, mask=mask)), project=keep_known)
