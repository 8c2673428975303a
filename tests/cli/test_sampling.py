"""`sample` with the Langevin samplers' settings."""

import json
import re

import numpy as np
import pytest

from scorefield import checkpoint
from scorefield.model import ScoreModel
from scorefield.noise import geometric
from scorefield.parameterization import NCSN


@pytest.fixture(scope="module")
def ncsn(run, tmp_path_factory):
    """A model of three rungs."""
    base = checkpoint.load(run / "model.safetensors")
    family = NCSN(sigmas=tuple(geometric(1.0, 0.1, 3).tolist()))
    model = ScoreModel(base.network, family, shape=base.shape, value_range=(0.0, 1.0), sigma_range=(0.1, 1.0))
    return checkpoint.save(model, tmp_path_factory.mktemp("ncsn") / "ncsn.safetensors")


def facts_of(call, tmp_path, *arguments):
    told = call(
        "sample",
        *arguments,
        "-n",
        2,
        "--out",
        tmp_path / "s.npy",
        "--json",
        tmp_path / "s.json",
        "--overwrite",
    )
    assert told.code == 0, told.err
    return json.loads((tmp_path / "s.json").read_text()), np.load(tmp_path / "s.npy"), told.out


def test_a_model_of_few_rungs_is_walked_down_them(call, ncsn, tmp_path):
    facts, _, out = facts_of(call, tmp_path, ncsn, "--sampler", "annealed-langevin")
    assert facts["rungs"] == 3 and facts["evaluations"] == 300
    assert facts["settings"] == {
        "step_size": pytest.approx(0.002), "steps": 100, "denoise": False, "convention": "paper"
    }  # fmt: skip
    assert re.search(r"^settings +step_size 0\.002, steps 100, denoise False, convention paper$", out, re.M)


def test_every_setting_reaches_the_sampler(call, ncsn, tmp_path):
    asked = (
        "--sampler",
        "annealed-langevin",
        "--steps-each",
        2,
        "--step-size",
        "3e-4",
        "--convention",
        "code",
    )
    facts, first, _ = facts_of(call, tmp_path, ncsn, *asked, "--denoise", "--start", "uniform")
    assert facts["settings"] == {"step_size": 3e-4, "steps": 2, "denoise": True, "convention": "code"}
    assert (facts["start"], facts["evaluations"]) == ("uniform", 7)
    facts, second, _ = facts_of(call, tmp_path, ncsn, *asked, "--denoise")
    assert facts["start"] == "gaussian" and not np.array_equal(first, second)
    twice = (
        "--sampler",
        "annealed-langevin",
        "--steps-each",
        2,
        "--step-size",
        "6e-4",
        "--convention",
        "paper",
    )
    _, same, _ = facts_of(call, tmp_path, ncsn, *twice, "--denoise")
    assert np.array_equal(second, same)
    facts, _, _ = facts_of(call, tmp_path, ncsn, *asked, "--no-denoise")
    assert facts["settings"]["denoise"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step-size", "1e-5"], "step_size: the heun sampler has no such setting"),
        (["--steps-each", "5"], "steps_each: the heun sampler"),
        (["--convention", "code"], "convention: the heun sampler"),
        (["--no-denoise"], "denoise: the heun sampler"),
        (["--sampler", "langevin", "--denoise"], "denoise: the langevin sampler"),
        (["--sampler", "annealed-langevin", "--steps-each", "0"], "steps_each: need at least one, got 0"),
        (["--sampler", "annealed-langevin", "--step-size", "0"], "step_size > 0"),
        (["--sampler", "annealed-langevin", "--step-size", "nan"], "step_size > 0"),
        (["--sampler", "annealed-langevin", "--step-size", "big"], "--step-size"),
        (["--sampler", "annealed-langevin", "--convention", "papr"], "Did you mean `paper`?"),
        (["--start", "unifrom"], "Did you mean `uniform`?"),
        (["--sampler", "mala"], "no density"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_setting_that_cannot_be_is_told_in_one_line(call, run, tmp_path, arguments, words):
    line = call("sample", run, "-n", 1, "--out", tmp_path / "s.png", *arguments).complaint()
    assert words in line, line
    assert not (tmp_path / "s.png").exists()
