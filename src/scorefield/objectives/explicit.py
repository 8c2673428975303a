"""Explicit score matching, with the exact trace of the Jacobian or Hutchinson's estimate of it."""

from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser
from scorefield.objectives.directions import Distribution, half_square
from scorefield.objectives.jacobian import exact_trace, score_of
from scorefield.objectives.sliced import sliced_score_matching


def explicit_score_matching(
    model: Denoiser, x: Tensor, sigma: Tensor, *, chunk: int | None = None, memory: int = 2**30
) -> Tensor:
    """Its trace exact, tr ∇s(x; σ) + ½ ‖s(x; σ)‖² (Hyvärinen 2005, eq. 4; Song & Ermon 2019, eq. 1).

    The D products eⱼᵀ ∇s share one evaluation of the network and are made `chunk` at a time. Where in
    training the graphs of all of them would outgrow `memory`, they are made on the way back, a chunk's at a
    time, after the value was found without.

    Args:
        model: whatever has a score: a ScoreModel, a ScoreNetwork, a density with a known one.
        x: noisy images of level σ, (B, …).
        sigma: noise levels, (B,); 0 is for a ScoreNetwork or a density.
        chunk: products at a time; by default as many as `memory` holds.
        memory: bytes that the graph of the products may take, 1 GiB.

    Returns:
        Losses, (B,); one may be negative.

    Raises:
        UserError: σ < 0, σ = 0 where the model has no score there, or no chunk.
    """
    if chunk is not None and chunk < 1:
        raise UserError("chunk", f"at least one product at a time, got {chunk}.")
    s, x = score_of(model, x, sigma)
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
    """The explicit objective with the trace estimated: vᵀ ∇s v + ½ ‖s‖², mean over K v (Hutchinson 1989).

    It is sliced score matching with variance reduction (Song et al. 2019); arguments, result and errors are
    those of `sliced_score_matching`.
    """
    return sliced_score_matching(
        model, x, sigma, projections=projections, distribution=distribution, variance_reduced=True, generator=generator
    )
