"""`restore` with a model that was trained to restore: every task, any size, any depth, and what is refused."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from oracles import tiny_model
from restoration.learners import TASKS as LEARNED_TASKS
from restoration.learners import EachPixel, model_of, tiny_learner
from restoration.test_coarse import off_luma
from restoration.test_painting import levels
from scorefield import schedules
from scorefield.data.image import to_tensor
from scorefield.data.photo import Original
from scorefield.degradations import Downscale, Grey, Mask
from scorefield.errors import UserError
from scorefield.restoration import METHODS, TASKS, approach, restore
from scorefield.restoration.methods import STEPS
from scorefield.restoration.tasks import jpeg_quality

MODEL = tiny_learner()


def image(height=40, width=70, channels=3, seed=0):
    return torch.from_numpy(levels(height, width, channels=channels, seed=seed)).permute(2, 0, 1).contiguous()


def jpeg(path, quality=10, **settings):
    Image.fromarray(levels(40, 70)).save(path, "JPEG", quality=quality, **settings)
    return path


def hole(height=40, width=70):
    fill = torch.zeros(height, width)
    fill[10:18, 20:60] = 1
    return fill


# --- tasks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", LEARNED_TASKS)
def test_every_task_is_answered_by_the_models_own_method(task):
    settings = {"inpaint": {"mask": hole()}, "upscale": {"factor": 2}}.get(task, {})
    told = []
    out = restore(MODEL, image(), task, steps=2, track=lambda *done: told.append(done), **settings)
    size = {"uncrop": (140, 40), "upscale": (140, 80)}.get(task, (70, 40))
    assert out.images[0].size == size and out.uncertainty.shape == size[::-1]
    assert told[-1][0] == told[-1][1] and [done for done, _ in told] == sorted({done for done, _ in told})
    assert list(TASKS) == list(LEARNED_TASKS)


@pytest.mark.parametrize("simulate", [False, True])
def test_what_the_model_is_shown_is_the_image_itself(simulate):
    # pixels all but known: an answer is what was shown
    model = model_of(EachPixel(10.0, 1e-3))
    clean = image()
    out = restore(model, clean, "dejpeg", quality=30 if simulate else None, simulate=simulate, steps=3)
    assert np.abs(out.levels[0].astype(int) - np.asarray(out.degraded)).max() <= 1
    assert to_tensor(out.degraded).equal(clean) is not simulate
    assert to_tensor(out.original).equal(clean)


def test_known_pixels_of_a_image_of_several_tiles_come_back_byte_for_byte():
    clean = image(150, 230)
    fill = torch.rand(150, 230, generator=torch.Generator().manual_seed(0)).gt(0.9).float()
    out = restore(MODEL, clean, "inpaint", mask=fill, candidates=2, tile=64, steps=2)
    known = (fill == 0).expand(3, -1, -1)
    for each in out.images:
        assert torch.equal(to_tensor(each)[known], clean[known])
    assert torch.equal(to_tensor(out.degraded)[known], clean[known])
    assert bool((to_tensor(out.degraded)[~known] == 128).all()) and to_tensor(out.original).equal(clean)
    assert bool((out.uncertainty[fill == 0] == 0).all()) and float(out.uncertainty[fill == 1].mean()) > 0


@pytest.mark.parametrize("times", [1, 3])
def test_uncropping_keeps_the_image_where_it_is(times):
    clean = image()
    out = restore(MODEL, clean, "uncrop", sides=["top", "right"], amount=0.5, times=times, steps=2)
    answer = to_tensor(out.images[0])
    assert answer.shape == (3, 40 + times * 20, 70 + times * 35)
    inside = (slice(None), slice(times * 20, None), slice(0, 70))
    assert torch.equal(answer[inside], clean)
    degraded = to_tensor(out.degraded)
    assert torch.equal(degraded[inside], clean) and to_tensor(out.original).equal(clean)
    degraded[inside] = 128
    assert bool((degraded == 128).all())


def test_colorize_keeps_the_luma_and_shows_the_original():
    grey = image(channels=1)
    out = restore(MODEL, grey, "colorize", candidates=2, steps=3)
    assert max(off_luma(each, grey.permute(1, 2, 0).numpy()) for each in out.levels) <= 0.501
    assert out.degraded is out.original and out.degraded.mode == "L"
    free = restore(MODEL, image(12, 16, 1), "colorize", keep_luminance=False, steps=3)
    assert off_luma(free.levels[0], image(12, 16, 1).permute(1, 2, 0).numpy()) > 1
    clean = image()
    out = restore(MODEL, clean, "colorize", steps=3)
    assert to_tensor(out.original).equal(clean) and out.degraded.mode == "L"
    assert off_luma(out.levels[0], np.asarray(out.degraded)[..., None]) <= 0.501


def test_degradation_by_name_or_operator_is_shown_as_in_training():
    clean = image(16, 16)
    by_name, by_operator, by_task = (
        restore(MODEL, clean, steps=3, simulate=True, **settings)
        for settings in (
            {"degradation": "downscale:2"},
            {"degradation": Downscale(factor=2)},
            {"task": "upscale", "factor": 2},
        )
    )
    assert np.array_equal(by_name.levels[0], by_operator.levels[0])
    assert np.array_equal(by_name.levels[0], by_task.levels[0])
    grey = restore(MODEL, clean, degradation="grey", simulate=True, steps=3)
    assert np.array_equal(grey.levels[0], restore(MODEL, clean, "colorize", steps=3).levels[0])
    both = restore(MODEL, clean, degradation=["grey", "jpeg:20"], simulate=True, steps=2)
    assert both.images[0].size == (16, 16)
    fill = hole(16, 16)[None, None]
    fill[..., :4] = 1
    masked = restore(MODEL, clean, degradation=Mask(fill=fill), steps=2)
    known = (fill[0] == 0).expand(3, -1, -1)
    assert torch.equal(to_tensor(masked.images[0])[known], clean[known])


def test_the_models_tasks_need_not_be_told_how_bad_it_is():
    for task in ("dejpeg", "deblur", "denoise", "descratch", "paired"):
        assert restore(MODEL, image(), task, steps=1).images[0].size == (70, 40)


# --- images ------------------------------------------------------------------------------------


def test_16_bits_come_back_in_16_bits(tmp_path):
    pytest.importorskip("cv2")
    deep = levels(30, 40, np.uint16)
    path = Original(path=tmp_path / "x.png", levels=deep).save(deep, tmp_path / "deep.png")
    for model in (MODEL, tiny_model(3, size=16)):
        out = restore(model, path, "inpaint", mask=hole(30, 40), steps=2)
        answer, known = out.levels[0], hole(30, 40).numpy() == 0
        assert answer.dtype == np.uint16 and out.source.path == path
        assert np.array_equal(answer[known], deep[known])
        between = answer[~known & ((answer > 0) & (answer < 65535)).any(2)] % 65535
        assert (between[between > 0] % 257 != 0).mean() > 0.9  # not 8 bits, widened
    assert restore(MODEL, path, "dejpeg", quality=20, steps=1).levels[0].dtype == np.uint16


def test_a_transparent_part_may_be_what_is_to_be_filled(tmp_path):
    clear = np.full((40, 70), 255, np.uint8)
    clear[hole().numpy() == 1] = 0
    rgba = np.dstack([levels(40, 70), clear])
    Image.fromarray(rgba).save(tmp_path / "p.png")
    out = restore(MODEL, tmp_path / "p.png", "inpaint", mask="alpha", steps=2)
    assert np.array_equal(out.levels[0][clear > 0], rgba[..., :3][clear > 0])
    assert np.array_equal(np.asarray(out.degraded)[clear == 0], np.full((320, 3), 128))


@pytest.mark.parametrize("times", [1, 2])
def test_a_image_that_grows_is_opaque_where_it_grew(tmp_path, times):
    rgba = np.dstack([levels(40, 70), levels(40, 70, channels=1, seed=1)])
    Image.fromarray(rgba).save(tmp_path / "p.png")
    growth = {"sides": ["left", "top"], "amount": 0.2, "times": times}
    out = restore(MODEL, tmp_path / "p.png", "uncrop", steps=1, **growth)
    saved = np.asarray(Image.open(out.save(tmp_path / "out")[0]))
    top, left = saved.shape[0] - 40, saved.shape[1] - 70
    assert top >= 8 * times and left >= 14 * times
    assert np.array_equal(saved[top:, left:], rgba)
    assert (saved[:top, :, 3] == 255).all() and (saved[:, :left, 3] == 255).all()


@pytest.mark.parametrize("method", ["learned", "pigdm"])
def test_alpha_is_enlarged_with_its_image(tmp_path, method):
    alpha = np.repeat([0, 255], [30, 40]).astype(np.uint8) * np.ones((40, 1), np.uint8)
    Image.fromarray(np.dstack([levels(40, 70), alpha])).save(tmp_path / "p.png")
    model = MODEL if method == "learned" else tiny_model(3, size=16)
    out = restore(model, tmp_path / "p.png", "upscale", factor=2, steps=1, method=method)
    saved = np.asarray(Image.open(out.save(tmp_path / "out")[0]))[..., 3]
    assert saved.shape == (80, 140)
    assert (saved[:, :56] < 8).all() and (saved[:, 64:] > 247).all()


def test_quality_is_read_from_a_files_tables(tmp_path):
    for quality in (1, 5, 10, 50, 90, 100):
        assert jpeg_quality(jpeg(tmp_path / "p.jpg", quality)) == quality
    Image.fromarray(levels(9, 9)[..., 0]).save(tmp_path / "grey.jpg", quality=33)
    assert jpeg_quality(tmp_path / "grey.jpg") == 33
    Image.fromarray(levels(9, 9)).save(tmp_path / "p.png")
    assert jpeg_quality(tmp_path / "p.png") is None
    assert jpeg_quality(tmp_path / "none.jpg") is None
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert jpeg_quality(tmp_path / "broken.jpg") is None


def test_unusual_jpeg_files_are_restored_blindly(tmp_path):
    odd = [17] * 64
    odd[5] = 41
    path = jpeg(tmp_path / "odd.jpg", qtables=[odd, odd], subsampling="4:1:1")
    assert restore(MODEL, path, "dejpeg", steps=1).images[0].size == (70, 40)


@pytest.mark.parametrize("model", [MODEL, tiny_model(3, size=16)], ids=["learned", "pictures"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_what_is_no_jpeg_file_has_nothing_to_restore_unless_its_quality_is_told(tmp_path, kind, model):
    path = tmp_path / f"p.{kind.lower()}"
    Image.fromarray(levels(40, 70)).save(path)
    with pytest.raises(UserError, match=rf"is no JPEG file but {kind}: nothing to restore.*quality"):
        restore(model, path, "dejpeg", steps=1)
    assert restore(model, path, "dejpeg", quality=20, steps=1).images[0].size == (70, 40)
    path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=str(path)):
        restore(model, path, "dejpeg", steps=1)


@pytest.mark.parametrize("model", [MODEL, tiny_model(3, size=16)], ids=["learned", "images"])
def test_a_good_jpeg_file_has_nothing_to_restore_unless_it_is_insisted_on(tmp_path, model):
    path = jpeg(tmp_path / "good.jpg", 97)
    with pytest.raises(UserError, match=r"good\.jpg: nothing to restore: saved at quality 97"):
        restore(model, path, "dejpeg", steps=1)
    assert restore(model, path, "dejpeg", quality=97, steps=1).images[0].size == (70, 40)
    restore(model, jpeg(path, 94), "dejpeg", steps=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 3), (97, 16), (96, 97)])
def test_any_size_goes(size):
    out = restore(MODEL, image(*size), "dejpeg", steps=1)
    assert out.images[0].size == size[::-1]
    out = restore(MODEL, image(*size), "colorize", steps=1)
    assert out.images[0].size == size[::-1]


# --- candidates ----------------------------------------------------------------------------------


def test_candidates_are_seeds_of_their_own_and_their_spread_is_told():
    three = restore(MODEL, image(), "dejpeg", candidates=3, steps=2, seed=5)
    again = restore(MODEL, image(), "dejpeg", candidates=2, steps=2, seed=5)
    other = restore(MODEL, image(), "dejpeg", candidates=2, steps=2, seed=6)
    assert all(np.array_equal(a, b) for a, b in zip(three.levels, again.levels, strict=False))
    assert not any(np.array_equal(a, b) for a, b in zip(again.levels, other.levels, strict=True))
    spread = np.stack(three.levels).astype(float).std(0).mean(-1) / 255
    torch.testing.assert_close(three.uncertainty, torch.from_numpy(spread).float())


def test_the_mean_of_the_candidates_is_nearer_to_the_posteriors_mean():
    model, y = model_of(EachPixel(0.3, 0.2)), image(96, 96)
    shown = y.permute(1, 2, 0).numpy() / 127.5 - 1
    mean = shown * 0.3**2 / (0.3**2 + 0.2**2)
    errors = [
        np.square(out.levels[0] / 127.5 - 1 - mean).mean()
        for out in (
            restore(model, y, "denoise", steps=20),
            restore(model, y, "denoise", steps=20, candidates=9, average=True),
        )
    ]
    assert errors[1] == pytest.approx(errors[0] / 9, rel=0.1)
    out = restore(model, y, "denoise", steps=5, candidates=4, average=True)
    assert len(out.levels) == 1 and float(out.uncertainty.mean()) > 0.05


# --- methods -------------------------------------------------------------------------------------


def test_a_model_brings_its_own_method():
    assert approach(MODEL).method is METHODS["learned"]
    assert approach(tiny_model(3)).method is METHODS["pigdm"]
    assert approach(MODEL, task="dejpeg").plan.evaluations == STEPS["dejpeg"]
    assert approach(MODEL, task="inpaint").plan.evaluations == METHODS["learned"].steps
    assert approach(MODEL, task="dejpeg", steps=7).plan.evaluations == 7


def test_palettes_own_sampling_takes_all_its_levels_that_the_model_knows():
    model = model_of(EachPixel(), sigma_range=(0.01, 151.0))
    plan = approach(model, None, "ddpm", schedule="palette").plan
    assert plan.evaluations == 468  # of 1,000, 532 lie above 151
    assert torch.equal(plan.sigmas[:-1], schedules.palette_inference()[532:]) and float(plan.sigmas[-1]) == 0
    assert plan.settings == {"variance": "forward"}
    assert approach(model, None, "ddpm", 50, schedule="palette").plan.evaluations == 50
    clean = image(20, 20)
    out = restore(model, clean, "inpaint", mask="center", sampler="ddpm", schedule="palette", steps=20)
    assert out.images[0].size == (20, 20)


def test_palettes_own_sampling_draws_the_posterior():
    model = model_of(EachPixel(0.3, 0.2), sigma_range=(0.01, 151.0))
    color = np.array([190, 180, 170], np.uint8)
    shown = torch.from_numpy(color)[:, None, None].repeat(1, 60, 60)
    out = restore(model, shown, "denoise", sampler="ddpm", schedule="palette").levels[0] / 127.5 - 1
    variance = 1 / (0.3**-2 + 0.2**-2)
    off = out - (color / 127.5 - 1) * variance / 0.2**2
    assert off.mean() == pytest.approx(0, abs=0.007)
    assert off.std() == pytest.approx(variance**0.5, rel=0.05)


LESS = tiny_learner(tasks=("colorize", "dejpeg"))


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        (LESS, {"task": "uncrop"}, "model: did not learn to uncrop; it learned to colorize, dejpeg"),
        (LESS, {"task": "uncrop", "times": 8}, "did not learn to uncrop"),
        (LESS, {"task": None}, "did not learn to inpaint"),
        (LESS, {"degradation": "blur:2"}, "did not learn to deblur"),
        (LESS, {"degradation": ["grey", "blur:2"]}, "did not learn to deblur"),
        (LESS, {"degradation": ["blur:2", "grey"]}, "did not learn to deblur"),
        (MODEL, {"task": "dejpeg", "method": "pigdm"}, "pigdm is for models of images alone"),
        (tiny_model(3), {"task": "dejpeg", "method": "learned"}, "learned images, not to restore them"),
        (tiny_model(3), {"task": "descratch"}, "Only a model that was trained on it knows"),
        (tiny_model(3), {"task": "paired"}, "Only a model that was trained on it knows"),
        (tiny_model(3), {"task": "denoise"}, "noise: how noisy it is must be told"),
        (MODEL, {"task": "denoise", "simulate": True}, "noise: how noisy it is must be told"),
        (MODEL, {"task": "dejpeg", "times": 2}, "times: is for uncrop alone"),
        (MODEL, {"task": "uncrop", "times": 0}, "times: need at least one"),
        (tiny_model(3), {"task": "uncrop", "times": 2}, "times: is for uncrop alone"),
        (MODEL, {"task": "dejpeg", "tile": 63}, "tile: need 64 pixels or more"),
        (MODEL, {"task": "dejpeg", "candidates": 0}, "candidates: need at least one"),
        (MODEL, {"task": "dejpeg", "schedule": "palete"}, "schedule: no such schedule"),
        (MODEL, {"task": "inpaint", "mask": torch.zeros(40, 71)}, "mask: shape"),
        (MODEL, {"task": "uncrop", "sides": ["up"]}, "no such side 'up'"),
        (MODEL, {"task": "uncrop", "sides": ["up"], "times": 2}, "no such side 'up'"),
        (MODEL, {"task": "colourize"}, "no such task 'colourize'. Did you mean `colorize`"),
    ],
)
def test_mistakes_are_told(model, settings, told):
    with pytest.raises(UserError, match=told):
        restore(model, image(), **settings)


def test_denoising_without_training_is_told_how_noisy_it_is():
    out = restore(tiny_model(3, size=16), image(16, 16), "denoise", noise=25.0, steps=2)
    assert out.images[0].size == (16, 16)
    with pytest.raises(UserError, match="the image has 3 channels"):
        restore(tiny_learner(1), image(), "dejpeg")


def test_a_grey_image_goes_through_a_color_model():
    out = restore(MODEL, image(channels=1), "dejpeg", steps=1)
    assert out.images[0].mode == "L" and out.degraded.mode == "L"


def test_a_pil_image_goes_and_so_does_one_in_memory():
    buffer = io.BytesIO()
    Image.fromarray(levels(40, 70)).save(buffer, "PNG")
    by_pil, by_tensor = (restore(MODEL, each, "dejpeg", steps=1).levels[0] for each in (Image.open(buffer), image()))
    assert np.array_equal(by_pil, by_tensor)


def test_the_grey_of_color_that_is_simulated_is_the_degradations():
    clean = image(20, 20)
    out = restore(MODEL, clean, "colorize", simulate=True, steps=1)
    y = Grey()(clean[None].float())[0].round()
    assert np.abs(np.asarray(out.degraded).astype(int) - y[0].numpy()).max() <= 1


def test_a_file_better_than_a_model_helps_is_refused_unless_its_quality_is_told(tmp_path):
    model = tiny_learner()
    for quality in (20, 21):
        Image.fromarray(levels(40, 70)).save(tmp_path / f"{quality}.jpg", quality=quality)
    model.spec = replace(model.spec, restoration=replace(model.spec.restoration, max_jpeg_quality=20))
    restore(model, tmp_path / "20.jpg", "dejpeg", steps=1)
    with pytest.raises(UserError, match="saved at quality 21; this model helps up to 20"):
        restore(model, tmp_path / "21.jpg", "dejpeg", steps=1)
    restore(model, tmp_path / "21.jpg", "dejpeg", quality=21, steps=1)
    model.spec = replace(model.spec, restoration=replace(model.spec.restoration, max_jpeg_quality=None))
    restore(model, tmp_path / "21.jpg", "dejpeg", steps=1)
