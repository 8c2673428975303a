"""The losses of a recipe's objectives are one and the same number in expectation."""

import math

import pytest
import torch
from torch import nn

from scorefield.model import ModelSpec, ScoreModel
from scorefield.networks import MLP
from scorefield.objectives import denoising_score_matching, output_weight
from scorefield.parameterization import EDM, VariancePreserving
from scorefield.training.losses import DenoisingObjective, ExplicitObjective, PSNRObjective, SlicedObjective


def points_model(parameterization, seed=0):
    """A network of points that is no score of anything, but far from nothing."""
    torch.manual_seed(seed)
    network = MLP(features=3, width=16, depth=1)
    nn.init.normal_(network.last.weight, std=0.5)
    return ScoreModel(network, parameterization, ModelSpec(shape=(3,)))


@pytest.mark.parametrize(
    "objective",
    [
        ExplicitObjective(),
        SlicedObjective(),
        SlicedObjective(variance_reduced=False),
        SlicedObjective(distribution="gaussian", projections=2),
        SlicedObjective(distribution="sphere"),
    ],
    ids=repr,
)
def test_every_objective_estimates_the_denoising_loss(objective):
    """E‖σs + n‖²/d = (2σ²/d) E[tr ∇s + ½‖s‖²] + 1: the mean difference on the same noise is 0."""
    model = points_model(VariancePreserving())
    x0 = torch.randn(6000, 3, generator=torch.Generator().manual_seed(1))
    sigma = torch.full((6000,), 0.7)
    plain = DenoisingObjective(weight="uniform")
    one, other = (
        kind(model, x0, sigma, generator=torch.Generator().manual_seed(2)).detach() for kind in (plain, objective)
    )
    difference = one - other
    assert difference.mean().abs() < 4 * difference.std() / 6000**0.5
    assert one.mean() > 1.05  # and the trace is not negligible: ignoring it would be seen
    assert other.std() < 20


def test_denoising_is_the_librarys_with_the_recipes_power_and_weight():
    model = points_model(EDM())
    x0 = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    sigma = torch.linspace(0.1, 2, 8)
    for p in (1.0, 2.0):
        expected = denoising_score_matching(model, x0, sigma, p=p, generator=torch.Generator().manual_seed(2))
        for weight, factor in (("uniform", 1), ("output", output_weight(model, sigma, p=p))):
            objective = DenoisingObjective(p=p, weight=weight)
            ours = objective(model, x0, sigma, generator=torch.Generator().manual_seed(2))
            torch.testing.assert_close(ours, expected * factor, rtol=1e-6, atol=0)


def test_the_weight_of_the_other_objectives_is_the_variance():
    """With a score of zero the loss is 1 at every σ; with s = −x/σ² it is known in closed form."""

    class Minus(nn.Module):
        def forward(self, x, label, source=None):
            return x / (1 + 0 * label[:, None])

    model = ScoreModel(Minus(), VariancePreserving(), ModelSpec(shape=(3,)))
    x0 = torch.zeros(4, 3)
    sigma = torch.tensor([0.1, 0.5, 1.0, 4.0])
    made = ExplicitObjective()(model, x0, sigma, generator=torch.Generator().manual_seed(2))
    n = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    scale = 1 / (1 + sigma**2).sqrt()  # noise F(x scale) = σ n scale: s = −n scale, tr ∇s = −3 scale/σ
    expected = 2 * sigma**2 / 3 * (-3 * scale / sigma + (n**2).sum(1) * scale**2 / 2) + 1
    torch.testing.assert_close(made.detach(), expected, rtol=1e-4, atol=1e-5)


def test_the_psnr_objective_is_the_psnr_but_for_the_floor():
    model = points_model(EDM())
    x0 = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    sigma = torch.linspace(0.1, 2, 8)
    loss = PSNRObjective(floor=1e-3)(model, x0, sigma, generator=torch.Generator().manual_seed(2)).detach()
    noise = torch.randn(8, 3, generator=torch.Generator().manual_seed(2))
    error = (model(x0 + sigma[:, None] * noise, sigma) - x0).square().mean(1).detach()
    psnr = 10 * torch.log10(4 / error)  # of values from −1 to 1
    expected = 20 * math.log10(255 / 1e-3) - 10 / math.log(10) * loss
    torch.testing.assert_close(psnr, expected, rtol=0, atol=1e-3)  # 255² · MSE ≫ floor², float32 of numbers up to 110
