"""Explicit score matching, with the exact trace of the Jacobian or Hutchinson's estimate."""

from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser
from scorefield.objectives.directions import Distribution, half_square
from scorefield.objectives.jacobian import exact_trace, score_and_leaf
from scorefield.objectives.sliced import sliced_score_matching

__all__ = ["explicit_score_matching", "hutchinson_score_matching"]


def explicit_score_matching(
    model: Denoiser, x: Tensor, sigma: Tensor, *, chunk: int | None = None, memory: int = 2**30
) -> Tensor:
    """Tr ∇s(x; σ) + ½ ‖s(x; σ)‖² (Hyvärinen 2005, eq. 4; Song & Ermon 2019, eq. 1).

    The D products eⱼᵀ ∇s share one evaluation of the network and are computed `chunk` at a time. If, in training,
    their graphs would exceed `memory`, the value is computed without graphs and the backward pass rebuilds one
    chunk's graph at a time.

    Args:
        model: a ScoreModel, a ScoreNetwork or a density.
        x: noisy images of level σ, (B, …).
        sigma: noise levels, (B,); σ = 0 needs a ScoreNetwork or a density.
        chunk: products at a time; by default as many as fit `memory`.
        memory: bytes for the graphs of the products.

    Returns:
        Losses, (B,); one may be negative.

    Raises:
        UserError: σ < 0, σ = 0 of a model without a score there, or chunk < 1.
    """
    if chunk is not None and chunk < 1:
        raise UserError("chunk", f"at least one product at a time, got {chunk}.")
    s, x = score_and_leaf(model, x, sigma)
    return exact_trace(s, x, chunk=chunk, memory=memory) + half_square(s)


def hutchinson_score_matching(
    model: Denoiser,
    x: Tensor,
    sigma: Tensor,
    *,
    projections: int = 1,
    distribution: Distribution = "rademacher",
    generator: Generator,
) -> Tensor:
    """vᵀ ∇s v + ½ ‖s‖², averaged over K directions v: the trace by Hutchinson's estimate (1989).

    This is `sliced_score_matching` with variance reduction (Song et al. 2019); see there for the arguments.
    """
    return sliced_score_matching(
        model, x, sigma, projections=projections, distribution=distribution, variance_reduced=True, generator=generator
    )
