"""`--class`, `--guidance` and `--guidance-interval`."""

import json
import math

import numpy as np
import pytest

from scorefield.cli.class_options import class_numbers, guidance_interval
from scorefield.errors import UserError

NAMES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3", [3]),
        ("boot", [9]),
        ("ankle boot", [9]),
        ("3,5,boot", [3, 5, 9]),
        ("Shirt", [6]),
        ("t-shirt, BAG", [0, 8]),
        ("5,5,1", [5, 5, 1]),
        ("all", list(range(10))),
    ],
)
def test_classes_are_named_by_number_whole_name_or_a_part(text, numbers):
    assert class_numbers(text, NAMES, 10) == numbers


def test_a_name_that_is_a_number_wins():
    assert class_numbers("10,1", ["10", "2", "7"], 3) == [0, 1]
    assert class_numbers("2", [], 3) == [2]


@pytest.mark.parametrize(
    ("text", "names", "words"),
    [
        ("10", NAMES, "no such class '10'"),
        ("snaeker", NAMES, "Did you mean `sneaker`"),
        ("er", NAMES, "'er' may be trouser, pullover, sneaker. Write one of them out"),
        ("", NAMES, "no such class ''"),
        ("3,,5", NAMES, "no such class ''"),
        ("-1", NAMES, "no such class '-1'"),
        ("boot", [], "Numbers run from 0 to 9"),
    ],
)
def test_classes_that_are_none_are_reported(text, names, words):
    with pytest.raises(UserError, match=words):
        class_numbers(text, names, 10)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (None, (0, math.inf)),
        ("0.2:5", (0.2, 5)),
        (":5", (0, 5)),
        ("0.2:", (0.2, math.inf)),
        ("0:inf", (0, math.inf)),
    ],
)
def test_intervals(text, ends):
    assert guidance_interval(text) == ends


@pytest.mark.parametrize("text", ["5", "5:0.2", "-1:2", "a:b", "1:1", "nan:2", "0.2:5:6", ""])
def test_what_is_no_interval_is_reported(text):
    with pytest.raises(UserError, match=r"--guidance-interval: .* is no interval\. Write LOW:HIGH"):
        guidance_interval(text)


@pytest.fixture(scope="module")
def labelled(call, tiny, tmp_path_factory):
    """A run of two steps with labels."""
    out = tmp_path_factory.mktemp("runs") / "labelled"
    made = call("train", tiny, "--out", out, "--set", "data.labels=true", "--set", "training.steps=2")
    assert made.code == 0, made.err
    return out


def drawn(call, tmp_path, model, *more):
    out, facts = tmp_path / "s.npy", tmp_path / "s.json"
    made = call("sample", model, "-n", 3, "--steps", 3, "--out", out, "--json", facts, "--overwrite", *more)
    assert made.code == 0, made.err
    return np.load(out), json.loads(facts.read_text())


def test_images_are_drawn_of_the_classes_requested(call, labelled, tmp_path):
    _, plain = drawn(call, tmp_path, labelled)
    assert plain["classes"] is None
    _, facts = drawn(call, tmp_path, labelled, "--class", "2,0", "--guidance", 2, "--guidance-interval", "0.2:5")
    assert (facts["classes"], facts["guidance"], facts["guidance_interval"]) == ([2, 0], 2.0, [0.2, 5.0])
    _, facts = drawn(call, tmp_path, labelled, "--class", "all")
    assert facts["classes"] == [0, 1, 2]
