"""Smooth interpolation of masked pixels from their border, in place of noise in a network's input.

Push–pull (Gortler et al. 1996, §3.4). Known pixels are averaged over squares of 2 × 2, repeatedly, each mean
over the known pixels of its square. Then, from coarse to fine, unknown pixels take the coarser image's value
by bilinear interpolation. Jacobi steps of Laplace's equation,

    x ← mean of the four neighbours   under the mask,

smooth the edges of the squares.

References:
    Gortler et al. (1996), The Lumigraph. https://doi.org/10.1145/237170.237200
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

_STEPS = 8
"""Jacobi steps at each scale: enough to hide the edges of 2 × 2 squares; more would only cost time."""


def smooth_fill(image: Tensor, mask: Tensor) -> Tensor:
    """The image with masked pixels interpolated; 0 for an image that is masked entirely.

    Args:
        image: (B, C, H, W); values under the mask are ignored.
        mask: 1 = fill, 0 = known, (B, 1, H, W).

    Returns:
        (B, C, H, W), unchanged outside of the mask.
    """
    known = 1 - mask
    return _filled(image * known, known)


def _filled(image: Tensor, known: Tensor) -> Tensor:
    """The image, which is 0 where it is unknown, interpolated there."""
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
