"""The parts: the exact trace and its chunks, directions, finite differences, and gradients in the weights."""

import math

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from objectives.fields import OF_DENSITIES, OF_SCORES, Bent, BentDensity, Net, noisy
from oracles import lively, seeded
from scorefield.errors import UserError
from scorefield.model import Condition, ModelSpec, ScoreModel, ScoreNetwork, score
from scorefield.networks import Energy, UNet
from scorefield.objectives import (
    explicit_score_matching,
    finite_difference_density_matching,
    finite_difference_score_matching,
    hutchinson_score_matching,
    sliced_score_matching,
)
from scorefield.parameterization import EDM


def half_square(s):
    return s.flatten(1).square().sum(1) / 2


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_the_exact_trace_is_the_laplacian_of_a_mixtures_log_density(level):
    # Δ log p = Σ_k r_k (‖Λ_k (μ_k − x)‖² − tr Λ_k) − ‖∇ log p‖², with Λ_k the noisy component's precision
    mixture, x, sigma = noisy(50, level)
    points = x.flatten(1)
    precision = torch.linalg.inv(mixture.covariances + level**2 * torch.eye(2, dtype=x.dtype))
    pull = torch.einsum("kij,bkj->bki", precision, mixture.means - points[:, None])
    distance = torch.einsum("bki,bki->bk", pull, mixture.means - points[:, None])
    joint = mixture.weights.log() + precision.logdet() / 2 - distance / 2
    bow = pull.square().sum(-1) - precision.diagonal(dim1=1, dim2=2).sum(1)
    s = mixture.score(points, sigma)
    laplacian = (joint.softmax(1) * bow).sum(1) - s.square().sum(1)
    losses = explicit_score_matching(mixture, x, sigma)
    torch.testing.assert_close(losses - half_square(s), laplacian, rtol=1e-9, atol=1e-9)


def image_model(wrap=lambda network: network, *, source=0):
    torch.manual_seed(0)
    network = UNet(channels=1, source_channels=source, widths=(8, 8), attention=(1,), head_width=4)
    return ScoreModel(wrap(lively(network)), EDM(), ModelSpec(shape=(1, 4, 4))).eval()


def images(n=2, height=4):
    return torch.randn(n, 1, height, 4, generator=seeded()), torch.linspace(0.4, 1.5, n)


@pytest.mark.parametrize("wrap", [lambda network: network, Energy], ids=["score", "energy"])
def test_the_trace_of_an_image_network_is_that_of_its_whole_jacobian(wrap):
    model, (x, sigma) = image_model(wrap), images(height=2)
    losses = explicit_score_matching(model, x, sigma)
    for i in range(len(x)):
        whole = torch.autograd.functional.jacobian(
            lambda pixels, i=i: score(model, pixels.reshape(1, 1, 2, 4), sigma[i : i + 1]).flatten(),
            x[i].flatten(),
        )
        s = score(model, x[i : i + 1], sigma[i : i + 1])
        torch.testing.assert_close(losses[i : i + 1], whole.trace() + half_square(s), rtol=1e-4, atol=1e-3)


def test_chunks_and_memory_change_neither_the_value_nor_the_gradient():
    model, (x, sigma) = image_model(), images(height=2)

    def measure(**settings):
        model.zero_grad()
        losses = explicit_score_matching(model, x, sigma, **settings)
        (losses * torch.tensor([1.0, -0.5])).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        return losses.detach(), gradient

    losses, gradient = measure()
    assert gradient.norm() > 1
    for settings in ({"chunk": 5}, {"memory": 1}, {"chunk": 7, "memory": 1}):
        again, slope = measure(**settings)
        torch.testing.assert_close(again, losses, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(slope, gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))
        with torch.no_grad():
            unlearned = explicit_score_matching(model, x, sigma, **settings)
        torch.testing.assert_close(unlearned, losses, rtol=1e-4, atol=1e-3)


def test_a_memory_bound_lets_go_of_the_graphs():
    model, (x, sigma) = image_model(), images()

    def held(**settings):
        kept = {}

        def see(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with saved_tensors_hooks(see, lambda tensor: tensor):
            losses = explicit_score_matching(model, x, sigma, **settings)
        assert losses.requires_grad
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())

    assert held(memory=1) < held() / 4


WEIGHTED = {**OF_SCORES, **OF_DENSITIES}


@pytest.mark.parametrize("wrap", [lambda network: network, Energy], ids=["score", "energy"])
@pytest.mark.parametrize("name", WEIGHTED)
def test_the_gradient_in_the_weights_matches_central_differences(name, wrap):
    if name in OF_DENSITIES and wrap is not Energy:
        pytest.skip("a density needs an energy")
    model = ScoreNetwork(wrap(Net()))
    x = torch.randn(4, 3, generator=seeded(5), dtype=torch.float64)
    sigma = torch.zeros(4, dtype=torch.float64)
    losses = WEIGHTED[name](model, x, sigma)
    weights = list(model.parameters())
    gradients = torch.autograd.grad(losses.sum(), weights)
    ways = [torch.randn(w.shape, generator=seeded(6), dtype=w.dtype) for w in weights]

    def moved(h):
        with torch.no_grad():
            for weight, way in zip(weights, ways, strict=True):
                weight += h * way
            total = float(WEIGHTED[name](model, x, sigma).sum())
            for weight, way in zip(weights, ways, strict=True):
                weight -= h * way
        return total

    expected = (moved(1e-5) - moved(-1e-5)) / 2e-5
    slope = sum(float((g * way).sum()) for g, way in zip(gradients, ways, strict=True))
    assert slope == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian", "sphere"])
def test_directions_have_the_identity_as_their_second_moment(distribution):
    # s(x) = A x: vᵀAv has the mean tr A and (vᵀs)² the mean ‖s‖²
    matrix = torch.tensor([[2.0, 1.0, -3.0], [0.5, -1.0, 0.0], [4.0, -2.0, 3.0]], dtype=torch.float64)

    class Linear:
        def score(self, x, sigma):
            return x @ matrix.T

    n = 40_000
    x = torch.tensor([[1.0, -0.5, 2.0]], dtype=torch.float64).expand(n, 3)
    s = x[:1] @ matrix.T
    for reduced in (True, False):
        losses = sliced_score_matching(
            Linear(), x, torch.zeros(n), distribution=distribution, variance_reduced=reduced, generator=seeded(7)
        )
        error = losses.detach() - matrix.trace() - half_square(s)
        assert abs(float(error.mean() / (error.std() / math.sqrt(n)))) < 4
        assert float(error.std() / math.sqrt(n)) < 0.02 * float(matrix.trace() + half_square(s))


@pytest.mark.parametrize("distribution", ["rademacher", "sphere"])
def test_where_the_jacobian_is_the_identity_directions_of_fixed_length_are_exact(distribution):
    class Minus:
        def score(self, x, sigma):
            return -x

    x = torch.randn(6, 2, 3, generator=seeded(), dtype=torch.float64)
    exact = half_square(x) - 6
    losses = hutchinson_score_matching(Minus(), x, torch.zeros(6), distribution=distribution, generator=seeded())
    torch.testing.assert_close(losses, exact)


def order(error):
    """By how much the error falls when the step is halved."""
    return float((error(0.08) / error(0.04)).detach())


def test_finite_differences_of_scores_are_of_second_order():
    mixture, x, sigma = noisy(200, 0.3)
    # the same seed draws the same directions
    exact = sliced_score_matching(mixture, x, sigma, distribution="sphere", generator=seeded(8))

    def error(step):
        near = finite_difference_score_matching(mixture, x, sigma, step=step, generator=seeded(8))
        return (near - exact).abs().mean()

    assert order(error) == pytest.approx(4, rel=0.05)
    assert error(0.04) < 1e-2 * exact.abs().mean()


def test_finite_differences_of_densities_are_of_second_order():
    mixture, x, sigma = noisy(200, 0.3)
    exact = sliced_score_matching(mixture, x, sigma, distribution="sphere", variance_reduced=False, generator=seeded(8))

    def error(step):
        density = BentDensity(mixture)
        near = finite_difference_density_matching(density, x, sigma, step=step, generator=seeded(8))
        return (near - exact).abs().mean()

    assert order(error) == pytest.approx(4, rel=0.05)
    assert error(0.04) < 1e-2 * exact.abs().mean()


@pytest.mark.parametrize("name", OF_SCORES)
def test_a_model_given_a_condition_has_objectives_too(name):
    torch.manual_seed(0)
    model, (x, sigma) = image_model(source=1), images(height=2)
    masked = torch.zeros(2, 1, 2, 4)
    masked[..., :2] = 1
    given = model.given(Condition(source=torch.randn(2, 1, 2, 4, generator=seeded(9)), mask=masked))
    other = model.given(Condition(source=torch.zeros(2, 1, 2, 4), mask=masked))
    losses = OF_SCORES[name](given, x, sigma)
    losses.sum().backward()
    assert losses.shape == (2,) and torch.isfinite(losses).all()
    assert not torch.allclose(losses, OF_SCORES[name](other, x, sigma))


@pytest.mark.parametrize("name", [name for name in OF_SCORES if "plain" not in name])
def test_a_constant_score_has_no_trace(name):
    class Constant:
        def score(self, x, sigma):
            return torch.full_like(x, 2.0)

    x = torch.randn(5, 1, 2, 3, generator=seeded(), dtype=torch.float64)
    losses = OF_SCORES[name](Constant(), x, torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(losses, torch.full((5,), 12.0, dtype=torch.float64))


def test_without_gradients_the_losses_carry_no_graph():
    model, (x, sigma) = image_model(), images(height=2)
    for name, objective in OF_SCORES.items():
        with torch.no_grad():
            assert not objective(model, x, sigma).requires_grad, name
        assert objective(model, x, sigma).requires_grad, name


def test_numbers_of_one_image_do_not_reach_another():
    model, (x, sigma) = image_model(), images(3)
    with torch.no_grad():
        both = explicit_score_matching(model, x, sigma)
        alone = torch.cat([explicit_score_matching(model, x[i : i + 1], sigma[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-3)


class Silent(nn.Module):
    """A network that is never evaluated."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x, label, source=None):
        raise AssertionError


def mistakes():
    model = ScoreModel(Silent(), EDM(), ModelSpec(shape=(1, 2, 2)))
    x, one, generator = torch.zeros(2, 1, 2, 2), torch.ones(2), seeded()
    zero, below = torch.tensor([1.0, 0.0]), torch.tensor([1.0, -0.1])
    sliced, finite = sliced_score_matching, finite_difference_score_matching
    dense = finite_difference_density_matching
    return [
        ("sigma", lambda: explicit_score_matching(model, x, zero)),
        ("sigma", lambda: explicit_score_matching(ScoreNetwork(Silent()), x, below)),
        ("chunk", lambda: explicit_score_matching(model, x, one, chunk=0)),
        ("sigma", lambda: sliced(model, x, zero, generator=generator)),
        ("projections", lambda: sliced(model, x, one, projections=0, generator=generator)),
        ("Did you mean `sphere`", lambda: sliced(model, x, one, distribution="spere", generator=generator)),
        ("sigma", lambda: hutchinson_score_matching(model, x, zero, generator=generator)),
        ("sigma", lambda: finite(model, x, zero, generator=generator)),
        ("step", lambda: finite(model, x, one, step=0.0, generator=generator)),
        ("step", lambda: dense(model, x, one, step=float("nan"), generator=generator)),
        ("no density", lambda: dense(model, x, one, generator=generator)),
        ("no density", lambda: dense(ScoreNetwork(Silent()), x, zero, generator=generator)),
    ]


@pytest.mark.parametrize("which", range(len(mistakes())))
def test_a_mistake_is_named_before_any_work(which):
    words, call = mistakes()[which]
    with pytest.raises(UserError, match=words):
        call()


def test_the_bent_score_of_the_tests_is_the_slope_of_the_bent_density():
    mixture, x, sigma = noisy(20, 0.5)
    x = x.requires_grad_()
    t = torch.linspace(-1, 1, 20, dtype=x.dtype)
    density = BentDensity(mixture, scale=0.7, shift=0.2, bend=lambda x: x.flatten(1).square().sum(1) / 2, t=t)
    field = Bent(mixture, scale=0.7, shift=0.2, bend=lambda x: x, t=t)
    (slope,) = torch.autograd.grad(density.log_density(x, sigma).sum(), x)
    torch.testing.assert_close(slope, field.score(x, sigma))
