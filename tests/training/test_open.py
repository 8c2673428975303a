"""Data, objectives, distributions, schedules and callbacks of one's own: each trains five steps."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from scorefield import checkpoint
from scorefield.errors import UserError
from scorefield.noise_distributions import DiscreteLevels, LogNormal
from scorefield.parameterization import EDM, NCSN
from scorefield.training import Noise, Recipe, Trainer, TrainingTask, read_recipe
from scorefield.training.losses import DenoisingObjective
from scorefield.training.state import load_state

from .toys import images, recipe

STEPS = "training.steps=5"


def trainer(out, *settings, data=None, base=None, **options):
    data = images() if data is None else data
    return Trainer(base or recipe(STEPS, *settings), out=out, data=data, device="cpu", **options)


def weights(run):
    return load_state(run)["network"]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Items(Dataset):
    """The toy images one by one, with or without their classes."""

    classes = ("flat", "slope", "cliff")

    def __init__(self, labelled=True, change=lambda pixels: pixels):
        self.set, self.labelled, self.change = images(), labelled, change

    def __len__(self):
        return len(self.set)

    def __getitem__(self, index):
        pixels = self.change(self.set.images[index])
        return (pixels, int(self.set.labels[index])) if self.labelled else pixels


def test_a_dataset_a_tensor_and_an_open_set_make_the_same_run(tmp_path):
    data = images()
    pairs = TensorDataset(data.images, data.labels)
    for name, given in (("set", data), ("tensor", data.images), ("items", Items()), ("plain", Items(labelled=False)),
                        ("torch", pairs)):  # fmt: skip
        trainer(tmp_path / name, data=given).fit()
    for name in ("tensor", "items", "plain", "torch"):
        assert equal(weights(tmp_path / "set"), weights(tmp_path / name))


def test_a_dataset_brings_its_classes(tmp_path):
    for name, given in (("set", images()), ("items", Items())):
        trainer(tmp_path / name, "data.labels=true", data=given).fit()
    assert equal(weights(tmp_path / "set"), weights(tmp_path / "items"))
    notes = checkpoint.read_card(tmp_path / "items" / "model.safetensors")["notes"]
    assert notes["class_names"] == list(Items.classes)


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_path_is_opened_as_the_recipe_says(tmp_path, kind):
    path = tmp_path / "few.npy"
    np.save(path, images().images.permute(0, 2, 3, 1).numpy())
    trainer(tmp_path / "path", data=kind(path)).fit()
    trainer(tmp_path / "set").fit()
    assert equal(weights(tmp_path / "path"), weights(tmp_path / "set"))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(images().images)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (torch.rand(8, 1, 8, 8), r"uint8 \(N, C, H, W\), got torch.float32"),
        (torch.zeros(8, 8, 8, dtype=torch.uint8), r"uint8 \(N, C, H, W\), got torch.uint8 \(8, 8, 8\)"),
        (Stream(), "needs a length and an index"),
        (Items(change=lambda pixels: pixels / 255), r"item 0 is torch.float32 \(1, 8, 8\), not a uint8 tensor"),
        (Items(change=lambda pixels: pixels.numpy()), "item 0 is ndarray"),
        (TensorDataset(torch.zeros(0, 1, 8, 8, dtype=torch.uint8)), "has no items"),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path, data, complaint):
    with pytest.raises(UserError, match=complaint):
        trainer(tmp_path / "run", data=data)
    assert not (tmp_path / "run").exists()


def test_a_dataset_without_classes_is_refused_where_the_recipe_needs_them(tmp_path):
    with pytest.raises(UserError, match="its items have no class"):
        trainer(tmp_path / "run", "data.labels=true", data=Items(labelled=False))


def test_an_objective_replaces_the_recipes(tmp_path):
    seen = []

    def mine(model, x0, sigma, *, condition, generator):
        seen.append((x0.shape, sigma.shape, condition))
        return DenoisingObjective()(model, x0, sigma, condition=condition, generator=generator)

    trainer(tmp_path / "mine", objective=mine).fit()
    trainer(tmp_path / "recipe").fit()
    assert seen == [((8, 1, 8, 8), (8,), None)] * 5
    assert equal(weights(tmp_path / "mine"), weights(tmp_path / "recipe"))
    with pytest.raises(UserError, match=r"its run has objective.kind = '.*mine', the recipe says 'denoising'"):
        trainer(tmp_path / "mine", resume=True)


@dataclass(frozen=True)
class Shifted:
    """A log-normal distribution of another name."""

    mean: float = -1.2

    def quantile(self, u):
        return LogNormal(mean=self.mean).quantile(u)


def test_a_distribution_of_ones_own_trains_and_resumes(tmp_path):
    mine = replace(recipe(STEPS), noise=Noise(distribution=Shifted(mean=-0.8)))
    trainer(tmp_path / "mine", base=mine).fit()
    trainer(tmp_path / "known", "noise.distribution={kind='log-normal', mean=-0.8}").fit()
    assert equal(weights(tmp_path / "mine"), weights(tmp_path / "known"))
    assert trainer(tmp_path / "mine", base=mine, resume=True).step == 5
    other = replace(mine, noise=Noise(distribution=Shifted(mean=-0.7)))
    with pytest.raises(UserError, match="its run has noise.distribution"):
        trainer(tmp_path / "mine", base=other, resume=True)


def test_a_schedule_of_ones_own_trains_in_python_and_in_a_file(tmp_path):
    sigmas = (10.0, 3.0, 1.0, 0.2)
    mine = replace(recipe(STEPS), noise=Noise.of(DiscreteLevels(sigmas=sigmas)), parameterization=NCSN())
    model = trainer(tmp_path / "run", base=mine).fit()
    assert model.schedule.tolist() == pytest.approx(sigmas)
    assert model.sigma_range == (0.2, 10.0)
    read = read_recipe(tmp_path / "run" / "recipe.toml")
    assert read.noise == mine.noise
    assert trainer(tmp_path / "run", base=read, resume=True).step == 5


@dataclass(frozen=True)
class Negative:
    """A(x) = −x, and the family that always draws it."""

    def __call__(self, x):
        return -x

    def pinv(self, y):
        return -y

    def draw(self, shape, *, generator):
        return self


def test_a_degradation_of_ones_own_is_learned(tmp_path):
    made = replace(
        recipe(STEPS), degradation=(TrainingTask(family=Negative(), name="invert"), TrainingTask(family=Negative()))
    )
    run = trainer(tmp_path / "run", base=made)
    model = run.fit()
    assert model.spec.tasks == ("invert", "custom")
    assert model.network.settings["source_channels"] == 1


class Notes:
    def __init__(self):
        self.steps, self.paths = [], []

    def on_step(self, trainer, step, loss):
        assert (trainer.step, loss.shape) == (step, ())
        self.steps.append(step)

    def on_checkpoint(self, trainer, path):
        self.paths.append((path, path.is_file()))


def test_callbacks_see_every_step_and_every_checkpoint(tmp_path):
    one, other = Notes(), Notes()
    trainer(tmp_path / "run", callbacks=[one, other]).fit()
    for notes in (one, other):
        assert notes.steps == [1, 2, 3, 4, 5]
        assert notes.paths == [(tmp_path / "run" / "model.safetensors", True)]


def test_a_recipe_is_built_in_python_as_in_a_file():
    built = Recipe(parameterization=EDM(sigma_data=0.8), noise=Noise(distribution=LogNormal(mean=-0.8), sigma_max=40.0))
    file = ["parameterization={kind='edm', sigma_data=0.8}",
            "noise={sigma_max=40.0, distribution={kind='log-normal', mean=-0.8}}"]  # fmt: skip
    assert built == replace(read_recipe("default", file), network=Recipe().network, optimizer=Recipe().optimizer)


def test_sections_that_contradict_each_other_are_refused_in_python_too():
    with pytest.raises(ValueError, match="a residual is the difference to a degraded image"):
        Recipe(parameterization=EDM(residual=True))
    with pytest.raises(ValueError, match="is not the distribution's own 1;"):
        Noise(distribution=DiscreteLevels(sigmas=(10.0, 1.0)))
