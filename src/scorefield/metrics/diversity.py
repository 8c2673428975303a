"""How unlike several answers to one degraded image are.

Palette's two measures (Saharia et al. 2022, §5.2 and Fig. 7): MS-SSIM of the first answer with each of the
others, low where answers differ, and a perceptual distance between consecutive answers, high where they do.
Both are means over pairs of the answers to one image.

References:
    Saharia et al. (2022). https://arxiv.org/abs/2111.05826
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from scorefield.errors import UserError

Pairwise = Callable[[Tensor, Tensor], Tensor]
"""(N, …) and (N, …) to a number of each pair, (N,)."""


def first_with_rest(answers: Sequence[Tensor], measure: Pairwise) -> Tensor:
    """The mean of measure(a₁, a_k), k = 2 … K, for each image, (N,).

    Args:
        answers: K of (N, …): images, or features of them.
        measure: as `fidelity.ms_ssim`.

    Raises:
        UserError: fewer than two answers.
    """
    _check(answers)
    return torch.stack([measure(answers[0], other) for other in answers[1:]]).mean(0)


def consecutive(answers: Sequence[Tensor], measure: Pairwise) -> Tensor:
    """The mean of measure(a_k, a_{k+1}), k = 1 … K − 1, for each image, (N,).

    Args:
        answers: K of (N, …): images, or features of them.
        measure: as `lpips.LPIPS` or `perceptual.feature_distance`.

    Raises:
        UserError: fewer than two answers.
    """
    _check(answers)
    return torch.stack([measure(a, b) for a, b in pairwise(answers)]).mean(0)


def _check(answers: Sequence[Tensor]) -> None:
    if len(answers) < 2:
        raise UserError("candidates", f"diversity is that of two answers or more, got {len(answers)}.")
