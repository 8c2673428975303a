"""A score model: precision, conditions, and the three forms of the score."""

import pytest
import torch
from torch import nn

from oracles import Answers, Gaussian, float64_mixture, lively, seeded, tiny_model
from scorefield.errors import UserError
from scorefield.model import (
    Condition,
    HasLogDensity,
    ModelSpec,
    PredictsScore,
    RestorationSpec,
    ScoreModel,
    ScoreNetwork,
    check_sigmas,
    expand,
    in_float32,
    noise,
    score,
)
from scorefield.networks import MLP, Energy, UNet
from scorefield.parameterization import (
    EDM,
    NCSN,
    NCSNv2,
    Regression,
    VariancePreserving,
)


class Spy(nn.Module):
    """A 1×1 convolution that remembers the number format of what it gave."""

    def __init__(self):
        super().__init__()
        self.conv, self.gave = nn.Conv2d(1, 1, 1), None

    def forward(self, x, label, source=None):
        output = self.conv(x)
        self.gave = output.dtype
        return output


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_half_precision_stays_inside_the_network(precision):
    spy = Spy()
    model = ScoreModel(spy, EDM(), ModelSpec(shape=(1, 4, 4)), precision=precision)
    x = torch.randn(2, 1, 4, 4, generator=seeded())
    for function in (model, model.noise):
        assert function(x, torch.tensor([0.1, 2.0])).dtype == torch.float32
        assert spy.gave == precision


def test_in_half_precision_the_skip_still_carries_every_bit():
    model = ScoreModel(Answers(torch.zeros(1, 1, 1, 2)), EDM(), ModelSpec(shape=(1, 1, 2)), precision=torch.bfloat16)
    x, sigma = torch.tensor([[[[0.123456789, -7.654321]]]]), torch.tensor([0.01])
    expected = x * 0.25 / (0.25 + 1e-4)
    torch.testing.assert_close(model(x, sigma), expected, rtol=4 * 2**-23, atol=0)  # four roundings


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_precisions_agree(precision):
    model = tiny_model()
    x, sigma = torch.randn(3, 1, 8, 8, generator=seeded()), torch.tensor([0.05, 0.5, 5.0])
    with torch.no_grad():
        exact = model(x, sigma)
        atol = 0 if precision == torch.float32 else 0.05
        torch.testing.assert_close(model.with_precision(precision)(x, sigma), exact, rtol=0, atol=atol)  # measured 0.02


def test_another_precision_shares_the_network_and_leaves_the_model_as_it_is():
    model = tiny_model()
    half = model.with_precision(torch.bfloat16)
    assert (model.precision, half.precision) == (torch.float32, torch.bfloat16)
    assert half.network is model.network and half.spec is model.spec and not half.training
    given = half.given(Condition(source=torch.zeros(1, 1, 8, 8)))
    assert in_float32(given).model.precision == torch.float32
    assert in_float32(given).condition is given.condition
    assert given.model.precision == torch.bfloat16


def test_denoised_and_noise_make_up_the_image():
    model = tiny_model()
    x, sigma = torch.randn(3, 1, 8, 8, generator=seeded()), torch.tensor([0.05, 0.5, 5.0])
    with torch.no_grad():
        whole = model(x, sigma) + expand(sigma, x) * model.noise(x, sigma)
    torch.testing.assert_close(whole, x, rtol=1e-5, atol=1e-5)


def test_noise_and_score_of_a_plain_function():
    x, sigma = torch.randn(4, 1, 2, 2, generator=seeded()), torch.tensor([0.1, 0.5, 1.0, 8.0])
    s = expand(sigma, x)
    exact = -(x - 0.7) / (0.25 + s**2)  # ∇ log N(x; 0.7, 0.5² + σ²)
    torch.testing.assert_close(score(Gaussian(), x, sigma), exact, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(noise(Gaussian(), x, sigma), -s * exact, rtol=1e-4, atol=1e-5)


def test_noise_and_score_of_a_model_take_no_detour():
    output = torch.randn(2, 1, 2, 2, generator=seeded())
    model = ScoreModel(Answers(output), VariancePreserving(), ModelSpec(shape=(1, 2, 2)))
    x, sigma = 1e6 * torch.ones(2, 1, 2, 2), torch.tensor([1e-3, 1.0])
    assert torch.equal(noise(model, x, sigma), output)
    assert torch.equal(score(model, x, sigma), -output / expand(sigma, x))


def condition(mask=True):
    masked = torch.zeros(2, 1, 4, 4)
    masked[..., 1:3, 2:] = 1
    return Condition(source=torch.randn(2, 1, 4, 4, generator=seeded(7)), mask=masked if mask else None)


def test_known_pixels_reach_the_network_clean_after_the_input_scaling():
    network, given = Answers(torch.zeros(2, 1, 4, 4)), condition()
    x, sigma = 50 * torch.randn(2, 1, 4, 4, generator=seeded()), torch.tensor([3.0, 80.0])
    ScoreModel(network, VariancePreserving(), ModelSpec(shape=(1, 4, 4)))(x, sigma, given)
    shown, _, source = network.shown
    masked = given.mask.bool()
    assert torch.equal(shown[~masked], given.source[~masked])
    torch.testing.assert_close(shown[masked], (x / (1 + expand(sigma, x) ** 2).sqrt())[masked])
    assert torch.equal(source, given.source)


def test_without_a_mask_the_image_is_shown_as_it_is():
    network = Answers(torch.zeros(2, 1, 4, 4))
    x = torch.randn(2, 1, 4, 4, generator=seeded())
    ScoreModel(network, VariancePreserving(predicts="x0"), ModelSpec(shape=(1, 4, 4)))(
        x, torch.full((2,), 1e-9), condition(mask=False)
    )
    assert torch.equal(network.shown[0], x)


@pytest.mark.parametrize("seen", ["unit", "wiener"])
def test_a_residual_of_which_nothing_is_learned_yet_is_the_linear_posterior(seen):
    """For x0 = y + r, r ~ N(0, s²): E[x0 | x, y] = y + s²/(s² + σ²) (x − y), where the network gives 0."""
    s, y = 0.2, torch.randn(3, 1, 2, 2, generator=seeded(1))
    model = ScoreModel(
        Answers(torch.zeros(3, 1, 2, 2)), EDM(sigma_data=s, input=seen, residual=True), ModelSpec(shape=(1, 2, 2))
    )
    x, sigma = torch.randn(3, 1, 2, 2, generator=seeded(2)), torch.tensor([0.01, 0.2, 5.0])
    weight = expand(s**2 / (s**2 + sigma**2), x)
    given = model.given(Condition(source=y))
    torch.testing.assert_close(given(x, sigma), y + weight * (x - y))
    torch.testing.assert_close(given.noise(x, sigma), (x - given(x, sigma)) / expand(sigma, x))


def test_the_network_of_a_residual_sees_what_is_left_to_add_and_known_pixels_clean():
    network = Answers(torch.ones(1, 1, 1, 2))
    model = ScoreModel(network, EDM(sigma_data=0.2, residual=True), ModelSpec(shape=(1, 1, 2)))
    x, y = torch.tensor([[[[0.5, 0.7]]]]), torch.tensor([[[[0.1, 0.3]]]])
    sigma = torch.tensor([0.2])
    condition = Condition(source=y, mask=torch.tensor([[[[1.0, 0.0]]]]))
    seen = torch.tensor([[[[0.4 / (0.2 * 2**0.5), 0.3]]]])
    torch.testing.assert_close(model(x, sigma, condition), y + 0.5 * (x - y) + 0.2 / 2**0.5 * torch.ones_like(x))
    torch.testing.assert_close(network.shown[0], seen)


def test_a_regression_may_learn_the_residual():
    model = ScoreModel(Answers(torch.full((1, 1, 1, 2), 0.25)), Regression(residual=True), ModelSpec(shape=(1, 1, 2)))
    x, y, sigma = torch.tensor([[[[9.0, -9.0]]]]), torch.tensor([[[[0.1, 0.3]]]]), torch.tensor([2.0])
    given = model.given(Condition(source=y))
    torch.testing.assert_close(given(x, sigma), y + 0.25)
    torch.testing.assert_close(given.noise(x, sigma), (x - y - 0.25) / 2)


def test_a_model_given_a_condition_is_the_model_with_that_condition():
    torch.manual_seed(0)
    network = lively(UNet(channels=1, source_channels=1, widths=(8,)))
    model = ScoreModel(network, EDM(), ModelSpec(shape=(1, 4, 4)))
    x, sigma = torch.randn(2, 1, 4, 4, generator=seeded()), torch.tensor([0.3, 3.0])
    known = condition()
    other = Condition(source=known.source + 1, mask=known.mask)
    with torch.no_grad():
        bound = model.given(known)
        assert torch.equal(bound(x, sigma), model(x, sigma, known))
        assert torch.equal(noise(bound, x, sigma), model.noise(x, sigma, known))
        assert not torch.allclose(bound(x, sigma), model(x, sigma, other))


@pytest.mark.parametrize("schedule", [[80.0, 1.0, 0.002, 0.0], [80.05, 0.002], [1.0]])
def test_a_schedule_within_the_models_levels_passes(schedule):
    check_sigmas(tiny_model(), torch.tensor(schedule))


@pytest.mark.parametrize("schedule", [[81.0, 1.0], [80.0, 0.001], [1.0, 2.0], [0.0], [], [[1.0]]])
def test_a_schedule_outside_or_none_at_all_is_refused(schedule):
    with pytest.raises(UserError, match="sigmas"):
        check_sigmas(tiny_model(), torch.tensor(schedule))


class Recorder(nn.Module):
    """A smooth network of points in float64 that heeds its label."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(3, 3, generator=seeded(4), dtype=torch.float64))

    def forward(self, x, label, source=None):
        return torch.tanh(x @ self.matrix.T) * (1 + label.cos()[:, None])


FAMILIES = [
    EDM(sigma_data=0.7),
    VariancePreserving(),
    VariancePreserving(predicts="x0"),
    VariancePreserving(predicts="velocity"),
    NCSN(sigmas=(5.0, 1.0, 0.2)),
    NCSNv2(),
]


@pytest.mark.parametrize("form", ["inner", "distance"])
@pytest.mark.parametrize("family", FAMILIES, ids=[f.kind for f in FAMILIES])
def test_the_score_is_the_slope_of_the_log_density(family, form):
    model = ScoreModel(Energy(Recorder(), form=form), family, ModelSpec(shape=(3,)))
    x = torch.randn(4, 3, generator=seeded(), dtype=torch.float64)
    sigma, h = torch.tensor([0.1, 0.5, 2.0, 6.0], dtype=torch.float64), 1e-5
    found = score(model, x, sigma).detach()
    for j, way in enumerate(torch.eye(3, dtype=x.dtype)):
        with torch.no_grad():
            rise = model.log_density(x + h * way, sigma) - model.log_density(x - h * way, sigma)
        torch.testing.assert_close(found[:, j], rise / (2 * h), rtol=1e-5, atol=1e-5, check_dtype=False)
    assert found.abs().mean() > 0.01  # so that a wrong sign would show


def test_a_density_of_images_is_one_number_each():
    model = ScoreModel(lively(Energy(UNet(channels=1, widths=(8,)))), EDM(), ModelSpec(shape=(1, 4, 4)))
    x, sigma = torch.randn(3, 1, 4, 4, generator=seeded()), torch.tensor([0.1, 1.0, 9.0])
    assert model.log_density(x, sigma).shape == (3,)


@pytest.mark.parametrize("model", [tiny_model(), ScoreNetwork(MLP(features=2, width=8))], ids=["model", "field"])
def test_a_score_without_an_energy_has_no_density(model):
    with pytest.raises(UserError, match="no density"):
        model.log_density(torch.zeros(1, *getattr(model, "shape", (2,))), torch.ones(1))


def test_a_score_field_is_its_network_whatever_the_level():
    network = Answers(torch.randn(2, 3, generator=seeded()))
    field, x = ScoreNetwork(network), torch.randn(2, 3, generator=seeded(1))
    for sigma in (torch.tensor([0.0, 0.0]), torch.tensor([0.5, 2.0])):
        s = sigma[:, None]
        assert torch.equal(score(field, x, sigma), network.output)
        assert network.shown[0] is x and network.shown[2] is None
        assert torch.equal(network.shown[1], torch.zeros(2))
        torch.testing.assert_close(field(x, sigma), x + s**2 * network.output)
        assert torch.equal(noise(field, x, sigma), -s * network.output)


def test_the_density_of_a_score_field_is_minus_its_energy():
    field, x = ScoreNetwork(Energy(Recorder())), torch.randn(2, 3, generator=seeded(), dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    assert torch.equal(field.log_density(x, zero), -field.network.energy(x, zero))


def test_a_density_with_a_known_score_gives_it_without_a_detour():
    mixture, x = float64_mixture(), torch.randn(3, 1, 1, 2, generator=seeded(), dtype=torch.float64)
    assert isinstance(mixture, PredictsScore) and isinstance(mixture, HasLogDensity)
    zero, sigma = torch.zeros(3, dtype=x.dtype), torch.tensor([0.3, 1.0, 4.0], dtype=x.dtype)
    assert torch.equal(score(mixture, x, zero), mixture.score(x.flatten(1)).reshape(x.shape))
    detour = (mixture(x, sigma) - x) / expand(sigma, x) ** 2
    torch.testing.assert_close(score(mixture, x, sigma), detour)
    assert mixture.log_density(x, zero).shape == (3,)


@pytest.mark.parametrize("sigma", [0.5, torch.tensor(0.5)])
def test_one_noise_level_serves_all_images(sigma):
    model, x = tiny_model(), torch.randn(3, 1, 8, 8, generator=seeded())
    each = torch.full((3,), 0.5)
    assert torch.equal(model(x, sigma), model(x, each))
    assert torch.equal(model.given(Condition())(x, sigma), model(x, each))
    assert torch.equal(score(model, x, sigma), score(model, x, each))
    assert torch.equal(noise(model, x, sigma), noise(model, x, each))
    assert torch.equal(score(Gaussian(), x, sigma), score(Gaussian(), x, each))


@pytest.mark.parametrize(
    "settings",
    [
        {"tile": 48},
        {"tile": 0},
        {"tile": -64},
        {"tile": 2**40},
        {"overlap": 8},
        {"overlap": 64},
        {"rim": 0},
        {"steps": 0},
    ],
)
def test_every_number_of_a_restoration_card_is_bounded(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must lie"):
        RestorationSpec(tasks=("inpaint",), **settings)
