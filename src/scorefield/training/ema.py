"""The moving average of the weights.

With θ the weights after step t and β the decay,

    θ̄ ← β θ̄ + (1 − β) θ,    β = min(decay, (1 − 1/t)^(1/span)).

The second term is the smaller one early on. It averages over about the last share `span` of the steps made, so
the random initial weights are soon forgotten.

References:
    Karras et al. (2024), §3.1, power-function averages. https://arxiv.org/abs/2312.02696
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def averaging(decay: float, span: float) -> Callable[[Any, Any, Any], None]:
    """The update of torch's `AveragedModel`: (averages, weights, updates made before) → None, in place."""

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], made: Tensor | int) -> None:
        beta = min(decay, (1 - 1 / (float(made) + 1)) ** (1 / span))
        torch._foreach_lerp_(list(averaged), list(current), 1 - beta)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]

    return update


__all__ = ["averaging"]
