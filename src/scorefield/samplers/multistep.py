"""Multistep samplers: the linear part of the ODE is solved exactly, D is extrapolated.

With λ = −ln σ, the half log-SNR of x/σ, the probability-flow ODE dx/dσ = (x − D)/σ reads

    dx/dλ = D − x,      and from σ to τ < σ, h = ln(σ/τ),      x_τ = (τ/σ) x_σ + τ ∫ e^λ D(λ) dλ.

The integral goes from −ln σ to −ln τ. D varies slowly with λ at very high and very low noise, so its values
at the previous noise levels predict it well.

References:
    Lu et al. (2022), DPM-Solver++, §4–5. https://arxiv.org/abs/2211.01095
    Zhang & Chen (2023), DEIS, §3. https://arxiv.org/abs/2204.13902
    Cox & Matthews (2002), exponential time differencing, §2. https://doi.org/10.1006/jcph.2002.6995
    Hochbruck & Ostermann (2010), Exponential integrators, §2.5. https://doi.org/10.1017/S0962492910000048
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser
from scorefield.samplers.base import Project, Step, broadcast_sigma, check_levels, randn_like

__all__ = ["AdamsBashforth", "DPMSolver2M"]

_ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class DPMSolver2M:
    """DPM-Solver++(2M) and its SDE form, second order with one evaluation a step (Lu et al. 2022, Alg. 2).

    With r = h_{i−1}/h_i, the ratio of the previous step to this one, and D_{i−1} the previous D,

        D' = (1 + 1/2r) D_i − 1/2r D_{i−1},
        x ← e^{−(1+η)h} x + (1 − e^{−(1+η)h}) D' + τ √(1 − e^{−2ηh}) z,      z ~ N(0, I).

    Langevin dynamics, which leaves p(·; σ) unchanged, adds the noise: at a rate of 2ησ² it adds η(D − x) to
    the drift,

        dx = (1 + η)(D − x) dλ + √(2η) σ dw.

    With D frozen, x − D decays by e^{−(1+η)h}, and noise added when h' is left arrives with
    e^{−(1+η)h'} of its std √(2η) τ e^{h'}: τ² ∫ 2η e^{−2ηh'} dh' from 0 to h is τ² (1 − e^{−2ηh}). η = 0
    is the ODE, Algorithm 2; η = 1 is SDE-DPM-Solver++(2M) (App. B), whose first-order step is ancestral
    sampling. The first step, and a step to 0, are of first order, D' = D_i.

    Args:
        eta: η, in [0, 1].

    Raises:
        UserError: η outside of [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise UserError("eta", f"need 0 ≤ eta ≤ 1, got {self.eta:g}.", "0 is the ODE, 1 the SDE.")

    def evaluations(self, sigmas: Tensor) -> int:
        """One for every step."""
        return len(sigmas) - 1

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each step; see `Sampler.iterate`."""
        before: tuple[Tensor, float] | None = None  # D and h of the previous step
        for index, (s, t) in enumerate(pairwise(check_levels(sigmas))):
            denoised = aim = denoiser(x, broadcast_sigma(s, x))
            if t == 0:
                x = denoised
            else:
                h = math.log(s / t)
                if before is not None:
                    ahead = h / before[1] / 2
                    aim = denoised + ahead * (denoised - before[0])
                kept = (t / s) ** (1 + self.eta)
                x = kept * x + (1 - kept) * aim
                if self.eta > 0:
                    x = x + t * math.sqrt(-math.expm1(-2 * self.eta * h)) * randn_like(x, generator)
                before = denoised, h
            x = x if project is None else project(x, t)
            yield Step(index=index, evaluations=index + 1, sigma=t, x=x, denoised=denoised)


@dataclass(frozen=True, kw_only=True)
class AdamsBashforth:
    """The exponential Adams–Bashforth multistep rule, one evaluation a step.

    D is replaced by the polynomial in λ through its values at this noise level and at the order − 1 previous
    ones, which is integrated exactly against e^λ (Zhang & Chen 2023, eq. 15; in λ and for D, Hochbruck &
    Ostermann 2010, eq. 2.56):

        x ← (τ/σ) x + Σ_j W_j D_{i−j},      W_j = ∫ e^{−w} L_j(w) dw from 0 to h,      w = λ_τ − λ,

    with L_j the Lagrange polynomials on the noise levels. Order 1 is Euler's rule. A step to 0 is x ← D.

    Step i < order − 1 knows i + 1 values of D and would have a local error of h^{i+2}, where order p needs h^p of
    a fixed number of steps. Steps 0 to p − 3 are therefore exponential Runge–Kutta steps of order p − 1, whose
    further values of D lie inside the step (Cox & Matthews 2002, ETD2RK and ETD3RK): one more evaluation for
    order 3, four for order 4.

    Args:
        order: 1 to 4.

    Raises:
        UserError: another order.
    """

    order: int = 3

    def __post_init__(self) -> None:
        if self.order not in _ORDERS:
            raise UserError("order", f"the Adams–Bashforth rule has orders 1 to 4, not {self.order}.")

    def evaluations(self, sigmas: Tensor) -> int:
        """One for every step, and order − 2 more for each of the first order − 2 steps that does not end at 0."""
        starting = min(max(0, self.order - 2), len(sigmas) - 1 - int(float(sigmas[-1]) == 0))
        return len(sigmas) - 1 + starting * (self.order - 2)

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each step; see `Sampler.iterate`."""
        levels = check_levels(sigmas)
        recent = deque[tuple[float, Tensor]](maxlen=self.order)  # σ and D, the newest first
        evaluations = 0
        for index, (s, t) in enumerate(pairwise(levels)):
            denoised = denoiser(x, broadcast_sigma(s, x))
            recent.appendleft((s, denoised))
            values = list(recent)
            if t == 0:
                x = denoised
            else:
                if index < self.order - 2:
                    values = self._inside(denoiser, x, s, t, denoised)
                    evaluations += len(values) - 1
                weights = _weights([level for level, _ in values], s, t)
                x = (t / s) * x
                for weight, (_, value) in zip(weights, values, strict=True):
                    x = x + weight * value
            evaluations += 1
            x = x if project is None else project(x, t)
            yield Step(index=index, evaluations=evaluations, sigma=t, x=x, denoised=denoised)

    def _inside(self, denoiser: Denoiser, x: Tensor, s: float, t: float, first: Tensor) -> list[tuple[float, Tensor]]:
        """σ and D at the stages of one Runge–Kutta step of order 2 or 3; `first` is D at σ = s."""
        stages, aim = [(s, first)], first
        if self.order == 4:
            middle = math.sqrt(s * t)
            half = middle / s
            between = denoiser(half * x + (1 - half) * first, broadcast_sigma(middle, x))
            stages.append((middle, between))
            aim = 2 * between - first
        ahead = (t / s) * x + (1 - t / s) * aim
        return [*stages, (t, denoiser(ahead, broadcast_sigma(t, x)))]


def _weights(nodes: Sequence[float], s: float, t: float) -> list[float]:
    """W_j, for D at the noise levels `nodes`, of the step from s to t > 0."""
    places = [math.log(node / t) for node in nodes]
    moments = [_moment(k, math.log(s / t)) for k in range(len(places))]
    weights = list[float]()
    for at in places:
        lagrange = [1.0]  # coefficients, the constant first
        for other in places:
            if other != at:
                shifted, scaled = [0.0, *lagrange], [*(other * c for c in lagrange), 0.0]
                lagrange = [(a - b) / (at - other) for a, b in zip(shifted, scaled, strict=True)]
        weights.append(sum(c * m for c, m in zip(lagrange, moments, strict=True)))
    return weights


def _moment(k: int, h: float) -> float:
    """∫ e^{−w} w^k dw from 0 to h = k! e^{−h} Σ_{j>k} h^j/j!, a sum of positive terms.

    The recursion M_k = k M_{k−1} − h^k e^{−h} gives the same but cancels for small h.
    """
    term, total, j = math.exp(-h) * h ** (k + 1) / (k + 1), 0.0, k + 1
    while total + term != total:
        total += term
        j += 1
        term *= h / j
    return total
