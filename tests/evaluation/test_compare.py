"""Models side by side: paired differences, one set of units, and every mistake reported before any work."""

import json
import math

import pytest
import torch
from gaussians import MEAN, STD, GaussianNetwork, best, data, fisher
from torch import nn

from oracles import Gaussian, tiny_model
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.evaluation import compare as module
from scorefield.evaluation.compare import ComparisonSettings, choose_levels, compare_models, gflops
from scorefield.evaluation.level_losses import LossSettings
from scorefield.evaluation.reference import choose_features, prepare
from scorefield.evaluation.report import SampleSettings
from scorefield.model import ModelSpec, ScoreModel
from scorefield.parameterization import EDM, NCSN, VariancePreserving
from training.toys import images

SIDE = 8


def losses(**settings):
    return ComparisonSettings(losses=LossSettings(**settings))


def gaussian_set(n=600):
    """Independent pixels of one distribution, rounded to 8 bits."""
    images = (255 * data(n, seed=3, side=SIDE).clamp(0, 1)).round().to(torch.uint8)
    return ImageSet(images=images, labels=None, name="gauss", source="made here")


def gaussian_model(mean=MEAN, std=STD, *, value_range=(0.0, 1.0)):
    low, high = value_range
    width = high - low
    network = GaussianNetwork(low + width * mean, width * std)
    spec = ModelSpec(shape=(1, SIDE, SIDE), value_range=value_range, sigma_range=(0.01 * width, 2 * width))
    return ScoreModel(network, VariancePreserving(predicts="x0"), spec).eval()


@pytest.fixture(scope="module")
def compared():
    models = {
        "exact": gaussian_model(),
        "signed": gaussian_model(value_range=(-1.0, 1.0)),
        "wrong": gaussian_model(0.55, 0.22, value_range=(-1.0, 1.0)),
    }
    return compare_models(models, gaussian_set(), losses(n=500, batch=250), sigmas=(1.0, 0.2, 0.05))[0]


def test_losses_are_the_closed_forms_in_units_of_pixels(compared):
    exact, _, wrong = compared.entries
    for i, sigma in enumerate(compared.sigmas):
        for entry, model in ((exact, Gaussian(MEAN, STD)), (wrong, Gaussian(0.55, 0.22))):
            expected = best(sigma) + fisher(model, sigma)
            found = entry.denoising.levels[i]
            assert abs(found.mean - expected) < 2 * found.half + 2e-3 * expected  # clamped and rounded pixels
            assert abs(entry.sliced.levels[i].mean + 1 - expected) < 2 * entry.sliced.levels[i].half + 2e-3


def test_differences_are_of_fisher_divergences_and_paired(compared):
    exact, signed, wrong = compared.entries
    assert exact.denoising_difference is None and exact.sliced_difference is None
    assert all(abs(e.mean) < 1e-4 for e in signed.denoising_difference.levels)  # the same model in other units
    for i, sigma in enumerate(compared.sigmas):
        expected = fisher(Gaussian(0.55, 0.22), sigma)
        for kind in ("denoising", "sliced"):
            found = getattr(wrong, f"{kind}_difference").levels[i]
            assert abs(found.mean - expected) < 2 * found.half + 0.02 * expected
            apart = math.hypot(*(getattr(e, kind).levels[i].half for e in (exact, wrong)))
            assert found.half < apart


def test_the_mean_over_levels_is_the_mean_of_each_image(compared):
    entry = compared.entries[2]
    assert entry.denoising.mean.mean == pytest.approx(sum(e.mean for e in entry.denoising.levels) / 3)
    assert entry.denoising.mean.half < max(e.half for e in entry.denoising.levels)


def test_the_comparison_is_stamped_and_plain(compared):
    facts = json.loads(json.dumps(compared.to_dict()))
    assert facts["n"] == 500
    assert facts["data"] == f"gauss, 600 images, {gaussian_set().digest()[:8]}"
    assert facts["entries"][0]["report"] is None
    assert set(facts["entries"][1]["denoising_difference"]["levels"][0]) == {"mean", "half"}


def test_samples_are_measured_against_one_reference_with_progress_to_one():
    train, test = images(), images(24)
    reference = prepare(train, test, n=6)
    reports = []
    models = {"a": tiny_model(), "b": tiny_model(value_range=(0.0, 1.0))}
    models["a"] = models["a"].with_precision(torch.bfloat16)
    found, drawn = compare_models(
        models,
        test,
        ComparisonSettings(losses=LossSettings(n=10), samples=SampleSettings(n=6, steps=2)),
        sigmas=(0.5, 0.1),
        reference=reference,
        progress=lambda *now: reports.append(now),
    )
    assert found.n == 10
    assert models["a"].precision == torch.bfloat16
    assert {name: tuple(batch.shape) for name, batch in drawn.items()} == dict.fromkeys("ab", (6, 1, 8, 8))
    for entry in found.entries:
        assert entry.report.features.startswith("ramps-classifier-")
        assert math.isfinite(entry.report.frechet) and entry.report.evaluations == 3
        assert entry.parameters == sum(p.numel() for p in models["a"].parameters())
    shares = [share for share, _ in reports]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    assert {words for _, words in reports} == {f"{name}: {what}" for name in "ab" for what in ("losses", "samples")}


def test_the_losses_are_of_the_network_in_full_precision(monkeypatch):
    seen = []
    real = module.level_losses
    monkeypatch.setattr(
        module, "level_losses", lambda d, *a, **k: (seen.append(d.model.precision), real(d, *a, **k))[1]
    )
    model = tiny_model().with_precision(torch.bfloat16)
    compare_models({"a": model}, images(), losses(n=4, projections=0), sigmas=(0.5,))
    assert seen == [torch.float32]


def test_without_projections_there_is_no_sliced_loss():
    found, drawn = compare_models(
        {"a": tiny_model(), "b": tiny_model()}, images(), losses(n=4, projections=0), sigmas=(0.5,)
    )
    assert all(entry.sliced is None and entry.sliced_difference is None for entry in found.entries)
    assert drawn == {}


class OneConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x, label, source=None):
        return self.layer(x).mean(1, keepdim=True)


def test_operations_are_counted_as_products_and_sums():
    model = ScoreModel(OneConvolution(), EDM(), ModelSpec(shape=(1, 8, 8)))
    assert gflops(model) == pytest.approx(2 * (2 * 9) * 64 / 1e9)


def test_what_cannot_be_compared_is_reported_before_any_work(monkeypatch):
    monkeypatch.setattr(module, "level_losses", lambda *_, **__: pytest.fail("worked"))
    model, held_out = tiny_model(), images()
    with pytest.raises(UserError, match="models: none to compare"):
        compare_models({}, held_out)
    with pytest.raises(UserError, match="ramps: its images are 1×12×12, mine draws 1×8×8"):
        compare_models({"mine": model}, images(24, 12))
    with pytest.raises(UserError, match="at least two images, got 1"):
        compare_models({"mine": model}, images(1))
    with pytest.raises(UserError, match="Did you mean `heun`"):
        compare_models({"mine": model}, held_out, ComparisonSettings(samples=SampleSettings(sampler="huen")))
    with pytest.raises(UserError, match=r"σ = 90 of pixels in \[0, 1\] is outside 0.001 … 40, the range of mine"):
        compare_models({"mine": model}, held_out, sigmas=(90.0, 1.0))
    with pytest.raises(UserError, match="levels: there are none"):
        compare_models({"mine": model}, held_out, sigmas=())


def test_a_schedule_is_that_of_a_model_compared():
    levels = ScoreModel(
        OneConvolution(),
        NCSN(sigmas=(1.0, 0.5)),
        ModelSpec(shape=(1, 8, 8), value_range=(0.0, 1.0), sigma_range=(0.5, 1.0)),
    )
    models = {"unet": tiny_model(), "ncsn": levels}
    assert choose_levels(models, schedule_of="ncsn") == pytest.approx((1.0, 0.5))
    assert choose_levels(models) == pytest.approx((1.0, 0.5))
    with pytest.raises(UserError, match="not among the models compared. Known: unet, ncsn"):
        choose_levels(models, schedule_of="nscn")


def test_a_class_without_images_cannot_judge():
    whole = images()
    gap = ImageSet(images=whole.images, labels=whole.labels, name="ramps", source="", class_names=tuple("abcd"))
    with pytest.raises(UserError, match=r"ramps: no image of class 'd'.*--features random"):
        choose_features(gap, None)
    assert choose_features(gap, "random").name == "random-conv"
