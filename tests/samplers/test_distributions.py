"""Every sampler draws from p, in few dimensions and in many, from a Gaussian and from a mixture of two.

The start is an exact draw of p(·; σ_max), so that only the sampler can err. Four expectations have closed forms: along
the line that joins the modes the coordinate t, its square about the mean and the weight of the upper mode; across it
the mean square of all other coordinates. An estimate may be off by four standard errors of n draws, and by the bias of
the discretization, in parts of the variance: at most 2 % of a rule of second order on 40 noise levels, 4 % of one of
first order on 200, and of Langevin dynamics with a step of this size.
"""

import math

import pytest
import torch

from oracles import seeded
from scorefield import samplers
from scorefield.distributions import GaussianMixture
from scorefield.schedules import geometric, karras

from .helpers import run

HIGHEST = 5.0
CHURN = {"churn": 5.0, "churn_min": 0.05, "churn_max": 50.0}
SHORT, LONG = karras(HIGHEST, 0.01, 40), karras(HIGHEST, 0.01, 200)
ANNEALED = geometric(1.0, 0.5, 5)  # far below the spread of 0.5 a step in proportion to σ² hardly moves x
STEP = 0.1 * 0.5**2  # b = 0.1 σ²/(s² + σ²) biases by b/4, and 60 updates relax by e^(−60 b)
CASES = [
    (samplers.Heun(), SHORT, 0.02),
    (samplers.Heun(**CHURN), SHORT, 0.02),
    (samplers.DPMSolver2M(), SHORT, 0.02),
    (samplers.DPMSolver2M(eta=1.0), SHORT, 0.02),
    *((samplers.AdamsBashforth(order=order), SHORT, 0.02) for order in (2, 3, 4)),
    (samplers.RungeKutta(), karras(HIGHEST, 0.01, 4), 0.02),
    (samplers.BurnIn(sampler=samplers.Heun(), updates=3), SHORT, 0.02),
    (samplers.Euler(), LONG, 0.04),
    (samplers.Euler(**CHURN), LONG, 0.04),
    (samplers.AdamsBashforth(order=1), LONG, 0.04),
    (samplers.DDIM(), LONG, 0.04),
    (samplers.DDIM(eta=0.5), LONG, 0.04),
    (samplers.Ancestral(), LONG, 0.04),
    (samplers.Ancestral(variance="forward"), LONG, 0.04),
    (samplers.Ancestral(variance="reverse-diffusion"), LONG, 0.04),
    (samplers.ConsistentAnnealed(rate=2.0), LONG, 0.04),
    (samplers.ConsistentAnnealed(rate=1.2, steps_each=3), SHORT, 0.04),
    (samplers.PredictorCorrector(), LONG, 0.04),
    (samplers.PredictorCorrector(predictor=samplers.DDIM(), updates=2), LONG, 0.04),
    (samplers.PredictorCorrector(predictor=samplers.Heun()), SHORT, 0.04),
    (samplers.Langevin(step_size=0.01, steps_each=200), torch.tensor([0.1]), 0.04),
    (samplers.AnnealedLangevin(step_size=STEP, steps_each=60), ANNEALED, 0.04),
    (samplers.AnnealedLangevin(step_size=0.01, steps_each=200, denoise=True), torch.tensor([0.05]), 0.04),
    (samplers.MALA(step_size=STEP, steps_each=60), ANNEALED, 0.04),
]


def distribution(name, dimensions):
    """N(0.7, 0.5²) in every coordinate, or two modes 2.4 apart along the diagonal, of std 0.5; and the diagonal."""
    line = torch.ones(dimensions) / math.sqrt(dimensions)
    if name == "gaussian":
        return GaussianMixture(torch.ones(1), 0.7 * torch.ones(1, dimensions), torch.tensor([0.25])), line
    means = torch.tensor([[-0.6], [1.8]]) * line
    return GaussianMixture(torch.tensor([0.4, 0.6]), means, torch.tensor([0.25, 0.25])), line


def expectations(modes, weights, variance):
    """Mean and variance of t, (t − mean)² and [t > half-way] under Σ w_k N(m_k, v), by quadrature."""
    t = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    density = sum(w * torch.exp(-((t - m) ** 2) / (2 * variance)) for w, m in zip(weights, modes, strict=True))
    density = density / density.sum()
    mean = (density * t).sum()
    values = [t, (t - mean) ** 2, (t > modes.mean()).double()]
    return [(float((density * f).sum()), float((density * f**2).sum() - (density * f).sum() ** 2)) for f in values]


PLACES = [("mixture", 8), *(
    pytest.param(name, dimensions, marks=pytest.mark.slow)
    for name in ("gaussian", "mixture") for dimensions in (1, 2, 8, 128) if (name, dimensions) != ("mixture", 8)
)]  # fmt: skip


FIRST = {
    type(sampler): i for i, (sampler, *_) in reversed([*enumerate(CASES)])
}  # of each kind; its other forms are slow


@pytest.mark.parametrize(("name", "dimensions"), PLACES)
@pytest.mark.parametrize(
    ("sampler", "sigmas", "bias"),
    [
        pytest.param(*case, marks=() if i in FIRST.values() else pytest.mark.slow, id=f"{type(case[0]).__name__}-{i}")
        for i, case in enumerate(CASES)
    ],
)
def test_every_sampler_draws_the_distribution(sampler, sigmas, bias, name, dimensions):
    if isinstance(sampler, samplers.RungeKutta):
        pytest.importorskip("torchdiffeq")
    p, line = distribution(name, dimensions)
    n, generator = 2000 if dimensions < 100 else 250, seeded(1)
    x = p.sample(n, generator=generator)
    start = x + float(sigmas[0]) * torch.randn(x.shape, generator=generator)
    end = run(sampler, p, start, sigmas)[0]
    last = 0.0 if getattr(sampler, "denoise", False) else float(sigmas[-1])
    modes, spread = p.means @ line, 0.25 + last**2
    (mean, variance), (square, fourth), (weight, binary) = expectations(modes.double(), p.weights.double(), spread)
    t = end @ line
    assert float(t.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / n) + bias * math.sqrt(square))
    about = (t - mean).square()
    assert float(about.mean()) == pytest.approx(square, abs=4 * math.sqrt(fourth / n) + bias * square)
    upper = float((t > modes.mean()).float().mean())
    assert upper == pytest.approx(weight, abs=4 * math.sqrt(binary / n) + bias)
    if dimensions > 1:
        across = (end - p.weights @ p.means).square().sum(1) - about
        error = 4 * math.sqrt(2 / n / (dimensions - 1))
        assert float(across.mean()) / (dimensions - 1) == pytest.approx(spread, rel=error + bias)


def test_the_list_has_every_sampler_of_the_package():
    public = [getattr(samplers, name) for name in samplers.__all__]
    found = {kind for kind in public if hasattr(kind, "iterate") and hasattr(kind, "__dataclass_fields__")}
    assert found == {type(sampler) for sampler, *_ in CASES}
