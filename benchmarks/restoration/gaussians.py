"""Methods of restoration on Gaussians, whose posteriors are known: at one common budget and at the published ones.

Images are six values, of which neighbours correlate by 0.9. Observations are drawn from the distribution. Of each
observation `DRAWS` candidates are drawn, and compared with the posterior N(m, C):

    mean      √(mean over values of (mean of the candidates − m)²/C_ii), less what chance leaves
    spread    √(trace of the candidates' covariance/trace of C)

Each seed draws its own observations and candidates. Means are over the observations of all seeds, with the 2.5 % and
97.5 % quantiles of a bootstrap over observations, which stays within the values that a mean may take. A pass backwards
through the denoiser costs one to two passes forwards; both are counted, for one candidate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from scorefield import schedules
from scorefield.degradations import Observation
from scorefield.distributions import GaussianMixture
from scorefield.metrics.confidence import ConfidenceInterval, bootstrap
from scorefield.restoration import DPS, MomentMatching, NullSpace, PiGDM, Projection, Restorer
from scorefield.samplers import Ancestral, AnnealedLangevin, Heun, Sampler
from scorefield.samplers import run as run_sampler

OBSERVATIONS, DRAWS, SEEDS = 16, 100, (0, 1, 2)
HIGH, LOW = 80.0, 0.002


@dataclass(frozen=True)
class Linear:
    """y = M x on images of one row, with the pseudo-inverse of Moore and Penrose."""

    matrix: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """M x, (B, 1, 1, m)."""
        return (x.flatten(1) @ self.matrix.T)[:, None, None]

    def pinv(self, y: Tensor) -> Tensor:
        """M⁺ y, (B, 1, 1, 6)."""
        return (y.flatten(1) @ torch.linalg.pinv(self.matrix).T)[:, None, None]


class Counted:
    """A denoiser that counts its passes forwards and backwards."""

    def __init__(self, denoiser: GaussianMixture) -> None:
        self.denoiser, self.forward, self.backward = denoiser, 0, 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; σ), the shape of x."""
        self.forward += 1
        value = self.denoiser(x, sigma)
        if value.requires_grad:
            value.register_hook(self._count)
        return value

    def _count(self, gradient: Tensor) -> None:
        self.backward += 1


def _karras(levels: int) -> Tensor:
    return schedules.karras(HIGH, LOW, levels)


def _langevin(levels: int, each: int) -> tuple[Sampler, Tensor]:
    sigmas = schedules.geometric(HIGH, 0.01, levels)
    step = schedules.langevin_step_size(sigmas, each)
    return AnnealedLangevin(step_size=step, steps_each=each, denoise=True), sigmas


Make = Callable[[Counted], Restorer]
ROWS: dict[str, tuple[Make, Sampler, Tensor]] = {
    "`Projection`, 20 × 5 Langevin updates": (lambda d: Projection(denoiser=d), *_langevin(20, 5)),
    "`Projection`, 200 × 5": (lambda d: Projection(denoiser=d), *_langevin(200, 5)),
    "RePaint, 28 levels, jump 5, 4 times": (
        lambda d: Projection(denoiser=d), Ancestral(), schedules.repaint(_karras(28), jump=5, times=4)
    ),
    "RePaint as published, 250, 10, 10": (
        lambda d: Projection(denoiser=d), Ancestral(), schedules.repaint(_karras(250), jump=10, times=10)
    ),
    "`NullSpace`, ancestral": (lambda d: NullSpace(denoiser=d), Ancestral(), _karras(100)),
    "`PiGDM`, ancestral": (lambda d: PiGDM(denoiser=d), Ancestral(), _karras(100)),
    "`DPS`, our step, ancestral": (lambda d: DPS(denoiser=d), Ancestral(), _karras(100)),
    "`DPS` as published, 1,000 steps of DDPM, ζ = 1": (
        lambda d: DPS(denoiser=d, step="published"), Ancestral(), schedules.append_zero(schedules.linear_beta())
    ),
    "`DPS` as published, ζ = 0.25": (
        lambda d: DPS(denoiser=d, step="published", zeta=0.25),
        Ancestral(),
        schedules.append_zero(schedules.linear_beta()),
    ),
    "`MomentMatching(iterations=3)`, Heun": (lambda d: MomentMatching(denoiser=d, iterations=3), Heun(), _karras(50)),
    "`MomentMatching`, Heun": (lambda d: MomentMatching(denoiser=d), Heun(), _karras(50)),
}  # fmt: skip


def cases() -> dict[str, tuple[Tensor, float]]:
    """Matrix and σ_y by name."""
    eye = torch.eye(6)
    general = torch.randn(3, 6, generator=Generator().manual_seed(7))
    return {
        "mask": (eye[[0, 3, 5]], 0.0),
        "means of pairs": (torch.kron(torch.eye(3), torch.full((1, 2), 0.5)), 0.0),
        "general": (general, 0.0),
        "general, σ_y = 0.3": (general, 0.3),
    }


def run(keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """All rows: passes, and for each case mean and spread, both as value, lower and upper end.

    Args:
        keep: writes the results so far.
    """
    places = torch.arange(6.0)
    covariance = 0.9 ** (places[:, None] - places).abs()
    prior = GaussianMixture(torch.ones(1), torch.linspace(-1, 1, 6)[None], covariance[None])
    rows: dict[str, Any] = {}
    results = {"observations": OBSERVATIONS, "draws": DRAWS, "seeds": SEEDS, "rows": rows}
    for name, (make, sampler, sigmas) in ROWS.items():
        rows[name] = {}
        for case, (matrix, noise) in cases().items():
            errors, ratios = list[Tensor](), list[Tensor]()
            for seed in SEEDS:
                counted = Counted(prior)
                error, wide = _measured(make(counted), sampler, sigmas, prior, matrix, noise, seed)
                errors.append(error)
                ratios.append(wide)
                rows[name]["passes"] = (counted.forward, counted.backward)
            each = torch.arange(OBSERVATIONS * len(SEEDS))
            square, ratio = (_ends(bootstrap(torch.cat(parts), each)) for parts in (errors, ratios))
            rows[name][case] = [tuple(max(0.0, end) ** 0.5 for end in square), ratio]
        print(name, rows[name], flush=True)
        keep(results)
    return results


def table(results: dict[str, Any]) -> str:
    """As Markdown."""
    names = list(cases())
    lines = [f"| | forward, backward | {' | '.join(names)} |", "| --- | --- |" + " --- |" * len(names)]
    for name, row in results["rows"].items():
        cells = [", ".join(f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, low, high in row[case]) for case in names]
        forward, backward = row["passes"]
        lines.append(f"| {name} | {forward:,}, {backward:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _measured(
    restorer: Restorer,
    sampler: Sampler,
    sigmas: Tensor,
    prior: GaussianMixture,
    matrix: Tensor,
    noise: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """The squared error of the mean and the ratio of the spread, of each observation."""
    generator = Generator().manual_seed(seed)
    mean, covariance = prior.means[0], prior.covariances[0]
    x0 = prior.sample(OBSERVATIONS, generator=generator)
    y = x0 @ matrix.T + noise * torch.randn(OBSERVATIONS, len(matrix), generator=generator)
    gain = covariance @ matrix.T @ torch.linalg.inv(matrix @ covariance @ matrix.T + noise**2 * torch.eye(len(matrix)))
    right = mean + (y - mean @ matrix.T) @ gain.T
    left = covariance - gain @ matrix @ covariance
    observation = Observation(y=y.repeat_interleave(DRAWS, 0)[:, None, None], degradation=Linear(matrix), noise=noise)
    posterior = restorer.posterior(observation, generator=generator)
    start = float(sigmas[0]) * torch.randn(OBSERVATIONS * DRAWS, 1, 1, 6, generator=generator)
    end = run_sampler(
        sampler, posterior.denoiser, start, sigmas, generator=generator, project=posterior.project
    ).reshape(OBSERVATIONS, DRAWS, 6)
    free = left.diagonal() > 1e-5
    chance = end.var(1) / DRAWS
    off = (((end.mean(1) - right) ** 2 - chance) / left.diagonal())[:, free].mean(1)
    return off, (end.var(1).sum(1) / left.trace()).sqrt()


def _ends(interval: ConfidenceInterval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high
