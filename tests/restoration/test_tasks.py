"""Every task and degradation by name, from images as users have them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oracles import seeded, tiny_model
from restoration.learners import restore
from scorefield.data.image import to_float, to_pil, to_tensor, to_uint8
from scorefield.data.photo import Photo
from scorefield.degradations import JPEG, Blur, Composed, Downscale, Grey
from scorefield.errors import UserError
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.restoration import DEFAULT_METHOD, METHODS, Custom, Dejpeg, resolve_method

RANGE = (-1.0, 1.0)


def pixels(channels=3, height=16, width=16, seed=0):
    """A smooth image, so that degradations leave something of it."""
    x = Blur(std=1.5)(torch.randn(1, channels, height, width, generator=seeded(seed)))[0]
    return to_uint8(0.7 * x / x.abs().max(), RANGE)


def jpeg_file(path, image, **settings):
    to_pil(image).save(path, "JPEG", **settings)
    return path


def misfit(image, degradation, seen):
    """The mean difference between a degraded sample and the observation, in steps of 8 bits."""
    return float((degradation(to_float(to_tensor(image), RANGE)[None]) - seen).abs().mean()) * 127.5


METHOD_NAMES = ["projection", "repaint", "null-space", "pigdm", "dps", "dps-published", "moment-matching"]


def test_the_methods_are_these():
    assert list(METHODS) == ["palette", *METHOD_NAMES]
    assert DEFAULT_METHOD in METHODS


def observation(model, image, task):
    photo = image if isinstance(image, Photo) else Photo(path="image", levels=image.permute(1, 2, 0).numpy())
    canvas = task.observe(photo, model).canvas
    return canvas.measured([canvas.whole])


class WithinRange(ScoreModel):
    """The denoiser of N(0, 0.3²) in every pixel: its images lie between black and white, so that nothing clamps."""

    def forward(self, x, sigma, condition=None):
        s = sigma.reshape(-1, 1, 1, 1)
        return 0.09 / (0.09 + s**2) * x


@pytest.mark.parametrize("method", [name for name in METHOD_NAMES if name != "dps-published"])  # without such an end
@pytest.mark.parametrize(
    "degradation",
    ["mask:left", "grey", "crop:4", "jpeg:10", "downscale:2", "blur:1", ["grey", "downscale:2"]],
    ids=str,
)
def test_every_method_draws_images_that_are_degraded_to_what_was_seen(method, degradation):
    plain, clean = tiny_model(3, size=16), pixels(seed=3)
    model = WithinRange(plain.network, plain.parameterization, plain.spec).eval()
    out = restore(
        model, clean, degradation=degradation, simulate=True, method=method, steps=60 if method == "projection" else 12
    )
    job = observation(model, clean, Custom(degradation=degradation, simulate=True))
    assert to_tensor(out.images[0]).shape == (3, 16, 16)
    assert misfit(out.images[0], job.degradation, job.y) < 2  # rounding, and a few clamped values
    assert to_tensor(out.original).equal(clean)


# --- tasks ---------------------------------------------------------------------------------------


def run(image, task, *, model=None, **settings):
    return restore(model or tiny_model(3, size=16), image, task, method="null-space", steps=3, **settings)


def test_colorize_takes_a_grey_image_as_grey_or_as_rgb():
    grey = pixels(1)
    out = run(grey, "colorize")
    assert to_tensor(out.images[0]).shape == (3, 16, 16)
    assert out.original_levels is None and to_tensor(out.degraded).equal(grey)
    same = run(grey.expand(3, -1, -1), "colorize")
    assert same.images[0].tobytes() == out.images[0].tobytes()


def test_colorize_takes_the_color_off_an_image_first_and_shows_it():
    clean = pixels()
    out = run(clean, "colorize")
    assert to_tensor(out.original).equal(clean)
    luma = to_uint8(Grey()(to_float(clean, RANGE)[None])[0], RANGE)
    assert to_tensor(out.degraded).equal(luma)


@settings(max_examples=12)
@given(
    st.integers(3, 9),
    st.integers(3, 9),
    st.sets(st.sampled_from(["top", "right", "bottom", "left"]), min_size=1),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.sampled_from([1, 3]),
)
def test_uncrop_draws_on_at_the_sides_and_keeps_the_image(height, width, sides, amount, channels):
    image = pixels(channels, height, width)
    out = run(image, "uncrop", model=tiny_model(channels), sides=sorted(sides), amount=amount)
    sample = to_tensor(out.images[0])
    tall, wide = max(1, round(amount * height)), max(1, round(amount * width))
    top, left = tall * ("top" in sides), wide * ("left" in sides)
    assert sample.shape[1] == height + top + tall * ("bottom" in sides)
    assert sample.shape[2] == width + left + wide * ("right" in sides)
    inside = (..., slice(top, top + height), slice(left, left + width))
    assert torch.equal(sample[inside], image)
    degraded = to_tensor(out.degraded)
    assert torch.equal(degraded[inside], image) and to_tensor(out.original).equal(image)
    degraded[inside] = 128
    assert bool((degraded == 128).all())


@pytest.mark.parametrize("settings", [{"quality": 10}, {"quality": 30, "subsampling": 0}])
def test_dejpeg_reads_from_the_file_how_it_was_made(tmp_path, settings):
    path = jpeg_file(tmp_path / "p.jpg", pixels(3, 32, 32), **settings)
    job = _job(path)
    kept = "4:4:4" if "subsampling" in settings else "4:2:0"
    assert job.degradation == JPEG(quality=settings["quality"], subsampling=kept)
    assert torch.equal(job.degradation(job.y), job.y)  # on what the operator gives
    assert run(path, "dejpeg").images[0].size == (32, 32)
    result = run(to_tensor(Image.open(path)), "dejpeg", quality=settings["quality"])
    assert result.images[0].size == (32, 32)


def _job(path):
    return observation(tiny_model(3), Photo.read(path), Dejpeg())


def test_upscale_goes_to_the_models_own_size_or_by_the_factor():
    assert run(pixels(3, 4, 4), "upscale").images[0].size == (16, 16)
    out = run(pixels(3, 4, 6), "upscale", factor=2)
    assert out.images[0].size == (12, 8)
    assert out.original_levels is None and out.degraded.size == (6, 4)


def test_deblur_takes_the_blur():
    assert run(pixels(), "deblur", std=1.5).images[0].size == (16, 16)


def test_several_degradations_and_operators_of_ones_own():
    model, clean = tiny_model(3, size=16), pixels()
    own = Composed(parts=(Grey(), Downscale(factor=2)))
    by_name, by_operator = (
        restore(model, clean, degradation=degradation, simulate=True, method="null-space", steps=3)
        for degradation in (["grey", "downscale:2"], own)
    )
    assert by_name.images[0].tobytes() == by_operator.images[0].tobytes()
    left = to_tensor(by_name.degraded)
    for degradation in (["grey", "downscale:2"], own):
        again = restore(model, left, degradation=degradation, method="null-space", steps=3)
        assert again.images[0].tobytes() == by_name.images[0].tobytes()


def test_noise_is_added_when_simulated_and_known_pixels_are_then_free():
    model, clean = tiny_model(3, size=16), pixels()
    job = observation(model, clean, Custom(degradation="mask:left", simulate=True, noise_std=10.0))
    assert job.noise == pytest.approx(20 / 255)
    known = torch.zeros(16, 16, dtype=torch.bool)
    known[:, 8:] = True
    error = (job.y[0] - to_float(clean, RANGE))[:, known]
    assert float(error.std()) == pytest.approx(20 / 255, rel=0.15)
    out = restore(model, clean, degradation="mask:left", simulate=True, noise=10.0, method="pigdm", steps=3)
    assert not torch.equal(to_tensor(out.images[0])[:, known], to_tensor(out.degraded)[:, known])


def test_the_sheet_holds_images_of_every_size_and_kind():
    small = run(pixels(3, 4, 4), "upscale", candidates=2).sheet()
    assert small.width > 2.5 * small.height  # three tiles
    grey = run(pixels(1), "colorize", candidates=2).sheet()
    assert grey.mode == "RGB" and grey.width > 2.5 * grey.height
    wide = run(pixels(3, 8, 8), "uncrop", candidates=1).sheet()
    assert np.asarray(wide)[:, -4:].min() == 255  # the image that came in, in the middle of white


# --- methods -------------------------------------------------------------------------------------


def test_repaint_climbs_and_refuses_samplers_that_cannot():
    model = tiny_model()
    sigmas = resolve_method(model, "repaint", steps=20).plan.sigmas
    assert bool((sigmas[1:] > sigmas[:-1]).any()) and float(sigmas[-1]) == 0
    assert len(resolve_method(model, "repaint", steps=2).plan.sigmas) > 3
    with pytest.raises(UserError, match="two steps or more"):
        resolve_method(model, "repaint", steps=1)
    with pytest.raises(UserError, match="repaint climbs, which heun cannot"):
        resolve_method(model, "repaint", "heun")


def test_published_dps_takes_ddpms_thousand_steps_and_no_other_sampler():
    sigmas = resolve_method(tiny_model(), "dps-published").plan.sigmas
    assert len(sigmas) == 1001 and float(sigmas[-1]) == 0
    with pytest.raises(UserError, match="dps-published follows the steps of ddpm, not of heun"):
        resolve_method(tiny_model(), "dps-published", "heun")


def test_a_sampler_of_ones_own_has_its_own_number_of_steps():
    model = tiny_model()
    assert resolve_method(model, "pigdm").plan.evaluations == METHODS["pigdm"].steps
    assert resolve_method(model, "pigdm", "heun").plan.evaluations == 35


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "pigmd"}, r"no such method 'pigmd'\. Did you mean `pigdm`"),
        ({"task": "colourize"}, "no such task 'colourize'. Did you mean `colorize`"),
        ({"degradation": "gery"}, "no such degradation"),
        ({"degradation": "downscale:3", "simulate": True}, "does not divide by 3"),
        ({"degradation": "grey"}, "the image has 3 channels, after the degradation it has 1"),
        ({"degradation": Downscale(factor=3), "simulate": True}, "does not divide by 3"),
        ({"degradation": "jpeg:10", "noise": -1.0}, "noise: .*0 or more"),
        ({"degradation": "jpeg:10", "noise": float("nan")}, "noise: .*0 or more"),
        ({"task": "uncrop", "sides": []}, "sides: none is named"),
        ({"task": "uncrop", "sides": ["up"]}, "no such side 'up'"),
        ({"task": "uncrop", "amount": 0.0}, "amount: need more than 0"),
        ({"task": "uncrop", "amount": float("nan")}, "amount: need more than 0"),
        ({"task": "upscale"}, "factor: no factor leads from 16×16 to the model's 16×16"),
        ({"task": "upscale", "factor": 1}, "2 or more"),
        ({"task": "deblur", "std": -1.0}, "above 0"),
        ({"task": "dejpeg"}, "only a JPEG file says how it was made"),
        ({"task": "dejpeg", "quality": 0}, "1 to 100"),
    ],
)
def test_mistakes_are_reported(settings, message):
    with pytest.raises(UserError, match=message):
        restore(tiny_model(3, size=16), pixels(), **settings)


def test_a_model_that_is_not_for_color_cannot_colorize():
    with pytest.raises(UserError, match="samples grey images"):
        restore(tiny_model(1), pixels(1), "colorize")


def test_a_file_that_is_no_jpeg_is_named(tmp_path):
    to_pil(pixels()).save(tmp_path / "p.png")
    with pytest.raises(UserError, match=r"p\.png: nothing to restore: its pixels show no trace of JPEG"):
        run(tmp_path / "p.png", "dejpeg")


def test_a_model_that_restores_says_with_how_many_steps():
    def model(steps):
        plain = tiny_model(3, size=16)
        spec = ModelSpec(shape=(3, 16, 16), restoration=RestorationSpec(tasks=("dejpeg",), steps=steps))
        return ScoreModel(plain.network, plain.parameterization, spec)

    assert resolve_method(model(None), task_steps=3).plan.evaluations > 2
    assert resolve_method(model(2), task_steps=3).plan.evaluations == 2
    assert resolve_method(model(2), steps=7, task_steps=3).plan.evaluations == 7
