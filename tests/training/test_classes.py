"""Training with class labels: which images receive one, that it matters, and that a run goes on exactly."""

import sys
from dataclasses import replace

import pytest
import torch

from oracles import seeded
from scorefield import checkpoint
from scorefield.errors import UserError
from scorefield.model import Condition
from scorefield.training import Trainer, build_model, read_recipe
from scorefield.training.losses import hide_classes
from scorefield.training.state import load_state

from .toys import images, recipe

LABELS = "data.labels=true"


def trainer(out, *settings, data=None, **options):
    return Trainer(recipe(LABELS, *settings), out=out, data=data or images(), device="cpu", **options)


def weights(run):
    return load_state(run)["network"]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_network_has_a_row_for_each_class_and_one_for_none(tmp_path):
    made = trainer(tmp_path / "run")
    assert made.model.classes == 3
    assert made.model.network.embed_class.weight.shape == (4, 32)
    assert Trainer(recipe(), out=tmp_path / "b", data=images(), device="cpu").model.classes == 0


@pytest.mark.parametrize("settings", [[], ['objective={kind="sliced"}']], ids=["denoising", "sliced"])
def test_training_heeds_the_labels(tmp_path, settings):
    data = images()
    swapped = replace(data, labels=(data.labels + 1) % 3)
    for name, one in (("a", data), ("again", data), ("b", swapped)):
        trainer(tmp_path / name, "training.steps=3", *settings, data=one).fit()
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "again"))
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_a_run_without_labels_is_not_touched_by_them(tmp_path):
    """Neither the data's labels nor the share dropped enter a run without classes."""
    plain = ["training.steps=3"]
    for name, data, more in (
        ("a", images(), []),
        ("b", images(labelled=False), []),
        ("c", images(), ["training.drop_class=0.5"]),
    ):
        Trainer(recipe(*plain, *more), out=tmp_path / name, data=data, device="cpu").fit()
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_with_every_class_dropped_only_the_row_of_none_learns(tmp_path):
    made = trainer(tmp_path / "run", "training.steps=6", "training.drop_class=1.0", "average.decay=0.0")
    before = made.model.network.embed_class.weight.detach().clone()
    made.fit()
    moved = (made.model.network.embed_class.weight != before).any(1)
    assert moved.tolist() == [False, False, False, True]


def test_with_none_dropped_the_row_of_none_stays(tmp_path):
    made = trainer(tmp_path / "run", "training.steps=6", "training.drop_class=0.0", "average.decay=0.0")
    before = made.model.network.embed_class.weight.detach().clone()
    made.fit()
    moved = (made.model.network.embed_class.weight != before).any(1)
    assert moved.tolist() == [True, True, True, False]


def test_the_share_dropped_is_the_one_requested():
    generator, classes = seeded(), torch.arange(20_000) % 7
    condition = Condition(classes=classes)
    given = hide_classes(condition, 0.1, generator=generator).classes
    dropped = given < 0
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=5 * (0.09 / 20_000) ** 0.5)
    assert torch.equal(given[~dropped], classes[~dropped])
    again = hide_classes(condition, 0.1, generator=generator).classes
    assert not torch.equal(given, again)
    assert torch.equal(given, hide_classes(condition, 0.1, generator=seeded()).classes)
    assert hide_classes(None, 0.1, generator=generator) is None


def test_two_sessions_make_the_run_of_one_bit_for_bit(tmp_path):
    settings = ["training.drop_class=0.3", "data.flip=true", "training.steps=9"]
    trainer(tmp_path / "one", *settings).fit()
    trainer(tmp_path / "two", *settings[:2], "training.steps=4").fit()
    torch.manual_seed(99)
    trainer(tmp_path / "two", *settings, resume=True).fit()
    one, two = (load_state(tmp_path / run) for run in ("one", "two"))
    assert equal(one["network"], two["network"])
    assert torch.equal(one["generator"], two["generator"])
    for name, value in one["average"].items():
        assert torch.equal(value, two["average"][name])


def test_the_trained_model_draws_the_requested_class(tmp_path):
    """The ramps of three steepnesses: at a high noise level D is about the mean of the class."""
    more = ["training.steps=150", "optimizer.lr=0.01", "optimizer.batch=32", "training.drop_class=0.2"]
    model = trainer(tmp_path / "run", *more).fit()
    data = images()
    means = torch.stack([data.images[data.labels == k].float().mean(0) for k in range(3)]) / 127.5 - 1
    x, sigma = 20 * torch.randn(3, 1, 8, 8, generator=seeded()), torch.full((3,), 20.0)
    with torch.no_grad():
        given = model(x, sigma, Condition(classes=torch.arange(3)))
        unconditional = model(x, sigma)
    nearest = (given[:, None] - means[None]).flatten(2).norm(dim=2).argmin(1)
    assert nearest.tolist() == [0, 1, 2]
    overall = (data.images.float() / 127.5 - 1).mean(0)
    errors = [float((d - overall).pow(2).mean().sqrt()) for d in (unconditional, given)]
    assert errors[0] < 0.5 * errors[1]


def test_the_card_keeps_the_classes_and_their_names(tmp_path):
    for names in (None, ("flat", "slope", "cliff")):
        run = tmp_path / str(names is None)
        trainer(run, "training.steps=1", data=replace(images(), class_names=names)).fit()
        card = checkpoint.read_card(run / "model.safetensors")
        assert card["network"]["classes"] == 3
        assert card["notes"]["class_names"] == list(names or ("0", "1", "2"))
        assert checkpoint.load(run / "model.safetensors").classes == 3
    plain = tmp_path / "plain"
    Trainer(recipe("training.steps=1"), out=plain, data=images(), device="cpu").fit()
    card = checkpoint.read_card(plain / "model.safetensors")
    assert "classes" not in card["network"] and "class_names" not in card["notes"]


def test_the_grid_shows_the_classes_in_order(tmp_path, monkeypatch):
    drawn, asked = sys.modules["scorefield.training.previews"], []

    def spy(model, n, *, classes=None, **_):
        asked.append(None if classes is None else list(classes)[:n])
        return torch.zeros(n, *model.shape)

    monkeypatch.setattr(drawn, "sample", spy)
    trainer(tmp_path / "run", "training.steps=1", "training.sample_count=7").fit()
    Trainer(recipe("training.steps=1"), out=tmp_path / "b", data=images(), device="cpu").fit()
    assert asked == [[0, 1, 2], None]


def test_a_run_goes_on_with_the_share_that_it_began_with(tmp_path):
    trainer(tmp_path / "run", "training.steps=1").fit()
    with pytest.raises(UserError, match=r"its run has training.drop_class = 0.1"):
        trainer(tmp_path / "run", "training.drop_class=0.2", resume=True)
    with pytest.raises(UserError, match=r"its run has data.labels = True"):
        Trainer(recipe(), out=tmp_path / "run", data=images(), device="cpu", resume=True)


def test_images_without_labels_are_reported(tmp_path):
    with pytest.raises(UserError, match=r"have no labels, and the recipe says data.labels = true"):
        trainer(tmp_path / "run", data=images(labelled=False))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("labels", [torch.arange(48) - 1, torch.arange(48) * 1000])
def test_labels_that_number_no_classes_are_reported(tmp_path, labels):
    with pytest.raises(UserError, match=r"are no classes of 48 images\. Number the classes from 0"):
        trainer(tmp_path / "run", data=replace(images(), labels=labels))


@pytest.mark.parametrize("network", ["{kind='refinenet', width=4, conditional=false}", "{energy=true}"])
def test_networks_that_take_no_classes_are_reported(network):
    made = read_recipe("default", [LABELS, f"network={network}"])
    with pytest.raises(UserError, match=r"data.labels: only a plain U-Net takes a class"):
        build_model(made, (1, 8, 8), 3)


def test_the_grid_has_a_column_for_each_class(tmp_path, monkeypatch):
    drawn, columns = sys.modules["scorefield.training.previews"], []
    real = drawn.grid

    def spy(images, **settings):
        columns.append(settings["columns"])
        return real(images, **settings)

    monkeypatch.setattr(drawn, "grid", spy)
    for count in (6, 5):
        trainer(tmp_path / str(count), "training.steps=1", f"training.sample_count={count}").fit()
    assert columns == [3, None]
