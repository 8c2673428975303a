"""Noise, blur and compression are found at known amounts, and not where there are none."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from scorefield.data.photo import as_photo
from scorefield.restoration.inspection import (
    BLURRED,
    NOISY,
    Inspection,
    blur_std,
    doubt,
    former_quality,
    inspect_photo,
    noise_std,
    proposals,
)

SIDE = 256


def levels(image):
    return np.rint(image.clip(0, 255)).astype(np.uint8)


def smooth():
    """Slow waves of color."""
    y, x = np.mgrid[:SIDE, :SIDE] / 60
    return 128 + 50 * np.stack([np.sin(x + c) * np.cos(y - c) for c in range(3)], 2)


def textured():
    """Waves, and over half of the image a texture whose amplitude falls with frequency, as that of photographs."""
    rng = np.random.default_rng(1)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE))) + 1 / SIDE
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIDE, SIDE))) / frequency**1.5).real
    field *= 25 / field.std()
    return 0.4 * (smooth() - 128) + 128 + (np.arange(SIDE) < SIDE // 2)[:, None] * field[..., None]


def shapes():
    """Discs and bars with sharp edges, one pixel wide."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE), 100.0)
    for _ in range(25):
        cy, cx, r = *rng.integers(0, SIDE, 2), rng.integers(8, 40)
        image = np.where(np.hypot(y - cy, x - cx) < r, rng.integers(20, 235), image)
    return np.repeat(image[..., None], 3, 2)


def compressed(image, quality, **settings):
    file = io.BytesIO()
    Image.fromarray(levels(image)).save(file, "JPEG", quality=quality, **settings)
    return np.asarray(Image.open(file))


IMAGES = {"smooth": smooth, "textured": textured, "shapes": shapes}


@pytest.mark.parametrize("std", [5, 10, 25, 50])
@pytest.mark.parametrize("kind", IMAGES)
def test_the_noise_s_standard_deviation_is_found_within_15_percent(kind, std):
    image = IMAGES[kind]()
    if std == 50:
        image = 128 + (image - 128) / 3  # what is clipped at black and white is lost
    noisy = levels(image + std * np.random.default_rng(0).standard_normal(image.shape))
    assert noise_std(noisy) == pytest.approx(std, rel=0.15)
    deep = (noisy.astype(np.uint16)) * 257
    assert noise_std(deep) == pytest.approx(noise_std(noisy))


@pytest.mark.parametrize("kind", IMAGES)
def test_no_noise_is_found_where_there_is_none(kind):
    assert noise_std(levels(IMAGES[kind]())) < NOISY
    assert doubt(as_photo(levels(IMAGES[kind]())), "denoise") is not None


@pytest.mark.parametrize("quality", [10, 30, 50, 70, 85])
@pytest.mark.parametrize("kind", ["textured", "shapes"])
def test_a_former_jpeg_and_its_quality_are_found(kind, quality):
    found = former_quality(compressed(IMAGES[kind](), quality))
    assert found is not None
    assert abs(found - quality) <= 2  # neighbouring qualities share steps
    grey = compressed(IMAGES[kind]().mean(2), quality)[..., None]
    assert abs(former_quality(grey) - quality) <= 2


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("noise", [0, 2, 20])
def test_no_jpeg_is_found_where_there_was_none(kind, noise):
    image = IMAGES[kind]()
    assert former_quality(levels(image + noise * np.random.default_rng(0).standard_normal(image.shape))) is None


@pytest.mark.parametrize("kind", ["noise", "slopes", "ramp", "steep", "flat", "squares of 16", "stripes", "small"])
def test_patterns_that_repeat_in_every_block_are_no_jpeg(kind):
    y, x = np.mgrid[:160, :160]
    image = {
        "noise": np.random.default_rng(0).integers(0, 256, (128, 128, 3)),
        "slopes": np.stack([x, y, x + y], 2) % 256,
        "ramp": np.stack([x, x, x], 2),
        "steep": np.stack([3 * x % 256, 2 * y % 256, x], 2),
        "flat": np.full((128, 128, 1), 7),
        "squares of 16": (255 * ((x // 4 + y // 4) % 2))[..., None],
        "stripes": (255 * (x % 16 < 8))[..., None],
        "small": textured()[:16, :16],
    }[kind]
    assert former_quality(levels(image)) is None


def test_a_jpeg_that_was_resized_since_is_none():
    small = Image.fromarray(compressed(textured(), 50)).resize((170, 170), Image.Resampling.LANCZOS)
    assert former_quality(np.asarray(small)) is None


@pytest.mark.parametrize("std", [1.5, 2, 3])
def test_the_blur_of_isolated_edges_is_measured(std):
    """A step between pixels already has 0.41: a Gaussian of that std puts as much of its step between two pixels.

    From R² = 1 + 1/s² an error of R grows to ds/s = (1 + s²) dR/R. Rounding gives a difference of pixels the std
    √(1/6), against a gradient of 160/√(2π)s, and the sharpest tenth of edges lies 1.28 of it lower.
    """
    image = np.repeat(np.repeat([[40.0, 200.0] * 4], SIDE, 0), SIDE // 8, 1)[..., None]
    blurred = levels(gaussian_filter(image, (std, std, 0)))
    rounding = 1.28 / 6**0.5 * (2 * np.pi) ** 0.5 * std / 160
    assert blur_std(blurred) == pytest.approx(np.hypot(std, 0.41), rel=0.05 + (1 + std**2) * rounding)


@pytest.mark.parametrize("kind", ["textured", "shapes"])
def test_blur_is_found_from_2_pixels_on_and_not_in_sharp_images(kind):
    image = IMAGES[kind]() if kind == "shapes" else 128 + 3 * (textured() - 128)
    sharp = blur_std(levels(image))
    assert sharp < BLURRED
    assert doubt(as_photo(levels(image)), "deblur") is not None
    found = [blur_std(levels(gaussian_filter(image, (std, std, 0)))) for std in (2, 3)]
    assert BLURRED < found[0] < found[1]
    soft = as_photo(levels(gaussian_filter(image, (2, 2, 0))))
    assert doubt(soft, "deblur") is None
    assert doubt(soft, "upscale") is not None
    assert doubt(as_photo(levels(image)), "upscale") is None


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (15, 40), (33, 7)])
def test_small_images_say_nothing(size):
    image = np.zeros((*size, 3), np.uint8)
    assert inspect_photo(as_photo(image)) == Inspection(
        jpeg_quality=None, is_jpeg=False, noise_std=0.0, blur_std=None, grey=True
    )


def test_grey_is_found_in_three_channels():
    assert inspect_photo(as_photo(levels(shapes()))).grey
    assert not inspect_photo(as_photo(levels(smooth()))).grey


def test_proposals_name_the_verb_and_its_options():
    found = Inspection(jpeg_quality=30, is_jpeg=False, noise_std=12.3, blur_std=2.04, grey=True)
    made = [(each.verb, each.options) for each in proposals(found, max_jpeg_quality=90)]
    assert made == [
        ("dejpeg", ("--quality", "30")), ("denoise", ("--std", "12")), ("deblur", ("--std", "2.0")), ("colorize", ()),
    ]  # fmt: skip
    clean = Inspection(jpeg_quality=95, is_jpeg=True, noise_std=0.5, blur_std=0.4, grey=False)
    assert proposals(clean, max_jpeg_quality=90) == []
