"""`data inspect --noise`: the noise levels that suit images."""

import json
import re

import pytest
import torch

from scorefield.training import read_recipe
from scorefield.training.schedule_from_data import propose_schedule
from training.toys import ramps


def numbers(out, name):
    return [float(word.replace(",", "")) for word in re.search(rf"^{name} +(\S+) +(\S+) ", out, re.M).groups()]


def test_each_number_is_reported_and_why_and_what_a_recipe_would_say(call, data, tmp_path):
    result = call("data", "inspect", data, "--noise", "--json", tmp_path / "facts.json")
    assert result.code == 0, result.err
    images = torch.from_numpy(ramps(48)[0]).permute(0, 3, 1, 2)
    schedule = propose_schedule(images)
    for name, value, scale in (
        ("largest distance", schedule.distances.largest, 2),
        ("median distance", schedule.distances.median, 2),
        ("sigma_max", schedule.sigma_max, 2),
        ("sigma_min", 0.01, 2),
        ("ratio", schedule.ratio, 1),
        ("levels", schedule.levels, 1),
        ("updates a noise level", 5, 1),
        ("step size", schedule.step_size, 4),
        ("", schedule.step_size / 2, 4),
        ("evaluations", 5 * schedule.levels + 1, 1),
    ):
        assert numbers(result.out, name) == pytest.approx([value, scale * value], rel=1e-3), name
    assert "exact" in result.out and f"overlap by {schedule.overlap:.3f}" in result.out
    facts = json.loads((tmp_path / "facts.json").read_text())["noise"]
    assert facts["levels"] == schedule.levels and facts["distances"]["exact"] is True

    section = result.out[result.out.index("[noise]") :]
    (tmp_path / "r.toml").write_text(section)
    levels = read_recipe(tmp_path / "r.toml").noise_levels
    assert levels.sigma_max == pytest.approx(2 * schedule.sigma_max, rel=1e-3)
    assert levels.distribution.levels == schedule.levels


def test_without_the_flag_nothing_is_measured(call, data, tmp_path):
    result = call("data", "inspect", data, "--json", tmp_path / "facts.json")
    assert result.code == 0, result.err
    assert "sigma_max" not in result.out and "noise" not in json.loads((tmp_path / "facts.json").read_text())
