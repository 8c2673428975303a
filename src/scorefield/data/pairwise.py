"""The largest and the median ℓ2 distance between images.

The largest is exact, at less than the cost of all pairs. With r_i the distance of image i from the mean,

    ‖x_i − x_j‖ ≤ r_i + r_j,

so images are compared in descending order of r, until r_i + r_j falls below the largest distance found.
Blocks of pairs are compared by one matrix product, ‖x_i‖² + ‖x_j‖² − 2 x_iᵀx_j in float32 about the mean,
which loses no accuracy for large distances; the distance of the best pair is then computed directly.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.errors import UserError

_SAMPLE = 2000  # images whose pairs give the median


@dataclass(frozen=True, kw_only=True)
class PairwiseDistances:
    """ℓ2 distances between images with values in [0, 1].

    Attributes:
        images: how many there are.
        dim: values in each.
        largest: the largest distance of two of them.
        exact: whether `largest` is certain. Otherwise the budget ended the search; pairs far from the mean
            were compared first.
        median: over the pairs of at most 2,000 images drawn with a constant seed.
    """

    images: int
    dim: int
    largest: float
    exact: bool
    median: float


@torch.no_grad()
def pairwise_distances(images: Tensor, *, budget: float = 1e12, chunk: int = 1024) -> PairwiseDistances:
    """The largest and the median distance between images.

    Args:
        images: (N, …), uint8, or floats from 0 to 1.
        budget: maximum number of multiplications for `largest`; 1e12 take about fifteen seconds on two cores.
        chunk: images in a block; memory holds chunk² distances.

    Raises:
        UserError: fewer than two images, or NaN or infinity among their values.
    """
    if len(images) < 2:
        raise UserError("images", f"a distance needs two, got {len(images)}.", "Add more.")
    rows = images.flatten(1)
    radii, mean = _radii(rows, chunk)
    if not bool(radii.isfinite().all()):
        raise UserError("images", "NaN or infinity among the values.", "Leave those images out, or correct them.")
    largest, exact = _largest(rows, mean, radii, budget, chunk)
    return PairwiseDistances(
        images=len(rows), dim=rows.shape[1], largest=largest, exact=exact, median=_median(rows, mean)
    )


def _real(rows: Tensor) -> Tensor:
    return rows.float() / 255 if rows.dtype == torch.uint8 else rows.float()


def _radii(rows: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Each row's distance from the mean, float64, and the mean."""
    mean = sum((_real(part).sum(0, dtype=torch.float64) for part in rows.split(chunk)), torch.zeros(()).double())
    mean = (mean / len(rows)).float()
    radii = [(_real(part) - mean).square().sum(1, dtype=torch.float64).sqrt() for part in rows.split(chunk)]
    return torch.cat(radii), mean


def _largest(rows: Tensor, mean: Tensor, radii: Tensor, budget: float, chunk: int) -> tuple[float, bool]:
    """The largest distance, and whether it is certain."""
    order = radii.argsort(descending=True).split(chunk)
    reach = [float(radii[block[0]]) for block in order]
    best, spent = 0.0, 0.0
    for i, own in enumerate(order):
        if 2 * reach[i] <= best:
            break
        a = _real(rows[own]) - mean
        for j in range(i, len(order)):
            if reach[i] + reach[j] <= best:
                break
            if spent > budget:
                return best, False
            b = a if i == j else _real(rows[order[j]]) - mean
            squared = torch.addmm(b.square().sum(1), a, b.T, alpha=-2) + a.square().sum(1)[:, None]
            p, q = divmod(int(squared.argmax()), len(b))
            best = max(best, float((a[p].double() - b[q].double()).norm()))
            spent += float(len(a)) * len(b) * rows.shape[1]
    return best, True


def _median(rows: Tensor, mean: Tensor) -> float:
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:_SAMPLE]
    chosen = _real(rows[order]) - mean
    pairs = torch.triu_indices(len(chosen), len(chosen), offset=1)
    return float(torch.cdist(chosen, chosen)[pairs[0], pairs[1]].median())
