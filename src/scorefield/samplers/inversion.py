"""Images as latents and back along the probability-flow ODE, and what lies between two of them.

Solutions of an ODE do not cross: what `flow`'s equation makes of an image on the way up, a *latent* that
is all noise, leads back to that image on the way down, up to the solver's tolerance: of images in [−1, 1]
by the bundled model `fashion` every value to 0.003 at 1e-5, and to 0.0003 at 1e-6, whether or not in float64.

References:
    Song et al. (2021), App. D.1 and D.3. https://arxiv.org/abs/2011.13456
    Shoemake (1985), §3.3. https://doi.org/10.1145/325165.325242
    Song et al. (2021), DDIM, §5.3 and App. D.5. https://arxiv.org/abs/2010.02502
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser, ScoreModel
from scorefield.samplers.adaptive_ode import Flow, RungeKutta
from scorefield.samplers.base import broadcast_sigma, randn_like


@torch.no_grad()
def encode(
    denoiser: Denoiser,
    x0: Tensor,
    *,
    sigma_max: float,
    sigma_min: float,
    solver: RungeKutta | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The latent x(σ_max) of the solution that is x0 at σ_min; `decode` leads back.

    An image without any noise lies in the middle of where p(·; σ_min) has its images, and nowhere near
    where it has most of them. Its latent comes out shorter than √D σ_max accordingly. Add σ_min n first where
    a latent is to be like those that noise is drawn from, as `interpolation` does.

    Args:
        denoiser: a model, bound or not.
        x0: images, (B, C, H, W), float32 or float64.
        sigma_max: the level of the latent; the model's largest, as a rule.
        sigma_min: the level that x0 is taken to be at.
        solver: the rule and its tolerance; by default dopri5 at 1e-5.
        dtype: of u in the solver, float64 to keep rounding out; the denoiser is asked in x0's.

    Returns:
        (B, C, H, W), of spread about σ_max.

    Raises:
        UserError: not 0 < σ_min < σ_max, torchdiffeq is missing, or the tolerance can't be met.
    """
    return _lead(denoiser, x0, sigma_min, sigma_max, solver, dtype)


@torch.no_grad()
def decode(
    denoiser: Denoiser,
    latent: Tensor,
    *,
    sigma_max: float,
    sigma_min: float,
    solver: RungeKutta | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The images x(σ_min) of latents, (B, C, H, W); arguments and errors as in `encode`."""
    return _lead(denoiser, latent, sigma_max, sigma_min, solver, dtype)


def _lead(
    denoiser: Denoiser,
    x: Tensor,
    start: float,
    stop: float,
    solver: RungeKutta | None,
    dtype: torch.dtype | None,
) -> Tensor:
    low, high = sorted((start, stop))
    if not (0 < low < high and math.isfinite(high)):
        raise UserError("sigmas", f"need 0 < sigma_min < sigma_max, got {low:g} and {high:g}.")
    flow = Flow(denoiser, x.dtype)
    return (solver or RungeKutta()).lead(flow, x.to(dtype or x.dtype), start, stop).to(x.dtype)


def interpolate(a: Tensor, b: Tensor, parts: int) -> Tensor:
    """Latents on the arc from a to b, in equal parts of its angle θ (Shoemake 1985, §3.3; DDIM, App. D.5).

        sin((1−f)θ)/sin θ · a + sin(fθ)/sin θ · b,      cos θ = a·b/(‖a‖ ‖b‖),      f = 0, 1/parts, …, 1.

    Noise of many dimensions has one length, which the arc keeps and the chord does not. Where a and b point
    the same way, or opposite ways, they are mixed linearly.

    Args:
        a: latents, (B, …).
        b: latents, (B, …).
        parts: of the arc.

    Returns:
        (parts + 1, B, …), a first and b last.

    Raises:
        UserError: shapes that differ, or no part.
    """
    if a.shape != b.shape:
        raise UserError("interpolate", f"latents of shapes {tuple(a.shape)} and {tuple(b.shape)}.")
    if parts < 1:
        raise UserError("parts", f"need at least one, got {parts}.")
    one, two = a.flatten(1).double(), b.flatten(1).double()
    cosine = (one * two).sum(1) / (one.norm(dim=1) * two.norm(dim=1)).clamp_min(1e-30)
    angle = cosine.clamp(-1, 1).acos()
    f = torch.linspace(0, 1, parts + 1, dtype=torch.float64, device=a.device)[:, None]
    sine, flat = angle.sin(), angle.sin() < 1e-6
    sine = torch.where(flat, 1.0, sine)
    left = torch.where(flat, 1 - f, ((1 - f) * angle).sin() / sine)
    right = torch.where(flat, f, (f * angle).sin() / sine)
    return (left[..., None] * one + right[..., None] * two).to(a.dtype).reshape(parts + 1, *a.shape)


@torch.no_grad()
def interpolation(
    model: ScoreModel,
    x0: Tensor,
    x1: Tensor,
    parts: int,
    *,
    generator: Generator,
    solver: RungeKutta | None = None,
    batch: int = 64,
    track: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Images between images: encoded, interpolated on the sphere, decoded, denoised at the end.

    Encoded is x0 + σ_min n, a little noise that can't be seen and without which the latents would not be
    typical; see `encode`. The first and last images returned are x0 and x1 as they come back.

    Args:
        model: of such images.
        x0: (B, C, H, W), in the model's value range.
        x1: likewise.
        parts: of the way.
        generator: source of n.
        solver: the rule and its tolerance; by default dopri5 at 1e-5.
        batch: images at once.
        track: told the batches done and all of them.

    Returns:
        (parts + 1, B, C, H, W).

    Raises:
        UserError: images of another number of channels or of two shapes, parts < 1, or see `encode`.
    """
    check_images(model, x0, x1)
    low, high = model.sigma_range
    solver = solver or RungeKutta()
    noisy = [x + low * randn_like(x, generator) for x in (x0, x1)]
    ends = torch.cat(noisy).split(batch)
    total = len(ends) + -(-(parts + 1) * len(x0) // batch)
    latents = list[Tensor]()
    for part in ends:
        latents.append(encode(model, part, sigma_max=high, sigma_min=low, solver=solver))
        track(len(latents), total)
    a, b = torch.cat(latents).chunk(2)
    images = list[Tensor]()
    for part in interpolate(a, b, parts).flatten(0, 1).split(batch):
        x = decode(model, part, sigma_max=high, sigma_min=low, solver=solver)
        images.append(model(x, broadcast_sigma(low, x)))
        track(len(ends) + len(images), total)
    return torch.cat(images).reshape(parts + 1, *x0.shape)


def check_images(model: ScoreModel, *images: Tensor) -> None:
    """See that images are batches of one shape, with the model's channels.

    Raises:
        UserError: they are not.
    """
    for x in images:
        if x.ndim != len(model.shape) + 1 or x.shape[1] != model.shape[0]:
            theirs, ours = ("×".join(map(str, shape)) for shape in (x.shape, model.shape))
            raise UserError("images", f"their shape is {theirs}, this model takes batches of {ours}.")
        if x.shape != images[0].shape:
            raise UserError("images", f"two shapes: {tuple(images[0].shape)} and {tuple(x.shape)}.")
