"""How far a number from so many images can be trusted: 95 % intervals, images drawn anew.

Windows cut from one photograph are alike, so that it is photographs that are drawn anew, each with all its
windows. A mean over windows has the interval between the 2.5 % and 97.5 % points of its values on G of G
photographs, drawn with replacement (Efron & Tibshirani 1993, §13.3). For two systems on the same images
that is done with the differences, which are known far more closely than either.

A distance of two samples is no mean, and a photograph drawn twice would pass for two that are alike. It has
the jackknife's interval: with θ_(i) the distance without the i-th of G blocks of photographs,

    s² = (G − 1)/G Σ_i (θ_(i) − mean θ_(·))²,      θ ± t_{G−1} s        (Efron & Stein 1981).

References:
    Efron & Tibshirani (1993), An introduction to the bootstrap. https://doi.org/10.1201/9780429246593
    Efron & Stein (1981). https://doi.org/10.1214/aos/1176345462
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError

DRAWS = 2000
BLOCKS = 20
_Z = 1.959964  # of the normal distribution, 95 %


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number and the 95 % interval around it."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval is on one side of 0."""
        return self.low > 0 or self.high < 0

    def text(self, digits: int, *, signed: bool = False) -> str:
        """The number, then the interval in brackets."""
        sign = "+" if signed else ""
        numbers = (f"{n:{sign}.{digits}f}".replace("-", "−") for n in (self.value, self.low, self.high))
        value, low, high = numbers
        return f"{value} [{low}, {high}]"


def bootstrap(values: Tensor, groups: Tensor, *, seed: int = 0) -> Interval:
    """The mean of values, and its interval over groups drawn anew.

    Args:
        values: (N,).
        groups: (N,), integers: which values belong together.
        seed: of the draws.

    Raises:
        UserError: fewer than two groups, or not one for each value.
    """
    index, count = _grouped(values, groups)
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, index, values.double())
    sizes = index.bincount(minlength=count).double()
    drawn = torch.randint(count, (DRAWS, count), generator=Generator().manual_seed(seed))
    means = (sums[drawn].sum(1) / sizes[drawn].sum(1)).sort().values
    low, high = (float(torch.quantile(means, share)) for share in (0.025, 0.975))
    return Interval(value=float(sums.sum() / sizes.sum()), low=low, high=high)


def jackknife(statistic: Callable[[Tensor], Tensor], groups: Tensor, *, seed: int = 0) -> list[Interval]:
    """Several numbers of one sample, each with its interval over blocks of groups left out in turn.

    Args:
        statistic: which rows (M,) of the sample to the numbers (K,).
        groups: (N,), integers: which rows belong together. They are dealt to 20 blocks, or to as many as
            there are groups.
        seed: of the dealing.

    Raises:
        UserError: fewer than two groups.
    """
    index, count = _grouped(groups, groups)
    blocks = min(BLOCKS, count)
    dealt = torch.randperm(count, generator=Generator().manual_seed(seed)) % blocks
    block = dealt[index]
    whole = statistic(torch.arange(len(groups))).double()
    without = torch.stack([statistic((block != b).nonzero()[:, 0]).double() for b in range(blocks)])
    spread = ((blocks - 1) * without.var(0, correction=0)).sqrt()
    half = student(blocks - 1) * spread
    triples = zip(whole.tolist(), half.tolist(), strict=True)
    return [Interval(value=value, low=value - h, high=value + h) for value, h in triples]


def student(degrees: int) -> float:
    """The 97.5 % point of Student's distribution, to 1 % from 3 degrees of freedom and 0.1 % from 10.

    Cornish and Fisher's series around the normal distribution (Abramowitz & Stegun 1964, 26.7.5).
    """
    z, v = _Z, degrees
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3


def _grouped(values: Tensor, groups: Tensor) -> tuple[Tensor, int]:
    """Numbers 0 … G − 1 in place of the groups, and G."""
    if groups.shape != (len(values),):
        raise UserError("groups", f"{tuple(groups.shape)} for {len(values)} values.")
    found, index = groups.unique(return_inverse=True)
    if len(found) < 2:
        raise UserError("interval", f"images of {len(found)} photograph.", "Needs two or more.")
    return index, len(found)
