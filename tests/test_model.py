"""A score model: precision, conditions, and the three clothes of the score."""

import pytest
import torch
from torch import nn

from oracles import Answers, Gaussian, lively, seeded, tiny_model
from scorefield.errors import UserError
from scorefield.model import Condition, ScoreModel, check_sigmas, expand, noise, score
from scorefield.networks import UNet
from scorefield.parameterization import EDM, DataPrediction, NoisePrediction


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
    model = ScoreModel(spy, EDM(), shape=(1, 4, 4), precision=precision)
    x = torch.randn(2, 1, 4, 4, generator=seeded())
    for function in (model, model.noise):
        assert function(x, torch.tensor([0.1, 2.0])).dtype == torch.float32
        assert spy.gave == precision


def test_in_half_precision_the_skip_still_carries_every_bit():
    model = ScoreModel(Answers(torch.zeros(1, 1, 1, 2)), EDM(), shape=(1, 1, 2), precision=torch.bfloat16)
    x, sigma = torch.tensor([[[[0.123456789, -7.654321]]]]), torch.tensor([0.01])
    torch.testing.assert_close(model(x, sigma), x * 0.25 / (0.25 + 1e-4), rtol=2e-7, atol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_precisions_agree(precision):
    model = tiny_model()
    x, sigma = torch.randn(3, 1, 8, 8, generator=seeded()), torch.tensor([0.05, 0.5, 5.0])
    with torch.no_grad():
        exact = model(x, sigma)
        model.precision = precision
        atol = 0 if precision == torch.float32 else 0.05
        torch.testing.assert_close(model(x, sigma), exact, rtol=0, atol=atol)  # measured 0.02


def test_denoised_and_noise_make_up_the_picture():
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
    model = ScoreModel(Answers(output), NoisePrediction(), shape=(1, 2, 2))
    x, sigma = 1e6 * torch.ones(2, 1, 2, 2), torch.tensor([1e-3, 1.0])
    assert torch.equal(noise(model, x, sigma), output)
    assert torch.equal(score(model, x, sigma), -output / expand(sigma, x))


def condition(mask=True):
    hole = torch.zeros(2, 1, 4, 4)
    hole[..., 1:3, 2:] = 1
    return Condition(source=torch.randn(2, 1, 4, 4, generator=seeded(7)), mask=hole if mask else None)


def test_known_pixels_reach_the_network_clean_after_the_input_scaling():
    network, given = Answers(torch.zeros(2, 1, 4, 4)), condition()
    x, sigma = 50 * torch.randn(2, 1, 4, 4, generator=seeded()), torch.tensor([3.0, 80.0])
    ScoreModel(network, NoisePrediction(), shape=(1, 4, 4))(x, sigma, given)
    shown, _, source = network.shown
    hole = given.mask.bool()
    assert torch.equal(shown[~hole], given.source[~hole])
    torch.testing.assert_close(shown[hole], (x / (1 + expand(sigma, x) ** 2).sqrt())[hole])
    assert torch.equal(source, given.source)


def test_without_a_mask_the_picture_is_shown_as_it_is():
    network = Answers(torch.zeros(2, 1, 4, 4))
    x = torch.randn(2, 1, 4, 4, generator=seeded())
    ScoreModel(network, DataPrediction(), shape=(1, 4, 4))(x, torch.full((2,), 1e-9), condition(mask=False))
    assert torch.equal(network.shown[0], x)


def test_a_model_given_a_condition_is_the_model_with_that_condition():
    torch.manual_seed(0)
    network = lively(UNet(channels=1, source_channels=1, widths=(8,)))
    model = ScoreModel(network, EDM(), shape=(1, 4, 4))
    x, sigma = torch.randn(2, 1, 4, 4, generator=seeded()), torch.tensor([0.3, 3.0])
    known = condition()
    other = Condition(source=known.source + 1, mask=known.mask)
    with torch.no_grad():
        bound = model.given(known)
        assert torch.equal(bound(x, sigma), model(x, sigma, known))
        assert torch.equal(noise(bound, x, sigma), model.noise(x, sigma, known))
        assert not torch.allclose(bound(x, sigma), model(x, sigma, other))


@pytest.mark.parametrize("ladder", [[80.0, 1.0, 0.002, 0.0], [80.05, 0.002], [1.0]])
def test_a_ladder_within_the_models_levels_passes(ladder):
    check_sigmas(tiny_model(), torch.tensor(ladder))


@pytest.mark.parametrize("ladder", [[81.0, 1.0], [80.0, 0.001], [1.0, 2.0], [0.0], [], [[1.0]]])
def test_a_ladder_outside_or_none_at_all_is_refused(ladder):
    with pytest.raises(UserError, match="sigmas"):
        check_sigmas(tiny_model(), torch.tensor(ladder))
