"""Nearest neighbours: is a sample new, or a copy of a training image?

For each query q the k rows r of the reference with the smallest ‖q − r‖₂, over pixels or features
(Song & Ermon 2019, appendix: Figs 9–10). https://arxiv.org/abs/1907.05600

The expansion ‖q‖² + ‖r‖² − 2qᵀr is one matrix product and many times faster than the difference, but it
cancels between near rows, and near rows are the question. So it only proposes candidates: their distances
are taken by the difference, and a query is decided when the error bound of the expansion leaves no row
outside the candidates that could be nearer. The few undecided queries are compared with every row.
"""

import torch
from torch import Tensor

__all__ = ["nearest"]

_SPARE = 16  # candidates beyond k


def nearest(queries: Tensor, reference: Tensor, *, k: int = 1, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """The k nearest rows of `reference` in ℓ2 for each query, nearest first; exact.

    Args:
        queries: (Q, …), flattened to rows; any real or integer type.
        reference: (N, …), with as many values a row.
        k: neighbours of each query.
        chunk: queries compared at once; memory holds chunk × N distances.

    Returns:
        Indices into `reference`, (Q, k), and float64 distances, (Q, k), in units of the input. A copy is at
        distance exactly 0; rows at equal distances come in order of their indices.

    Raises:
        ValueError: rows of other lengths, k outside 1..N, NaN or infinity.
    """
    q, r = queries.flatten(1), reference.flatten(1)
    if q.shape[1] != r.shape[1]:
        raise ValueError(f"rows of {q.shape[1]} and {r.shape[1]} values")
    if not 1 <= k <= len(r):
        raise ValueError(f"k = {k}, need 1 to {len(r)}, the number of reference rows")
    if not (bool(q.isfinite().all()) and bool(r.isfinite().all())):
        raise ValueError("NaN or infinity among the values")
    if not len(q):
        return torch.empty(0, k, dtype=torch.int64), torch.empty(0, k, dtype=torch.float64)
    real = _real(r)
    center = real.mean(0)  # distances do not change; the expansion's rounding shrinks
    r32 = (real - center).float()
    found = [_nearest(rows, r, r32, center, k) for rows in q.split(chunk)]
    return torch.cat([i for i, _ in found]), torch.cat([d for _, d in found])


def _nearest(q: Tensor, r: Tensor, r32: Tensor, center: Tensor, k: int) -> tuple[Tensor, Tensor]:
    q32 = (_real(q) - center).float()
    squares = r32.square().sum(1)
    expansion = torch.addmm(squares, q32, r32.T, alpha=-2)  # ‖q − r‖² − ‖q‖²
    count = min(k + _SPARE, len(r))
    proposed, candidates = expansion.topk(count, dim=1, largest=False)
    candidates = candidates.sort(1).values
    squared = torch.stack([_squared(row, r[c]) for row, c in zip(q, candidates, strict=True)])
    order = squared.sort(dim=1, stable=True).indices[:, :k]
    indices, best = candidates.gather(1, order), squared.gather(1, order)
    if count < len(r):
        # A sum of D products in any order errs by at most D ε Σ|q||r| ≤ D ε ‖q‖‖r‖.
        norm = q32.double().square().sum(1)
        slack = 4 * (q.shape[1] + 4) * torch.finfo(torch.float32).eps * (norm + squares.max())
        outside = proposed.amax(1) + norm - slack  # no row outside the candidates is nearer than this
        for i in (best[:, -1] >= outside).nonzero().flatten().tolist():
            every = torch.cat([_squared(q[i], rows) for rows in r.split(8192)])
            indices[i] = every.sort(stable=True).indices[:k]
            best[i] = every[indices[i]]
    return indices, best.sqrt()


def _real(values: Tensor) -> Tensor:
    """The same numbers, unrounded, in the narrower of float32 and float64 that holds them."""
    narrow = values.element_size() <= 2 or values.dtype == torch.float32
    return values.float() if narrow else values.double()


def _squared(row: Tensor, rows: Tensor) -> Tensor:
    return (rows.double() - row.double()).square().sum(1)
