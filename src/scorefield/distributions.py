"""Analytic densities with known scores: the oracles of tests and the toys of figures.

A mixture of Gaussians stays one when noise is added. With weights w_k, means μ_k and covariances Σ_k,

    p(x; σ) = Σ_k w_k N(x; μ_k, Σ_k + σ² I),
    ∇ log p(x; σ) = Σ_k r_k(x) (Σ_k + σ² I)⁻¹ (μ_k − x),
    D(x; σ) = x + σ² ∇ log p(x; σ) = Σ_k r_k(x) (μ_k + Σ_k (Σ_k + σ² I)⁻¹ (x − μ_k)),

with r_k(x) the responsibility of component k for x. D is computed by the last form, which has no cancellation.
"""

import math

import torch
from torch import Generator, Tensor

__all__ = ["GaussianMixture"]


class GaussianMixture:
    """Σ_k w_k N(μ_k, Σ_k) with its exact score, denoiser, samples and conditionals.

    Args:
        weights: (K,), positive; they are normalized.
        means: (K, D).
        covariances: (K, D, D), or (K,) of variances for Σ_k = v_k I.

    Raises:
        ValueError: shapes that do not fit, or a covariance with a negative eigenvalue.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        k, d = means.shape
        if covariances.ndim == 1:
            covariances = covariances[:, None, None] * torch.eye(d, dtype=means.dtype)
        if weights.shape != (k,) or covariances.shape != (k, d, d) or bool((weights <= 0).any()):
            raise ValueError("need weights (K,) > 0, means (K, D), covariances (K, D, D) or (K,)")
        self.weights, self.means, self.covariances = weights / weights.sum(), means, covariances
        self.variances, self.axes = torch.linalg.eigh(covariances)  # (K, D), (K, D, D)
        if bool((self.variances < -1e-6).any()):
            raise ValueError("a covariance has a negative eigenvalue")
        self.variances = self.variances.clamp_min(0)

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """n independent points, (n, D)."""
        which = torch.multinomial(self.weights.float(), n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        stretched = self.variances[which].sqrt() * z
        return self.means[which] + torch.einsum("nij,nj->ni", self.axes[which], stretched)

    def log_density(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Log p(x; σ); x (B, …) with D numbers each, σ a number or (B,); (B,)."""
        return torch.logsumexp(self._joint(x.flatten(1), sigma)[0], 1)

    def score(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """∇ log p(x; σ); x (B, …) with D numbers each, σ a number or (B,); the shape of x."""
        joint, along, total = self._joint(x.flatten(1), sigma)
        pull = torch.einsum("kij,bkj->bki", self.axes, -along / total)
        return (joint.softmax(1)[..., None] * pull).sum(1).reshape(x.shape)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """D(x; σ) = E[x0 | x], any shape (B, …) with D numbers each; the shape of x."""
        joint, along, total = self._joint(x.flatten(1), sigma)
        shrunk = torch.einsum("kij,bkj->bki", self.axes, along * (self.variances / total))
        return (joint.softmax(1)[..., None] * (self.means + shrunk)).sum(1).reshape(x.shape)

    def conditional(self, known: Tensor, values: Tensor) -> "GaussianMixture":
        """The distribution of the other coordinates given that those in `known` equal `values`.

        Args:
            known: (D,), bool.
            values: (number known,).

        Returns:
            The mixture of the unknown coordinates, with
            μ_u + Σ_uo Σ_oo⁻¹ (v − μ_o),  Σ_uu − Σ_uo Σ_oo⁻¹ Σ_ou,  and weights w_k N(v; μ_o, Σ_oo).
        """
        o, u = known.nonzero().flatten(), (~known).nonzero().flatten()
        oo = self.covariances[:, o][:, :, o]
        gain = torch.linalg.solve(oo, self.covariances[:, o][:, :, u]).mT
        seen = GaussianMixture(self.weights, self.means[:, o], oo)
        weights = seen._joint(values[None], 0.0)[0][0].softmax(0)
        means = self.means[:, u] + torch.einsum("kuo,ko->ku", gain, values - self.means[:, o])
        covariances = self.covariances[:, u][:, :, u] - gain @ self.covariances[:, o][:, :, u]
        kept = weights > 1e-12
        return GaussianMixture(weights[kept], means[kept], ((covariances + covariances.mT) / 2)[kept])

    def _joint(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """Log w_k N(x; μ_k, Σ_k + σ²I), x − μ_k along Σ_k's axes, and the variances along them."""
        noise = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1, 1) ** 2
        along = torch.einsum("kij,bki->bkj", self.axes, x[:, None] - self.means)
        total = self.variances + noise
        quadratic = (along**2 / total).sum(-1) + total.log().sum(-1)
        joint = self.weights.log() - (quadratic + x.shape[1] * math.log(2 * math.pi)) / 2
        return joint, along, total
