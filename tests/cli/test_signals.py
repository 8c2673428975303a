"""Training that is stopped from outside, as a process of its own and in this one."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from scorefield import checkpoint
from scorefield.training.state import load_state

from .conftest import sets


def once(condition, seconds=60.0):
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 128 + signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_training_after_saving_and_says_how_to_go_on(call, tiny, tmp_path, number, code):
    out = tmp_path / "run"

    def interrupt():
        once(lambda: (out / "log.csv").is_file() and (out / "log.csv").read_text().count("\n") > 1)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = call("train", tiny, "--out", out, "--set", "training.steps=1000000")
    thread.join()
    line = result.complaint(code)
    assert "everything is saved" in line
    assert "the same command and --resume auto" in line
    stopped = load_state(out)["step"]
    assert f"step {stopped};" in line
    result = call("train", tiny, "--out", out, "--resume", "auto", "--set", f"training.steps={stopped + 2}")
    assert result.code == 0, result.err
    assert load_state(out)["step"] == stopped + 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_kill_at_any_moment_leaves_whole_files_or_none(call, tiny, tmp_path, environment, seed):
    out = tmp_path / "run"
    often = sets("training.steps=1000000", 'training.save_every="0.01s"', 'training.sample_every="0.05s"')
    command = [sys.executable, "-m", "scorefield", "train", str(tiny), "--out", str(out), *often]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    once((out / "recipe.toml").is_file if seed == 0 else (out / "model.safetensors").is_file)
    time.sleep(random.Random(seed).random() * 0.3)
    process.kill()
    process.wait()
    state = load_state(out)
    step = state["step"] if state else 0
    if (out / "model.safetensors").exists():
        assert checkpoint.load(out / "model.safetensors").shape == (1, 8, 8)
    result = call("train", tiny, "--out", out, "--resume", "auto", "--set", f"training.steps={step + 3}")
    assert result.code == 0, result.err
    assert load_state(out)["step"] == step + 3
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0, 2.0])
def test_ctrl_c_while_the_program_starts_is_one_line(tiny, tmp_path, environment, seconds):
    """Before that Python itself is starting."""
    command = [sys.executable, "-m", "scorefield", "train", str(tiny), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, "--set", "training.steps=1000000"], env=environment, stderr=subprocess.PIPE, text=True
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, result = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in result and "stopped" in result.splitlines()[-1]


def test_another_rate_is_taken_by_set_and_reported(call, tiny, tmp_path):
    out = tmp_path / "run"
    assert call("train", tiny, "--out", out, "--set", "training.steps=2").code == 0
    result = call(
        "train", tiny, "--out", out, "--resume", "auto", "--set", "training.steps=4", "--set", "optimizer.lr=1e-4"
    )
    assert result.code == 0, result.err
    assert "changed at step 2: optimizer.lr = 0.0001, before 0.004" in result.err


def test_an_error_tells_what_is_saved(call, tiny, tmp_path, monkeypatch):
    from scorefield.data.batches import Batches

    true = Batches.batch
    monkeypatch.setattr(Batches, "batch", lambda self, step: true(self, step) if step < 3 else 1 / 0)
    line = call("train", tiny, "--out", tmp_path / "run").complaint(1)
    assert f"The 3 steps until then are saved in {tmp_path / 'run'}; --resume auto goes on." in line
    assert load_state(tmp_path / "run")["step"] == 3
