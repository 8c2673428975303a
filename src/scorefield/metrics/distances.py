"""Distances between two samples, and the inception score of one.

With means μ and covariances Σ of the features of two sets of images:

    Fréchet     ‖μa − μb‖² + tr(Σa + Σb − 2 (Σa Σb)^½)
    kernel      E k(a, a') + E k(b, b') − 2 E k(a, b),        k(x, y) = (xᵀy / D + 1)³
    energy      2 E‖a − b‖ − E‖a − a'‖ − E‖b − b'‖
    inception   exp E KL(p(y|x) ‖ p(y))

The Fréchet distance is biased upwards by about 1/N: compare only numbers of equal N. The kernel distance is
unbiased and serves a few hundred images. All are computed in float64. A number has no meaning without the name
of its features.

The settings are torch-fidelity's, and the same features give its numbers: 100 subsets of 1,000 rows for the
kernel distance and ten parts of shuffled rows for the score, both drawn by NumPy's RandomState(2020) in its
order. Where neither sample exceeds 1,000 rows the kernel distance takes all pairs instead.

References:
    Heusel et al. (2017), eq. 6. https://arxiv.org/abs/1706.08500
    Bińkowski et al. (2018), §4. https://arxiv.org/abs/1801.01401
    Székely & Rizzo (2013), eq. 1. https://doi.org/10.1016/j.jspi.2013.03.018
    Salimans et al. (2016), §4. https://arxiv.org/abs/1606.03498
"""

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "IS_SPLITS",
    "energy_distance",
    "frechet_distance",
    "frechet_from_statistics",
    "inception_score",
    "kernel_distance",
    "kernel_subsets",
    "moments",
]

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
IS_SPLITS = 10
SEED = 2020  # of the draws of subsets and of the shuffle


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance between the Gaussians that share the moments of two samples.

    Args:
        a: features, (N, D).
        b: features, (M, D).

    Returns:
        The squared Wasserstein-2 distance, in squared units of the features.

    Raises:
        ValueError: fewer than two rows, different widths, NaN or infinity.
    """
    a, b = _pair(a, b)
    if max(len(a), len(b)) >= a.shape[1]:
        return frechet_from_statistics(*moments(a), *moments(b))
    rows_a, rows_b = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))  # Σ = (rows)ᵀ(rows)
    cross = torch.linalg.svdvals(rows_a @ rows_b.T).sum()
    spread = rows_a.square().sum() + rows_b.square().sum()
    return max(float((a.mean(0) - b.mean(0)).square().sum() + spread - 2 * cross), 0.0)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), in float64."""
    features = _checked("features", features)
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], features.shape[1])


def frechet_from_statistics(mu_a: Tensor, cov_a: Tensor, mu_b: Tensor, cov_b: Tensor) -> float:
    """The Fréchet distance between N(μa, Σa) and N(μb, Σb) (Heusel et al. 2017, eq. 6).

    tr (Σa Σb)^½ is the sum of the square roots of the eigenvalues of Σa^½ Σb Σa^½, which are the squares of
    the singular values of FaᵀFb for any factors Σ = FFᵀ. We sum those singular values: squaring them first
    would leave rounding of √ε instead of ε where a covariance is singular, as it is for N ≤ D.

    Args:
        mu_a: mean, (D,).
        cov_a: covariance, (D, D), symmetric and positive semi-definite.
        mu_b: mean, (D,).
        cov_b: covariance, (D, D).

    Raises:
        ValueError: shapes that do not belong together, NaN or infinity.
    """
    mu_a, cov_a, mu_b, cov_b = (t.double() for t in (mu_a, cov_a, mu_b, cov_b))
    width = len(mu_a)
    if mu_b.shape != (width,) or cov_a.shape != (width, width) or cov_b.shape != (width, width):
        shapes = ", ".join(str(tuple(t.shape)) for t in (mu_a, cov_a, mu_b, cov_b))
        raise ValueError(f"statistics of shapes {shapes} do not belong together")
    if not all(bool(t.isfinite().all()) for t in (mu_a, cov_a, mu_b, cov_b)):
        raise ValueError("the statistics hold NaN or infinity")
    cross = torch.linalg.svdvals(_factor(cov_a).T @ _factor(cov_b)).sum()
    distance = (mu_a - mu_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(distance.item(), 0.0)


def kernel_distance(
    a: Tensor,
    b: Tensor,
    *,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    seed: int = SEED,
    paired: bool = False,
) -> tuple[float, float]:
    """The unbiased squared maximum mean discrepancy under k(x, y) = (xᵀy/D + 1)³.

    Where both samples hold at most `subset_size` rows the estimate is exact over all of them; otherwise it
    is the mean over `subsets` random subsets, drawn without replacement. It may be negative.

    Args:
        a: features, (N, D).
        b: features, (M, D).
        subsets: how many subsets to average.
        subset_size: rows of each subset.
        seed: of the draws.
        paired: row i of `a` is a restoration of the image of row i of `b`. The pairs (i, i) are then left out
            between the samples as well as within them: with them the estimate would be biased below 0. All
            other pairs are taken, however many rows there are.

    Returns:
        The estimate and its standard deviation: over the subsets, or to first order from the contribution of
        each row where the whole sample is used.

    Raises:
        ValueError: fewer than two rows, different widths, NaN or infinity.
    """
    a, b = _pair(a, b)
    if subsets < 1 or subset_size < 2:
        raise ValueError(f"{subsets} subsets of {subset_size} rows; need at least 1 of 2")
    if paired and len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} rows do not pair")
    if paired or max(len(a), len(b)) <= subset_size:
        return _discrepancy(a, b, paired=paired)
    rng = np.random.RandomState(seed)  # a stream that never changes, and theirs
    draws = [
        _discrepancy(*(x[torch.from_numpy(rng.permutation(len(x))[:subset_size])] for x in (a, b)))[0]
        for _ in range(subsets)
    ]
    return _mean_std(torch.tensor(draws, dtype=torch.float64))


def kernel_subsets(n: int, m: int, *, subsets: int = KID_SUBSETS, subset_size: int = KID_SUBSET_SIZE) -> str:
    """Which rows `kernel_distance` of n and m rows uses, in words."""
    if max(n, m) <= subset_size:
        return f"all pairs of {n} and {m}"
    sizes = sorted({min(n, subset_size), min(m, subset_size)})
    return f"{subsets} subsets of {' and '.join(map(str, sizes))}"


def inception_score(probabilities: Tensor, *, splits: int = IS_SPLITS, seed: int = SEED) -> tuple[float, float]:
    """The inception score exp E KL(p(y|x) ‖ p(y)), from 1 to the number of classes K (Salimans et al. 2016).

    It is called inception score only for Inception's classes; another classifier gives an inception-type score.

    Args:
        probabilities: p(y|x), (N, K), rows that sum to one.
        splits: parts, each with its own marginal p(y).
        seed: of the shuffle before splitting, without which sorted classes would count as collapse.

    Returns:
        Mean and standard deviation over the parts.

    Raises:
        ValueError: rows that are no probabilities, or fewer rows than parts.
    """
    p = _checked("probabilities", probabilities, least=1)
    if (p < 0).any() or (p.sum(1) - 1).abs().max() > 1e-3:
        raise ValueError("probabilities must be non-negative and sum to 1 in each row")
    if not 1 <= splits <= len(p):
        raise ValueError(f"{splits} splits of {len(p)} rows")
    n = len(p)
    p = p[torch.from_numpy(np.random.RandomState(seed).permutation(n))]
    scores: list[Tensor] = []
    for i in range(splits):
        part = p[i * n // splits : (i + 1) * n // splits]
        marginal = part.mean(0)
        divergence = torch.xlogy(part, part) - torch.xlogy(part, marginal)
        scores.append(divergence.sum(1).mean().exp())
    return _mean_std(torch.stack(scores))


def energy_distance(a: Tensor, b: Tensor, *, chunk: int = 1024) -> float:
    """2 E‖a − b‖ − E‖a − a'‖ − E‖b − b'‖ of two empirical distributions (Székely & Rizzo 2013, eq. 1).

    Never negative, and zero only for equal distributions; two samples of N rows from one distribution give O(1/N).

    Args:
        a: points, (N, D).
        b: points, (M, D).
        chunk: rows whose distances are held at once.

    Raises:
        ValueError: no rows, different widths, NaN or infinity.
    """
    a, b = _pair(a, b, least=1)
    return max(2 * _mean_distance(a, b, chunk) - _mean_distance(a, a, chunk) - _mean_distance(b, b, chunk), 0.0)


def _mean_distance(a: Tensor, b: Tensor, chunk: int) -> float:
    total = sum(_exact_distances(rows, b).sum().item() for rows in a.split(chunk))
    return total / (len(a) * len(b))


def _exact_distances(a: Tensor, b: Tensor) -> Tensor:
    # The expansion ‖a‖² + ‖b‖² − 2aᵀb, cdist's default, cancels between near rows.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _discrepancy(a: Tensor, b: Tensor, *, paired: bool = False) -> tuple[float, float]:
    """Unbiased MMD² over all pairs of distinct rows, and its standard deviation to first order."""
    within_a, within_b = _kernel_means(a, a, distinct=True), _kernel_means(b, b, distinct=True)
    share_a = within_a - _kernel_means(a, b, distinct=paired)
    share_b = within_b - _kernel_means(b, a, distinct=paired)
    variance = 4 * (share_a.var() / len(a) + share_b.var() / len(b))
    return (share_a.mean() + share_b.mean()).item(), variance.sqrt().item()


def _kernel_means(a: Tensor, b: Tensor, *, distinct: bool = False, chunk: int = 2048) -> Tensor:
    """Mean over the rows of b of k(a_i, b_j) for each i; without j = i where `distinct`."""
    means: list[Tensor] = []
    for rows in a.split(chunk):
        base = (rows @ b.T).div_(a.shape[1]).add_(1)
        means.append((base * base).mul_(base).sum(1))
    total = torch.cat(means)
    if not distinct:
        return total / len(b)
    return (total - ((a * b).sum(1) / a.shape[1] + 1) ** 3) / (len(b) - 1)


def _factor(covariance: Tensor) -> Tensor:
    """F with FFᵀ = Σ; eigenvalues within rounding of zero count as zero."""
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    noise = values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    return vectors * torch.where(values > noise, values, 0).sqrt()


def _mean_std(values: Tensor) -> tuple[float, float]:
    return values.mean().item(), values.std(correction=0).item()


def _pair(a: Tensor, b: Tensor, *, least: int = 2) -> tuple[Tensor, Tensor]:
    a, b = _checked("first sample", a, least=least), _checked("second sample", b, least=least)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of widths {a.shape[1]} and {b.shape[1]} differ")
    return a, b


def _checked(where: str, rows: Tensor, *, least: int = 2) -> Tensor:
    if rows.ndim != 2 or rows.shape[1] < 1:
        raise ValueError(f"{where} must be rows (N, D), not {tuple(rows.shape)}")
    if len(rows) < least:
        raise ValueError(f"{where} has {len(rows)} rows, need at least {least}")
    bad = int((~rows.isfinite()).any(1).sum())
    if bad:
        raise ValueError(f"{where}: {bad} of {len(rows)} rows hold NaN or infinity")
    return rows.double()
