"""The probability-flow ODE by a library's Runge–Kutta rules with error control.

dx/dσ = n(x; σ) = (x − D(x; σ))/σ is solved in t = ln σ and u = x/√(1+σ²), whose spread is about 1 at every σ,
so that one tolerance serves from end to end:

    du/dt = ρ n(√(1+σ²) u; σ) − ρ² u,      ρ = σ/√(1+σ²).

The rules come from torchdiffeq, the extra `ode`. They look at their error after every step, so that here,
unlike in other samplers, the host waits for the device. A model's network computes in float32 meanwhile: to
the tolerance 1e-5 the bundled `fashion` takes 103 evaluations from end to end, in bfloat16 it took 300.

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
from scorefield.samplers.base import Project, Step, broadcast_sigma
from scorefield.samplers.ode import way_down

State = tuple[Tensor, ...]
Method = Literal["bosh3", "dopri5", "dopri8"]

_CALLS = {"bosh3": 3, "dopri5": 6, "dopri8": 13}  # of the slope, for a step tried
_FIRST = 1.0  # the first step tried, in ln σ
_TRIED = 2  # steps from noise level to noise level, guessed


@dataclass(frozen=True, kw_only=True)
class RungeKutta:
    """An adaptive Runge–Kutta rule from noise level to noise level; between them it chooses its own steps.

    The worst image's error decides, so an image depends on those beside it, within the tolerance. The step
    to 0 is x ← D(x; σ).

    Args:
        method: "bosh3" (third order), "dopri5" or "dopri8", torchdiffeq's names.
        rtol: error of a step, relative to u, root mean square over an image.
        atol: the same, absolute.

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
                f"no such Runge–Kutta rule with error control: {self.method!r}.",
                did_you_mean(self.method, _CALLS),
            )
        if not (self.rtol > 0 and self.atol > 0):
            raise UserError("rtol", f"tolerances are positive, got {self.rtol:g} and {self.atol:g}.")

    def evaluations(self, sigmas: Tensor) -> int:
        """A guess, two steps tried from noise level to noise level: the tolerance decides. A Step's own count is exact."""
        last = int(float(sigmas[-1]) == 0)
        return (len(sigmas) - 1 - last) * (1 + _TRIED * _CALLS[self.method]) + last

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
            UserError: no schedule, torchdiffeq is missing, or the tolerance can't be met.
        """
        flow, calls = Flow(denoiser, x.dtype), 0
        for index, (s, t) in enumerate(pairwise(way_down(sigmas))):
            if t > 0:
                x = self.lead(flow, x, s, t)
                denoised, calls = flow.denoised, flow.evaluations
            else:
                x = denoised = denoiser(x, broadcast_sigma(s, x))
                calls += 1
            x = x if project is None else project(x, t)
            yield Step(index=index, evaluations=calls, sigma=t, x=x, denoised=denoised)

    def lead(self, flow: "Flow", x: Tensor, start: float, stop: float) -> Tensor:
        """The solution through x at σ = `start`, at σ = `stop`; both positive, either way."""
        (u,) = self.solve(flow, (x / math.sqrt(1 + start**2),), start, stop)
        return u * math.sqrt(1 + stop**2)

    def solve(self, slope: Callable[[Tensor, State], State], state: State, start: float, stop: float) -> State:
        """The state at σ = `stop`, its slope in t = ln σ being `slope` at t and a state; every part (B, …).

        Raises:
            UserError: torchdiffeq is missing, or no step is small enough.
        """
        odeint = torchdiffeq().odeint
        ends = torch.tensor([math.log(start), math.log(stop)], dtype=torch.float64, device=state[0].device)
        options = {
            "norm": _worst_image,
            "step_t": ends[1:],  # end on it: no look beyond the noise levels that the model knows
            "first_step": min(_FIRST, 1.001 * abs(math.log(stop / start))),
        }
        tolerance = {"rtol": self.rtol, "atol": self.atol}
        try:
            path = odeint(slope, state, ends, method=self.method, options=options, **tolerance)
        except AssertionError as error:  # torchdiffeq's way of saying so
            raise UserError(
                "ode",
                f"no step of {self.method} keeps rtol {self.rtol:g} and atol {self.atol:g}.",
                "Loosen them; if that does not help, the model gives NaN.",
            ) from error
        return tuple(part[-1] for part in path)


class Flow:
    """du/dt of the module's equation, with a count of the evaluations and the D seen last.

    Args:
        denoiser: gives the noise.
        dtype: in which it is asked; u may be finer.
    """

    def __init__(self, denoiser: Denoiser, dtype: torch.dtype) -> None:
        self.denoiser, self.dtype = in_float32(denoiser), dtype
        self.evaluations = 0
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, t: Tensor, state: State) -> State:
        """The slope of (u,), the shape of u."""
        (u,) = state
        x, sigma, share = coordinates(t, u, self.dtype)
        n = noise(self.denoiser, x, sigma)
        self.evaluations += 1
        self._last = x, sigma, n
        return (share * n.to(u.dtype) - share**2 * u,)

    @property
    def denoised(self) -> Tensor:
        """D as it was last seen: by dopri5, at the end of the last step."""
        if self._last is None:
            raise ValueError("nothing was asked yet")
        x, sigma, n = self._last
        return x - expand(sigma, x) * n


def coordinates(t: Tensor, u: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """X = √(1+σ²) u and σ, (B,), in `dtype`, and ρ; t a number."""
    sigma = t.exp()
    root = (1 + sigma**2).sqrt()
    x = (root * u).to(dtype)
    return x, sigma.to(dtype).expand(len(x)), sigma / root


def torchdiffeq() -> Any:
    """The package of Runge–Kutta rules.

    Raises:
        UserError: it is not installed.
    """
    try:
        import torchdiffeq as package  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            "torchdiffeq",
            "needed to follow the ODE with error control.",
            "Install it: pip install 'scorefield[ode]'",
        ) from error
    return package


def _worst_image(state: State) -> Tensor:
    """The largest root mean square over an image."""
    return torch.stack([part.reshape(len(part), -1).square().mean(1).max().sqrt() for part in state]).max()
