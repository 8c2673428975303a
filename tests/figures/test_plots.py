"""Plots of a run's log."""

import sys

import pytest
from PIL import Image

from scorefield.errors import UserError
from scorefield.figures.plots import loss_curve, matplotlib

HEAD = "step,images,seconds,loss,lr,gradient_norm,images_per_second,data_share\n"


def log(path, rows):
    path.write_text(HEAD + "".join(f"{k},{k * 8000},1,{1 / (k + 1)},0.001,1,100,0.01\n" for k in range(rows)))
    return path


@pytest.mark.parametrize("rows", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_the_loss_is_drawn_as_a_png_or_svg(tmp_path, rows):
    pytest.importorskip("matplotlib")
    path = loss_curve(log(tmp_path / "log.csv", rows), tmp_path / "loss.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > image.height > 100
    drawn = loss_curve(log(tmp_path / "log.csv", rows), tmp_path / "loss.svg")
    assert drawn.read_text().startswith("<?xml")


def test_without_matplotlib_the_mend_is_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'scorefield\[figures\]'"):
        matplotlib()
