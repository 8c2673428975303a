"""The tour, small: one page that needs nothing else."""

import re
import sys

import pytest
from PIL import Image

from scorefield import hub
from scorefield.errors import UserError
from scorefield.figures.tour import demo
from scorefield.training import read_recipe
from training.toys import SETTINGS, write_set

module = sys.modules["scorefield.figures.tour"]


@pytest.fixture
def quick(monkeypatch):
    """The tour's recipe and schedules, shortened."""
    pytest.importorskip("matplotlib")
    draw, mend = module.sample, module.restore
    monkeypatch.setattr(
        module, "read_recipe", lambda name, more: read_recipe(name, [*SETTINGS, "training.steps=15", *more])
    )
    monkeypatch.setattr(module, "sample", lambda *a, **k: draw(*a, **k, steps=3))
    monkeypatch.setattr(module, "restore", lambda *a, **k: mend(*a, **k, steps=10))


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_page_holds_every_image_and_every_number(quick, tmp_path, channels):
    reports = []
    data = write_set(tmp_path / "a <b> 'c'.npz", channels=channels)
    tour = demo(tmp_path / "tour", data=str(data), train_seconds=60, show=lambda *now: reports.append(now))
    page = tour.page.read_text(encoding="utf-8")
    words = re.sub(r"data:image/(png|gif);base64,[A-Za-z0-9+/=]+", "image", page)
    assert page.count("data:image/") == 7
    assert not re.search(r"https?://|//[a-z]|src=\"(?!image)|href=|url\(|@import|<script", words)
    assert "$" not in words
    assert "a &lt;b&gt; &#x27;c&#x27;" in words
    assert "a <b>" not in words
    assert "48 in" in re.sub(r"\s+", " ", words)
    assert tour.images == 15 * 8
    assert {part for part, *_ in reports} == {"Training", "Sampling", "Restoring", "Done"}
    assert all(0 <= share <= 1 for _, share, _ in reports)
    for name in ("samples.png", "inpainting.png", "degraded.png", "restored.png", "loss.png", "trace.gif"):
        with Image.open(tmp_path / "tour" / name) as image:
            image.load()
    with Image.open(tmp_path / "tour" / "inpainting.png") as sheet:
        assert sheet.height > sheet.width  # eight rows of six
    assert hub.find(tmp_path / "tour" / "run").is_file()


def test_a_taken_folder_is_left_as_it_was(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="already exists.*--out"):
        demo(tmp_path, show=lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
