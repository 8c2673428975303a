"""Bits per dimension of held-out images; see `scorefield.likelihood` for the equations."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from scorefield.data.image_set import ImageSet, chosen
from scorefield.errors import UserError
from scorefield.evaluation.reference import describe
from scorefield.evaluation.report import check_shape
from scorefield.likelihood import Likelihood, log_likelihood
from scorefield.model import ScoreModel
from scorefield.progress import ProgressCallback, ignore_progress
from scorefield.samplers.adaptive_ode import RungeKutta, torchdiffeq

__all__ = ["Bits", "bits_per_dimension"]


@dataclass(frozen=True, kw_only=True)
class Bits:
    """Bits per dimension of held-out images, with their settings.

    Args:
        n: number of images, a fixed random choice.
        data: name, number and digest of their set.
        mean: over images.
        standard_error: of the mean; images, dequantization and probes vary together.
        each: of each image.
        dequantize: "uniform", or None.
        trace: "hutchinson" or "exact".
        rtol: of the solver, and its atol.
        sigma_range: σ_min and σ_max.
        evaluations: of the network for each image, each with one Jacobian product.
        seconds: for all images.
    """

    n: int
    data: str
    mean: float
    standard_error: float
    each: tuple[float, ...]
    dequantize: str | None
    trace: str
    rtol: float
    sigma_range: tuple[float, float]
    evaluations: int
    seconds: float

    def rows(self) -> dict[str, Any]:
        """Names and formatted values."""
        how = f"uniform dequantisation, {self.trace} trace, dopri5 at {self.rtol:g}"
        return {
            "bits per dimension": f"{self.mean:.3f} ± {self.standard_error:.3f}  (standard error)",
            "of images": f"{self.n} of {self.data}",
            "by": f"{how}, {self.evaluations} evaluations each, {self.seconds:.0f} s",
        }

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def bits_per_dimension(
    model: ScoreModel,
    test: ImageSet,
    *,
    n: int,
    rtol: float = 1e-4,
    seed: int = 0,
    batch: int = 50,
    progress: ProgressCallback = ignore_progress,
) -> Bits:
    """Log-likelihood of n held-out images, each with one draw of dequantization and of Hutchinson's probe.

    Args:
        model: the model to measure.
        test: held-out images.
        n: number of images; all if there are fewer.
        rtol: relative and absolute tolerance of the solver, see `samplers.RungeKutta`.
        seed: of dequantization and probes.
        batch: images at once.
        progress: called on the way.

    Raises:
        UserError: images of another shape, fewer than two, or see `likelihood.log_likelihood`.
    """
    torchdiffeq()
    check_shape(model, test)
    kept = chosen(len(test), n)
    if len(kept) < 2:
        raise UserError("likelihood", f"a standard error needs at least two images, got {len(kept)}.")
    parts = test.images[torch.tensor(kept)].split(batch)
    generator = torch.Generator(model.device).manual_seed(seed)
    start, found = time.perf_counter(), list[Likelihood]()
    for part in parts:
        found.append(
            log_likelihood(
                model,
                part.to(model.device),
                repeats=1,
                generator=generator,
                solver=RungeKutta(rtol=rtol, atol=rtol),
                track=lambda share: progress((len(found) + share) / len(parts), "Likelihood"),
            )
        )
    bits = torch.cat([one.bits for one in found])
    return Bits(
        n=len(kept),
        data=describe(test),
        mean=bits.mean().item(),
        standard_error=bits.std().item() / len(kept) ** 0.5,
        each=tuple(bits.tolist()),
        dequantize="uniform",
        trace="hutchinson",
        rtol=rtol,
        sigma_range=model.sigma_range,
        evaluations=round(sum(one.evaluations for one in found) / len(found)),
        seconds=time.perf_counter() - start,
    )
