"""Similarity and diversity of images in the features of a network.

- **Distance of features** ‖φ(a) − φ(b)‖, PD in tables. On InceptionV1's last features it is Palette's perceptual
  distance (Saharia et al. 2022, App. C). On other features it is another number, named after them, as in
  PD[mobilenet-b035]; on random convolutions, PD[random-conv], nothing shows it to be perceptual.
- **Classification accuracy**: whether a classifier finds the image's label. Where images have no labels,
  **agreement**: whether it finds the class that it finds in the original.
- **Diversity** of several candidates for one degraded image (Saharia et al. 2022): MS-SSIM of the
  first candidate with each other one, low where candidates differ, and a distance of features between consecutive
  ones, high where they differ. Both are means over pairs.

References:
    Saharia et al. (2022), Palette. https://arxiv.org/abs/2111.05826
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["Pairwise", "accuracy", "agreement", "consecutive", "feature_distance", "first_with_rest"]

Pairwise = Callable[[Tensor, Tensor], Tensor]
"""A measure of each pair: (N, …) and (N, …) to (N,)."""


def feature_distance(a: Tensor, b: Tensor) -> Tensor:
    """‖φ(a) − φ(b)‖ of each pair, (N,), float32.

    Args:
        a: features, (N, D).
        b: features, (N, D).

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"features {tuple(a.shape)} and {tuple(b.shape)} do not pair")
    return (a.float() - b.float()).square().sum(1).sqrt()


def agreement(probabilities: Tensor, of_originals: Tensor) -> Tensor:
    """1 where the likeliest class of an image is that of its original, else 0; (N,), float32.

    Args:
        probabilities: (N, K).
        of_originals: (N, K).
    """
    return accuracy(probabilities, of_originals.argmax(1))


def accuracy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """1 where the likeliest class is the label, else 0; (N,), float32.

    Args:
        probabilities: (N, K).
        labels: integers, (N,).

    Raises:
        ValueError: not one label for each image.
    """
    if labels.shape != (len(probabilities),):
        raise ValueError(f"labels {tuple(labels.shape)} for {len(probabilities)} images")
    return (probabilities.argmax(1) == labels).float()


def first_with_rest(candidates: Sequence[Tensor], measure: Pairwise) -> Tensor:
    """The mean of measure(x₁, x_k), k = 2 … K, for each image, (N,).

    Args:
        candidates: K of (N, …): images, or features of them.
        measure: for example `fidelity.ms_ssim`.

    Raises:
        ValueError: fewer than two candidates.
    """
    _check_several(candidates)
    return torch.stack([measure(candidates[0], other) for other in candidates[1:]]).mean(0)


def consecutive(candidates: Sequence[Tensor], measure: Pairwise) -> Tensor:
    """The mean of measure(x_k, x_{k+1}), k = 1 … K − 1, for each image, (N,).

    Args:
        candidates: K of (N, …): images, or features of them.
        measure: for example `lpips.LPIPS` or `feature_distance`.

    Raises:
        ValueError: fewer than two candidates.
    """
    _check_several(candidates)
    return torch.stack([measure(a, b) for a, b in pairwise(candidates)]).mean(0)


def _check_several(candidates: Sequence[Tensor]) -> None:
    if len(candidates) < 2:
        raise ValueError(f"diversity needs two candidates or more, got {len(candidates)}")
