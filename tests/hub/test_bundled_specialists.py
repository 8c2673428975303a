"""The specialists of `photos` do on unseen images what their cards say; dead leaves stand for photographs."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

import scorefield as sf
from scorefield.hub import specialists


def dead_leaves(seed, side=96):
    """Discs of chance colors and sizes over one another (Lee, Mumford & Huang 2001), edges as of photographs."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (4 * side, 4 * side))
    draw = ImageDraw.Draw(image)
    for _ in range(400):
        x, y, r = *rng.uniform(0, 4 * side, 2), 8 / rng.uniform(0.05, 1)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(v) for v in rng.integers(20, 236, 3)))
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def psnr(image, wanted):
    return 10 * np.log10(255**2 / np.square(image.astype(float) - wanted).mean())


def noisy(image, std, seed=0):
    draws = np.random.default_rng(seed).normal(size=image.shape)
    return np.clip(np.rint(image + std * draws), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("std", [10, 25, 50])
def test_noise_is_removed(std):
    image = dead_leaves(std)
    given = noisy(image, std)
    out = sf.restore("photos", given, "denoise").levels[0]
    assert psnr(out, image) > psnr(given, image) + 4  # photographs gain 4.4 dB at 5 levels and more above


def test_noise_on_a_grey_image_leaves_it_grey():
    image = dead_leaves(1)[..., :1]
    given = noisy(image, 25)
    out = sf.restore("photos", given, "denoise").levels[0]
    assert out.shape == given.shape and psnr(out, image) > psnr(given, image) + 4


@pytest.mark.parametrize("factor", [2, 4])
def test_an_image_is_enlarged_better_than_bicubically(factor):
    image = dead_leaves(factor)
    small = image.reshape(96 // factor, factor, 96 // factor, factor, 3).mean((1, 3))
    small = np.rint(small).astype(np.uint8)
    bicubic = np.asarray(Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC))
    out = sf.restore("photos", small, sf.restoration.Upscale(factor=factor)).levels[0]
    assert psnr(out, image) > psnr(bicubic, image) + 0.3


@pytest.mark.parametrize("quality", [10, 50])
def test_a_jpeg_file_gains(quality, tmp_path):
    image = dead_leaves(quality)
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=quality)
    given = np.asarray(Image.open(io.BytesIO((tmp_path / "a.jpg").read_bytes())))
    out = sf.restore("photos", tmp_path / "a.jpg", "dejpeg").levels[0]
    assert psnr(out, image) > psnr(given, image) + 0.5


def test_the_models_for_photographs_fit_into_a_wheel():
    files = [sf.hub.find("photos"), *specialists("photos").values()]
    assert all(path.stat().st_size <= 8e6 for path in files) and sum(path.stat().st_size for path in files) <= 30e6
