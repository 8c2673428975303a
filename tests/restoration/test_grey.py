"""A grey image comes back grey from every task but those that give color."""

import numpy as np
import pytest
import torch
from PIL import Image
from scorefield.restoration.levels import is_grey

from oracles import tiny_model
from restoration.learners import TASKS, tiny_learner
from restoration.test_painting import levels
from scorefield.data.photo import Original
from scorefield.degradations import Grey, Mask
from scorefield.restoration import restore

MODEL = tiny_learner()
HOLE = torch.zeros(40, 70)
HOLE[10:18, 20:60] = 1
SETTINGS = {
    "inpaint": {"mask": HOLE},
    "uncrop": {"amount": 0.2},
    "upscale": {"factor": 2},
    "dejpeg": {"quality": 20},
}
GIVES_COLOR = ("colorize", "paired")


def grey(channels=1, dtype=np.uint8, off=0):
    """(40, 70, channels); channels differ by up to `off`."""
    one = levels(40, 70, channels=1, dtype=dtype)
    apart = np.random.default_rng(0).integers(0, off + 1, (40, 70, channels))
    top = np.iinfo(dtype).max - off
    return (np.minimum(one, top) + apart).astype(dtype)


def tint(image):
    return int(np.ptp(image.astype(int), axis=2).max())


def mend(tmp_path, image, task, model=MODEL, **settings):
    kind = "RGB" if image.shape[2] == 3 else "L"
    path = Original(path=tmp_path / "p.png", levels=image).save(image, tmp_path / "p.png")
    out = restore(model, path, task, steps=2, **SETTINGS.get(task, {}) | settings)
    saved = Original.read(out.save(tmp_path / "out")[0])
    assert np.array_equal(saved.levels, out.levels[0]) and saved.levels.dtype == image.dtype
    assert (out.images[0].mode == kind) or task in GIVES_COLOR
    return out.levels[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("task", TASKS)
def test_one_channel_stays_one_channel(tmp_path, task, dtype):
    answer = mend(tmp_path, grey(dtype=dtype), task)
    assert answer.shape[2] == (3 if task in GIVES_COLOR else 1)
    if task in GIVES_COLOR:
        assert tint(answer) > 0


@pytest.mark.parametrize("off", [0, 3])
@pytest.mark.parametrize("task", [task for task in TASKS if task not in GIVES_COLOR])
def test_equal_channels_stay_equal_and_nearly_equal_ones_become_so(tmp_path, task, off):
    image = grey(3, off=off)
    answer = mend(tmp_path, image, task)
    if task == "inpaint":
        assert tint(answer[HOLE.numpy() > 0][None]) == 0
        assert np.array_equal(answer[HOLE.numpy() == 0], image[HOLE.numpy() == 0])
    elif task == "uncrop":
        assert tint(answer[:, :14]) == 0 and tint(answer[:, 84:]) == 0
        assert np.array_equal(answer[:, 14:84], image)
    else:
        assert tint(answer) == 0


def test_a_panorama_keeps_what_is_known(tmp_path):
    image = grey(3, off=3)
    answer = mend(tmp_path, image, "uncrop", sides=("right",), times=2)
    assert np.array_equal(answer[:, :70], image) and tint(answer[:, 70:]) == 0


def test_what_is_farther_apart_has_color(tmp_path):
    assert is_grey(grey(3, off=3)) and not is_grey(grey(3, off=5))
    assert tint(mend(tmp_path, grey(3, off=5), "denoise", noise=5)) > 0


def test_alpha_stays(tmp_path):
    samples, alpha = grey()[..., 0], levels(40, 70, channels=1, seed=1)[..., 0]
    Image.merge("LA", [Image.fromarray(samples), Image.fromarray(alpha)]).save(tmp_path / "p.png")
    path = restore(MODEL, tmp_path / "p.png", "inpaint", mask=HOLE, steps=1).save(tmp_path / "out")[0]
    with Image.open(path) as saved:
        assert saved.mode == "LA"
        back, clear = (np.asarray(band) for band in saved.split())
    assert np.array_equal(clear, alpha) and np.array_equal(back[HOLE == 0], samples[HOLE == 0])


def test_methods_that_are_told_the_operator_keep_grey_too():
    model, image = tiny_model(3), torch.from_numpy(grey(3, off=3)[:16, :16].copy()).permute(2, 0, 1)
    fill = torch.zeros(1, 1, 16, 16)
    fill[..., 4:9, 4:9] = 1
    answer = restore(model, image, degradation=Mask(fill=fill), steps=3).levels[0]
    hole = fill[0, 0].numpy() > 0
    assert tint(answer[hole][None]) == 0
    assert np.array_equal(answer[~hole], image.permute(1, 2, 0).numpy()[~hole])
    assert restore(model, image[:1], degradation="blur:1", steps=3).images[0].mode == "L"
    for degradation in ("grey", Grey()):
        assert tint(restore(model, image[:1], degradation=degradation, steps=3).levels[0]) > 0
