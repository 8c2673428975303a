"""`sample` with classes: each row keeps its own, however the rows are parted into batches."""

import pytest
import torch
from torch import nn

from scorefield.distributions import GaussianMixture
from scorefield.errors import UserError
from scorefield.guidance import Guidance
from scorefield.model import ModelSpec, ScoreModel
from scorefield.parameterization import EDM
from scorefield.samplers import sample

MEANS = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 6.0]])
MIXTURE = GaussianMixture(torch.tensor([0.6, 0.3, 0.1]), MEANS, torch.full((3,), 0.25))


class Exact(nn.Module):
    """The F of a mixture's denoiser, or of the component that each row's class names."""

    classes = 3

    def __init__(self):
        super().__init__()
        self.anchor, self.widths = nn.Parameter(torch.zeros(())), []

    def forward(self, x, label, source=None, classes=None):
        self.widths.append(len(x))
        sigma = (4 * label).exp()[:, None]
        root = (1 + sigma**2).sqrt()
        noisy = x.flatten(1) * root
        denoised = MIXTURE(noisy, sigma[:, 0])
        if classes is not None:
            alone = MEANS[classes] + 0.25 / (0.25 + sigma**2) * (noisy - MEANS[classes])
            denoised = torch.where(classes[:, None] < 0, denoised, alone)
        return ((denoised - noisy / root**2) * root / sigma).reshape(x.shape)


def model():
    return ScoreModel(Exact(), EDM(sigma_data=1.0), ModelSpec(shape=(1, 1, 2), sigma_range=(0.002, 80.0))).eval()


def nearest(x):
    return torch.cdist(x.flatten(1), MEANS).argmin(1).tolist()


@pytest.mark.parametrize("batch", [2, 5, 64])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_every_row_lands_in_its_own_class(batch, guidance):
    x = sample(model(), 11, classes=[2, 0, 1, 1], guidance=guidance, batch=batch)
    assert nearest(x) == [2, 0, 1, 1, 2, 0, 1, 1, 2, 0, 1]


@pytest.mark.parametrize("name", ["heun", "annealed-langevin"])
def test_one_class_for_all_is_its_distribution(name):
    x = sample(model(), 400, classes=1, sampler=name, steps=None if name == "heun" else 200, batch=400)
    x = x.flatten(1)
    torch.testing.assert_close(x.mean(0), MEANS[1], rtol=0, atol=0.15)
    assert x.std(0).tolist() == pytest.approx([0.5, 0.5], rel=0.2)


def test_without_classes_all_components_are_drawn_in_their_shares():
    counts = torch.tensor(nearest(sample(model(), 1000, batch=1000))).bincount(minlength=3) / 1000
    torch.testing.assert_close(counts, MIXTURE.weights, rtol=0, atol=0.05)


def test_minus_1_is_no_class():
    same = [sample(model(), 6, classes=classes, seed=4) for classes in (None, -1)]
    torch.testing.assert_close(*same)


def test_guidance_doubles_the_rows_and_only_within_its_interval():
    for guidance, interval, widths in ((1.0, (0.5, 5.0), {3}), (2.0, (0.5, 5.0), {3, 6})):
        made = model()
        sample(made, 3, classes=0, guidance=Guidance(weight=guidance, interval=interval), steps=8)
        assert set(made.network.widths) == widths
    made = model()
    sample(made, 3, classes=0, guidance=2.0, steps=8)
    assert set(made.network.widths) == {6}


def test_guidance_within_an_interval_that_no_level_meets_is_none():
    plain = sample(model(), 4, classes=2, steps=6)
    assert torch.equal(
        plain, sample(model(), 4, classes=2, guidance=Guidance(weight=5.0, interval=(100.0, 200.0)), steps=6)
    )
    assert not torch.equal(
        plain, sample(model(), 4, classes=2, guidance=Guidance(weight=5.0, interval=(0.1, 5.0)), steps=6)
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": 3}, "this model knows 0 to 2, got 3"),
        ({"classes": []}, "none are given"),
        ({"classes": ["boot"]}, "whole numbers"),
        ({"guidance": 2.0}, "needs a class to guide towards"),
        ({"classes": 1, "guidance": float("inf")}, "must be a number"),
        ({"classes": 1, "guidance": Guidance(weight=2.0, interval=(3.0, 1.0))}, "must rise"),
    ],
)
def test_mistakes_are_reported_before_any_evaluation(settings, words):
    made = model()
    with pytest.raises(UserError, match=words):
        sample(made, 2, **settings)
    assert made.network.widths == []


def test_a_start_of_its_own_seed_gives_each_class_the_same_noise():
    """The noise does not depend on the classes, so that two classes can be compared."""
    a, b = (sample(model(), 2, classes=k, steps=4, seed=7) for k in (0, 1))
    again = sample(model(), 2, classes=0, steps=4, seed=7)
    assert torch.equal(a, again) and not torch.equal(a, b)
