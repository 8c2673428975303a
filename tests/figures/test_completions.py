"""Images with parts covered, completed several times over."""

import csv

import pytest
from PIL import Image

from oracles import tiny_model
from scorefield.errors import UserError
from scorefield.figures.completions import Completions, completions
from training.toys import images


@pytest.mark.parametrize("channels", [1, 3])
def test_the_figure_and_its_table(tmp_path, channels):
    pytest.importorskip("matplotlib")
    settings = Completions(images=2, candidates=2, steps=10)
    told = []
    made = completions(
        tiny_model(channels), images(channels=channels), tmp_path, settings,
        show=lambda share, words: told.append(share),
    )  # fmt: skip
    with Image.open(tmp_path / "completions.png") as image:
        assert image.height > 6 * 80
    with (tmp_path / "completions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "mask", "answer", "rms_difference", "spread_of_answers"]
    assert [row["mask"] for row in rows[::2]] == ["left", "right", "center"] * 2
    assert len({row["image"] for row in rows}) == 2
    assert all(0 < float(row["rms_difference"]) <= 1 for row in rows)
    assert list(made.numbers) == ["left", "right", "center"]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Completions(images=49), "49 of 48"),
        (Completions(masks=("lfet",)), "Did you mean `left`?"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path, settings, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        completions(tiny_model(), images(), tmp_path, settings)
    assert not list(tmp_path.iterdir())
