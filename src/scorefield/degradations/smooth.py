"""Holes filled from their rims: the smoothest guess, where a network is shown a guess and not noise.

Push and pull (Gortler et al. 1996, §3.4): what is known is averaged over squares of 2 × 2, again and again,
each mean over what is known of its square; then, from coarse to fine, what is still unknown takes the
coarser image's value, bilinear, and Jacobi steps of Laplace's equation,

    x ← mean of the four neighbours   in the hole,

take the squares' edges away.

References:
    Gortler et al. (1996), The Lumigraph. https://doi.org/10.1145/237170.237200
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

_STEPS = 8
"""Jacobi steps at each size."""


def smooth_fill(image: Tensor, hole: Tensor) -> Tensor:
    """The image with its holes filled; where an image is a hole all over, 0.

    Args:
        image: (B, C, H, W); what a hole has of it is not looked at.
        hole: 1 in holes and 0 elsewhere, (B, 1, H, W).

    Returns:
        (B, C, H, W), as it was outside of holes.
    """
    known = 1 - hole
    return _filled(image * known, known)


def _filled(image: Tensor, known: Tensor) -> Tensor:
    """`image` is 0 where it is not known."""
    inside = known > 0
    if min(image.shape[-2:]) == 1 or bool(inside.all()):
        return image
    h, w = image.shape[-2:]
    even = (0, w % 2, 0, h % 2)
    share = avg_pool2d(pad(known, even), 2)
    small = avg_pool2d(pad(image * known, even), 2) / share.clamp(min=1e-6)
    coarse = interpolate(_filled(small, (share > 0).to(known)), scale_factor=2.0, mode="bilinear")
    x = torch.where(inside, image, coarse[..., :h, :w])
    quarter = 0.25 * (~inside)
    for _ in range(_STEPS):
        edged = pad(x, (1, 1, 1, 1), mode="replicate")
        total = edged[..., 1:-1, 2:] + edged[..., 1:-1, :-2]
        total += edged[..., 2:, 1:-1]
        total += edged[..., :-2, 1:-1]
        x = torch.addcmul(image, total, quarter)
    return x
