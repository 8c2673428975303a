"""The verbs that take their time."""

import json
import re

import pytest


@pytest.mark.slow
def test_the_tour_goes_from_nothing_to_a_page_and_a_model_for_the_other_verbs(call, tmp_path):
    result = call("demo", "--out", tmp_path / "tour", "--train-for", "2s")
    assert result.code == 0, result.err
    assert f"Open {tmp_path / 'tour' / 'index.html'}" in result.out
    assert (tmp_path / "tour" / "index.html").stat().st_size > 50_000
    assert call("models", tmp_path / "tour" / "run").code == 0
    assert "already exists" in call("demo", "--out", tmp_path / "tour").complaint()


@pytest.mark.slow
def test_the_doctor_measures_this_machine_and_estimates_the_whole_recipe(call, tiny, data, tmp_path):
    result = call("doctor", "--recipe", tiny, "--data", data, "--json", tmp_path / "facts.json")
    assert result.code == 0, result.err
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["machine"]["threads"] >= 1
    rate = float(re.match(r"(\d+) images/s", facts["recipe"]["training"])[1])
    assert rate > 10
    assert facts["recipe"]["the whole recipe"].endswith("for 20 steps; --stop-after ends it")


@pytest.mark.slow
def test_the_doctors_estimate_of_the_default_recipe_follows_from_the_rate_it_measured(call, data, tmp_path):
    """The estimate is steps · batch / rate."""
    result = call("doctor", "--data", data, "--json", tmp_path / "facts.json")
    assert result.code == 0, result.err
    recipe = json.loads((tmp_path / "facts.json").read_text())["recipe"]
    rate = float(re.match(r"(\d+)", recipe["training"])[1])
    hours, steps = re.match(r"([\d.]+) h for (\d+) steps", recipe["the whole recipe"]).groups()
    batch = call("train", "default", "--out", "unused", "--data", data, "--dry-run").out
    size = int(re.search(r"^batch = (\d+)$", batch, re.M)[1])
    assert float(hours) == pytest.approx(int(steps) * size / rate / 3600, rel=0.05, abs=0.06)
