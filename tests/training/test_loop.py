"""The loop: what it computes, what it keeps, and where it stops."""

import csv
import errno
import gc
import math
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from scorefield import checkpoint
from scorefield.errors import UserError
from scorefield.hub import preferred_precision
from scorefield.training import Interrupted, Trainer, read_recipe
from scorefield.training.ema import averaging
from scorefield.training.state import load_state
from scorefield.training.steadiness import Diverged

from .toys import images, recipe

losses, shown = (sys.modules[f"scorefield.training.{name}"] for name in ("losses", "previews"))


def trainer(out, *settings, data=None, **options):
    return Trainer(recipe(*settings), out=out, data=data or images(), device="cpu", **options)


def rows(run):
    with (run / "log.csv").open() as file:
        return {int(row["step"]): row for row in csv.DictReader(file)}


def same(a, b):
    """Whether two nests of tensors and numbers are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


NCSN = [
    'network={kind="refinenet", width=4}',
    'parameterization={kind="ncsn"}',
    'noise={sigma_max=1.0, sigma_min=0.01, distribution={kind="levels", levels=2}}',
    "data.value_range=[0.0, 1.0]",
    "data.dequantize=true",
    'objective={weight="uniform"}',
    "optimizer.clip=0.0",
    "average.decay=0.0",
]


@pytest.mark.parametrize("first", [10, 7], ids=["at a row of the log", "between two rows"])
@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["network.dropout=0.3", "data.flip=true", "data.dequantize=true"],
        pytest.param(
            ['training.precision="bfloat16"'],
            marks=pytest.mark.skipif(
                preferred_precision("cpu") != torch.bfloat16, reason="no bfloat16 in this processor"
            ),
        ),
    ],
    ids=["plain", "dice", "bfloat16"],
)
def test_two_sessions_make_the_run_of_one_bit_for_bit(tmp_path, settings, first):
    trainer(tmp_path / "one", *settings).fit()
    trainer(tmp_path / "two", *settings, f"training.steps={first}").fit()
    torch.manual_seed(99)
    again = trainer(tmp_path / "two", *settings, resume=True)
    assert again.step == first
    again.fit()
    one, two = (load_state(tmp_path / run) for run in ("one", "two"))
    assert one["step"] == two["step"] == 20
    for part in one.keys() - {"seconds"}:
        assert same(one[part], two[part]), part
    if first % 5 == 0:
        for step, row in rows(tmp_path / "one").items():
            for key in ("images", "loss", "lr", "gradient_norm"):
                assert rows(tmp_path / "two")[step][key] == row[key]


@pytest.mark.parametrize(
    "settings",
    [NCSN, ["network.energy=true", 'objective={kind="sliced"}'], ["noise=auto"]],
    ids=["refinenet", "sliced energy", "automatic noise"],
)
def test_two_sessions_make_the_run_of_one_whatever_network_and_objective(tmp_path, settings, monkeypatch):
    trainer(tmp_path / "one", *settings, "training.steps=4").fit()
    trainer(tmp_path / "two", *settings, "training.steps=2").fit()
    torch.manual_seed(99)
    trainer(tmp_path / "two", *settings, "training.steps=4", resume=True).fit()
    one, two = (load_state(tmp_path / run) for run in ("one", "two"))
    for part in one.keys() - {"seconds"}:
        assert same(one[part], two[part]), part


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path):
    seeds = {"a": 0, "b": 0, "c": 1}
    for name, seed in seeds.items():
        trainer(tmp_path / name, f"training.seed={seed}", "training.steps=5").fit()
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in seeds)
    assert same(a, b)
    assert not same(a, c)


def test_what_fit_returns_is_what_was_saved(tmp_path):
    model = trainer(tmp_path / "run").fit()
    assert not model.training
    saved = checkpoint.load(tmp_path / "run" / "model.safetensors")
    assert same(dict(model.network.state_dict()), dict(saved.network.state_dict()))
    notes = checkpoint.read_card(tmp_path / "run" / "model.safetensors")["notes"]
    assert notes["images_seen"] == 20 * 8
    assert notes["data_digest"] == images().digest()


def test_once_its_decay_is_reached_the_average_is_torchs_exponential_one():
    """β = min(decay, 1 − 1/t) is the decay 1/2 from the second update on."""
    ours, theirs = (
        AveragedModel(nn.Linear(3, 2), multi_avg_fn=update)
        for update in (averaging(0.5, 1.0), get_ema_multi_avg_fn(0.5))
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        source = nn.Linear(3, 2)
        with torch.no_grad():
            source.weight.normal_(generator=generator)
            source.bias.normal_(generator=generator)
        ours.update_parameters(source)
        theirs.update_parameters(source)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_with_span_1_and_no_decay_the_average_is_the_mean_of_all_steps():
    average = AveragedModel(nn.Linear(1, 1, bias=False), multi_avg_fn=averaging(1 - 1e-12, 1.0))
    values = torch.randn(50, generator=torch.Generator().manual_seed(0))
    source = nn.Linear(1, 1, bias=False)
    for value in values:
        nn.init.constant_(source.weight, float(value))
        average.update_parameters(source)
    assert average.module.weight.item() == pytest.approx(float(values.mean()), abs=1e-6)


def test_the_rate_in_the_log_is_the_schedules(tmp_path):
    trainer(tmp_path / "run", "optimizer.lr=0.001", "optimizer.warmup=10", "optimizer.decay_after=11").fit()
    rates = {step: float(row["lr"]) for step, row in rows(tmp_path / "run").items()}
    expected = {5: 0.0005, 10: 0.001, 15: 0.001 * (11 / 14) ** 0.5, 20: 0.001 * (11 / 19) ** 0.5}
    assert rates == pytest.approx(expected, rel=1e-5)


def test_the_rate_cools_down_to_0_as_half_a_cosine(tmp_path):
    trainer(tmp_path / "run", "optimizer.lr=0.001", "optimizer.warmup=0", "optimizer.cooldown=0.5").fit()
    rates = {step: float(row["lr"]) for step, row in rows(tmp_path / "run").items()}
    expected = {step: 0.0005 * (1 + math.cos(math.pi * max(0, step - 11) / 10)) for step in (5, 10, 15, 20)}
    assert rates == pytest.approx(expected, rel=1e-5)  # of 20 steps, the last with index 19


def test_the_gradient_is_clipped_to_the_norm_requested(tmp_path, monkeypatch):
    made = trainer(tmp_path / "run", "optimizer.clip=0.001", "training.steps=3")
    applied = []

    def step():
        gradients = [p.grad for p in made.model.parameters() if p.grad is not None]
        applied.append(torch.cat([g.flatten() for g in gradients]).norm().item())

    monkeypatch.setattr(made.optimizer, "step", step)
    made.fit()
    assert applied == pytest.approx([0.001] * 3, rel=1e-3)
    assert float(rows(tmp_path / "run")[3]["gradient_norm"]) > 0.01  # the log has the norm before


def test_a_clip_of_0_leaves_the_gradient_as_it_is(tmp_path):
    for name, clip in (("off", 0), ("wide", 1e6)):
        trainer(tmp_path / name, f"optimizer.clip={clip}", "training.steps=5").fit()
    off, wide = (load_state(tmp_path / name)["network"] for name in ("off", "wide"))
    assert same(off, wide)


def test_without_an_average_the_last_weights_are_the_model(tmp_path):
    trainer(tmp_path / "run", "average.decay=0.0", "training.steps=5").fit()
    saved = load_file(tmp_path / "run" / "model.safetensors")
    assert same(saved, dict(load_state(tmp_path / "run")["network"]))


def test_adam_gets_the_recipes_betas_and_eps(tmp_path):
    made = trainer(tmp_path / "run", "optimizer.betas=[0.5, 0.75]", "optimizer.eps=1e-3")
    group = made.optimizer.param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.5, 0.75), 1e-3)


def test_the_loss_falls_on_a_toy_set(tmp_path):
    more = ("training.steps=120", "training.log_every=20", "optimizer.lr=0.01", "optimizer.batch=32")
    trainer(tmp_path / "run", *more).fit()
    losses = [float(row["loss"]) for row in rows(tmp_path / "run").values()]
    assert losses[-1] < 0.6 * losses[0]  # measured 0.80 and 0.32


def test_a_broken_loss_never_reaches_a_checkpoint_even_between_two_rows_of_the_log(tmp_path, monkeypatch):
    true, calls = losses.denoising_score_matching, []

    def breaks(*args, **settings):
        calls.append(1)
        return true(*args, **settings) * (float("nan") if len(calls) > 6 else 1.0)

    monkeypatch.setattr(losses, "denoising_score_matching", breaks)
    settings = ("training.log_every=50", 'training.save_every="0.000001s"', "training.steps=50")
    with pytest.warns(UserWarning, match="other noise"), pytest.raises(Diverged, match=r"to step \d+; the last checkp"):
        trainer(tmp_path / "run", *settings).fit()
    assert 1 <= load_state(tmp_path / "run")["step"] <= 6
    kept = load_file(tmp_path / "run" / "model.safetensors")
    assert all(bool(weight.isfinite().all()) for weight in kept.values())


def test_memory_does_not_grow_with_the_steps(tmp_path):
    alive = {}

    def count(now):
        gc.collect()
        alive[now.step] = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    trainer(tmp_path / "run", "training.steps=60", "training.log_every=10", report=count).fit()
    assert alive[60] <= alive[30]


def test_grids_are_drawn_from_the_averaged_weights_and_always_from_one_noise(tmp_path, monkeypatch):
    true, drawn = shown.sample, []

    def spy(model, n, *, classes, steps, seed):
        drawn.append(([p.data_ptr() for p in model.network.parameters()], model.training, n, seed))
        return true(model, n, classes=classes, steps=steps, seed=seed)

    monkeypatch.setattr(shown, "sample", spy)
    made = trainer(tmp_path / "run", 'training.sample_every="0.000001s"', "training.steps=3")
    made.fit()
    assert drawn == [([p.data_ptr() for p in made.average.module.parameters()], False, 2, 0)] * 3
    grids = sorted((tmp_path / "run" / "samples").iterdir())
    assert [grid.name for grid in grids] == ["0000001.png", "0000002.png", "0000003.png"]
    with Image.open(grids[0]) as image:
        assert image.mode == "L"


@pytest.mark.skipif(preferred_precision("cpu") != torch.bfloat16, reason="no bfloat16 in this processor")
def test_bfloat16_inside_keeps_float32_weights_and_about_the_same_loss(tmp_path):
    losses = {}
    for precision in ("float32", "bfloat16"):
        made = trainer(tmp_path / precision, f'training.precision="{precision}"', "training.steps=5")
        made.fit()
        assert made.model.precision == getattr(torch, precision)
        assert {p.dtype for p in made.model.parameters()} == {torch.float32}
        losses[precision] = float(rows(tmp_path / precision)[5]["loss"])
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.03)


def test_fewer_images_than_a_batch_train_too(tmp_path):
    model = trainer(tmp_path / "run", data=images(3), **{}).fit()
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


def test_color_and_oblong_images_train_too(tmp_path):
    oblong = images(8, 12, 3)
    cut = type(oblong)(images=oblong.images[:, :, :7], labels=None, name="cut", source="here")
    assert trainer(tmp_path / "run", "training.steps=2", data=cut).fit().shape == (3, 7, 12)


def test_reports_rise_to_the_whole_length(tmp_path):
    reports = []
    trainer(tmp_path / "run", report=reports.append).fit()
    assert [now.step for now in reports] == [5, 10, 15, 20]
    assert [now.share for now in reports] == pytest.approx([0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_session_without_length_is_reported(tmp_path, seconds):
    with pytest.raises(UserError, match="needs a length"):
        trainer(tmp_path / "run", stop_after=seconds)


def test_a_recipe_without_data_is_reported(tmp_path):
    with pytest.raises(UserError, match="names no data"):
        Trainer(recipe(), out=tmp_path / "run")


# --- stopping and going on -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_the_next_step_and_leaves_the_handlers_as_they_were(tmp_path, number):
    before = signal.getsignal(number)

    def interrupt(now):
        if now.step == 5:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="everything is saved") as stopped:
        trainer(tmp_path / "run", report=interrupt).fit()
    assert (stopped.value.signum, stopped.value.step) == (number, 6)
    assert signal.getsignal(number) is before
    trainer(tmp_path / "whole").fit()
    trainer(tmp_path / "run", resume=True).fit()
    assert same(load_state(tmp_path / "run")["network"], load_state(tmp_path / "whole")["network"])


def test_training_works_in_a_thread_where_no_signal_comes(tmp_path):
    done = []
    thread = threading.Thread(target=lambda: done.append(trainer(tmp_path / "run").fit()))
    thread.start()
    thread.join()
    assert done


def test_a_run_killed_before_its_first_checkpoint_begins_anew_in_its_folder(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text(recipe().to_toml())
    (run / "log.csv").touch()
    for part in (".part-log-abc.csv", ".part-model-abc.safetensors", "checkpoints/.part-checkpoint-abc.pt"):
        (run / part).parent.mkdir(exist_ok=True)
        (run / part).write_bytes(b"half")
    (run / "samples").mkdir()
    (run / "samples" / ".part-0000001-abc.png").write_bytes(b"half")
    trainer(run, resume=True).fit()
    assert load_state(run)["step"] == 20
    assert sorted(rows(run)) == [5, 10, 15, 20]
    assert not list(run.rglob(".*"))


def test_resuming_where_nothing_is_begins(tmp_path):
    assert trainer(tmp_path / "run", resume=True).step == 0


def test_a_taken_folder_is_left_as_it_was(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(UserError, match="already exists"):
            trainer(tmp_path / "run", resume=resume)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_run_goes_on_longer_or_logging_otherwise_but_by_no_other_recipe(tmp_path):
    trainer(tmp_path / "run", "training.steps=2").fit()
    for change in ("optimizer.lr=0.5", "training.seed=3", "noise.sigma_max=9.0", "network.widths=[16]"):
        key = change.partition("=")[0]
        with pytest.raises(UserError, match=f"its run has {key} = ") as error:
            trainer(tmp_path / "run", change, resume=True)
        assert "recipe.toml" in str(error.value)
    longer = trainer(tmp_path / "run", "training.steps=4", "training.log_every=1", resume=True)
    longer.fit()
    assert read_recipe(tmp_path / "run" / "recipe.toml") == longer.recipe
    assert sorted(rows(tmp_path / "run")) == [2, 3, 4]


def test_a_disk_that_fills_while_the_model_is_written_leaves_the_last_one(tmp_path, monkeypatch):
    trainer(tmp_path / "run", "training.steps=2").fit()
    before = (tmp_path / "run" / "model.safetensors").read_bytes()

    write = Path.write_bytes

    def full(path, content):
        if not path.name.startswith(".part-model"):
            return write(path, content)
        write(path, content[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    again = trainer(tmp_path / "run", resume=True)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            again.fit()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    assert load_state(tmp_path / "run")["step"] == 20
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
