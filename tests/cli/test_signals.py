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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
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
