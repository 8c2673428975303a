"""Constant tensors of operators, made once for each type and device.

The cosine basis, in which JPEG quantises and a blur with mirrored edges is diagonal, is

    C_{kj} = √(2/n) c_k cos(π k (2j + 1) / 2n),     c_0 = 1/√2, else 1,     k, j = 0 … n − 1.

Its rows are orthonormal (the DCT of type 2).

References:
    Ahmed, Natarajan & Rao (1974), eq. 1. https://doi.org/10.1109/T-C.1974.223784
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

Numbers = tuple[float, ...] | tuple[tuple[float, ...], ...]


def constant(values: Numbers, like: Tensor) -> Tensor:
    """The numbers in `like`'s type and on its device."""
    return _constant(values, like.dtype, like.device)


def cosines(n: int, like: Tensor) -> Tensor:
    """C, (n, n), in `like`'s type and on its device."""
    return _cosines(n, like.dtype, like.device)


@lru_cache(maxsize=256)
def _constant(values: Numbers, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


@lru_cache(maxsize=64)
def _cosines(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    k, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    basis = math.sqrt(2 / n) * torch.cos(math.pi / (2 * n) * k * (2 * j + 1))
    basis[0] /= math.sqrt(2)
    return basis.to(device, dtype)
