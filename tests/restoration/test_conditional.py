"""`restore` with a model that was trained to restore: every task, any size, any depth, and what is refused."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from oracles import tiny_model
from restoration.learners import TASKS as LEARNED_TASKS
from restoration.learners import EachPixel, levels, model_of, restore, tiny_learner
from restoration.test_multiscale import off_luma
from scorefield import checkpoint, schedules
from scorefield.data.image import to_tensor
from scorefield.data.photo import Photo, as_photo
from scorefield.degradations import JPEG, Crop, Downscale, Grey, Mask, nearest_quality
from scorefield.degradations.jpeg import standard_tables, table_tensor
from scorefield.errors import NothingToRestore, UserError
from scorefield.hub import load
from scorefield.model import RestorationSpec, ScoreModel
from scorefield.restoration import METHODS, TASKS, Custom, Dejpeg, palette_plan, resolve_method
from scorefield.restoration import restore as pipeline_restore
from scorefield.restoration.inspection import former_quality

MODEL = tiny_learner()


def image(height=40, width=70, channels=3, seed=0):
    return torch.from_numpy(levels(height, width, channels=channels, seed=seed)).permute(2, 0, 1).contiguous()


def jpeg(path, quality=10, **settings):
    Image.fromarray(levels(40, 70)).save(path, "JPEG", quality=quality, **settings)
    return path


def box_mask(height=40, width=70):
    fill = torch.zeros(height, width)
    fill[10:18, 20:60] = 1
    return fill


# --- tasks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", LEARNED_TASKS)
def test_every_task_uses_the_models_own_method(task):
    settings = {"inpaint": {"mask": box_mask()}, "upscale": {"factor": 2}}.get(task, {})
    reports = []
    out = restore(MODEL, image(), task, steps=2, progress=lambda *done: reports.append(done), **settings)
    size = {"uncrop": (140, 40), "upscale": (140, 80)}.get(task, (70, 40))
    assert out.images[0].size == size and out.std.shape == size[::-1]
    assert reports[-1][0] == reports[-1][1] and [done for done, _ in reports] == sorted({done for done, _ in reports})
    assert list(TASKS) == list(LEARNED_TASKS)


@pytest.mark.parametrize("simulate", [False, True])
def test_the_models_input_is_the_image_itself(simulate):
    # pixels almost known: a sample equals the input
    model = model_of(EachPixel(10.0, 1e-3))
    clean = image()
    out = restore(model, clean, "dejpeg", quality=30 if simulate else None, simulate=simulate, steps=3)
    assert np.abs(out.levels[0].astype(int) - np.asarray(out.degraded)).max() <= 1
    assert to_tensor(out.degraded).equal(clean) is not simulate
    assert to_tensor(out.original).equal(clean)


def test_known_pixels_of_an_image_of_several_tiles_come_back_byte_for_byte():
    clean = image(90, 140)  # two rows of three tiles
    fill = torch.rand(90, 140, generator=torch.Generator().manual_seed(0)).gt(0.9).float()
    out = restore(MODEL, clean, "inpaint", mask=fill, candidates=2, tile=64, steps=2)
    known = (fill == 0).expand(3, -1, -1)
    for each in out.images:
        assert torch.equal(to_tensor(each)[known], clean[known])
    assert torch.equal(to_tensor(out.degraded)[known], clean[known])
    assert bool((to_tensor(out.degraded)[~known] == 128).all()) and to_tensor(out.original).equal(clean)
    assert bool((out.std[fill == 0] == 0).all()) and float(out.std[fill == 1].mean()) > 0


@pytest.mark.parametrize("times", [1, 3])
def test_uncropping_keeps_the_image_where_it_is(times):
    clean = image()
    out = restore(MODEL, clean, "uncrop", sides=["top", "right"], amount=0.5, times=times, steps=2)
    sample = to_tensor(out.images[0])
    assert sample.shape == (3, 40 + times * 20, 70 + times * 35)
    inside = (slice(None), slice(times * 20, None), slice(0, 70))
    assert torch.equal(sample[inside], clean)
    degraded = to_tensor(out.degraded)
    assert torch.equal(degraded[inside], clean) and to_tensor(out.original).equal(clean)
    degraded[inside] = 128
    assert bool((degraded == 128).all())


def test_colorize_keeps_the_luma_and_shows_the_original():
    grey = image(channels=1)
    out = restore(MODEL, grey, "colorize", candidates=2, steps=3)
    assert max(off_luma(each, grey.permute(1, 2, 0).numpy()) for each in out.levels) <= 0.501
    assert out.original_levels is None and out.degraded.mode == "L"
    free = restore(MODEL, image(12, 16, 1), "colorize", keep_luminance=False, steps=3)
    assert off_luma(free.levels[0], image(12, 16, 1).permute(1, 2, 0).numpy()) > 1
    clean = image()
    out = restore(MODEL, clean, "colorize", steps=3)
    assert to_tensor(out.original).equal(clean) and out.degraded.mode == "L"
    assert off_luma(out.levels[0], np.asarray(out.degraded)[..., None]) <= 0.501


def test_degradation_by_name_or_operator_enters_the_network_as_in_training():
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
    fill = box_mask(16, 16)[None, None]
    fill[..., :4] = 1
    masked = restore(MODEL, clean, degradation=Mask(mask=fill), steps=2)
    known = (fill[0] == 0).expand(3, -1, -1)
    assert torch.equal(to_tensor(masked.images[0])[known], clean[known])


def test_the_models_tasks_need_no_degradation():
    for task in ("dejpeg", "deblur", "denoise", "descratch", "paired"):
        assert restore(MODEL, image(), task, steps=1).images[0].size == (70, 40)


# --- images ------------------------------------------------------------------------------------


def test_16_bits_come_back_in_16_bits(tmp_path):
    pytest.importorskip("cv2")
    deep = levels(30, 40, np.uint16)
    path = Photo(path=tmp_path / "x.png", levels=deep).save(deep, tmp_path / "deep.png")
    for model in (MODEL, tiny_model(3, size=16)):
        out = restore(model, path, "inpaint", mask=box_mask(30, 40), steps=2)
        sample, known = out.levels[0], box_mask(30, 40).numpy() == 0
        assert sample.dtype == np.uint16 and out.photo.path == path
        assert np.array_equal(sample[known], deep[known])
        between = sample[~known & ((sample > 0) & (sample < 65535)).any(2)] % 65535
        assert (between[between > 0] % 257 != 0).mean() > 0.9  # not 8 bits, widened
    assert restore(MODEL, path, "dejpeg", quality=30, steps=1).levels[0].dtype == np.uint16


def test_a_transparent_part_may_be_what_is_to_be_filled(tmp_path):
    clear = np.full((40, 70), 255, np.uint8)
    clear[box_mask().numpy() == 1] = 0
    rgba = np.dstack([levels(40, 70), clear])
    Image.fromarray(rgba).save(tmp_path / "p.png")
    out = restore(MODEL, tmp_path / "p.png", "inpaint", mask="alpha", steps=2)
    assert np.array_equal(out.levels[0][clear > 0], rgba[..., :3][clear > 0])
    assert np.array_equal(np.asarray(out.degraded)[clear == 0], np.full((320, 3), 128))


@pytest.mark.parametrize("times", [1, 2])
def test_an_image_that_grows_is_opaque_where_it_grew(tmp_path, times):
    rgba = np.dstack([levels(40, 70), levels(40, 70, channels=1, seed=1)])
    Image.fromarray(rgba).save(tmp_path / "p.png")
    growth = {"sides": ["left", "top"], "amount": 0.2, "times": times}
    out = restore(MODEL, tmp_path / "p.png", "uncrop", steps=1, **growth)
    saved = np.asarray(Image.open(out.save(tmp_path / "out")[0]))
    top, left = saved.shape[0] - 40, saved.shape[1] - 70
    assert top >= 8 * times and left >= 14 * times
    assert np.array_equal(saved[top:, left:], rgba)
    assert (saved[:top, :, 3] == 255).all() and (saved[:, :left, 3] == 255).all()


@pytest.mark.parametrize("method", ["palette", "pigdm"])
def test_alpha_is_enlarged_with_its_image(tmp_path, method):
    alpha = np.repeat([0, 255], [30, 40]).astype(np.uint8) * np.ones((40, 1), np.uint8)
    Image.fromarray(np.dstack([levels(40, 70), alpha])).save(tmp_path / "p.png")
    model = MODEL if method == "palette" else tiny_model(3, size=16)
    out = restore(model, tmp_path / "p.png", "upscale", factor=2, steps=1, method=method)
    saved = np.asarray(Image.open(out.save(tmp_path / "out")[0]))[..., 3]
    assert saved.shape == (80, 140)
    assert (saved[:, :56] < 8).all() and (saved[:, 64:] > 247).all()


def test_quality_is_read_from_a_files_tables(tmp_path):
    for quality in (1, 5, 10, 50, 90, 100):
        assert nearest_quality(Photo.read(jpeg(tmp_path / "p.jpg", quality)).jpeg) == quality
    Image.fromarray(levels(9, 9)[..., 0]).save(tmp_path / "grey.jpg", quality=33)
    assert nearest_quality(Photo.read(tmp_path / "grey.jpg").jpeg) == 33
    Image.fromarray(levels(9, 9)).save(tmp_path / "p.png")
    assert Photo.read(tmp_path / "p.png").jpeg is None


def test_unusual_jpeg_files_are_restored_blindly(tmp_path):
    odd = [17] * 64
    odd[5] = 41
    path = jpeg(tmp_path / "odd.jpg", qtables=[odd, odd], subsampling="4:1:1")
    assert restore(MODEL, path, "dejpeg", steps=1).images[0].size == (70, 40)


def test_a_file_that_is_no_jpeg_is_refused_unless_a_quality_is_given(tmp_path):
    Image.fromarray(levels(40, 70)).save(tmp_path / "p.png")
    with pytest.raises(NothingToRestore, match=r"p\.png: nothing to restore: its pixels show no trace of JPEG"):
        restore(MODEL, tmp_path / "p.png", "dejpeg", steps=1)
    assert restore(MODEL, tmp_path / "p.png", "dejpeg", quality=30, steps=1).images[0].size == (70, 40)


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("model", [MODEL, tiny_model(3, size=16)], ids=["palette", "images"])
def test_a_file_that_was_a_jpeg_once_is_restored_by_the_quality_that_is_found(tmp_path, model, in_memory):
    y, x = np.mgrid[:160, :160]
    rough = 128 + 40 * np.sin(x / 5 + y * y / 900) + np.random.default_rng(0).normal(0, 12, (160, 160))
    Image.fromarray(rough.clip(0, 255).astype(np.uint8)).convert("RGB").save(tmp_path / "a.jpg", quality=30)
    with Image.open(tmp_path / "a.jpg") as opened:
        opened.save(tmp_path / "was.png")
    source = Photo.read(tmp_path / "was.png").levels if in_memory else tmp_path / "was.png"
    assert former_quality(as_photo(source).levels) == 30
    observed = Dejpeg().observe(as_photo(source), model)
    given = Dejpeg(quality=30).observe(as_photo(source), model)
    assert torch.equal(observed.canvas.tables, given.canvas.tables)
    assert observed.canvas.degradation == given.canvas.degradation


@pytest.mark.parametrize("model", [MODEL, tiny_model(3, size=16)], ids=["palette", "images"])
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


def test_candidates_are_seeds_of_their_own_and_their_std_is_reported():
    three = restore(MODEL, image(), "dejpeg", candidates=3, steps=2, seed=5)
    again = restore(MODEL, image(), "dejpeg", candidates=2, steps=2, seed=5)
    other = restore(MODEL, image(), "dejpeg", candidates=2, steps=2, seed=6)
    assert all(np.array_equal(a, b) for a, b in zip(three.levels, again.levels, strict=False))
    assert not any(np.array_equal(a, b) for a, b in zip(again.levels, other.levels, strict=True))
    spread = np.stack(three.levels).astype(float).std(0).mean(-1) / 255
    torch.testing.assert_close(three.std, torch.from_numpy(spread).float())


def test_the_mean_of_the_candidates_is_nearer_to_the_posteriors_mean():
    model, y = model_of(EachPixel(0.3, 0.2)), image(96, 96)
    shown = y.permute(1, 2, 0).numpy() / 127.5 - 1
    mean = shown * 0.3**2 / (0.3**2 + 0.2**2)
    errors = [
        np.square(out.levels[0] / 127.5 - 1 - mean).mean()
        for out in (
            restore(model, y, "denoise", steps=20),
            restore(model, y, "denoise", steps=20, candidates=9).average(),
        )
    ]
    assert errors[1] == pytest.approx(errors[0] / 9, rel=0.1)
    out = restore(model, y, "denoise", steps=5, candidates=4).average()
    assert len(out.levels) == 1 and float(out.std.mean()) > 0.05


# --- methods -------------------------------------------------------------------------------------


def test_a_model_brings_its_own_method():
    assert resolve_method(MODEL).method is METHODS["palette"]
    assert resolve_method(tiny_model(3)).method is METHODS["pigdm"]
    assert resolve_method(MODEL, task_steps=3).plan.evaluations == 3
    assert resolve_method(MODEL).plan.evaluations == METHODS["palette"].steps
    assert resolve_method(MODEL, steps=7, task_steps=3).plan.evaluations == 7


def test_palettes_own_sampling_takes_all_its_levels_that_the_model_knows():
    model = model_of(EachPixel(), sigma_range=(0.01, 151.0))
    plan = palette_plan(model)
    assert plan.evaluations == 468  # of 1,000, 532 lie above 151
    assert torch.equal(plan.sigmas[:-1], schedules.palette_inference()[532:]) and float(plan.sigmas[-1]) == 0
    assert plan.settings == {"variance": "forward"}
    assert palette_plan(model, steps=50).evaluations == 50
    clean = image(20, 20)
    out = restore(model, clean, "inpaint", mask="center", sampler="ddpm", schedule="palette", steps=20)
    assert out.images[0].size == (20, 20)


def test_palettes_own_sampling_draws_the_posterior():
    model = model_of(EachPixel(0.3, 0.2), sigma_range=(0.01, 151.0))
    values = torch.tensor([180, 150, 120], dtype=torch.uint8)
    shown = values[:, None, None].expand(3, 60, 60)
    out = restore(model, shown, "denoise", sampler="ddpm", schedule="palette").levels[0] / 127.5 - 1
    variance = 1 / (0.3**-2 + 0.2**-2)
    for channel, value in enumerate(values.tolist()):
        drawn = out[..., channel]  # 3,600 pixels: 4 standard errors of the mean are 0.011, of the deviation 5 %
        assert drawn.mean() == pytest.approx((value / 127.5 - 1) * variance / 0.2**2, abs=0.013)
        assert drawn.std() == pytest.approx(variance**0.5, rel=0.06)


LESS = tiny_learner(tasks=("colorize", "dejpeg"))


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (LESS, {"task": "uncrop"}, "model: was not trained for uncrop; it was trained for colorize, dejpeg"),
        (LESS, {"task": "uncrop", "times": 8}, "was not trained for uncrop"),
        (LESS, {"task": None}, "was not trained for inpaint"),
        (LESS, {"degradation": "blur:2"}, "was not trained for deblur"),
        (LESS, {"degradation": ["grey", "blur:2"]}, "was not trained for deblur"),
        (LESS, {"degradation": ["blur:2", "grey"]}, "was not trained for deblur"),
        (MODEL, {"task": "dejpeg", "method": "pigdm"}, "pigdm is for unconditional models"),
        (tiny_model(3), {"task": "dejpeg", "method": "palette"}, "unconditional: it was not trained to restore"),
        (tiny_model(3), {"task": "descratch"}, "needs a model that was trained on it"),
        (tiny_model(3), {"task": "paired"}, "needs a model that was trained on it"),
        (tiny_model(3), {"task": "denoise"}, "std: the strength of the noise is unknown"),
        (MODEL, {"task": "uncrop", "times": 0}, "times: need at least one"),
        (tiny_model(3), {"task": "uncrop", "times": 2}, "times: needs a model that was trained on uncropping"),
        (MODEL, {"task": "dejpeg", "tile": 63}, "tile: need 64 pixels or more"),
        (MODEL, {"task": "dejpeg", "candidates": 0}, "candidates: need at least one"),
        (MODEL, {"task": "inpaint", "mask": torch.zeros(40, 71)}, "mask: shape"),
        (MODEL, {"task": "uncrop", "sides": ["up"]}, "no such side 'up'"),
        (MODEL, {"task": "uncrop", "sides": ["up"], "times": 2}, "no such side 'up'"),
        (MODEL, {"task": "colourize"}, "no such task 'colourize'. Did you mean `colorize`"),
    ],
)
def test_mistakes_are_reported(model, settings, message):
    with pytest.raises(UserError, match=message):
        restore(model, image(), **settings)


def test_denoising_without_training_takes_the_noise_std():
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


def test_a_file_better_than_a_model_helps_is_refused_unless_its_quality_is_given(tmp_path):
    plain = tiny_learner()
    for quality in (20, 21):
        Image.fromarray(levels(40, 70)).save(tmp_path / f"{quality}.jpg", quality=quality)
    limited = replace(plain.spec.restoration, max_jpeg_quality=20)
    model = ScoreModel(plain.network, plain.parameterization, replace(plain.spec, restoration=limited)).eval()
    restore(model, tmp_path / "20.jpg", "dejpeg", steps=1)
    with pytest.raises(UserError, match="saved at quality 21; this model helps up to 20"):
        restore(model, tmp_path / "21.jpg", "dejpeg", steps=1)
    restore(model, tmp_path / "21.jpg", "dejpeg", quality=21, steps=1)
    restore(plain, tmp_path / "21.jpg", "dejpeg", steps=1)


def test_a_bundled_name_restores_a_task_by_its_specialist(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["scorefield.hub.load"], "_WEIGHTS", tmp_path)
    general = checkpoint.save(MODEL, tmp_path / "two.safetensors")
    weights = {key: 2 * value for key, value in MODEL.network.state_dict().items()}
    other = checkpoint.load(general)
    other.network.load_state_dict(weights)
    checkpoint.save(other, tmp_path / "two.dejpeg.safetensors")
    for task, path in (("dejpeg", tmp_path / "two.dejpeg.safetensors"), ("denoise", general)):
        makes = ("two", load("two"), path)
        named, loaded, alone = (pipeline_restore(model, image(), task, steps=1).levels[0] for model in makes)
        assert np.array_equal(named, alone) and np.array_equal(loaded, alone)
    assert not np.array_equal(*(pipeline_restore(one, image(), "dejpeg", steps=1).levels[0] for one in (MODEL, other)))


def test_tiles_are_as_large_as_the_models_card_says():
    network = EachPixel()
    plain = model_of(network)
    largest: dict[int | None, int] = {}
    for tile in (None, 128):
        restoration = replace(plain.spec.restoration, tile=tile)
        model = ScoreModel(network, plain.parameterization, replace(plain.spec, restoration=restoration)).eval()
        network.shapes.clear()
        restore(model, image(128, 128), "denoise", steps=1)
        largest[tile] = max(max(shape[-2:]) for shape in network.shapes)
    assert largest[None] < 128 == largest[128]


@pytest.mark.parametrize("custom", ["jpeg:10", JPEG(quality=10)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_every_task_that_undoes_a_files_compression_keeps_to_its_cells_and_tables(tmp_path, custom, orientation):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(levels(48, 64)).save(path, "JPEG", quality=10, exif=exif)
    photo = as_photo(path)
    seen = [task.observe(photo, MODEL) for task in (Custom(degradation=custom), Dejpeg(quality=10), Dejpeg())]
    assert all(one.cells is not None and torch.equal(one.canvas.tables, seen[2].canvas.tables) for one in seen)
    model = model_of(EachPixel())
    tasks = (Custom(degradation=custom), Dejpeg(quality=10))
    results = [pipeline_restore(model, path, task, steps=1).levels[0] for task in tasks]
    assert np.array_equal(*results)


@pytest.mark.parametrize("task", [Dejpeg(quality=10), Custom(degradation="jpeg:10")])
def test_an_image_saved_again_at_a_finer_quality_is_restored_by_the_stated_one(tmp_path, task):
    Image.fromarray(levels(48, 64)).save(tmp_path / "first.jpg", quality=10)
    Image.open(tmp_path / "first.jpg").save(tmp_path / "again.jpg", quality=95)
    seen = task.observe(as_photo(tmp_path / "again.jpg"), MODEL)
    assert seen.cells is None  # the original need not lie within the cells of the second file
    assert torch.equal(seen.canvas.tables, table_tensor(standard_tables(10), torch.zeros(1)))
    finer = Dejpeg(quality=95).observe(as_photo(tmp_path / "first.jpg"), MODEL)
    assert finer.cells is not None and torch.equal(
        finer.canvas.tables, Dejpeg().observe(as_photo(tmp_path / "first.jpg"), MODEL).canvas.tables
    )


def test_a_task_of_a_specialist_among_several_is_said_to_be_its_alone():
    model = model_of(EachPixel())
    general = model_of(EachPixel())
    general.spec = replace(general.spec, restoration=RestorationSpec(tasks=("colorize",)))
    general.specialists = {"denoise": lambda _: model}
    with pytest.raises(UserError, match="restores denoise by a specialist, which does nothing else; itself colorize"):
        resolve_method(general, tasks=("denoise", "colorize"))
    with pytest.raises(UserError, match="was not trained for upscale; it was trained for colorize, denoise"):
        resolve_method(general, tasks=("upscale",))


def test_a_custom_jpeg_that_is_simulated_or_noisy_has_no_cells(tmp_path):
    photo = as_photo(jpeg(tmp_path / "a.jpg"))
    for settings in ({"simulate": True}, {"noise_std": 5.0}):
        assert Custom(degradation="jpeg:10", **settings).observe(photo, MODEL).cells is None


@pytest.mark.parametrize(
    "operator", [Mask(mask=box_mask()[None, None]), Crop(top=8, left=8, height=40, width=70, size=(60, 90))]
)
def test_a_custom_mask_or_crop_is_filled_as_inpainting_fills_it(operator):
    observed = Custom(degradation=operator).observe(as_photo(image()), MODEL)
    canvas = observed.canvas
    assert canvas.source is None  # so that wide masks go from coarse to fine, or by their rim
    known = operator.pinv(operator(torch.ones(1, 3, *canvas.size)))
    assert np.array_equal(canvas.mask, known[0, 0].numpy() == 0)
    laid = observed.lay(image()[None].float())[0].permute(1, 2, 0).numpy()
    assert np.array_equal(canvas.levels[~canvas.mask], laid[~canvas.mask].astype(np.uint8))
