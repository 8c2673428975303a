"""How probable an image is: log p(x; σ_min) by the change of variables along the probability-flow ODE.

Along a solution of dx/dσ = n(x; σ) the density changes by the flow's divergence (Chen et al. 2018, eq. 8;
Song et al. 2021, eq. 39),

    d log p(x(σ); σ)/dσ = −tr ∂n/∂x,

so that, with x_T the solution through x at σ = σ_max,

    log p(x; σ_min) = log p(x_T; σ_max) + ∫ tr ∂n/∂x dσ      from σ_min to σ_max.

x and log p are solved together in the coordinates of `samplers.adaptive_ode`, t = ln σ and u = x/√(1+σ²). The
divergence of u, D (σ tr ∂n/∂x /D − ρ²) for images of D numbers, is small at large σ. The log density of u per
dimension, a number of about 1, is integrated to the same tolerance as u.

**At σ_max** p(x; σ_max) is taken to be N(m, (σ_max² + s²) I). Published bits take m = 0 and s = 0, an
error of about m·x_T/σ_max² nats of either sign. Here m and s² are the model's own mean and mean variance. For σ far
above the std of the data, D(x; σ) = m + C (x − m)/σ², C their covariance, so that with z ~ N(0, I)

    m = ½ E[D(σ_max z) + D(−σ_max z)],      s² = ½ σ_max E[z·(D(σ_max z) − D(−σ_max z))]/D.

The remaining error, of order (std/σ_max)² nats, comes from different stds along different axes.

**Trace.** Exact, by D products with unit vectors, or Hutchinson's estimate vᵀ (∂n/∂x) v, E v vᵀ = I, with one
v for the whole path (Grathwohl et al. 2019, §3.1), which is unbiased.

**Bits.** 8-bit values v become a density by dequantisation, x = a + w (v + U)/256 with U ~ U[0, 1)^D;
by Jensen's inequality the mean of −log2 p over U is an upper bound of the code length of v (Theis et al.
2016, §3.1). Per dimension

    bits = −log2 p(x)/D + log2(256/w),      7 more for values in [−1, 1].

References:
    Chen et al. (2018), https://arxiv.org/abs/1806.07366
    Grathwohl et al. (2019), https://arxiv.org/abs/1810.01367
    Song et al. (2021), §4.3 and App. D.2. https://arxiv.org/abs/2011.13456
    Theis et al. (2016), https://arxiv.org/abs/1511.01844
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import ConditionedModel, Denoiser, ScoreModel, in_float32, noise
from scorefield.objectives.explicit import exact_trace, pulled_back
from scorefield.objectives.sliced import draw_directions
from scorefield.samplers.adaptive_ode import RungeKutta, State, coordinates
from scorefield.samplers.inversion import check_images

__all__ = ["Likelihood", "dequantized", "log_likelihood"]

_PAIRS = 16  # of z and −z, for m and s² at σ_max


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Log-likelihoods of images.

    Args:
        bits: per dimension, (B,), float64.
        standard_error: of `bits`, over probes and dequantisation, (B,); 0 if nothing is random, NaN for a single
            random repeat.
        nats: log p(x; σ_min) of the whole image in the model's units, (B,), float64; the mean over repeats.
        evaluations: of the denoiser, each with its Jacobian products.
    """

    bits: Tensor
    standard_error: Tensor
    nats: Tensor
    evaluations: int


@torch.no_grad()
def log_likelihood(
    model: Denoiser,
    x0: Tensor,
    *,
    probes: int | None = 1,
    repeats: int = 4,
    generator: Generator,
    solver: RungeKutta | None = None,
    sigma_range: tuple[float, float] | None = None,
    value_range: tuple[float, float] | None = None,
    centre: Tensor | float | None = None,
    track: Callable[[float], None] | None = None,
) -> Likelihood:
    """The module's log p(x; σ_min) and bits per dimension of each image.

    Images of 8 bits are dequantised; floats are taken as they are, and their density is measured at these values.
    The images of a batch share the solver's steps, so each depends on the others, within the tolerance.

    Args:
        model: a model, with a condition or without, or a density.
        x0: images, (B, C, H, W): uint8, or floats in the model's value range.
        probes: directions v, ±1, per image of Hutchinson's estimate, each one product per evaluation; None for the
            exact trace, by D products.
        repeats: number of draws of U and v; ignored if neither is random.
        generator: source of U, of v and of z.
        solver: the rule and its tolerance; by default dopri5 at 1e-5.
        sigma_range: σ_min and σ_max; by default the model's.
        value_range: (a, a + w); by default the model's. Without one, as for a plain density, bits are −log2 p/D.
        centre: m, with s = 0; 0 for bits as published; by default m and s are the model's.
        track: called with the share done; it synchronises with the device.

    Raises:
        UserError: a number < 1, unknown noise levels or value range, images that do not fit, torchdiffeq not
            installed, or a tolerance that cannot be met.
    """
    if repeats < 1:
        raise UserError("repeats", f"need at least one, got {repeats}.")
    solver, whole = solver or RungeKutta(), not x0.is_floating_point()
    sigmas, values = _ranges(model, x0, sigma_range, value_range)
    far = _moments(model, x0, sigmas[1], generator) if centre is None else (centre, 0.0)
    certain = probes is None and not whole
    repeats = 1 if certain else repeats
    found, evaluations = list[Tensor](), 0
    for turn in range(repeats):
        x = dequantized(x0, values, generator=generator) if whole else x0
        v = None if probes is None else draw_directions(x, probes, "rademacher", generator)
        slope = _Slope(model, v, x.dtype, _teller(track, turn, repeats, sigmas))
        found.append(_nats(solver, slope, x, sigmas, far))
        evaluations += slope.evaluations
    nats, per_bit = torch.stack(found), x0[0].numel() * math.log(2)
    error = nats.std(0) if repeats > 1 else nats[0] * (0.0 if certain else math.nan)
    return Likelihood(
        bits=_offset(values) - nats.mean(0) / per_bit,
        standard_error=error / repeats**0.5 / per_bit,
        nats=nats.mean(0),
        evaluations=evaluations,
    )


def dequantized(x0: Tensor, value_range: tuple[float, float] | None, *, generator: Generator) -> Tensor:
    """Values v of 8 bits as a + w (v + U)/256 with U ~ U[0, 1), float32; the shape of x0.

    Raises:
        UserError: no value range, or values that are not uint8.
    """
    if value_range is None:
        raise UserError("value_range", "of images of 8 bits is needed.", "Give it, or floats.")
    if x0.dtype != torch.uint8:
        raise UserError("images", f"of {x0.dtype}.", "Give uint8, or floats in the model's value range.")
    low, width = value_range[0], value_range[1] - value_range[0]
    u = torch.rand(x0.shape, generator=generator, device=x0.device)
    return low + (x0.float() + u) * (width / 256)


class _Slope:
    """The derivatives in t of u and of its log density per dimension."""

    def __init__(
        self, denoiser: Denoiser, v: Tensor | None, dtype: torch.dtype, tell: Callable[[Tensor], None]
    ) -> None:
        self.denoiser, self.v, self.dtype, self.tell = in_float32(denoiser), v, dtype, tell
        self.evaluations = 0

    def __call__(self, t: Tensor, state: State) -> State:
        u = state[0]
        x, sigma, share = coordinates(t, u, self.dtype)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            n = noise(self.denoiser, x, sigma)
        self.evaluations += 1
        self.tell(t)
        if self.v is None:
            divergence = exact_trace(n, x, chunk=None, memory=2**30)
        else:
            divergence = (pulled_back(n, x, self.v) * self.v).flatten(2).sum(2).mean(0)
        n = n.detach().to(u.dtype)
        gained = share**2 - sigma * divergence / x[0].numel()
        return share * n - share**2 * u, gained.detach().to(u.dtype)


def _nats(
    solver: RungeKutta,
    slope: _Slope,
    x: Tensor,
    sigmas: tuple[float, float],
    moments: tuple[Tensor | float, Tensor | float],
) -> Tensor:
    """Log p(x; σ_min), (B,), float64."""
    low, high = sigmas
    d = x[0].numel()
    state = x / math.sqrt(1 + low**2), x.new_zeros(len(x))
    u, gained = solver.solve(slope, state, low, high)
    far = (u * math.sqrt(1 + high**2) - moments[0]).flatten(1).double()
    variance = torch.as_tensor(high**2 + moments[1], dtype=torch.float64, device=x.device)
    at_end = -far.square().sum(1) / (2 * variance) - d / 2 * (2 * math.pi * variance).log()
    scaling = d / 2 * math.log((1 + high**2) / (1 + low**2))  # of u to x, at both ends
    return at_end + scaling - d * gained.double()


def _moments(model: Denoiser, x0: Tensor, sigma: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """m, (1, C, H, W), and s² of the module's equation, from noise of both signs."""
    dtype = x0.dtype if x0.is_floating_point() else torch.float32
    z = torch.randn((_PAIRS, *x0.shape[1:]), generator=generator, device=x0.device, dtype=dtype)
    up, down = in_float32(model)(sigma * torch.cat([z, -z]), z.new_full((2 * _PAIRS,), sigma)).chunk(2)
    variance = sigma * (z * (up - down)).mean() / 2
    return (up + down).mean(0, keepdim=True) / 2, variance.clamp_min(0)


def _offset(value_range: tuple[float, float] | None) -> float:
    """Bits per dimension from a density to levels of 8 bits."""
    return 0.0 if value_range is None else math.log2(256 / (value_range[1] - value_range[0]))


def _ranges(
    model: Denoiser,
    x0: Tensor,
    sigmas: tuple[float, float] | None,
    values: tuple[float, float] | None,
) -> tuple[tuple[float, float], tuple[float, float] | None]:
    """The noise levels, and the value range if known; arguments win over the model's."""
    owner = model.model if isinstance(model, ConditionedModel) else model
    if isinstance(owner, ScoreModel):
        check_images(owner, x0)
        sigmas, values = sigmas or owner.sigma_range, values or owner.value_range
    if sigmas is None:
        raise UserError("sigma_range", "a plain denoiser has no noise levels of its own.", "Give sigma_range.")
    if not (0 < sigmas[0] < sigmas[1] and math.isfinite(sigmas[1])):
        raise UserError("sigma_range", f"need 0 < σ_min < σ_max, got {sigmas[0]:g} and {sigmas[1]:g}.")
    return sigmas, values


def _teller(
    track: Callable[[float], None] | None, turn: int, turns: int, sigmas: tuple[float, float]
) -> Callable[[Tensor], None]:
    """Reports the share done, over all repeats, from t."""
    if track is None:
        return lambda t: None
    low, high = (math.log(s) for s in sigmas)
    furthest = 0.0  # a rejected step goes back

    def tell(t: Tensor) -> None:
        nonlocal furthest
        furthest = max(furthest, min((float(t) - low) / (high - low), 1.0))
        track((turn + furthest) / turns)

    return tell
