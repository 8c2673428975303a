"""Fidelity of one 8-bit image to another: PSNR, SSIM and MS-SSIM.

With M the mean squared difference of two images a and b,

    PSNR = 10 log₁₀(255²/M).

With means μ, variances σ² and covariance σ_ab under a Gaussian window of 11 × 11 (std 1.5) at every place where it
fits into the image, and with C₁ = (0.01 · 255)², C₂ = (0.03 · 255)²,

    l = (2 μ_a μ_b + C₁)/(μ_a² + μ_b² + C₁)        cs = (2 σ_ab + C₂)/(σ_a² + σ_b² + C₂)
    SSIM = mean of l · cs over all places and channels
    MS-SSIM = Π_j cs_j^{w_j} · (l · cs)_J^{w_J},     j = 1 … J − 1,

where cs_j is the mean over places and channels after j − 1 halvings (averages over 2 × 2), and
w = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333). A negative mean has no such power and counts as 0.

Five scales need images of 176 pixels. Smaller images have as many scales as leave 11 pixels at the coarsest, with
the first weights divided by their sum. That is another number and has another name: MS-SSIM[3] at 64 pixels.

References:
    Wang et al. (2004), SSIM, eq. 13. https://doi.org/10.1109/TIP.2003.819861
    Wang, Simoncelli & Bovik (2003), MS-SSIM, eq. 7. https://doi.org/10.1109/ACSSC.2003.1292216
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["WINDOW", "ms_ssim", "ms_ssim_name", "psnr", "scales_for", "ssim"]

WINDOW, STD = 11, 1.5
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """The peak signal-to-noise ratio in dB, (N,), float32; infinite where two images are equal.

    Args:
        a: uint8, (N, C, H, W).
        b: uint8, of the same shape.

    Raises:
        ValueError: not uint8, or the shapes differ.
    """
    _check(a, b, 1)
    square = (a.float() - b.float()).square().flatten(1).mean(1)
    return 10 * torch.log10(255**2 / square)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """The structural similarity, (N,), float32; 1 where two images are equal (Wang et al. 2004, eq. 13).

    Args:
        a: uint8, (N, C, H, W), from 11 × 11.
        b: uint8, of the same shape.

    Raises:
        ValueError: not uint8, the shapes differ, or images are smaller than 11 × 11.
    """
    _check(a, b, WINDOW)
    return _similarities(a.float(), b.float())[0]


def ms_ssim(a: Tensor, b: Tensor, *, scales: int | None = None) -> Tensor:
    """The structural similarity over several scales, (N,), float32 (Wang et al. 2003, eq. 7).

    Args:
        a: uint8, (N, C, H, W), from 11 × 11.
        b: uint8, of the same shape.
        scales: 1 to 5; by default as many as fit, see `scales_for`.

    Raises:
        ValueError: not uint8, the shapes differ, or images are too small for so many scales.
    """
    _check(a, b, WINDOW)
    most = scales_for(a.shape[-2:])
    scales = most if scales is None else scales
    if not 1 <= scales <= most:
        least = WINDOW * 2 ** (len(WEIGHTS) - 1)
        height, width = a.shape[-2:]
        raise ValueError(
            f"{scales} scales for images of {width}×{height}, which allow 1 to {most}; "
            f"{len(WEIGHTS)} scales take images from {least} pixels"
        )
    x, y = a.float(), b.float()
    total = sum(WEIGHTS[:scales])
    product = torch.ones(len(a), device=a.device)
    for scale, weight in enumerate(WEIGHTS[:scales], 1):
        whole, contrast = _similarities(x, y)
        last = scale == scales
        product = product * (whole if last else contrast).clamp_min(0) ** (weight / total)
        if not last:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product


def scales_for(size: tuple[int, ...]) -> int:
    """The number of MS-SSIM scales for images of (H, W): at most 5; 0 below 11 × 11."""
    shorter, scales = min(size), 0
    while shorter >= WINDOW and scales < len(WEIGHTS):
        shorter, scales = shorter // 2, scales + 1
    return scales


def ms_ssim_name(size: tuple[int, ...]) -> str:
    """The name of MS-SSIM for images of (H, W): it holds the number of scales unless that is five."""
    scales = scales_for(size)
    return "MS-SSIM" if scales == len(WEIGHTS) else f"MS-SSIM[{scales}]"


def _similarities(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Means of l · cs and of cs over places and channels, (N,) each."""
    n = len(a)
    five = torch.cat([a, b, a * a, b * b, a * b]).flatten(0, 1)[:, None]
    mean_a, mean_b, square_a, square_b, both = _smoothed(five).reshape(5, n, -1)
    spread = (square_a - mean_a**2) + (square_b - mean_b**2)
    contrast = (2 * (both - mean_a * mean_b) + _C2) / (spread + _C2)
    light = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return (light * contrast).mean(1), contrast.mean(1)


def _smoothed(x: Tensor) -> Tensor:
    """Means under the Gaussian window at every place where it fits, (M, 1, H − 10, W − 10)."""
    places = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-(places**2) / (2 * STD**2))
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x, weights.reshape(1, 1, -1, 1)), weights.reshape(1, 1, 1, -1))


def _check(a: Tensor, b: Tensor, least: int) -> None:
    for one in (a, b):
        if one.dtype != torch.uint8 or one.ndim != 4:
            raise ValueError(f"images must be uint8 (N, C, H, W), not {one.dtype} {tuple(one.shape)}")
    if a.shape != b.shape:
        raise ValueError(f"images of shapes {tuple(a.shape)} and {tuple(b.shape)} differ")
    if min(a.shape[-2:]) < least:
        height, width = a.shape[-2:]
        raise ValueError(f"images of {width}×{height} are smaller than the window of {least}×{least}")
