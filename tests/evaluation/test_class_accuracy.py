"""The report of a model with classes: whether samples are of the class that they were drawn of."""

import pytest
import torch

from oracles import lively, tiny_model
from scorefield.errors import UserError
from scorefield.evaluation import reference
from scorefield.evaluation import report as module
from scorefield.evaluation.report import SampleSettings, evaluate
from scorefield.guidance import Guidance
from scorefield.model import ModelSpec, ScoreModel
from scorefield.networks import UNet
from scorefield.parameterization import EDM
from training.toys import images


def class_model(classes=3):
    torch.manual_seed(0)
    network = lively(UNet(channels=1, widths=(8, 8), classes=classes))
    return ScoreModel(network, EDM(), ModelSpec(shape=(1, 8, 8))).eval()


def drawing(shift):
    """A sampler that gives a training image of the requested class, moved on by `shift`."""
    train, asked = images(), []

    def draw(model, n, *, classes, **_):
        asked.append(classes)
        rows = [int((train.labels == (k + shift) % 3).nonzero()[i % 16]) for i, k in enumerate(classes)]
        return train.images[rows].float() / 127.5 - 1

    return draw, asked


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (1, 0.0)])
def test_the_share_of_samples_of_the_requested_class(monkeypatch, shift, expected):
    draw, asked = drawing(shift)
    monkeypatch.setattr(module, "sample", draw)
    report, _ = evaluate(class_model(), images(), images(24), SampleSettings(n=30))
    ours, real = report.class_accuracy
    assert real > 0.95  # the ramps are easily distinguished
    assert ours == pytest.approx(expected, abs=0.05)
    assert report.rows()["class accuracy"].startswith(f"{ours:.3f}  (real images: {real:.3f}")
    assert asked[0].bincount(minlength=3).tolist() == [10, 10, 10]  # the shares of the test images, 8 each
    assert not torch.equal(asked[0][:3], asked[0].sort().values[:3])


@pytest.mark.parametrize(
    ("model", "labelled"),
    [(tiny_model(), True), (class_model(), False), (class_model(5), True)],
    ids=["no classes", "no labels", "other classes"],
)
def test_without_common_classes_there_is_no_such_share(model, labelled):
    report, _ = evaluate(model, images(labelled=labelled), images(24, labelled=labelled), SampleSettings(n=4, steps=2))
    assert report.class_accuracy is None
    assert "class accuracy" not in report.rows()


def test_a_judge_of_other_classes_gives_none():
    report, _ = evaluate(class_model(), images(), images(24), SampleSettings(n=4, steps=2), features="random")
    assert report.class_accuracy is None


def test_guidance_reaches_the_sampler_and_mistakes_are_reported_before_any_work(monkeypatch):
    settings = (SampleSettings(n=8, steps=4, guidance=Guidance(weight=weight)) for weight in (1.0, 4.0))
    plain, guided = (evaluate(class_model(), images(), images(24), one)[0] for one in settings)
    assert plain.frechet != guided.frechet
    monkeypatch.setattr(reference, "choose_features", lambda *_, **__: pytest.fail("worked"))
    with pytest.raises(UserError, match="guidance: needs a class"):
        evaluate(tiny_model(), images(), images(24), SampleSettings(n=4, guidance=Guidance(weight=2.0)))
    with pytest.raises(UserError, match="interval: of guidance must rise"):
        evaluate(
            class_model(), images(), images(24), SampleSettings(n=4, guidance=Guidance(weight=2.0, interval=(2.0, 1.0)))
        )
