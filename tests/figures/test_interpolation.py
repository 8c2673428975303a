"""Rows of images between images."""

import csv

import pytest
from PIL import Image

from oracles import tiny_model
from scorefield.errors import UserError
from scorefield.figures.interpolation import Interpolation, interpolation
from training.toys import images

pytest.importorskip("torchdiffeq")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_figure_and_its_table(tmp_path, channels):
    pytest.importorskip("matplotlib")
    told, settings = [], Interpolation(pairs=2, parts=3, rtol=1e-2)
    made = interpolation(
        tiny_model(channels), images(channels=channels), tmp_path, settings,
        show=lambda share, words: told.append(share),
    )  # fmt: skip
    with Image.open(tmp_path / "interpolation.png") as image:
        assert image.height > 2 * 80
        assert image.width > 6 * 80
    with (tmp_path / "interpolation.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["share"]) for row in rows] == pytest.approx([0, 1 / 3, 2 / 3, 1] * 2, abs=1e-5)
    assert len({row["first"] for row in rows} | {row["last"] for row in rows}) == 4
    for row in rows:
        own = {"0": "rms_from_first", "1": "rms_from_last"}.get(row["share"])
        if own:
            assert float(row[own]) == pytest.approx(float(row["rms_from_mixture"]))
    assert list(made.numbers) == ["round trip", "between"]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Interpolation(pairs=25), "25 pairs of 48 images"),
        (Interpolation(pairs=0), "0 pairs"),
        (Interpolation(parts=0), "parts: need at least one, got 0"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path, settings, words):
    with pytest.raises(UserError, match=words):
        interpolation(tiny_model(), images(), tmp_path, settings)
    assert not list(tmp_path.iterdir())
