"""Distances between two samples, and the score of one: features in, one number out.

With means μ and covariances Σ of the features of two sets of images:

    Fréchet     ‖μa − μb‖² + tr(Σa + Σb − 2 (Σa Σb)^½)
    kernel      E k(a, a') + E k(b, b') − 2 E k(a, b),        k(x, y) = (xᵀy / D + 1)³
    energy      2 E‖a − b‖ − E‖a − a'‖ − E‖b − b'‖
    inception   exp E KL(p(y|x) ‖ p(y))

The first is biased upwards by about 1/N, so compare numbers of equal N only; the second is unbiased and
serves a few hundred images. All are computed in float64. A number means something only beside the name
of its features.

The settings are those of torch-fidelity, whose numbers these are given its features: 100 subsets of 1,000
rows for the kernel distance, ten parts of shuffled rows for the score, both drawn by NumPy's generator of
2020 in its order. Where neither sample exceeds 1,000 rows the kernel distance takes all pairs instead.

References:
    Heusel et al. (2017), eq. 6. https://arxiv.org/abs/1706.08500
    Bińkowski et al. (2018), §4. https://arxiv.org/abs/1801.01401
    Székely & Rizzo (2013), eq. 1. https://doi.org/10.1016/j.jspi.2013.03.018
    Salimans et al. (2016), §4. https://arxiv.org/abs/1606.03498
"""

import numpy as np
import torch
from torch import Tensor

from scorefield.errors import UserError

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
        UserError: fewer than two rows, other widths, NaN or infinity.
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
        UserError: shapes that do not belong together, NaN or infinity.
    """
    mu_a, cov_a, mu_b, cov_b = (t.double() for t in (mu_a, cov_a, mu_b, cov_b))
    width = len(mu_a)
    if mu_b.shape != (width,) or cov_a.shape != (width, width) or cov_b.shape != (width, width):
        shapes = ", ".join(str(tuple(t.shape)) for t in (mu_a, cov_a, mu_b, cov_b))
        raise UserError("statistics", f"shapes {shapes} do not belong together.", "Use the same features.")
    if not all(bool(t.isfinite().all()) for t in (mu_a, cov_a, mu_b, cov_b)):
        raise UserError("statistics", "hold NaN or infinity.", "Look at the images that gave them.")
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
        paired: row i of either is of one image, restored and as it was. Pairs of one image are then left
            out between the samples as they are within them, or the estimate would come out below 0; and all
            other pairs are taken, however many rows there are.

    Returns:
        The estimate, and the standard deviation of an estimate from so many rows: over the subsets, or to
        first order from the spread of each row's share where the whole sample is used.

    Raises:
        UserError: fewer than two rows, other widths, NaN or infinity.
    """
    a, b = _pair(a, b)
    if subsets < 1 or subset_size < 2:
        raise UserError("kernel distance", f"{subsets} subsets of {subset_size} rows.", "At least 1 of 2.")
    if paired and len(a) != len(b):
        raise UserError("features", f"{len(a)} and {len(b)} rows do not pair.")
    if paired or max(len(a), len(b)) <= subset_size:
        return _discrepancy(a, b, paired=paired)
    rng = np.random.RandomState(seed)  # a stream that never changes, and theirs
    draws = [
        _discrepancy(*(x[torch.from_numpy(rng.permutation(len(x))[:subset_size])] for x in (a, b)))[0]
        for _ in range(subsets)
    ]
    return _mean_std(torch.tensor(draws, dtype=torch.float64))


def kernel_parts(n: int, m: int, *, subsets: int = KID_SUBSETS, subset_size: int = KID_SUBSET_SIZE) -> str:
    """Over what `kernel_distance` of n and m rows is taken, in words."""
    if max(n, m) <= subset_size:
        return f"all pairs of {n} and {m}"
    sizes = sorted({min(n, subset_size), min(m, subset_size)})
    return f"{subsets} subsets of {' and '.join(map(str, sizes))}"


def inception_score(probabilities: Tensor, *, splits: int = IS_SPLITS, seed: int = SEED) -> tuple[float, float]:
    """The inception score exp E KL(p(y|x) ‖ p(y)), from 1 to the number of classes K (Salimans et al. 2016).

    Named after Inception's classes; with another classifier it is an inception-type score of that one.

    Args:
        probabilities: p(y|x), (N, K), rows that sum to one.
        splits: parts, each with its own marginal p(y).
        seed: of the shuffle before splitting, without which sorted classes would count as collapse.

    Returns:
        Mean and standard deviation over the parts.

    Raises:
        UserError: rows that are no probabilities, or fewer rows than parts.
    """
    p = _checked("probabilities", probabilities, least=1)
    if (p < 0).any() or (p.sum(1) - 1).abs().max() > 1e-3:
        raise UserError("probabilities", "rows must be non-negative and sum to 1.", "Apply a softmax first.")
    if not 1 <= splits <= len(p):
        raise UserError("probabilities", f"{len(p)} rows for {splits} splits.", "Ask for fewer splits.")
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
        UserError: no rows, other widths, NaN or infinity.
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
    """Mean over b of k(x, b) for each row x of a, leaving the row of b in x's place out where `distinct`."""
    means: list[Tensor] = []
    for rows in a.split(chunk):
        base = (rows @ b.T).div_(a.shape[1]).add_(1)
        means.append((base * base).mul_(base).sum(1))
    total = torch.cat(means)
    if not distinct:
        return total / len(b)
    return (total - ((a * b).sum(1) / a.shape[1] + 1) ** 3) / (len(b) - 1)


def _factor(covariance: Tensor) -> Tensor:
    """F with FFᵀ = Σ; eigenvalues at the level of rounding count as zero."""
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    noise = values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    return vectors * torch.where(values > noise, values, 0).sqrt()


def _mean_std(values: Tensor) -> tuple[float, float]:
    return values.mean().item(), values.std(correction=0).item()


def _pair(a: Tensor, b: Tensor, *, least: int = 2) -> tuple[Tensor, Tensor]:
    a, b = _checked("first sample", a, least=least), _checked("second sample", b, least=least)
    if a.shape[1] != b.shape[1]:
        raise UserError("features", f"widths {a.shape[1]} and {b.shape[1]} differ.", "Use the same features.")
    return a, b


def _checked(where: str, rows: Tensor, *, least: int = 2) -> Tensor:
    if rows.ndim != 2 or rows.shape[1] < 1:
        raise UserError(where, f"must be rows (N, D), not {tuple(rows.shape)}.")
    if len(rows) < least:
        raise UserError(where, f"{len(rows)} rows; at least {least} are needed.", "Use more images.")
    bad = int((~rows.isfinite()).any(1).sum())
    if bad:
        raise UserError(where, f"{bad} of {len(rows)} rows hold NaN or infinity.", "Look at those images.")
    return rows.double()
