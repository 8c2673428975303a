"""`data inspect --noise`: the noise levels that suit pictures."""

import json
import re

import numpy as np
import pytest
import torch

from scorefield.noise import propose_ladder
from scorefield.training import read_recipe
from training.toys import ramps


def numbers(out, name):
    return [
        float(word.replace(",", "")) for word in re.search(rf"^{name} +(\S+) +(\S+) ", out, re.M).groups()
    ]


def test_each_number_is_told_and_why_and_what_a_recipe_would_say(call, data, tmp_path):
    told = call("data", "inspect", data, "--noise", "--json", tmp_path / "facts.json")
    assert told.code == 0, told.err
    images = torch.from_numpy(ramps(48)[0]).permute(0, 3, 1, 2)
    ladder = propose_ladder(images)
    for name, value, scale in (
        ("largest distance", ladder.distances.largest, 2),
        ("median distance", ladder.distances.median, 2),
        ("sigma_max", ladder.sigma_max, 2),
        ("sigma_min", 0.01, 2),
        ("ratio", ladder.ratio, 1),
        ("levels", ladder.levels, 1),
        ("updates a rung", 5, 1),
        ("step size", ladder.step_size, 4),
        ("", ladder.step_size / 2, 4),
        ("evaluations", 5 * ladder.levels + 1, 1),
    ):
        assert numbers(told.out, name) == pytest.approx([value, scale * value], rel=1e-3), name
    assert "exact" in told.out and f"overlap by {ladder.overlap:.3f}" in told.out
    facts = json.loads((tmp_path / "facts.json").read_text())["noise"]
    assert facts["levels"] == ladder.levels and facts["distances"]["exact"] is True

    section = told.out[told.out.index("[noise]") :]
    (tmp_path / "r.toml").write_text(section)
    levels = read_recipe(tmp_path / "r.toml").noise_levels
    assert levels.sigma_max == pytest.approx(2 * ladder.sigma_max, rel=1e-3)
    assert levels.law.levels == ladder.levels


def test_without_the_flag_nothing_is_measured(call, data, tmp_path):
    told = call("data", "inspect", data, "--json", tmp_path / "facts.json")
    assert told.code == 0, told.err
    assert "sigma_max" not in told.out and "noise" not in json.loads((tmp_path / "facts.json").read_text())


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (ramps(1)[0], "a distance needs two, got 1"),
        (np.repeat(ramps(1)[0], 5, 0), "all the same"),
        (np.full((4, 8, 8), np.nan, np.float32), "NaN"),
    ],
    ids=["one", "identical", "nan"],
)
def test_pictures_that_no_ladder_suits_are_told_in_one_line(call, tmp_path, pictures, words):
    np.save(tmp_path / "set.npy", pictures)
    assert words in call("data", "inspect", tmp_path / "set.npy", "--noise").complaint()
