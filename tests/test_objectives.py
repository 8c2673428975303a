"""Denoising score matching against closed-form minima and gradients."""

import math

import pytest
import torch

from oracles import Answers, Gaussian, float32_mixture, seeded
from scorefield.errors import UserError
from scorefield.model import Condition, ModelSpec, ScoreModel
from scorefield.objectives import denoising_score_matching, output_weight, schedule_score_matching
from scorefield.parameterization import (
    EDM,
    NCSN,
    NCSNv2,
    VariancePreserving,
)

N = 40_000


def clean(mean=0.7, std=0.5):
    return mean + std * torch.randn(N, 1, 1, 1, generator=seeded(1))


def flipped(denoiser):
    """The denoiser whose score has the wrong sign."""
    return lambda x, sigma: 2 * x - denoiser(x, sigma)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 5.0])
@pytest.mark.parametrize("p", [1, 2])
def test_at_the_exact_denoiser_the_value_is_the_closed_form_minimum(sigma, p):
    def mean_loss(denoiser):
        level = torch.full((N,), sigma)
        losses = denoising_score_matching(denoiser, clean(), level, p=p, generator=seeded(2))
        assert losses.shape == (N,)
        return float(losses.mean())

    def mean_power(variance):
        return variance if p == 2 else math.sqrt(2 * variance / math.pi)

    # (D − x0)/σ is Gaussian with variance s²/(s²+σ²). The wrong sign adds 2(x − D)/σ, which does not
    # correlate with it and has the variance 4σ²/(s²+σ²).
    total = 0.25 + sigma**2
    assert mean_loss(Gaussian()) == pytest.approx(mean_power(0.25 / total), rel=0.02)  # measured 0.006
    assert mean_loss(flipped(Gaussian())) == pytest.approx(mean_power((0.25 + 4 * sigma**2) / total), rel=0.02)
    assert mean_loss(flipped(Gaussian())) > mean_loss(Gaussian())


@pytest.mark.parametrize("sigma", [0.1, 0.5, 3.0])
def test_the_minimum_over_linear_denoisers_is_the_true_one(sigma):
    # D = a x + b is optimal at a = s²/(s²+σ²), b = μ (1 − a); the loss is a parabola: Newton finds it at once
    level, x0 = torch.full((N,), sigma), clean()

    def loss(theta):
        return denoising_score_matching(lambda x, s: theta[0] * x + theta[1], x0, level, generator=seeded(2)).mean()

    start = torch.tensor([0.2, -0.4])
    gradient = torch.func.grad(loss)(start)
    hessian = torch.stack([torch.func.grad(loss)(start + e) - gradient for e in torch.eye(2)])  # exact for a parabola
    best = start - torch.linalg.solve(hessian, gradient)
    a = 0.25 / (0.25 + sigma**2)
    torch.testing.assert_close(best, torch.tensor([a, 0.7 * (1 - a)]), rtol=0, atol=0.015)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 4.0])
def test_the_gradient_vanishes_at_the_true_score_and_nowhere_else(sigma):
    mixture = float32_mixture()
    x0 = mixture.sample(N, generator=seeded(1)).reshape(N, 1, 1, 2)
    level = torch.full((N,), sigma)

    def shrunk(x, s):
        return 0.95 * mixture(x, s)

    def slope(denoiser, direction):
        """d/dt of the loss at D + tσh, in standard errors from zero."""
        t = torch.zeros(N, requires_grad=True)
        losses = denoising_score_matching(
            lambda x, s: denoiser(x, s) + t.reshape(-1, 1, 1, 1) * sigma * direction(x),
            x0,
            level,
            generator=seeded(2),
        )
        each = torch.autograd.grad(losses.sum(), t)[0]
        return float(each.mean() / (each.std() / math.sqrt(N)))

    scale = math.sqrt(1 + sigma**2)
    directions = [torch.ones_like, lambda x: x / scale, lambda x: torch.sin(3 * x / scale)]
    assert max(abs(slope(mixture, d)) for d in directions) < 3.5  # measured 1.2
    assert max(abs(slope(shrunk, d)) for d in directions) > 3.5  # measured 94, 27 and 5.4
    assert max(abs(slope(flipped(mixture), d)) for d in directions) > 50  # measured 70, 163 and 200


def test_each_image_has_the_mean_over_its_own_pixels():
    x0 = torch.randn(3, 2, 4, 5, generator=seeded())
    sigma = torch.tensor([0.5, 1.0, 2.0])
    losses = denoising_score_matching(lambda x, s: torch.zeros_like(x), x0, sigma, p=2, generator=seeded())
    torch.testing.assert_close(losses, (x0 / sigma[:, None, None, None]).square().mean((1, 2, 3)))


def test_a_perfect_denoiser_has_no_loss_and_the_identity_has_that_of_the_noise():
    x0, sigma = torch.randn(4, 1, 3, 3, generator=seeded()), torch.tensor([0.1, 1.0, 3.0, 9.0])
    zero = denoising_score_matching(lambda x, s: x0, x0, sigma, generator=seeded(1))
    assert torch.equal(zero, torch.zeros(4))
    n = torch.randn(x0.shape, generator=seeded(1))
    noise = denoising_score_matching(lambda x, s: x, x0, sigma, p=1, generator=seeded(1))
    torch.testing.assert_close(noise, n.abs().mean((1, 2, 3)), rtol=1e-5, atol=1e-5)


def test_one_seed_gives_one_value():
    x0, sigma = torch.zeros(4, 1, 2, 2), torch.ones(4)
    first, same, other = (denoising_score_matching(Gaussian(), x0, sigma, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_a_condition_reaches_the_model():
    network = Answers(torch.zeros(2, 1, 3, 3))
    source = torch.ones(2, 1, 3, 3)
    model = ScoreModel(network, EDM(), ModelSpec(shape=(1, 3, 3)))
    denoising_score_matching(
        model, torch.zeros(2, 1, 3, 3), torch.ones(2), condition=Condition(source=source), generator=seeded()
    )
    assert network.shown[2] is source


SIGMAS = torch.logspace(-3, 3, 13)
WEIGHTS = [
    (EDM(sigma_data=0.5), (SIGMAS**2 + 0.25) / 0.25),  # Karras et al. 2022, Table 1: λσ²
    (VariancePreserving(), torch.ones(13)),
    (VariancePreserving(predicts="x0"), SIGMAS**2),
    (VariancePreserving(predicts="velocity"), 1 + SIGMAS**2),
    (NCSN(sigmas=tuple(SIGMAS.flip(0).tolist())), SIGMAS**-2),
    (NCSNv2(), torch.ones(13)),
]


@pytest.mark.parametrize(("family", "expected"), WEIGHTS, ids=[w[0].kind for w in WEIGHTS])
def test_output_weight_is_its_closed_form(family, expected):
    model = ScoreModel(torch.nn.Identity(), family, ModelSpec(shape=(1, 2, 2)))
    torch.testing.assert_close(output_weight(model, SIGMAS), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(output_weight(model, SIGMAS, p=1), expected.sqrt(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", [w[0] for w in WEIGHTS], ids=[w[0].kind for w in WEIGHTS])
def test_weighted_loss_counts_the_error_of_the_raw_output(family):
    # D − x0 = out · (F − F*), so weight · |(D − x0)/σ|² = |F − F*|² whatever σ is
    x0, sigma = torch.full((13, 1, 2, 2), 0.3), SIGMAS
    n = torch.randn(x0.shape, generator=seeded(5))
    c = family(sigma.double())
    skip, out = c.c_skip.reshape(-1, 1, 1, 1), c.c_out.reshape(-1, 1, 1, 1)
    s = sigma.double().reshape(-1, 1, 1, 1)
    target = ((1 - skip) * x0.double() - skip * s * n.double()) / out
    model = ScoreModel(Answers((target + 2).float()), family, ModelSpec(shape=(1, 2, 2)))
    losses = denoising_score_matching(model, x0, sigma, generator=seeded(5))
    known = (sigma > 0.02) & (sigma < 50)  # beyond, the sum x0 + σn has rounded one of its terms away
    torch.testing.assert_close(
        (output_weight(model, sigma) * losses)[known], torch.full((13,), 4.0)[known], rtol=2e-3, atol=0
    )


def test_the_schedule_is_the_mean_of_its_levels_with_the_papers_half_and_sums():
    mixture, sigmas = float32_mixture(), torch.tensor([3.0, 1.0, 0.3])
    x0 = mixture.sample(8, generator=seeded(1)).reshape(8, 1, 1, 2)
    generator, expected = seeded(2), 0
    for sigma in sigmas:  # λ(σ) ½‖s + n/σ‖², Song & Ermon (2019), eq. 5
        n = torch.randn(x0.shape, generator=generator)
        s = mixture.score(x0 + sigma * n, sigma)
        expected = expected + sigma**2 * (s + n / sigma).square().sum((1, 2, 3)) / 2 / 3
    losses = schedule_score_matching(mixture, x0, sigmas, generator=seeded(2))
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    generator = seeded(2)
    per_pixel = [denoising_score_matching(mixture, x0, s.expand(8), generator=generator) for s in sigmas]
    torch.testing.assert_close(losses, torch.stack(per_pixel).mean(0))  # D/2 = 1


def test_the_schedule_takes_other_weights():
    x0, sigmas = torch.randn(4, 1, 2, 2, generator=seeded()), torch.tensor([2.0, 0.5])
    flat = schedule_score_matching(Gaussian(), x0, sigmas, weight=torch.ones_like, generator=seeded(1))
    generator, expected = seeded(1), 0
    for sigma in sigmas:
        loss = denoising_score_matching(Gaussian(), x0, sigma.expand(4), generator=generator)
        expected = expected + loss * 2 / sigma**2 / 2
    torch.testing.assert_close(flat, expected)


@pytest.mark.parametrize("sigmas", [[1.0, 2.0], [1.0, 1.0], [1.0, 0.0], [1.0, -1.0], []])
def test_a_schedule_that_has_a_level_without_noise_or_does_not_fall_is_refused(sigmas):
    with pytest.raises(UserError, match="sigmas"):
        schedule_score_matching(Gaussian(), torch.zeros(1, 1, 2, 2), torch.tensor(sigmas), generator=seeded())


@pytest.mark.parametrize("p", [1, 2])
def test_under_a_mask_the_mean_is_that_of_each_images_masked_values(p):
    """Where D(x; σ) = x and x0 = 0 the error is |n|, and a mask of one channel counts for every channel."""
    x0, mask = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    mask[0, :, :1], mask[1, :, 1:] = 1, 1
    condition = Condition(source=x0, mask=mask)
    losses = denoising_score_matching(
        lambda x, sigma, condition: x, x0, torch.tensor([0.5, 2.0]), condition=condition, p=p, generator=seeded()
    )
    error = torch.randn(x0.shape, generator=seeded()).abs() ** p
    torch.testing.assert_close(losses, torch.stack([error[0, :, :1].mean(), error[1, :, 1:].mean()]))
