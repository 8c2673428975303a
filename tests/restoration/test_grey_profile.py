"""Grey by a color profile: kept by every task but colorize, which converts it first."""

import numpy as np
import pytest
from PIL import Image

from data.profiles import grey_profile
from restoration.learners import TASKS, levels, restore, tiny_learner
from scorefield.data.photo import Photo

MODEL = tiny_learner()
ICC = grey_profile(1.0)


@pytest.fixture
def print_(tmp_path):
    Image.fromarray(levels(24, 32)[..., 0]).save(tmp_path / "grey.png", icc_profile=ICC)
    return tmp_path / "grey.png"


@pytest.mark.parametrize("task", [task for task in TASKS if task != "colorize"])
def test_a_task_keeps_grey_and_its_profile(tmp_path, print_, task):
    mask = np.zeros((24, 32), np.float32)
    mask[4:9, 5:20] = 1
    settings = {"inpaint": {"mask": mask}, "upscale": {"factor": 2}, "dejpeg": {"quality": 30}}.get(task, {})
    result = restore(MODEL, print_, task, steps=1, **settings)
    paths = result.save(tmp_path / "out")
    written = Photo.read(next(path for path in paths if path.suffix == ".png" and "sheet" not in path.name))
    assert written.icc == ICC
    assert written.levels.shape[2] == 1


def test_colorize_begins_with_the_grey_that_the_profile_shows(tmp_path, print_):
    result = restore(MODEL, print_, "colorize", steps=1)
    written = Photo.read(result.save(tmp_path / "out")[0])
    assert written.icc is None and written.levels.shape[2] == 3
    linear = Photo.read(print_).levels / 255.0
    shown = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    known = written.levels @ np.array([0.299, 0.587, 0.114])[:, None]
    assert np.abs(known - shown).max() <= 2  # rounding of the curve and of three channels
