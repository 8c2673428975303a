"""What the objectives cost, in units of one Jacobian product measured the same way.

The unit is Hutchinson's estimate with one direction: one evaluation of the score and one product. The exact
trace makes D products, so its count is D units; its time is given as a share of that. Processor time is
measured, so that other programs do not count.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scorefield import objectives
from scorefield.model import ModelSpec, ScoreModel, ScoreNetwork
from scorefield.networks import MLP, Energy
from scorefield.training import build_model, read_recipe


def run() -> dict[str, Any]:
    """The exact trace of points and images, of a score and an energy, in evaluation and in training."""
    points = ScoreNetwork(MLP(features=16, width=128, activation="softplus"))
    recipe = read_recipe("default", ["network.widths=[16, 32]"])
    images = build_model(recipe, (1, 8, 8))
    energy = ScoreModel(Energy(images.network), images.parameterization, ModelSpec(shape=images.shape))
    x = torch.randn(8, 1, 8, 8)
    return {
        "points, D = 16, batch 128": exact(points, torch.randn(128, 16)),
        "images, D = 64, batch 8": exact(images, x),
        "images, D = 64, batch 8, memory 4 MiB": exact(images, x, memory=2**22),
        "energy of images, D = 64, batch 4": exact(energy, x[:4]),
        "units of the others, D = 64, batch 8": others(images, x),
    }


def exact(model: torch.nn.Module, x: Tensor, *, memory: int = 2**30) -> dict[str, float]:
    """Time of the exact trace over D times the time of one product, evaluated and trained."""
    whole = partial(objectives.explicit_score_matching, memory=memory)
    shares: dict[str, float] = {}
    for name, training in {"evaluation": False, "training": True}.items():
        shares[name] = _seconds(whole, model, x, training, 3) / (x[0].numel() * _seconds(_one, model, x, training, 15))
    return shares


def others(model: torch.nn.Module, x: Tensor) -> dict[str, float]:
    """Time of a training step's gradient by each objective, in units of one product's."""
    generator = torch.Generator().manual_seed(0)
    kinds: dict[str, Callable[..., Tensor]] = {
        "denoising": partial(objectives.denoising_score_matching, generator=generator),
        "sliced, 4 projections": partial(objectives.sliced_score_matching, projections=4, generator=generator),
        "finite differences": partial(objectives.finite_difference_score_matching, generator=generator),
    }
    unit = _seconds(_one, model, x, True, 15)
    return {name: _seconds(loss, model, x, True, 15) / unit for name, loss in kinds.items()}


def _one(model: torch.nn.Module, x: Tensor, sigma: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return objectives.hutchinson_score_matching(model, x, sigma, generator=generator)


def _seconds(loss: Callable[..., Tensor], model: torch.nn.Module, x: Tensor, training: bool, runs: int) -> float:
    sigma, times = torch.ones(len(x)), list[float]()
    for _ in range(runs + 1):
        start = time.process_time()
        with torch.set_grad_enabled(training):
            value = loss(model, x, sigma).mean()
        if training:
            value.backward()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])  # the first run warms up
