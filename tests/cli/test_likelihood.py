"""`scorefield evaluate --likelihood` and `scorefield figures interpolation`, as a user calls them."""

import json
import math
import re
import sys

import pytest

pytest.importorskip("torchdiffeq")


def test_bits_per_dimension_are_printed_and_written(call, run, data, tmp_path):
    result = call("evaluate", run, "--data", data, "-n", 0, "--likelihood", 3, "--json", tmp_path / "r.json")
    assert result.code == 0, result.err
    assert re.search(r"^bits per dimension +-?\d+\.\d{3} ± \d+\.\d{3}  \(standard error\)$", result.out, re.M)
    assert "FD[" not in result.out
    facts = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert facts.keys() == {"likelihood"}
    assert facts["likelihood"]["n"] == len(facts["likelihood"]["each"]) == 3
    assert math.isfinite(facts["likelihood"]["mean"])


def test_what_is_missing_is_reported_before_any_work(call, run, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    line = call("evaluate", run, "--data", data, "--likelihood", 2).complaint()
    assert "pip install 'scorefield[ode]'" in line


def test_the_figure_is_drawn(call, run, data, tmp_path):
    pytest.importorskip("matplotlib")
    result = call("figures", "interpolation", "--model", run, "--data", data, "--out", tmp_path, "-n", 1,
                "--parts", 2)  # fmt: skip
    assert result.code == 0, result.err
    assert "round trip" in result.out
    assert {path.name for path in tmp_path.iterdir()} == {"interpolation.png", "interpolation.csv"}
    assert "interpolation" in call("figures", "--help").out
    line = call("figures", "interpolation", "--model", run, "--data", data, "--out", tmp_path / "o", "-n", 13)
    assert "pairs: 2 times 13 of 24 images" in line.complaint()
