"""A run can stop anywhere and go on exactly; what it writes is whole."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import scorefield as sf
from scorefield.errors import UserError
from scorefield.training import Recipe, Trainer, build_model, read_recipe
from scorefield.training.loop import _averaging, _schedule
from scorefield.training.recipe import bundled_recipes

TINY = [
    "network.widths=[8]",
    "network.patch=2",
    "optimizer.batch=8",
    "optimizer.warmup=3",
    "training.log_every=5",
    "training.sample_count=2",
    'training.sample_every="1d"',
    'training.save_every="1d"',
]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "tiny.npz"
    np.savez(path, images=rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8), labels=np.arange(40) % 2)
    return path


def recipe(pictures: Path, *more: str) -> Recipe:
    return read_recipe("default", [f'data.source="{pictures}"', *TINY, *more])


def rows(run: Path) -> list[tuple[str, str]]:
    with (run / "log.csv").open() as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(pictures, tmp_path):
    dice = ["network.dropout=0.2", "data.flip=true", "data.dequantize=true"]
    whole = Trainer(recipe(pictures, "training.steps=20", *dice), out=tmp_path / "whole")
    whole.fit()
    Trainer(recipe(pictures, "training.steps=10", *dice), out=tmp_path / "parts").fit()
    torch.manual_seed(99)  # what happens between the sessions must not matter
    parts = Trainer(recipe(pictures, "training.steps=20", *dice), out=tmp_path / "parts", resume=True)
    assert parts.step == 10
    parts.fit()
    for name, value in whole.model.network.state_dict().items():
        assert torch.equal(value, parts.model.network.state_dict()[name]), name
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, parts.average.state_dict()[name]), name
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_the_written_recipe_reads_back_the_same(pictures, tmp_path):
    wanted = recipe(pictures, "training.steps=2")
    Trainer(wanted, out=tmp_path / "run").fit()
    assert read_recipe(tmp_path / "run" / "recipe.toml") == wanted


def test_a_run_writes_what_it_promises_and_the_model_loads(pictures, tmp_path):
    averaged = Trainer(recipe(pictures, "training.steps=5"), out=tmp_path / "run").fit()
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "state.pt", "recipe.toml", "log.csv", "samples", "tensorboard"} <= names
    loaded = sf.load(tmp_path / "run", precision=torch.float32)
    averaged.precision = torch.float32
    x, sigma = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 3.0])
    assert torch.equal(loaded(x, sigma), averaged(x, sigma))


def test_a_taken_folder_is_refused_and_another_recipe_named(pictures, tmp_path):
    Trainer(recipe(pictures, "training.steps=2"), out=tmp_path / "run").fit()
    with pytest.raises(UserError, match="already exists. Pass --resume auto"):
        Trainer(recipe(pictures, "training.steps=4"), out=tmp_path / "run")
    with pytest.raises(UserError, match=r"optimizer.lr"):
        Trainer(recipe(pictures, "optimizer.lr=0.5"), out=tmp_path / "run", resume=True)


def test_a_half_written_state_is_told(pictures, tmp_path):
    Trainer(recipe(pictures, "training.steps=2"), out=tmp_path / "run").fit()
    state = tmp_path / "run" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        Trainer(recipe(pictures, "training.steps=4"), out=tmp_path / "run", resume=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(pictures, tmp_path, monkeypatch):
    Trainer(recipe(pictures, "training.steps=2"), out=tmp_path / "run").fit()
    before = (tmp_path / "run" / "state.pt").read_bytes()

    def full(state: object, file: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        Trainer(recipe(pictures, "training.steps=4"), out=tmp_path / "run", resume=True).fit()
    assert (tmp_path / "run" / "state.pt").read_bytes() == before
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(pictures, tmp_path):
    Trainer(recipe(pictures, "training.steps=2"), out=tmp_path / "run").fit()
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    trainer = Trainer(recipe(pictures, "training.steps=9"), out=tmp_path / "run", resume=True)
    with torch.no_grad():
        trainer.model.network.first.weight.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="the last checkpoint stands"):
        trainer.fit()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_the_average_covers_the_last_share_of_the_steps():
    """The mean of 1, 2, …, t weighted by k^(1/span − 1): for span 0.1 and large t it is t·10/11."""
    update = _averaging(0.9999, 0.1)
    average = [torch.tensor([1.0])]
    for t in range(1, 2000):
        update(average, [torch.tensor([t + 1.0])], t)
    assert average[0].item() == pytest.approx(2000 * 10 / 11, rel=1e-2)


def test_the_rate_warms_up_holds_and_falls_as_one_over_root():
    assert _schedule(0, 10, 100) == pytest.approx(0.1)
    assert _schedule(50, 10, 100) == 1
    assert _schedule(400, 10, 100) == pytest.approx(0.5)
    assert _schedule(400, 10, 0) == 1


def test_training_learns_a_blank_picture(tmp_path):
    """All pictures are one: D is that picture, so the network's error falls far below its start, 1."""
    np.savez(tmp_path / "one.npz", images=np.full((16, 8, 8, 1), 200, dtype=np.uint8))
    source = recipe(tmp_path / "one.npz", "training.steps=150", "optimizer.lr=5e-3")
    trainer = Trainer(source, out=tmp_path / "run")
    model = trainer.fit()
    drawn = sf.sample(model, 4, steps=9)
    assert float(drawn.mean()) == pytest.approx(200 / 127.5 - 1, abs=0.15)
    losses = [float(loss) for _, loss in rows(tmp_path / "run")]
    assert losses[-1] < 0.25 * losses[0]


def test_stop_after_ends_the_session_and_counts_its_seconds(pictures, tmp_path):
    trainer = Trainer(recipe(pictures), out=tmp_path / "run", stop_after=0.5)
    trainer.fit()
    assert 0 < trainer.step < 200_000
    assert 0.5 <= trainer.seconds < 30


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_bundled_recipe_builds_its_model(name):
    assert build_model(read_recipe(name), (1, 28, 28)).shape == (1, 28, 28)


@pytest.mark.parametrize("parameterization", ["noise", "data", "velocity", "ncsnv2", "ncsn"])
def test_every_parameterization_trains(pictures, tmp_path, parameterization):
    settings = [f'parameterization={{kind="{parameterization}"}}', "training.steps=2", "noise.sigma_max=10"]
    law = 'noise.law={kind="rungs", levels=5}'
    model = Trainer(recipe(pictures, *settings, law), out=tmp_path / "run").fit()
    assert torch.isfinite(sf.sample(model, 2, steps=3)).all()


def run_in_background(pictures: Path, out: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "scorefield",
        "train",
        "default",
        "--data",
        str(pictures),
        "--out",
        str(out),
    ]
    settings = [part for text in [*TINY, 'training.save_every="0.2s"'] for part in ("--set", text)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, *settings, "--resume", "auto"], stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 90
    while not (out / "model.safetensors").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_tells_how_to_go_on(pictures, tmp_path, number, code):
    process = run_in_background(pictures, tmp_path / "run")
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    assert process.stderr is not None
    assert "--resume auto" in process.stderr.read()
    assert Trainer(recipe(pictures), out=tmp_path / "run", resume=True).step > 0


@pytest.mark.slow
def test_a_kill_leaves_a_run_that_goes_on(pictures, tmp_path):
    process = run_in_background(pictures, tmp_path / "run")
    process.kill()
    process.wait(timeout=60)
    assert Trainer(recipe(pictures), out=tmp_path / "run", resume=True).step > 0
    assert sf.load(tmp_path / "run").shape == (1, 8, 8)
