"""What all figures share: images, a table, numbers, progress, and refusals before any work."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from oracles import tiny_model
from scorefield.errors import UserError
from scorefield.figures.catalog import (
    FIGURES,
    Anneal,
    Completions,
    Interpolation,
    LowDensity,
    Manifold,
    Mixing,
    Neighbours,
    SingleSigma,
)
from scorefield.figures.driver import FigureInputs, make
from scorefield.metrics import random_features
from training.toys import images, write_set

TINY = {
    "manifold": Manifold(iterations=4, batch=4, width=8),
    "low-density": LowDensity(iterations=5, width=8, points=41),
    "mixing": Mixing(samples=60, langevin_steps=30, steps=10, levels=4),
    "anneal": Anneal(samples=3, levels=4, steps=40),
    "completions": Completions(images=2, candidates=2, steps=10),
    "neighbours": Neighbours(samples=3, neighbours=4, steps=2),
    "single-sigma": SingleSigma(
        data="ramps", iterations=4, samples=3, levels=3, steps=4,
        network=('parameterization={kind="ncsnv2"}', "network.widths=[8]", "optimizer.batch=8",
                 "training.sample_count=2"),
    ),
    "interpolation": Interpolation(pairs=2, parts=3, rtol=1e-2),
}  # fmt: skip
"""Options of a second or less; every figure has an entry."""

COLUMNS = {
    "manifold": (4, "iteration loss_without_noise loss_with_noise"),
    "low-density": (
        9,
        "log10_density_high log10_density_low share_of_square share_of_samples true_score error relative_error cosine",
    ),
    "mixing": (
        5,
        "method step_size sigma_max sigma_min updates samples true_weight weight standard_error small_mode_mean "
        "small_mode_std large_mode_mean large_mode_std",
    ),
    "anneal": (6, "level sigma evaluations mean std denoised_to_result"),
    "completions": (12, "image mask candidate rms_difference std_of_candidates"),
    "neighbours": (24, "space sample rank training_image distance held_out_distance"),
    "single-sigma": (
        3,
        "images n features frechet kernel kernel_std pixel_mean pixel_std iterations updates step_size",
    ),
    "interpolation": (8, "first last share rms_from_first rms_from_last rms_from_mixture"),
}
"""Rows and columns of each table."""


@pytest.fixture(autouse=True)
def _matplotlib():
    pytest.importorskip("matplotlib")


def options_of(name, tmp_path):
    if name == "interpolation":
        pytest.importorskip("torchdiffeq")
    if name == "manifold":
        return replace(TINY[name], data=str(write_set(tmp_path / "m.npz")))
    return TINY[name]


def inputs_for(out, *, channels=1, **more):
    data = images(channels=channels)
    model, features = tiny_model(channels), random_features(channels)
    return FigureInputs(model=model, train=data, held_out=data, features=features, out=out, **more)


def test_every_figure_is_tested():
    assert list(TINY) == list(COLUMNS) == list(FIGURES)


@pytest.mark.parametrize(  # its own tests have both runs of `single-sigma`
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "single-sigma" else ()) for name in FIGURES]
)
def test_images_table_numbers_and_progress(name, tmp_path):
    spec, reports = FIGURES[name], []
    options, out = options_of(name, tmp_path), tmp_path / "out"
    inputs = inputs_for(out, progress=lambda share, words: reports.append(share))
    files, numbers = make(spec, options, inputs)
    assert files == tuple(out / file for file in spec.files)
    for path in files[:-1]:
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 2 * 80
    with files[-1].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), " ".join(rows[0])) == COLUMNS[name]
    assert numbers
    assert reports == sorted(reports)
    assert 0.8 < reports[-1] <= 1 + 1e-9
    with pytest.raises(UserError, match="already exists"):
        make(spec, options, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_another_run_gives_the_same_numbers(name, tmp_path):
    spec, options, inputs = FIGURES[name], options_of(name, tmp_path), inputs_for(tmp_path / "out")
    _, numbers = make(spec, options, inputs)
    assert make(spec, options, inputs, overwrite=True)[1] == numbers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["anneal", "completions", "neighbours", "interpolation"])
def test_images_in_color_are_drawn_in_color(name, tmp_path):
    colors = []
    for channels in (1, 3):
        files, _ = make(
            FIGURES[name], options_of(name, tmp_path), inputs_for(tmp_path / f"{channels}", channels=channels)
        )
        with Image.open(files[0]) as image:
            red, green, blue = np.asarray(image.convert("RGB")).astype(int).transpose(2, 0, 1)
        colors.append(((red != green) | (green != blue)).mean())
    assert colors[1] > colors[0] + 0.05  # of the pixels; the rest is paper, text and axes


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("anneal", Anneal(samples=0), "samples: need at least 1, got 0"),
        ("completions", Completions(images=49), "49 of 48"),
        ("completions", Completions(masks=("lfet",)), r"Did you mean `left`\?"),
        ("neighbours", Neighbours(neighbours=49), "49 of 48"),
        ("interpolation", Interpolation(pairs=25), "pairs: 2 times 25 of 48 images"),
        ("interpolation", Interpolation(pairs=0), "pairs: need at least 1"),
        ("interpolation", Interpolation(parts=0), "parts: need at least 1, got 0"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_any_work(name, options, words, tmp_path):
    options_of(name, tmp_path)
    with pytest.raises(UserError, match=words):
        make(FIGURES[name], options, inputs_for(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
