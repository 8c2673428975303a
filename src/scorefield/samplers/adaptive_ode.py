"""The probability-flow ODE by adaptive Runge–Kutta rules.

dx/dσ = n(x; σ) = (x − D(x; σ))/σ is solved in t = ln σ and u = x/√(1+σ²). The std of u is about 1 at every σ,
so one tolerance serves the whole range:

    du/dt = ρ n(√(1+σ²) u; σ) − ρ² u,      ρ = σ/√(1+σ²).

The rules come from torchdiffeq, the extra `ode`. They read their error after every step, so the host waits
for the device, unlike in other samplers. The network computes in float32: at a tolerance of 1e-5 the bundled
model `fashion` needs 103 evaluations for the whole range, and in bfloat16 it needed 300.

References:
    Song et al. (2021), §4.3 and App. D. https://arxiv.org/abs/2011.13456
    Dormand & Prince (1980). https://doi.org/10.1016/0771-050X(80)90013-3
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError, did_you_mean
from scorefield.model import Denoiser, expand, in_float32, noise
from scorefield.samplers.base import Project, Step, broadcast_sigma, check_levels

__all__ = ["Flow", "RungeKutta", "State", "coordinates", "torchdiffeq"]

State = tuple[Tensor, ...]
Method = Literal["bosh3", "dopri5", "dopri8"]

_CALLS = {"bosh3": 3, "dopri5": 6, "dopri8": 13}  # evaluations of du/dt in a trial step
_FIRST = 1.0  # the first trial step, in ln σ
_TRIALS = 2  # trial steps between neighbouring noise levels, an estimate


@dataclass(frozen=True, kw_only=True)
class RungeKutta:
    """An adaptive Runge–Kutta rule, which chooses its own steps between the noise levels.

    The worst image of the batch decides on the step, so an image depends on the others, within the tolerance.
    The step to 0 is x ← D(x; σ).

    Args:
        method: "bosh3" (order 3), "dopri5" (order 5) or "dopri8" (order 8), as in torchdiffeq.
        rtol: relative error of a step in u, root mean square over an image.
        atol: absolute error, likewise.

    Raises:
        UserError: no such method, or a tolerance that is not positive.
    """

    method: Method = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        if self.method not in _CALLS:
            raise UserError(
                "method",
                f"no such adaptive Runge–Kutta rule {self.method!r}.",
                did_you_mean(self.method, _CALLS),
            )
        if not (self.rtol > 0 and self.atol > 0):
            raise UserError("rtol", f"tolerances must be positive, got {self.rtol:g} and {self.atol:g}.")

    def evaluations(self, sigmas: Tensor) -> int:
        """An estimate, two trial steps between levels; the tolerance decides. `Step.evaluations` is exact."""
        last = int(float(sigmas[-1]) == 0)
        return (len(sigmas) - 1 - last) * (1 + _TRIALS * _CALLS[self.method]) + last

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield x at each noise level; see `Sampler.iterate`.

        Raises:
            UserError: not a schedule, torchdiffeq is missing, or the tolerance cannot be met.
        """
        flow, calls = Flow(denoiser, x.dtype), 0
        for index, (s, t) in enumerate(pairwise(check_levels(sigmas))):
            if t > 0:
                x = self.integrate(flow, x, s, t)
                denoised, calls = flow.denoised, flow.evaluations
            else:
                x = denoised = denoiser(x, broadcast_sigma(s, x))
                calls += 1
            x = x if project is None else project(x, t)
            yield Step(index=index, evaluations=calls, sigma=t, x=x, denoised=denoised)

    def integrate(self, flow: "Flow", x: Tensor, start: float, stop: float) -> Tensor:
        """Solve from x at σ = `start` to σ = `stop`; both positive, in either direction."""
        (u,) = self.solve(flow, (x / math.sqrt(1 + start**2),), start, stop)
        return u * math.sqrt(1 + stop**2)

    def solve(self, derivative: Callable[[Tensor, State], State], state: State, start: float, stop: float) -> State:
        """Solve from `state` at σ = `start` to σ = `stop`; every part of the state is (B, …).

        Args:
            derivative: d state/dt of (t, state), with t = ln σ.
            state: at σ = `start`.
            start: a σ above 0.
            stop: a σ above 0.

        Raises:
            UserError: torchdiffeq is missing, or no step meets the tolerance.
        """
        odeint = torchdiffeq().odeint
        ends = torch.tensor([math.log(start), math.log(stop)], dtype=torch.float64, device=state[0].device)
        options = {
            "norm": _worst_image,
            "step_t": ends[1:],  # end exactly there: no evaluation beyond the model's σ range
            "first_step": min(_FIRST, 1.001 * abs(math.log(stop / start))),
        }
        tolerance = {"rtol": self.rtol, "atol": self.atol}
        try:
            path = odeint(derivative, state, ends, method=self.method, options=options, **tolerance)
        except AssertionError as error:  # raised by torchdiffeq when its step underflows
            raise UserError(
                "ode",
                f"no step of {self.method} keeps rtol {self.rtol:g} and atol {self.atol:g}.",
                "Loosen them. If that does not help, the model returns NaN.",
            ) from error
        return tuple(part[-1] for part in path)


class Flow:
    """du/dt of the module's equation; counts its evaluations and keeps the last D.

    Args:
        denoiser: gives the noise.
        dtype: of the denoiser's input; u may be of higher precision.
    """

    def __init__(self, denoiser: Denoiser, dtype: torch.dtype) -> None:
        self.denoiser, self.dtype = in_float32(denoiser), dtype
        self.evaluations = 0
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, t: Tensor, state: State) -> State:
        """du/dt, as a tuple of one tensor of u's shape."""
        (u,) = state
        x, sigma, rho = coordinates(t, u, self.dtype)
        n = noise(self.denoiser, x, sigma)
        self.evaluations += 1
        self._last = x, sigma, n
        return (rho * n.to(u.dtype) - rho**2 * u,)

    @property
    def denoised(self) -> Tensor:
        """D at the last evaluation; for dopri5 that is the end of the last step."""
        if self._last is None:
            raise ValueError("no evaluation yet")
        x, sigma, n = self._last
        return x - expand(sigma, x) * n


def coordinates(t: Tensor, u: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """(x, σ, ρ): x = √(1+σ²) u and σ, (B,), in `dtype`; t and ρ are 0-d."""
    sigma = t.exp()
    root = (1 + sigma**2).sqrt()
    x = (root * u).to(dtype)
    return x, sigma.to(dtype).expand(len(x)), sigma / root


def torchdiffeq() -> Any:
    """The package torchdiffeq.

    Raises:
        UserError: it is not installed.
    """
    try:
        import torchdiffeq as package  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            "torchdiffeq",
            "needed to solve the ODE with error control.",
            "Install it: pip install 'scorefield[ode]'",
        ) from error
    return package


def _worst_image(state: State) -> Tensor:
    """The largest root mean square of an image in the batch."""
    return torch.stack([part.reshape(len(part), -1).square().mean(1).max().sqrt() for part in state]).max()
