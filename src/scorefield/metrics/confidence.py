"""Confidence intervals at 95 %, by resampling groups of images.

Crops of one photograph are alike, so the independent units are photographs: each is drawn with all its crops.

**Bootstrap**, for means: the interval between the 2.5 % and 97.5 % quantiles of the mean over G photographs
drawn with replacement out of G (Efron & Tibshirani 1993, §13.3). For two methods on the same images take the
differences image by image: they vary far less than either.

**Jackknife**, for distances between two samples. A distance is no mean, and a photograph drawn twice would pass
for two that are alike. With θ_(i) the distance without the i-th of G blocks of photographs,

    s² = (G − 1)/G Σ_i (θ_(i) − mean θ_(·))²,      θ ± t_{G−1} s        (Efron & Stein 1981).

A distance that cannot be negative gets the interval of its logarithm, θ exp(± t_{G−1} s), which cannot reach below 0.
Under 20 photographs a Fréchet distance is mostly its own bias, and callers give no interval (`FEWEST_GROUPS`).

References:
    Efron & Tibshirani (1993), An introduction to the bootstrap. https://doi.org/10.1201/9780429246593
    Efron & Stein (1981). https://doi.org/10.1214/aos/1176345462
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

__all__ = ["FEWEST_GROUPS", "ConfidenceInterval", "bootstrap", "jackknife", "student_quantile"]

DRAWS = 2000  # resamples; 2,000 fix the ends to about 2 % of the interval's width
BLOCKS = 20  # t of 19 degrees is 2.09, near its limit of 1.96; more blocks only cost time
FEWEST_GROUPS = 20  # photographs for the interval of a distance: one for each block
_TINY = 1e-12  # a distance of 0 has a logarithm too
_Z = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True, kw_only=True)
class ConfidenceInterval:
    """An estimate and its 95 % confidence interval.

    Args:
        value: the estimate.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    def text(self, digits: int, *, signed: bool = False) -> str:
        """The estimate, followed by the interval in brackets."""
        sign = "+" if signed else ""
        numbers = (f"{n:{sign}.{digits}f}".replace("-", "−") for n in (self.value, self.low, self.high))
        value, low, high = numbers
        return f"{value} [{low}, {high}]"


def bootstrap(values: Tensor, groups: Tensor, *, seed: int = 0) -> ConfidenceInterval:
    """The mean of the values, and its bootstrap interval over groups.

    Args:
        values: (N,).
        groups: integers, (N,); values of one group are drawn together.
        seed: of the resamples.

    Raises:
        ValueError: fewer than two groups, or not one for each value.
    """
    index, count = _numbered(values, groups)
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, index, values.double())
    sizes = index.bincount(minlength=count).double()
    drawn = torch.randint(count, (DRAWS, count), generator=Generator().manual_seed(seed))
    means = (sums[drawn].sum(1) / sizes[drawn].sum(1)).sort().values
    low, high = (float(torch.quantile(means, share)) for share in (0.025, 0.975))
    return ConfidenceInterval(value=float(sums.sum() / sizes.sum()), low=low, high=high)


def jackknife(
    statistic: Callable[[Tensor], Tensor], groups: Tensor, *, positive: int = 0, seed: int = 0
) -> list[ConfidenceInterval]:
    """Statistics of one sample, each with its jackknife interval over blocks of groups.

    Args:
        statistic: maps indices of rows, (M,), to the statistics of these rows, (K,).
        groups: integers, (N,); rows of one group are left out together. The groups are dealt to 20 blocks, or to
            as many as there are groups.
        positive: so many of the first statistics cannot be negative and get the interval of their logarithm.
        seed: of the dealing.

    Raises:
        ValueError: fewer than two groups.
    """
    index, count = _numbered(groups, groups)
    blocks = min(BLOCKS, count)
    dealt = torch.randperm(count, generator=Generator().manual_seed(seed)) % blocks
    block = dealt[index]
    whole = statistic(torch.arange(len(groups))).double()
    without = torch.stack([statistic((block != b).nonzero()[:, 0]).double() for b in range(blocks)])
    logarithm = torch.arange(len(whole)) < positive
    without = torch.where(logarithm, without.clamp_min(_TINY).log(), without)
    half = student_quantile(blocks - 1) * ((blocks - 1) * without.var(0, correction=0)).sqrt()
    low = torch.where(logarithm, whole * (-half).exp(), whole - half)
    high = torch.where(logarithm, whole * half.exp(), whole + half)
    ends = zip(whole.tolist(), low.tolist(), high.tolist(), strict=True)
    return [ConfidenceInterval(value=value, low=start, high=end) for value, start, end in ends]


def student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, to 1 % from 3 degrees of freedom and 0.1 % from 10.

    Cornish and Fisher's series around the normal distribution (Abramowitz & Stegun 1964, 26.7.5).
    """
    z, v = _Z, degrees
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3


def _numbered(values: Tensor, groups: Tensor) -> tuple[Tensor, int]:
    """The groups renumbered 0 … G − 1, and G."""
    if groups.shape != (len(values),):
        raise ValueError(f"groups {tuple(groups.shape)} for {len(values)} values")
    found, index = groups.unique(return_inverse=True)
    if len(found) < 2:
        raise ValueError(f"a confidence interval needs two groups or more, got {len(found)}")
    return index, len(found)
