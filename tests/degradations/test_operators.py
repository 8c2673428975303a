"""What every operator of degradation must keep to: linearity, its adjoint, and A A⁺ A = A."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oracles import seeded
from scorefield.degradations import (
    JPEG,
    Blur,
    CenterBox,
    Composed,
    Crop,
    Downscale,
    Grey,
    Mask,
    Observation,
    Rotated,
    Side,
    adjoint,
    known_pixels,
)
from scorefield.errors import UserError


def mask(h, w):
    return Mask(mask=(torch.rand(1, 1, h, w, generator=seeded(1)) > 0.5).float())


def linear(h, w):
    """Every linear operator, for images of (h, w), both multiples of 4."""
    crop = Crop(top=1, left=0, height=h - 2, width=w - 3, size=(h, w))
    return {
        "mask": mask(h, w),
        "grey": Grey(),
        "crop": crop,
        "downscale": Downscale(factor=2),
        "blur": Blur(std=1.3),
        "turned": Rotated(degradation=crop if h == w else Grey(), orientation=6),
        "grey, smaller": Composed(parts=(Grey(), Downscale(factor=4))),
        "blurred, smaller": Composed(parts=(Blur(std=0.7), Downscale(factor=2))),
        "masked, smaller, grey": Composed(parts=(mask(h, w), Downscale(factor=2), Grey())),
        "cropped, masked": Composed(parts=(crop, mask(h - 2, w - 3))),
    }


NAMES = list(linear(4, 4))
sizes = st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda s: (4 * s[0], 4 * s[1]))


def norm(x):
    return float(x.double().norm())


@given(sizes, st.sampled_from(NAMES))
def test_linear_operators_are_linear(size, name):
    degradation, (x, z) = linear(*size)[name], torch.randn(2, 2, 3, *size, generator=seeded())
    torch.testing.assert_close(
        degradation(2 * x - 3 * z), 2 * degradation(x) - 3 * degradation(z), atol=1e-5, rtol=1e-5
    )


@given(sizes, st.sampled_from(NAMES))
def test_the_adjoint_of_an_operator_is_its_transpose(size, name):
    degradation, x = linear(*size)[name], torch.randn(2, 3, *size, generator=seeded())
    y = degradation(x)
    v = torch.randn(y.shape, generator=seeded(1))
    back = adjoint(degradation, torch.zeros_like(x), v)
    assert float((y * v).sum()) == pytest.approx(float((x * back).sum()), abs=1e-3 * norm(y))


@given(sizes, st.sampled_from(NAMES))
def test_what_the_pseudo_inverse_gives_is_degraded_to_the_observation(size, name):
    degradation, x = linear(*size)[name], torch.randn(2, 3, *size, generator=seeded())
    y = degradation(x)
    back = degradation.pinv(y)
    assert back.shape == x.shape
    assert norm(degradation(back) - y) <= 2e-4 * norm(y)  # compositions 1e-4, all others rounding


@given(sizes, st.sampled_from(["mask", "grey", "crop", "downscale", "blur", "turned"]))
def test_the_pseudo_inverse_is_the_one_of_moore_and_penrose(size, name):
    # A⁺A is symmetric, which says that A⁺ gives the least of all images that fit
    degradation, (x, z) = linear(*size)[name], torch.randn(2, 1, 3, *size, generator=seeded())
    seen = degradation.pinv(degradation(x))
    assert float((seen * z).sum()) == pytest.approx(
        float((x * degradation.pinv(degradation(z))).sum()), abs=1e-3 * norm(x)
    )
    torch.testing.assert_close(degradation.pinv(degradation(seen)), seen, atol=1e-4, rtol=1e-4)


def test_grey_is_the_luma_and_grey_images_are_their_own():
    x = torch.tensor([1.0, 0.5, -1.0]).reshape(1, 3, 1, 1)
    assert float(Grey()(x)) == pytest.approx(0.299 + 0.587 / 2 - 0.114)
    assert float(Grey()(torch.full((1, 3, 1, 1), 0.3))) == pytest.approx(0.3)
    w = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(Grey().pinv(torch.ones(1, 1, 1, 1)).flatten(), w / (w @ w))


def test_a_crop_lays_its_box_where_it_was():
    x = torch.arange(20.0).reshape(1, 1, 4, 5)
    crop = Crop(top=1, left=2, height=2, width=3, size=(4, 5))
    assert torch.equal(crop(x), x[..., 1:3, 2:5])
    whole = torch.zeros_like(x)
    whole[..., 1:3, 2:5] = x[..., 1:3, 2:5]
    assert torch.equal(crop.pinv(crop(x)), whole)


def test_smaller_is_the_mean_of_squares():
    x = torch.tensor([[1.0, 3.0, 0.0, 0.0], [5.0, 7.0, 0.0, 8.0]]).reshape(1, 1, 2, 4)
    assert Downscale(factor=2)(x).flatten().tolist() == [4.0, 2.0]
    assert Downscale(factor=2).pinv(torch.tensor([[[[4.0]]]])).flatten().tolist() == [4.0] * 4


def test_blur_is_the_gaussian_mean_of_an_image_mirrored_at_its_edges():
    std, n = 0.6, 12  # little enough blur that no singular value is cut: the least is 0.17
    x = torch.randn(1, 1, n, n, generator=seeded(), dtype=torch.float64)
    j = torch.arange(-3, 4, dtype=torch.float64)
    weights = torch.exp(-(j**2) / (2 * std**2))
    weights /= weights.sum()
    mirrored = torch.cat([x.flip(-1)[..., -3:], x, x.flip(-1)[..., :3]], -1)
    assert torch.equal(mirrored[..., 2], x[..., 0])
    rows = sum(weights[k] * mirrored[..., k : k + n] for k in range(7))
    tall = torch.cat([rows.flip(-2)[..., -3:, :], rows, rows.flip(-2)[..., :3, :]], -2)
    expected = sum(weights[k] * tall[..., k : k + n, :] for k in range(7))
    torch.testing.assert_close(Blur(std=std, threshold=1e-9)(x), expected, atol=1e-12, rtol=0)


def test_what_a_blur_left_too_weak_is_not_in_it_at_all():
    # of the finest stripes of 16 pixels a blur of 1 leaves exp(−(15π/16)²/2) = 0.013, and 0.004 more as its
    # weights are sampled and summed: below the threshold of 0.03
    stripes = torch.cos(math.pi * 15 * (2 * torch.arange(16) + 1) / 32).expand(1, 1, 16, 16)
    assert float(Blur(std=1.0)(stripes).abs().max()) < 32 * 2**-23  # two transforms of 16 products
    assert float(Blur(std=1.0, threshold=0.01)(stripes).abs().max()) == pytest.approx(0.0168, abs=2e-4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_degradation_sees_the_image_as_it_was_stored(orientation):
    # Pillow's own rule for EXIF
    from PIL import Image, ImageOps

    stored = (torch.rand(5, 4, generator=seeded()) * 255).to(torch.uint8)
    image, exif = Image.fromarray(stored.numpy()), Image.Exif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    image.getexif()[0x0112] = orientation
    turned = ImageOps.exif_transpose(image)
    upright = torch.tensor(list(turned.get_flattened_data())).reshape(1, 1, turned.height, turned.width).float()
    half = Mask(mask=torch.eye(5, 4).reshape(1, 1, 5, 4))
    left = Rotated(degradation=half, orientation=orientation)(upright)
    image = Image.fromarray((stored * (1 - torch.eye(5, 4).to(torch.uint8))).numpy())
    image.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(image)
    assert left.flatten().tolist() == list(expected.get_flattened_data())


# --- several -------------------------------------------------------------------------------------


def test_several_degradations_happen_in_their_order():
    x = torch.randn(2, 3, 8, 8, generator=seeded())
    first, second = Blur(std=1.0), Mask(mask=torch.eye(8).reshape(1, 1, 8, 8))
    assert torch.equal(Composed(parts=(first, second))(x), second(first(x)))
    assert not torch.allclose(Composed(parts=(second, first))(x), second(first(x)), atol=1e-3)


def test_where_the_chain_fails_least_squares_come_nearer():
    # a photograph's smoothness: its spectrum falls off
    x = Blur(std=2.0)(torch.randn(1, 3, 32, 32, generator=seeded()))
    for parts in ((CenterBox().draw(x.shape, generator=seeded()), Blur(std=1.5)),
                  (Blur(std=1.5), CenterBox().draw(x.shape, generator=seeded()))):  # fmt: skip
        degradation = Composed(parts=parts)
        y = degradation(x)
        chain = parts[0].pinv(parts[1].pinv(y))
        far, near = (norm(degradation(back) - y) / norm(y) for back in (chain, degradation.pinv(y)))
        assert near < far / 4  # measured 0.001 and 0.019, 0.003 and 0.05


def test_least_squares_give_the_least_image_and_each_of_a_batch_its_own():
    degradation = Composed(parts=(mask(8, 8), Downscale(factor=2)))
    rows = torch.stack([degradation(e.reshape(1, 1, 8, 8)).flatten() for e in torch.eye(64)], 1)
    x = torch.randn(3, 1, 8, 8, generator=seeded())
    expected = (torch.linalg.pinv(rows.double()) @ degradation(x).double().flatten(1).T).T
    torch.testing.assert_close(degradation.pinv(degradation(x)).flatten(1), expected.float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        degradation.pinv(degradation(x))[1:2], degradation.pinv(degradation(x[1:2])), atol=1e-4, rtol=1e-4
    )


def test_jpeg_at_the_end_keeps_to_the_chain():
    x = torch.rand(1, 3, 32, 32, generator=seeded()) * 2 - 1
    degradation = Composed(parts=(Grey(), JPEG(quality=10)))
    y = degradation(x)
    assert torch.equal(degradation.pinv(y), Grey().pinv(y))
    assert norm(degradation(degradation.pinv(y)) - y) < 1e-5 * norm(y)


# --- what is known -------------------------------------------------------------------------------


def test_known_pixels_are_found_without_asking_what_the_operator_is():
    crop = Crop(top=0, left=2, height=4, width=2, size=(4, 4))
    masked = torch.zeros(1, 1, 4, 2)
    masked[..., 0, 0] = 1
    known, gone = known_pixels(Composed(parts=(crop, Mask(mask=masked))), (1, 3, 4, 4))
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[:, 2:] = True
    expected[0, 2] = False
    assert torch.equal(known, expected.expand(1, 3, 4, 4)) and torch.equal(gone, ~known)
    for degradation in (Grey(), Blur(std=1.0), JPEG(quality=100), Downscale(factor=2)):
        assert not bool(known_pixels(degradation, (1, 3, 16, 16))[0].any())


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grey(weights=(1.0, 1.0, 1.0)), "must sum to 1"),
        (lambda: Grey()(torch.zeros(1, 1, 2, 2)), "made for 3 channels, the image has 1"),
        (lambda: Crop(top=0, left=3, height=2, width=2, size=(4, 4)), "not within 4×4"),
        (lambda: Crop(top=0, left=0, height=0, width=2, size=(4, 4)), "not within"),
        (lambda: Crop(top=0, left=0, height=2, width=2, size=(4, 4))(torch.zeros(1, 1, 5, 4)), "made for"),
        (lambda: Downscale(factor=0), "1 or more, got 0"),
        (lambda: Downscale(factor=4)(torch.zeros(1, 1, 10, 8)), "10×8 does not divide by 4.*Cut.*8×8"),
        (lambda: Downscale(factor=4)(torch.zeros(1, 1, 3, 8)), "at least 4×4"),
        (lambda: Blur(std=0.0), "above 0"),
        (lambda: Blur(std=math.nan), "above 0"),
        (lambda: Blur(std=math.inf), "at most 1000"),
        (lambda: Blur(std=1.0, threshold=0.0), "between 0 and 1"),
        (lambda: Composed(parts=()), "at least one degradation"),
        (lambda: Rotated(degradation=Grey(), orientation=9), "1 to 8, got 9"),
        (lambda: Observation(y=torch.zeros(1), degradation=Grey(), noise=-1.0), "0 or more"),
        (lambda: Observation(y=torch.zeros(1), degradation=Grey(), noise=math.nan), "0 or more"),
    ],
)
def test_mistakes_are_reported(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("family", [Grey(), Downscale(factor=2), Blur(std=1.0)])
def test_what_is_not_random_draws_itself(family):
    assert family.draw((1, 3, 4, 4), generator=seeded()) == family


@pytest.mark.parametrize("side", ["left", "bottom"])
def test_masks_compose_too(side):
    part = Side(side=side).draw((1, 3, 8, 8), generator=seeded())
    degradation = Composed(parts=(part, CenterBox().draw((1, 3, 8, 8), generator=seeded())))
    x = torch.randn(1, 3, 8, 8, generator=seeded())
    assert torch.equal(degradation(degradation.pinv(degradation(x))), degradation(x))
