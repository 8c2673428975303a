"""Guidance on mixtures, where every density is known; clipping; what goes through a network how often."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from oracles import Counting, Gaussian, float64_mixture, lively, seeded
from scorefield.distributions import GaussianMixture
from scorefield.errors import UserError
from scorefield.guidance import ClassifierFreeGuidance, ClippedDenoiser, Guidance, bind_classes, expand_labels
from scorefield.model import Condition, ModelSpec, ScoreModel, expand, noise, score
from scorefield.networks import UNet
from scorefield.parameterization import EDM
from scorefield.samplers import Heun
from scorefield.schedules import karras


def component(mixture, k):
    """The distribution of one class: only the k-th component."""
    one = slice(k, k + 1)
    return GaussianMixture(mixture.weights[one], mixture.means[one], mixture.covariances[one])


def points(n=6):
    return 2 * torch.randn(n, 2, generator=seeded(), dtype=torch.float64)


LEVELS = torch.tensor([0.1, 0.4, 1.0, 2.0, 5.0, 30.0], dtype=torch.float64)


@pytest.mark.parametrize("weight", [-0.5, 0.0, 0.3, 1.0, 2.0, 7.5])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_the_guided_score_is_the_plain_one_and_w_times_the_classs_pull(weight, k):
    """∇ log p(x; σ) + w ∇ log p(c | x; σ), the latter by autograd of Bayes' rule."""
    mixture = float64_mixture()
    guided = ClassifierFreeGuidance(component(mixture, k), mixture, weight)
    x = points().requires_grad_()
    joint = mixture.weights[k].log() + component(mixture, k).log_density(x, LEVELS)
    (pull,) = torch.autograd.grad((joint - mixture.log_density(x, LEVELS)).sum(), x)
    expected = (mixture.score(x, LEVELS) + weight * pull).detach()
    torch.testing.assert_close(score(guided, x.detach(), LEVELS), expected, rtol=1e-9, atol=1e-11)
    denoised = x.detach() + expand(LEVELS, x) ** 2 * expected
    torch.testing.assert_close(guided(x.detach(), LEVELS), denoised, rtol=1e-9, atol=1e-9)


def test_a_weight_of_1_is_the_conditional_and_of_0_the_other_bit_for_bit():
    mixture = float64_mixture()
    conditional, x = component(mixture, 1), points()
    for function in (lambda d: d(x, LEVELS), lambda d: noise(d, x, LEVELS)):
        assert torch.equal(function(ClassifierFreeGuidance(conditional, mixture, 1.0)), function(conditional))
        assert torch.equal(function(ClassifierFreeGuidance(conditional, mixture, 0.0)), function(mixture))
        assert torch.equal(
            function(ClassifierFreeGuidance(conditional, mixture, 1.0, (0.3, 3.0))), function(conditional)
        )


def test_outside_of_the_interval_the_conditional_stands_alone():
    mixture = float64_mixture()
    conditional, x = component(mixture, 2), points()
    bounded, always = (
        ClassifierFreeGuidance(conditional, mixture, 3.0, (0.4, 2.0)),
        ClassifierFreeGuidance(conditional, mixture, 3.0),
    )
    inside = torch.tensor([False, False, True, True, False, False])  # (low, high]
    seen = bounded(x, LEVELS)
    torch.testing.assert_close(seen[inside], always(x, LEVELS)[inside], rtol=1e-14, atol=1e-14)
    assert torch.equal(seen[~inside], conditional(x, LEVELS)[~inside])
    assert not torch.allclose(seen[inside], conditional(x, LEVELS)[inside], atol=1e-3)


@pytest.mark.parametrize(("sigma", "calls"), [(0.2, 0), (0.4, 0), (0.41, 1), (5.0, 1), (5.1, 0)])
def test_outside_of_the_interval_the_unconditional_is_not_evaluated(sigma, calls):
    conditional, unconditional = Counting(Gaussian(1.0)), Counting(Gaussian(0.0))
    guided = ClassifierFreeGuidance(conditional, unconditional, 2.0, (0.4, 5.0))
    guided(torch.zeros(3, 1, 2, 2), torch.full((3,), sigma))
    assert (conditional.calls, unconditional.calls) == (1, calls)


class OnDevice(torch.Tensor):
    """A σ that says it lies on an accelerator, and may not be read."""

    @property
    def device(self):
        return torch.device("cuda")

    def __bool__(self):
        raise AssertionError("the processor waited")


def test_a_sigma_on_an_accelerator_is_never_read_and_gives_the_same():
    mixture = float64_mixture()
    guided, x = ClassifierFreeGuidance(component(mixture, 0), mixture, 2.5, (0.4, 2.0)), points()
    there = guided(x, LEVELS.as_subclass(OnDevice)).as_subclass(torch.Tensor)
    assert torch.equal(there, guided(x, LEVELS))
    for level in (0.1, 1.0, 30.0):
        sigma = torch.full((6,), level, dtype=torch.float64)
        alone = guided(x, sigma.as_subclass(OnDevice)).as_subclass(torch.Tensor)
        torch.testing.assert_close(alone, guided(x, sigma), rtol=0, atol=0)


@pytest.mark.parametrize(("k", "weight"), [(0, 1.0), (1, 1.0), (2, 2.0)])
def test_guided_samples_fall_into_their_class(k, weight):
    """Classes that are far apart: the ODE's end lies in the requested component, for every start."""
    means = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 6.0]])
    mixture = GaussianMixture(torch.tensor([0.6, 0.3, 0.1]), means, torch.full((3,), 0.25))
    guided = ClassifierFreeGuidance(component(mixture, k), mixture, weight)
    x = 40 * torch.randn(200, 2, generator=seeded())
    for step in Heun().iterate(guided, x, karras(40, 0.01, 24), generator=seeded()):
        x = step.x
    assert bool((torch.cdist(x, means).argmin(1) == k).all())
    if weight == 1:
        torch.testing.assert_close(x.mean(0), means[k], rtol=0, atol=0.15)
        assert x.std(0).tolist() == pytest.approx([0.5, 0.5], rel=0.15)


def test_more_guidance_draws_less_varied_images():
    """Two classes that overlap: pushed away from the other, the first one's samples move and narrow."""
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    mixture = GaussianMixture(torch.tensor([0.5, 0.5]), means, torch.ones(2))
    start = 40 * torch.randn(500, 2, generator=seeded())
    means_found = []
    for weight in (0.0, 1.0, 3.0):
        x = start
        for step in Heun().iterate(
            ClassifierFreeGuidance(component(mixture, 0), mixture, weight), x, karras(40, 0.01, 18), generator=seeded()
        ):
            x = step.x
        means_found.append(float(x[:, 0].mean()))
    assert means_found[0] == pytest.approx(0, abs=0.2)
    assert means_found[1] == pytest.approx(-1, abs=0.15)
    assert means_found[2] < -1.3


@pytest.mark.parametrize(
    ("weight", "drawn", "tilted"),
    [(1.0, (1.0, 1.0), (1.0, 1.0)), (2.0, (1.594, 0.577), (1.290, 0.744)), (4.0, (2.319, 0.349), (1.539, 0.589))],
)
def test_guided_samples_do_not_follow_the_tilted_density(weight, drawn, tilted):
    """Classes N(±1, 1): mean and variance along the ODE, and of p(x|c)^w p(x)^(1−w) by quadrature.

    The start, N(0, 80²), knows no mean: it moves the end by (1 + w)/80 at most.
    """
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    both = GaussianMixture(torch.tensor([0.5, 0.5], dtype=torch.float64), means, torch.ones(2, dtype=torch.float64))
    one = component(both, 1)
    t = torch.linspace(-15, 15, 30_001, dtype=torch.float64)[:, None]
    density = (weight * one.log_density(t) + (1 - weight) * both.log_density(t)).softmax(0)
    mean = float(density @ t[:, 0])
    assert (mean, float(density @ (t[:, 0] - mean) ** 2)) == pytest.approx(tilted, abs=1e-3)
    quantiles = (torch.arange(801, dtype=torch.float64) + 0.5) / 801
    x = 80 * torch.special.ndtri(quantiles)[:, None]
    for step in Heun().iterate(
        ClassifierFreeGuidance(one, both, weight), x, karras(80, 0.002, 100).double(), generator=seeded()
    ):
        x = step.x
    assert (float(x.mean()), float(x.var())) == pytest.approx(drawn, abs=(1 + weight) / 80)


# --- one network, twice the batch ----------------------------------------------------------------


@dataclass
class Widths:
    """How many images each call of a network saw."""

    seen: list


def class_model(classes=3, *, source_channels=0):
    torch.manual_seed(0)
    network = lively(UNet(channels=1, widths=(8, 8), classes=classes, source_channels=source_channels))
    widths = Widths([])
    network.register_forward_pre_hook(lambda module, args: widths.seen.append(len(args[0])))
    model = ScoreModel(network, EDM(), ModelSpec(shape=(1, 8, 8))).eval()
    return model, widths


def batch(n=4):
    x = torch.randn(n, 1, 8, 8, generator=seeded())
    return x, torch.full((n,), 0.7), torch.arange(n) % 3


@torch.no_grad()
@pytest.mark.parametrize("what", ["denoised", "noise"])
def test_both_sides_of_one_model_go_through_its_network_at_once(what):
    model, widths = class_model()
    x, sigma, classes = batch()
    guided = bind_classes(model, classes, guidance=2.0)
    seen = guided(x, sigma) if what == "denoised" else noise(guided, x, sigma)
    assert widths.seen == [8]
    conditional, unconditional = model.given(Condition(classes=classes)), model
    apart = [d(x, sigma) if what == "denoised" else noise(d, x, sigma) for d in (conditional, unconditional)]
    torch.testing.assert_close(seen, apart[1] + 2 * (apart[0] - apart[1]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(apart[0], apart[1], atol=1e-3)


@torch.no_grad()
def test_a_class_for_all_and_conditions_on_pixels_are_joined_too():
    model, widths = class_model(source_channels=1)
    x, sigma, _ = batch()
    source, mask = torch.randn(4, 1, 8, 8, generator=seeded(3)), torch.ones(4, 1, 8, 8)
    mask[..., :4] = 0
    conditional = model.given(Condition(source=source, mask=mask, classes=2))
    unconditional = model.given(Condition(source=source, mask=mask))
    joint = ClassifierFreeGuidance(conditional, unconditional, 3.0)(x, sigma)
    assert widths.seen == [8]
    c, u = conditional(x, sigma), unconditional(x, sigma)
    torch.testing.assert_close(joint, u + 3 * (c - u), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_sides_that_cannot_share_a_batch_are_evaluated_one_after_the_other():
    (one, seen_one), (other, seen_other) = class_model(), class_model()
    x, sigma, classes = batch()
    ClassifierFreeGuidance(one.given(Condition(classes=classes)), other, 2.0)(x, sigma)
    assert (seen_one.seen, seen_other.seen) == ([4], [4])


def test_without_guidance_there_is_no_second_evaluation_and_without_classes_no_wrapper():
    model, widths = class_model()
    x, sigma, classes = batch()
    conditional = bind_classes(model, classes)
    assert torch.equal(conditional(x, sigma), model(x, sigma, Condition(classes=classes)))
    assert widths.seen == [4, 4]
    assert bind_classes(model, None) is model


def test_classes_are_taken_in_turn():
    model, _ = class_model()
    assert expand_labels(model, 5, 2).tolist() == [2] * 5
    assert expand_labels(model, 5, [1, 0, 2]).tolist() == [1, 0, 2, 1, 0]
    assert expand_labels(model, 2, torch.tensor([1, 2, 0])).tolist() == [1, 2]
    assert expand_labels(model, 2, -1).dtype == torch.int64


def test_clipping_keeps_the_image_within_its_range():
    x, sigma = torch.linspace(-4, 4, 8).reshape(8, 1), torch.full((8,), 0.5)
    clipped = ClippedDenoiser(Gaussian(), -1.0, 1.0)
    assert torch.equal(clipped(x, sigma), Gaussian()(x, sigma).clamp(-1, 1))
    torch.testing.assert_close(noise(clipped, x, sigma), (x - clipped(x, sigma)) / 0.5)
    free = ClippedDenoiser(Gaussian(), -9.0, 9.0)
    assert torch.equal(free(x, sigma), Gaussian()(x, sigma))


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ClassifierFreeGuidance(Gaussian(), Gaussian(), math.nan), "guidance: must be a number"),
        (lambda: ClassifierFreeGuidance(Gaussian(), Gaussian(), math.inf), "guidance: must be a number"),
        (lambda: ClassifierFreeGuidance(Gaussian(), Gaussian(), 2.0, (5.0, 0.2)), "interval: of guidance must rise"),
        (lambda: ClassifierFreeGuidance(Gaussian(), Gaussian(), 2.0, (-1.0, 0.2)), "got -1 to 0.2"),
        (lambda: ClippedDenoiser(Gaussian(), 1.0, 1.0), "low must be below high"),
        (lambda: bind_classes(class_model()[0], None, guidance=2.0), "needs a class"),
        (lambda: bind_classes(class_model()[0], None, Guidance(interval=(0.2, 5.0))), "needs a class"),
        (lambda: bind_classes(class_model()[0], torch.tensor([3])), "knows 0 to 2, got 3"),
        (lambda: bind_classes(class_model()[0], torch.tensor([0]), Guidance(interval=(2.0, 1.0))), "must rise"),
        (lambda: expand_labels(class_model()[0], 4, []), "classes: none are given"),
        (lambda: expand_labels(class_model()[0], 4, [0, 7]), "knows 0 to 2, got 7"),
        (lambda: expand_labels(class_model()[0], 4, -2), "knows 0 to 2, got -2"),
        (lambda: expand_labels(class_model()[0], 4, [0.5]), "whole numbers"),
        (lambda: expand_labels(class_model()[0], 4, "boot"), "whole numbers, got 'boot'"),
        (lambda: expand_labels(class_model(0)[0], 4, 1), "trained without class labels"),
    ],
)
def test_what_cannot_be_guided_is_refused(make, words):
    with pytest.raises((UserError, ValueError), match=words):
        make()


class Plain(nn.Module):
    """A network that takes no classes."""

    def forward(self, x, label, source=None):
        return x


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (torch.zeros(3, dtype=torch.long), r"4 images need \(4,\) whole numbers, got \(3,\)"),
        (torch.zeros(4, 1, dtype=torch.long), r"got \(4, 1\)"),
        (torch.tensor(1), r"got \(\)"),
        (torch.zeros(4), "torch.float32"),
        (torch.ones(4, dtype=torch.bool), "torch.bool"),
        (torch.tensor([0, 1, 2, 3]), "knows 0 to 2, got 3"),
        (torch.tensor([0, 1, 2, -2]), "got -2. Write -1"),
        (3, "knows 0 to 2, got 3"),
    ],
)
def test_classes_of_another_number_or_out_of_range_are_reported(classes, words):
    model, _ = class_model()
    x, sigma, _ = batch()
    with pytest.raises(UserError, match=words):
        model(x, sigma, Condition(classes=classes))
    with pytest.raises(UserError, match=words):
        model.given(Condition(classes=classes))(x, sigma)


def test_a_network_without_classes_says_so():
    x, sigma, classes = batch()
    for network in (Plain(), lively(UNet(channels=1, widths=(8,)))):
        model = ScoreModel(network, EDM(), ModelSpec(shape=(1, 8, 8)))
        assert model.classes == 0
        with pytest.raises(UserError, match="this model was trained without class labels"):
            model(x, sigma, Condition(classes=classes))
        with pytest.raises(UserError, match="this model was trained without class labels"):
            model.given(Condition(classes=0))
        model(x, sigma, Condition())  # nothing conditional is nothing asked


def test_a_mask_needs_a_source():
    with pytest.raises(ValueError, match="mask needs a source"):
        Condition(mask=torch.ones(1, 1, 2, 2))
