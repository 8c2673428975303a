"""The report: every number with what it was computed on."""

import math

import pytest
import torch

from oracles import tiny_model
from scorefield.errors import UserError
from scorefield.evaluation import reference
from scorefield.evaluation import report as module
from scorefield.evaluation.report import SampleSettings, evaluate, sheet_of_neighbours
from training.toys import images


@pytest.fixture(scope="module")
def measured():
    return evaluate(tiny_model(), images(), images(24), SampleSettings(n=12, steps=3))


def test_the_numbers_are_finite_and_carry_features_reference_and_count(measured):
    report, _ = measured
    numbers = (report.frechet, report.frechet_floor, *report.kernel, *report.inception_type, report.copies,
               report.images_per_second)  # fmt: skip
    assert all(map(math.isfinite, numbers))
    assert report.features.startswith("ramps-classifier-")
    assert report.reference == f"ramps, 24 images, {images(24).digest()[:8]}"
    assert (report.n, report.sampler, report.evaluations) == (12, "heun", 5)
    assert {f"{kind}[{report.features}]" for kind in ("FD", "KD", "inception-type")} <= report.rows().keys()
    assert not any("FID" in name for name in report.rows())
    assert report.to_dict()["features"] == report.features


def test_noise_is_farther_from_the_images_than_images_are(measured):
    report, _ = measured
    assert report.frechet > 2 * max(report.frechet_floor, 1e-3)
    assert report.copies > 1  # noise lies near no training image


def test_the_pairs_are_samples_over_their_nearest_training_images(measured):
    _, pairs = measured
    drawn, found = pairs.chunk(2)
    train = images().images
    distances = (drawn[:, None].double() - train[None].double()).flatten(2).norm(dim=2)
    assert torch.equal(found, train[distances.argmin(1)])
    assert sheet_of_neighbours(pairs).width > sheet_of_neighbours(pairs).height


def test_copies_of_the_training_set_are_seen(monkeypatch):
    """A sampler that gives training images back: distance 0 to the nearest, and the Fréchet floor."""
    model, train = tiny_model(), images()
    monkeypatch.setattr(module, "sample", lambda *_, **__: train.images[:24].float() / 127.5 - 1)
    report, _ = evaluate(model, train, images(24), SampleSettings(n=24))
    assert report.copies == 0
    monkeypatch.setattr(module, "sample", lambda *_, **__: train.images.float() / 127.5 - 1)
    report, _ = evaluate(model, train, train, SampleSettings(n=48))
    assert report.frechet == pytest.approx(report.frechet_floor, abs=1e-4)


def test_without_a_test_split_the_usual_distance_is_to_another_image():
    train = images(24, labelled=False)
    report, _ = evaluate(tiny_model(), train, train, SampleSettings(n=6, steps=2))
    x = train.images.flatten(1).double()
    between = torch.cdist(x, x).fill_diagonal_(math.inf)
    usual = between.min(1).values[:6].mean()
    _, pairs = evaluate(tiny_model(), train, train, SampleSettings(n=6, steps=2))
    drawn, found = pairs.flatten(1).double().chunk(2)
    assert report.copies == pytest.approx(float((drawn - found).norm(dim=1).mean() / usual), rel=1e-6)
    assert report.features == "random-conv"
    assert report.inception_type is None


def test_the_same_seed_measures_the_same():
    one, two = (evaluate(tiny_model(), images(), images(24), SampleSettings(n=6, steps=2, seed=3))[0] for _ in "ab")
    keep = one.to_dict().keys() - {"images_per_second"}
    assert {key: one.to_dict()[key] for key in keep} == {key: two.to_dict()[key] for key in keep}


def test_what_cannot_be_measured_is_reported_before_any_work(monkeypatch):
    monkeypatch.setattr(reference, "choose_features", lambda *_, **__: pytest.fail("worked"))
    model = tiny_model()
    with pytest.raises(UserError, match="ramps: its images are 1×12×12, the model draws 1×8×8"):
        evaluate(model, images(), images(24, 12))
    with pytest.raises(UserError, match="its images are 3×8×8"):
        evaluate(model, images(channels=3), images())
    with pytest.raises(UserError, match="n: a distance needs at least two"):
        evaluate(model, images(), images(), SampleSettings(n=1))
    with pytest.raises(UserError, match="ramps: a distance needs at least two images, got 1"):
        evaluate(model, images(), images(1))
    with pytest.raises(UserError, match="Did you mean `heun`"):
        evaluate(model, images(), images(), SampleSettings(sampler="huen"))


def test_progress_is_reported_from_0_to_1():
    reports = []
    evaluate(
        tiny_model(), images(), images(24), SampleSettings(n=4, steps=2), progress=lambda *now: reports.append(now)
    )
    assert {words for _, words in reports} >= {"Sampling", "Measuring"}
    assert all(0 <= share <= 1 for share, _ in reports)
    assert reports[-1] == (1.0, "Measuring")
