"""The program, called in this process."""

import io
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from unittest.mock import patch

import pytest
import torch
import typer.main

from oracles import lively, ramp
from scorefield import checkpoint
from scorefield.cli import main
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.networks import UNet
from scorefield.parameterization import EDM, Regression
from training.toys import SETTINGS, write_set


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call ended."""

    code: int
    out: str
    err: str

    def complaint(self, code=2):
        """The one line of complaint on standard error, its last, once the code is seen to be this."""
        assert self.code == code, f"{self.code}\n{self.out}\n{self.err}"
        *before, last = self.err.splitlines()
        assert all(re.search("ETA|images, |resuming at", line) for line in before), self.err
        assert last.startswith("scorefield: ")
        return last


commands = cache(typer.main.get_command)  # the tree of verbs and options, built once, not at every call


def call(*arguments):
    """Run `scorefield arguments…`."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["scorefield", *map(str, arguments)]
    tree = patch.object(typer.main, "get_command", commands)
    with patch.object(sys, "argv", argv), tree, redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    return Outcome(code=int(code or 0), out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="session", name="call")
def _call():
    return call


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A labelled .npz of 8×8 images with a test split."""
    return write_set(tmp_path_factory.mktemp("data") / "ramps.npz")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, data):
    """A recipe file that names the data."""
    made = call("train", "default", "--data", data, "--out", "unused", "--dry-run", *sets(*SETTINGS))
    assert made.code == 0, made.err
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(made.out)
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory, tiny):
    """A run of twenty steps."""
    out = tmp_path_factory.mktemp("runs") / "run"
    made = call("train", tiny, "--out", out)
    assert made.code == 0, made.err
    return out


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for split, names in (("train", "ab"), ("test", "cd")):
        for name in names:
            ramp(folder / split / f"{name}.png", 50, 40)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """One that restores, its regression, one of colors alone, and one of images alone."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "restores": (("dejpeg", "inpaint"), EDM(), 3),
        "regression": (("dejpeg", "inpaint"), Regression(), 3),
        "colors": (("colorize",), EDM(), 3),
        "alone": ((), EDM(), 0),
    }
    for name, (tasks, family, source) in made.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = lively(UNet(channels=3, widths=(8, 8), source_channels=source))
        sigmas = (1.0, 1.0) if isinstance(family, Regression) else (0.01, 20.0)
        model = ScoreModel(
            network, family, ModelSpec(shape=(3, 16, 16), sigma_range=sigmas, restoration=RestorationSpec(tasks=tasks))
        )
        checkpoint.save(model, folder / name / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def restorer(tmp_path_factory):
    """A file with an untrained model that restores."""
    torch.manual_seed(0)
    network = UNet(channels=3, source_channels=3, widths=(8, 8))
    tasks = RestorationSpec(tasks=("colorize", "inpaint", "uncrop", "dejpeg"))
    model = ScoreModel(network, EDM(), ModelSpec(shape=(3, 16, 16), sigma_range=(0.01, 10.0), restoration=tasks))
    return checkpoint.save(model, tmp_path_factory.mktemp("restorer") / "model.safetensors")


def sets(*settings):
    """`--set` before each of the settings."""
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture
def environment():
    """For a process of its own: one thread."""
    return os.environ | {"OMP_NUM_THREADS": "1"}
