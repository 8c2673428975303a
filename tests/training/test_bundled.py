"""Every bundled recipe: it reads, builds its network, and says what the papers say."""

import sys

import pytest
import torch

from scorefield import networks, noise, parameterization
from scorefield.training import Trainer, build_model, read_recipe
from scorefield.training.recipe import bundled_recipes

from .toys import pictures

PUBLISHED = ["ncsn-mnist", "ncsn-cifar10", "ncsn-celeba", "ncsnv2-cifar10", "ncsnv2-celeba"]
SMALL = ["ncsn-mnist-small", "ncsn-fashion-small"]


@pytest.fixture
def _weightless(monkeypatch):
    """Networks without memory for their weights: the published ones have tens of millions."""
    real = networks.from_card

    def on_meta(card):
        with torch.device("meta"):
            return real(card)

    monkeypatch.setattr(networks, "from_card", on_meta)


def size_of(recipe):
    return recipe.data.size or 28


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
@pytest.mark.usefixtures("_weightless")
def test_every_bundled_recipe_builds_its_model(name):
    recipe = read_recipe(name)
    side = size_of(recipe)
    for channels in {recipe.data.channels or 1, recipe.data.channels or 3}:
        assert build_model(recipe, (channels, side, side)).shape == (channels, side, side)
    assert recipe.data.source == ""  # the data is the user's to name


def test_the_recipes_are_those_expected():
    assert set(bundled_recipes()) == {"default", "demo", *PUBLISHED, *SMALL}


@pytest.mark.usefixtures("_weightless")
def test_the_network_for_mnist_has_as_many_weights_as_the_authors():
    network = build_model(read_recipe("ncsn-mnist"), (1, 28, 28)).network
    assert sum(weight.numel() for weight in network.parameters()) == 7_638_657


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.usefixtures("_weightless")
def test_the_published_recipes_hold_the_papers_numbers(name):
    recipe = read_recipe(name)
    first = not name.startswith("ncsnv2")
    faces, size = (
        name.endswith("celeba"),
        {"mnist": 28, "celeba": 32 if first else 64}.get(name.split("-")[1], 32),
    )
    assert (recipe.data.size, recipe.data.crop) == (size, 140 if faces else None)
    assert recipe.data.flip == (name != "ncsn-mnist")
    assert recipe.data.dequantize == first
    assert recipe.data.value_range == (0.0, 1.0)
    ladder = {"ncsnv2-cifar10": (50.0, 232), "ncsnv2-celeba": (90.0, 500)}.get(name, (1.0, 10))
    rungs = recipe.noise_law().sigmas
    assert (len(rungs), rungs[0], rungs[-1]) == pytest.approx((ladder[1], ladder[0], 0.01))
    assert rungs == tuple(noise.geometric(ladder[0], 0.01, ladder[1]).tolist())
    assert recipe.optimizer.batch == 128
    assert recipe.optimizer.lr == (1e-3 if first else 1e-4)
    assert (recipe.optimizer.warmup, recipe.optimizer.decay_after, recipe.optimizer.clip) == (0, 0, 0)
    assert recipe.average.decay == (0 if first else 0.999)
    steps = {"ncsnv2-cifar10": 300_000, "ncsnv2-celeba": 210_000}.get(name, 200_000)
    assert recipe.training.steps == steps
    assert (recipe.objective.p, recipe.objective.weight) == (2, "uniform")
    model = build_model(recipe, (recipe.data.channels, size, size))
    card = networks.to_card(model.network)
    assert card["levels"] == (10 if first else None)
    assert card["width"] == (64 if name == "ncsn-mnist" else 128)
    assert parameterization.to_card(model.parameterization)["sigmas"] == rungs
    assert torch.allclose(model.ladder, torch.tensor(rungs))


@pytest.mark.parametrize("name", PUBLISHED)
def test_adams_eps_is_the_authors_on_the_scale_of_our_loss(name):
    """Ours is the mean over pixels of what they halve and sum: 2/d times theirs, gradients likewise."""
    recipe = read_recipe(name)
    numbers = recipe.data.channels * recipe.data.size**2
    assert recipe.optimizer.eps == pytest.approx(1e-8 * 2 / numbers, rel=0.01)


@pytest.mark.parametrize("name", SMALL)
def test_the_small_recipes_train(tmp_path, name, monkeypatch):
    loop = sys.modules["scorefield.training.loop"]
    monkeypatch.setattr(loop, "sample", lambda model, n, **_: torch.zeros(n, *model.shape))
    settings = [
        "training.steps=1",
        "optimizer.batch=2",
        "training.sample_count=1",
        'training.precision="float32"',
    ]
    trainer = Trainer(read_recipe(name, settings), out=tmp_path / "run", data=pictures(8, 16), device="cpu")
    model = trainer.fit()
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())
    assert model.ladder.tolist() == pytest.approx(noise.geometric(1.0, 0.01, 10).tolist())
