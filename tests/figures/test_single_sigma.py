"""One noise level against a schedule."""

import csv
from dataclasses import replace

import pytest
from PIL import Image

from scorefield.errors import UserError
from scorefield.figures.catalog import FIGURES, SingleSigma
from scorefield.figures.catalog import SINGLE_SIGMA_PAPER as PAPER
from scorefield.figures.driver import FigureInputs, make
from scorefield.metrics import random_features
from scorefield.training import read_recipe
from training.toys import images

TINY = (
    'parameterization={kind="ncsnv2"}',
    "network.widths=[8]",
    "optimizer.batch=8",
    "training.sample_count=2",
)


def single_sigma(out, settings, *, overwrite=False, **more):
    """Of the ramps, on random features."""
    inputs = FigureInputs(train=images(), held_out=images(24), features=random_features(1), out=out, **more)
    return make(FIGURES["single-sigma"], settings, inputs, overwrite=overwrite)


@pytest.fixture
def settings():
    pytest.importorskip("matplotlib")
    return SingleSigma(data="ramps", iterations=4, samples=3, levels=3, steps=4, network=TINY)


def test_the_figure_its_table_and_both_runs(settings, tmp_path):
    out, result = tmp_path / "out", []
    _, numbers = single_sigma(out, settings, progress=lambda share, words: result.append(share))
    with Image.open(out / "single-sigma.png") as image:
        assert image.height > 6 * 80
    with (out / "single-sigma.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["images"] for row in rows] == [
        "training images", "one level, σ = 0.01", "3 levels, σ 1 → 0.01",
    ]  # fmt: skip
    assert list(rows[0]) == [
        "images", "n", "features", "frechet", "kernel", "kernel_std", "pixel_mean", "pixel_std",
        "iterations", "updates", "step_size",
    ]  # fmt: skip
    assert len(numbers) == 3
    assert result == sorted(result)
    one, schedule = (read_recipe(out / f"single-sigma-{name}" / "recipe.toml") for name in ("one", "schedule"))
    assert one.noise_levels.distribution.sigmas == pytest.approx((0.01001, 0.01))
    assert schedule.noise_levels.distribution.sigmas == pytest.approx((1, 0.1, 0.01))
    same = {"noise": schedule.noise}
    assert replace(one, **same) == schedule


def test_the_same_command_goes_on_and_another_is_refused(settings, tmp_path):
    _, first = single_sigma(tmp_path / "out", settings)
    with pytest.raises(UserError, match="already exists"):
        single_sigma(tmp_path / "out", settings)
    _, again = single_sigma(tmp_path / "out", settings, overwrite=True)
    assert again == first
    with pytest.raises(UserError, match=r"training\.seed"):
        single_sigma(tmp_path / "out", settings, seed=1, overwrite=True)


def test_the_papers_settings_are_a_recipe():
    assert (PAPER.sigma_max, PAPER.sigma_min, PAPER.levels, PAPER.steps) == (1.0, 0.01, 10, 100)
    recipe = read_recipe("default", PAPER.network)
    assert (recipe.network.kind, recipe.network.width) == ("refinenet", 128)
    assert (recipe.optimizer.lr, recipe.optimizer.batch) == (1e-3, 128)
