"""`sample` with the Langevin samplers' settings."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from scorefield import checkpoint
from scorefield.model import ModelSpec, ScoreModel
from scorefield.parameterization import NCSN
from scorefield.sampler_names import SAMPLER_SUMMARIES
from scorefield.schedules import geometric


@pytest.fixture(scope="module")
def ncsn(run, tmp_path_factory):
    """A model of three noise levels."""
    base = checkpoint.load(run / "model.safetensors")
    family = NCSN(sigmas=tuple(geometric(1.0, 0.1, 3).tolist()))
    model = ScoreModel(
        base.network, family, ModelSpec(shape=base.shape, value_range=(0.0, 1.0), sigma_range=(0.1, 1.0))
    )
    return checkpoint.save(model, tmp_path_factory.mktemp("ncsn") / "ncsn.safetensors")


def facts_of(call, tmp_path, *arguments):
    result = call(
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
    assert result.code == 0, result.err
    return json.loads((tmp_path / "s.json").read_text()), np.load(tmp_path / "s.npy"), result.out


def test_a_model_of_few_levels_is_walked_down_them(call, ncsn, tmp_path):
    facts, _, out = facts_of(call, tmp_path, ncsn, "--sampler", "annealed-langevin")
    assert facts["levels"] == 3 and facts["evaluations"] == 300
    assert facts["settings"] == {
        "step_size": pytest.approx(0.002), "steps_each": 100, "denoise": False, "convention": "paper"
    }  # fmt: skip
    assert re.search(r"^settings +step_size 0\.002, steps_each 100, denoise False, convention paper$", out, re.M)


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
    assert facts["settings"] == {"step_size": 3e-4, "steps_each": 2, "denoise": True, "convention": "code"}
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


def test_the_help_tells_every_sampler_in_a_line(call, monkeypatch):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    result = call("sample", "--help")
    assert result.code == 0
    lines = {" ".join(line.split()) for line in result.out.splitlines()}
    assert all(" ".join(f"{name} {words}".split()) in lines for name, words in SAMPLER_SUMMARIES.items())


@pytest.mark.parametrize("name", sorted(SAMPLER_SUMMARIES.keys() - {"mala"}))  # which asks for an energy network
def test_every_sampler_can_be_named(call, run, tmp_path, name):
    if name == "runge-kutta":
        pytest.importorskip("torchdiffeq")
    facts, drawn, _ = facts_of(call, tmp_path, run, "--sampler", name, "--steps", 3)
    assert facts["sampler"] == name and drawn.shape == (2, 8, 8, 1)
    assert facts["evaluations"] > 0


def test_settings_by_set_are_those_of_the_flags_which_win(call, ncsn, tmp_path):
    asked = ("--sampler", "annealed-langevin")
    by_set = ("--set", "steps_each=2", "--set", "step_size=3e-4", "--set", "denoise=true")
    facts, first, _ = facts_of(call, tmp_path, ncsn, *asked, *by_set)
    by_flag = ("--steps-each", 2, "--step-size", "3e-4", "--denoise")
    same, second, _ = facts_of(call, tmp_path, ncsn, *asked, *by_flag)
    assert facts["settings"] == same["settings"] and np.array_equal(first, second)
    facts, _, _ = facts_of(call, tmp_path, ncsn, *asked, *by_set, "--steps-each", 1)
    assert facts["settings"]["steps_each"] == 1
    facts, _, out = facts_of(call, tmp_path, ncsn, "--sampler", "ddpm", "--set", "variance=forward")
    assert facts["settings"] == {"variance": "forward"} and "variance forward" in out


def test_a_schedule_may_be_named_listed_or_the_models_own(call, ncsn, tmp_path):
    chosen, words = {}, {}
    for schedule in ("geometric", "own", "1,0.5,0.2,0"):
        facts, _, words[schedule] = facts_of(call, tmp_path, ncsn, "--sampler", "ddim", "--schedule", schedule)
        chosen[schedule] = (facts["schedule"], facts["levels"], facts["burn_in_updates"])
    assert chosen == {
        "geometric": ("geometric", 20, 10),
        "own": ("own", 3, 10),
        "1,0.5,0.2,0": ("given", 3, 10),
    }
    assert re.search(r"^schedule +own, σ 1 to 0\.1, then 0$", words["own"], re.M)


def test_levels_off_the_models_levels_are_reported(call, ncsn, tmp_path):
    off = call("sample", ncsn, "-n", 1, "--out", tmp_path / "a.png", "--json", tmp_path / "a.json")
    factor = json.loads((tmp_path / "a.json").read_text())["max_mismatch"]
    assert 1.5 < factor < 10**0.25 * 1.001  # three noise levels, √10 apart
    assert f"up to {factor:.3g} times off the nearest of the model's 3 noise levels" in off.err
    on = call("sample", ncsn, "-n", 1, "--schedule", "own", "--out", tmp_path / "b.png")
    assert on.code == 0 and "times off" not in on.err


def test_an_image_may_be_begun_with(call, run, tmp_path):
    pixels = np.tile(np.linspace(40, 210, 8).astype(np.uint8), (8, 1))
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    away = []
    for sigma in (0.003, 0.3, 30):
        facts, drawn, _ = facts_of(
            call, tmp_path, run, "--from", tmp_path / "grey.png", "--sigma", sigma, "--sampler", "dpm++-2m"
        )
        away.append(np.abs(drawn[..., 0].astype(float) - pixels).mean())
        assert (facts["sigma"], facts["sigma_max"]) == (sigma, pytest.approx(sigma))
    assert away == sorted(away) and away[0] < 3


def test_an_image_may_be_kept_within_its_values(call, run, tmp_path):
    facts, clamped, _ = facts_of(call, tmp_path, run, "--clamp", "--steps", 5)
    _, free, _ = facts_of(call, tmp_path, run, "--steps", 5)
    assert facts["clamp"] is True and clamped.shape == free.shape
