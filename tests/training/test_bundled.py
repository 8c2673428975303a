"""Every bundled recipe: it reads, builds its network, and says what the papers say."""

import sys
from functools import cache
from unittest.mock import patch

import pytest
import torch

from scorefield import networks, parameterization, schedules
from scorefield.training import Trainer, build_model, read_recipe
from scorefield.training.losses import DenoisingObjective
from scorefield.training.recipe import bundled_recipes

from .toys import images

PUBLISHED = ["ncsn-mnist", "ncsn-cifar10", "ncsn-celeba", "ncsnv2-cifar10", "ncsnv2-celeba"]
SMALL = ["ncsn-mnist-small", "ncsn-fashion-small"]
DDPM = ["ddpm-cifar10", "ddpm-fashion-small"]
TASKS = {"colorize", "inpaint", "uncrop", "dejpeg"}
SPECIALISTS = ["dejpeg", "denoise", "descratch", "upscale"]
PALETTE = ["palette", *(f"palette-{task}" for task in sorted(TASKS))]
PALETTE_SMALL = ["palette-small", *(f"palette-small-{task}" for task in sorted(TASKS))]


def weightless(recipe, shape):
    """The recipe's model without memory for its weights: the published ones have tens of millions."""
    real = networks.from_card

    def on_meta(card):
        with torch.device("meta"):
            return real(card)

    with patch.object(networks, "from_card", on_meta):
        return build_model(recipe, shape)


@cache
def model_of(name):
    """The model of that recipe, of colors where the data decides."""
    recipe = read_recipe(name)
    side = recipe.data.window or recipe.data.size or 28
    return weightless(recipe, (recipe.data.channels or 3, side, side))


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_bundled_recipe_builds_its_model(name):
    recipe = read_recipe(name)
    side = recipe.data.window or recipe.data.size or 28
    assert model_of(name).shape == (recipe.data.channels or 3, side, side)
    assert recipe.data.source == ""  # the data is the user's to name


@pytest.mark.parametrize("name", ["default", "demo", "fashion-classes"])
def test_a_recipe_that_leaves_the_channels_to_the_data_takes_grey_images_too(name):
    recipe = read_recipe(name)
    assert recipe.data.channels is None and weightless(recipe, (1, 28, 28)).shape == (1, 28, 28)


def test_the_recipes_are_those_expected():
    named = {"default", "demo", "fashion-classes", *SPECIALISTS, *PUBLISHED, *SMALL, *DDPM, *PALETTE, *PALETTE_SMALL}
    assert set(bundled_recipes()) == named


@pytest.mark.parametrize("name", SPECIALISTS)
def test_a_specialist_learns_the_task_of_its_name_by_one_evaluation(name):
    model = model_of(name)
    assert model.spec.tasks == (name,) and isinstance(model.parameterization, parameterization.Regression)


@pytest.mark.parametrize("name", [*PALETTE, *PALETTE_SMALL])
def test_palettes_recipes_learn_the_tasks_of_their_names(name):
    recipe, model = read_recipe(name), model_of(name)
    last = name.rpartition("-")[2]
    assert set(model.spec.tasks) == ({last} if last in TASKS else TASKS)
    weights = sum(weight.numel() for weight in model.network.parameters())
    if name in PALETTE_SMALL:
        assert weights == pytest.approx(3.26e6, rel=0.01)
        return
    # Saharia et al. (2022), §4
    assert weights == pytest.approx(552e6, rel=0.003)
    assert recipe.optimizer.batch == 1024
    assert (recipe.optimizer.lr, recipe.optimizer.warmup) == (1e-4, 10_000)
    assert (recipe.training.steps, recipe.average.decay) == (1_000_000, 0.9999)
    assert recipe.data.window == 256
    assert recipe.data.masked_input == 1
    schedule = torch.tensor(recipe.noise_levels.distribution.sigmas)
    torch.testing.assert_close(schedule, schedules.palette_training())


def test_palettes_baseline_is_a_line_of_its_recipe():
    model = weightless(read_recipe("palette", ['parameterization={kind="regression"}']), (3, 64, 64))
    assert model.parameterization.kind == "regression"
    assert model.schedule is not None
    assert len(model.schedule) == 1


def test_the_network_for_mnist_has_as_many_weights_as_the_authors():
    network = model_of("ncsn-mnist").network
    assert sum(weight.numel() for weight in network.parameters()) == 7_638_657


@pytest.mark.parametrize("name", PUBLISHED)
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
    schedule = {"ncsnv2-cifar10": (50.0, 232), "ncsnv2-celeba": (90.0, 500)}.get(name, (1.0, 10))
    levels = recipe.noise_levels.distribution.sigmas
    assert (len(levels), levels[0], levels[-1]) == pytest.approx((schedule[1], schedule[0], 0.01))
    assert levels == tuple(schedules.geometric(schedule[0], 0.01, schedule[1]).tolist())
    assert recipe.optimizer.batch == 128
    assert recipe.optimizer.lr == (1e-3 if first else 1e-4)
    assert (recipe.optimizer.warmup, recipe.optimizer.decay_after, recipe.optimizer.clip) == (0, 0, 0)
    assert recipe.average.decay == (0 if first else 0.999)
    steps = {"ncsnv2-cifar10": 300_000, "ncsnv2-celeba": 210_000}.get(name, 200_000)
    assert recipe.training.steps == steps
    assert (recipe.objective.p, recipe.objective.weight) == (2, "uniform")
    model = model_of(name)
    card = networks.to_card(model.network)
    assert card["levels"] == (10 if first else None)
    assert card["width"] == (64 if name == "ncsn-mnist" else 128)
    assert parameterization.to_card(model.parameterization)["sigmas"] == levels
    assert torch.allclose(model.schedule, torch.tensor(levels))


@pytest.mark.parametrize("name", PUBLISHED)
def test_adams_eps_is_the_authors_on_the_scale_of_our_loss(name):
    """Ours is the mean over pixels of what they halve and sum: 2/d times theirs, gradients likewise."""
    recipe = read_recipe(name)
    numbers = recipe.data.channels * recipe.data.size**2
    assert recipe.optimizer.eps == pytest.approx(1e-8 * 2 / numbers, rel=0.01)


@pytest.mark.parametrize("name", [SMALL[0], pytest.param(SMALL[1], marks=pytest.mark.slow)])
def test_the_small_recipes_train(tmp_path, name, monkeypatch):
    drawn = sys.modules["scorefield.training.previews"]
    monkeypatch.setattr(drawn, "sample", lambda model, n, **_: torch.zeros(n, *model.shape))
    settings = [
        "training.steps=1",
        "optimizer.batch=2",
        "training.sample_count=1",
        'training.precision="float32"',
    ]
    trainer = Trainer(read_recipe(name, settings), out=tmp_path / "run", data=images(8, 16), device="cpu")
    model = trainer.fit()
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())
    assert model.schedule.tolist() == pytest.approx(schedules.geometric(1.0, 0.01, 10).tolist())


@pytest.mark.parametrize("name", DDPM)
def test_the_ddpm_recipes_hold_the_papers_noise_and_objective(name):
    recipe = read_recipe(name)
    schedule = schedules.linear_beta(1e-4, 0.02, 1000)
    assert recipe.noise_levels.distribution.sigmas == tuple(schedule.tolist())
    assert recipe.objective == DenoisingObjective(p=2.0, weight="uniform")
    assert recipe.data.value_range == (-1.0, 1.0)
    model = model_of(name)
    card = parameterization.to_card(model.parameterization)
    assert (card["predicts"], card["conditioning"], card["sigmas"]) == ("noise", "index", tuple(schedule.tolist()))


def test_ddpm_on_cifar_holds_the_papers_numbers():
    recipe = read_recipe("ddpm-cifar10")  # Ho et al. (2020), App. B
    assert (recipe.data.size, recipe.data.channels, recipe.data.flip) == (32, 3, True)
    assert (recipe.network.widths, recipe.network.blocks) == ((128, 256, 256, 256), 2)
    assert (recipe.network.attention, recipe.network.dropout) == ((1,), 0.1)
    assert (recipe.optimizer.lr, recipe.optimizer.batch, recipe.optimizer.betas) == (2e-4, 128, (0.9, 0.999))
    assert (recipe.optimizer.warmup, recipe.optimizer.decay_after, recipe.optimizer.clip) == (5000, 0, 1)
    assert (recipe.average.decay, recipe.training.steps) == (0.9999, 800_000)
    network = model_of("ddpm-cifar10").network
    weights = sum(weight.numel() for weight in network.parameters())
    assert weights == 36_599_683  # the paper: 35.7 M; no second block in the middle, but scales beside shifts


def test_the_small_ddpm_recipe_trains(tmp_path, monkeypatch):
    drawn = sys.modules["scorefield.training.previews"]
    monkeypatch.setattr(drawn, "sample", lambda model, n, **_: torch.zeros(n, *model.shape))
    settings = ["training.steps=1", "optimizer.batch=2", 'training.precision="float32"']
    recipe = read_recipe("ddpm-fashion-small", settings)
    model = Trainer(recipe, out=tmp_path / "run", data=images(8, 16), device="cpu").fit()
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())
    assert torch.equal(model.schedule, schedules.linear_beta())


def test_l_simple_is_the_error_of_the_noise():
    """For a network that predicts ε, the objective is the mean of (ε − F)² (Ho et al. 2020, eq. 14)."""
    model = build_model(read_recipe("ddpm-fashion-small"), (1, 28, 28)).eval()  # zero at first
    x0, sigma = torch.zeros(4, 1, 28, 28), schedules.linear_beta()[::250]
    for objective in (read_recipe("ddpm-fashion-small").objective, read_recipe("default").objective):
        losses = objective(model, x0, sigma, generator=torch.Generator().manual_seed(0))
        drawn = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(losses, drawn.square().flatten(1).mean(1), rtol=1e-4, atol=0)
