"""Training of restoration models: their batches, their loss, and what they keep."""

import hashlib

import pytest
import torch
from torch import nn

from oracles import ramp, seeded
from scorefield import checkpoint
from scorefield.data.crops import open_crops
from scorefield.degradations import CenterBox, Grey
from scorefield.errors import UserError
from scorefield.model import Condition, ModelSpec, ScoreModel
from scorefield.objectives import denoising_score_matching
from scorefield.parameterization import EDM, Regression
from scorefield.samplers import plan
from scorefield.training import Trainer, read_recipe
from scorefield.training.batch import Loader, degrade
from scorefield.training.settings import Pairs, TrainingTask

from .toys import images, recipe

FOUR = 'degradation=[{kind="grey"}, {kind="masks"}, {kind="uncrop"}, {kind="jpeg", quality=[5, 30], weight=2.0}]'
SMALL = ("network.widths=[8, 8]", "data.window=16", "data.channels=3")


@pytest.fixture
def photographs(tmp_path):
    for name in "ab":
        ramp(tmp_path / "photos" / f"{name}.png", 60, 50)
    return open_crops(tmp_path / "photos", 16, zoom=(0.5, 1.0))


def feed(*settings, data=None):
    return Loader(recipe(*settings), data or images(channels=3), torch.device("cpu"))


class Recorder(nn.Module):
    """A network that keeps its inputs and returns a constant."""

    def __init__(self, output=0.0):
        super().__init__()
        self.output = nn.Parameter(torch.tensor(output))

    def forward(self, x, label, source=None):
        self.x, self.source = x, source
        return torch.zeros_like(x) + self.output


def test_a_batch_and_its_degradation_are_functions_of_seed_and_step():
    with feed(FOUR) as one, feed(FOUR) as other:
        for step in (0, 1, 5):
            a, b = one(step), other.batch(step)
            assert torch.equal(a.x0, b.x0)
            assert torch.equal(a.condition.source, b.condition.source)
            assert torch.equal(a.condition.mask, b.condition.mask)
        assert not torch.equal(one(7).condition.source, one(8).condition.source)


def test_the_random_streams_of_training_keep_their_seeds():
    """A stream's seed is a digest of its name: renaming one would silently give another training."""
    with feed(FOUR) as loader:
        batch, streams = loader.batch(3), loader.batches
        generator = torch.Generator()
        digest = hashlib.sha256(f"damage:{loader.recipe.training.seed}:3".encode()).digest()
        generator.manual_seed(int.from_bytes(digest[:7], "big"))
        fill = loader.recipe.data.masked_input
        same = degrade(loader.recipe.degradation, streams.batch(3), masked_input=fill, generator=generator)
    assert torch.equal(batch.condition.source, same.condition.source)
    assert torch.equal(batch.condition.mask, same.condition.mask)


def test_the_degradations_keep_their_weights_next_to_pairs():
    tasks = (
        TrainingTask(family=Pairs(), weight=5.0, loss=7.0),
        TrainingTask(family=Grey(), weight=1.0, loss=2.0),
        TrainingTask(family=CenterBox(), weight=1e-9, loss=3.0),  # so rare that eight images never draw it
    )
    x0 = torch.rand(8, 3, 8, 8, generator=seeded())
    batch = degrade(tasks, x0, generator=seeded())
    assert batch.weights.tolist() == [2.0] * 8
    assert torch.equal(batch.condition.source, Grey()(x0).expand(-1, 3, -1, -1))


def test_outside_the_mask_the_source_is_the_image_itself():
    with feed('degradation=[{kind="masks"}, {kind="uncrop"}]') as batches:
        fed = batches(0)
    known = (fed.condition.mask == 0).expand_as(fed.x0)
    assert torch.equal(fed.condition.source[known], fed.x0[known])
    masked = fed.condition.source[~known]
    assert float(masked.std()) == pytest.approx(1, abs=0.1)  # N(0, 1), whatever lay there


def test_masked_pixels_may_be_grey():
    with feed('degradation=[{kind="masks"}, {kind="grey"}]', "data.masked_input=0.0") as batches:
        fed = batches(0)
    mask, source = fed.condition.mask, fed.condition.source
    holed = (mask == 0).flatten(1).any(1)
    assert 0 < int(holed.sum()) < len(mask)
    assert not (source * mask)[holed].any()  # 0 under the mask
    assert source[~holed].abs().mean() > 0.1  # and what is degraded all over is shown as it is


def test_the_loss_is_the_mean_over_the_masked_pixels():
    # D = 0 at every pixel: the loss is |x0/σ|^p over the masked pixels, whatever the known ones hold.
    model = ScoreModel(Recorder(), Regression(), ModelSpec(shape=(3, 8, 8)))
    x0 = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:4, 1:7] = 1
    sigma = torch.tensor([0.5, 2.0])
    for p in (1, 2):
        loss = denoising_score_matching(
            model, x0, sigma, condition=Condition(source=x0, mask=mask), p=p,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        expected = (x0[:, :, 2:4, 1:7].flatten(1).abs() / sigma[:, None]).pow(p).mean(1)
        torch.testing.assert_close(loss, expected)


def test_known_pixels_reach_the_network_clean_at_every_noise_level():
    network = Recorder()
    model = ScoreModel(network, EDM(), ModelSpec(shape=(3, 8, 8)))
    x = torch.randn(1, 3, 8, 8) * 50
    source, mask = torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    model(x, torch.tensor([50.0]), Condition(source=source, mask=mask))
    assert torch.equal(network.x[..., :4], source[..., :4])
    assert torch.equal(network.source, source)


def test_a_regression_sees_nothing_of_x_and_takes_one_evaluation():
    network = Recorder(0.25)
    model = ScoreModel(network, Regression(), ModelSpec(shape=(3, 8, 8), sigma_range=(1.0, 1.0)))
    x, y = torch.randn(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    given = model.given(Condition(source=y, mask=torch.ones(1, 1, 8, 8)))
    denoised = given(x, torch.tensor([1.0]))
    assert torch.equal(denoised, torch.full_like(x, 0.25))
    assert not network.x.any()
    torch.testing.assert_close(given.noise(x, torch.tensor([2.0])), (x - 0.25) / 2)
    for sampler in ("heun", "dpm++-2m", "ddim", "euler"):
        way = plan(model, sampler)
        assert way.evaluations == 1
        *_, last = way.sampler.iterate(given, x, way.sigmas, generator=torch.Generator())
        torch.testing.assert_close(last.x, torch.full_like(x, 0.25))


@pytest.mark.parametrize(
    "family", ['{kind="edm"}', '{kind="edm", residual=true}', '{kind="regression"}', '{kind="variance-preserving"}']
)
def test_a_model_that_restores_trains_resumes_and_keeps_its_tasks(tmp_path, photographs, family):
    settings = (
        FOUR, *SMALL, f"parameterization={family}", "training.steps=4", "training.sample_count=6",
        "training.log_every=1",
    )  # fmt: skip
    whole = Trainer(recipe(*settings), out=tmp_path / "whole", data=photographs, device="cpu").fit()
    for steps in (2, 4):
        Trainer(
            recipe(*settings, f"training.steps={steps}"), out=tmp_path / "parts", data=photographs,
            device="cpu", resume=True,
        ).fit()  # fmt: skip
    parts = checkpoint.load(tmp_path / "parts" / "model.safetensors")
    assert parts.spec.tasks == ("colorize", "inpaint", "uncrop", "dejpeg")
    assert whole.network.settings["source_channels"] == 3
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a, b)
    assert list((tmp_path / "whole" / "samples").glob("*.png"))


def test_pairs_teach_the_second_of_the_first(tmp_path):
    for name in ("before", "after"):
        ramp(tmp_path / "pairs" / name / "a.png", 60, 50)
    settings = ('degradation=[{kind="paired"}]', *SMALL, f'data.source="{tmp_path / "pairs"}"', "training.steps=2")
    model = Trainer(recipe(*settings), out=tmp_path / "run", device="cpu").fit()
    assert model.spec.tasks == ("paired",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (['degradation=[{kind="gray"}]'], "degradation.*no such kind 'gray'.*grey"),
        (['degradation=[{kind="jpeg", quality=[5, 300]}]'], "degradation.*100"),
        (['degradation=[{kind="jpeg", qualty=[5, 30]}]'], "no such setting.*quality"),
        (['degradation=[{kind="paired"}, {kind="grey"}]'], "pairs are the only task"),
        (['degradation=[{kind="grey"}]', 'objective={kind="sliced"}'], "learns by denoising"),
        (['parameterization={kind="regression"}'], "needs a degraded image"),
        (['parameterization={kind="edm", residual=true}'], "a residual is the difference to"),
        (["data.window=16", "data.crop=32"], "window goes with"),
        (["data.window=16", "data.zoom=[1.0, 0.5]"], "zoom must rise"),
    ],
)
def test_settings_that_cannot_be_are_reported(settings, message):
    with pytest.raises(UserError, match=message):
        read_recipe("default", settings)


def test_a_run_may_begin_with_the_weights_of_another(tmp_path, photographs):
    settings = (FOUR, *SMALL, "training.steps=2")
    first = Trainer(recipe(*settings), out=tmp_path / "first", data=photographs, device="cpu").fit()
    more = [*settings, f'training.init="{tmp_path / "first"}"', 'noise.distribution={kind="log-normal", mean=2.0}']
    second = Trainer(recipe(*more), out=tmp_path / "second", data=photographs, device="cpu")
    for a, b in zip(first.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UserError, match="made for another network"):
        other = recipe(*more, "network.widths=[16, 16]")
        Trainer(other, out=tmp_path / "third", data=photographs, device="cpu")
