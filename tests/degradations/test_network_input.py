"""Source and mask that a conditional network receives for a degraded image."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from oracles import seeded
from scorefield.degradations import (
    JPEG,
    AdditiveNoise,
    Blur,
    Boxes,
    CenterBox,
    Composed,
    Crop,
    Downscale,
    EncodedJPEG,
    Grey,
    HasNetworkInput,
    Identity,
    Mask,
    NetworkInput,
    Rotated,
    Scratches,
    network_input,
    predict_all,
    with_masked_input,
)
from scorefield.degradations.smooth import smooth_fill

X = torch.rand(2, 3, 32, 48, generator=seeded()) * 2 - 1
ALL = torch.ones(2, 1, 32, 48)
CROP = Crop(top=3, left=5, height=20, width=30, size=(32, 48))


def see(degradation, x=X, seed=1):
    return network_input(degradation, degradation(x), generator=seeded(seed))


def check_noise(values):
    """Standard Gaussian, to four standard errors."""
    n = values.numel()
    assert float(values.mean()) == pytest.approx(0, abs=4 / n**0.5)
    assert float(values.var()) == pytest.approx(1, abs=4 * (2 / n) ** 0.5)


def check_masked(seen, masked, x=X):
    assert torch.equal(seen.mask, masked.float().expand(len(x), 1, -1, -1))
    where = masked.expand_as(x)
    assert torch.equal(seen.source[~where], x[~where])
    check_noise(seen.source[where])


def test_masked_pixels_are_standard_noise_and_the_rest_is_untouched():
    mask = CenterBox(share=0.7).draw((1, 3, 32, 48), generator=seeded())
    check_masked(see(mask), mask.mask.bool())


def test_images_of_a_batch_have_their_own_holes_and_noise():
    fill = torch.zeros(2, 1, 32, 48)
    fill[0, :, :20], fill[1, :, 10:] = 1, 1
    seen = see(Mask(mask=fill))
    check_masked(seen, fill.bool())
    both = (fill[0] * fill[1]).bool().expand(3, -1, -1)
    assert not torch.equal(seen.source[0][both], seen.source[1][both])


def test_around_a_crop_there_is_standard_noise():
    around = torch.ones(1, 1, 32, 48, dtype=torch.bool)
    around[..., 3:23, 5:35] = False
    check_masked(see(CROP), around)


def test_a_mask_and_a_crop_that_keep_the_same_pixels_give_the_same_input():
    fill = torch.ones(1, 1, 32, 48)
    fill[..., 3:23, 5:35] = 0
    one, other = see(CROP), see(Mask(mask=fill))
    assert torch.equal(one.source, other.source) and torch.equal(one.mask, other.mask)


def test_noise_comes_from_the_generator_alone():
    assert torch.equal(see(CROP, seed=5).source, see(CROP, seed=5).source)
    assert not torch.equal(see(CROP, seed=5).source, see(CROP, seed=6).source)


def test_grey_is_repeated_in_every_channel():
    seen = see(Grey())
    luma = X[:, :1] * 0.299 + X[:, 1:2] * 0.587 + X[:, 2:] * 0.114
    torch.testing.assert_close(seen.source, luma.repeat(1, 3, 1, 1))
    assert torch.equal(seen.mask, ALL)


@pytest.mark.parametrize(
    "degradation",
    [
        JPEG(quality=10),
        EncodedJPEG(quality=10),
        Blur(std=1.5),
        AdditiveNoise(std=0.2, seed=3),
        Scratches().draw((1, 3, 32, 48), generator=seeded()),
        Identity(),
    ],
)
def test_of_an_image_degraded_everywhere_the_source_is_the_image(degradation):
    seen = see(degradation)
    assert torch.equal(seen.source, degradation(X))
    assert torch.equal(seen.mask, ALL)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_small_image_is_enlarged_as_pillow_does(factor):
    seen, small = see(Downscale(factor=factor)), Downscale(factor=factor)(X)
    for source, y in zip(seen.source.flatten(0, 1), small.flatten(0, 1), strict=True):
        expected = Image.fromarray(y.numpy()).resize((48, 32), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(source.numpy(), np.asarray(expected), atol=1e-5)
    assert torch.equal(seen.mask, ALL)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_input_of_a_rotated_image_is_upright(orientation):
    fill = torch.zeros(1, 1, 32, 48)
    fill[..., :8, :40] = 1  # of the stored image, so turned it is another
    turned = orientation >= 5
    x = X.transpose(-2, -1) if turned else X
    degradation = Rotated(degradation=Mask(mask=fill), orientation=orientation)
    masked = degradation(torch.ones_like(x))[:1, :1] == 0
    assert int(masked.sum()) == 8 * 40
    check_masked(see(degradation, x), masked, x)


def test_of_several_degradations_known_is_what_all_of_them_know():
    mask = CenterBox(share=0.5).draw((1, 3, 20, 30), generator=seeded())
    seen = see(Composed(parts=(CROP, mask)))
    masked = torch.ones(1, 1, 32, 48, dtype=torch.bool)
    masked[..., 3:23, 5:35] = mask.mask.bool()
    check_masked(seen, masked)


def test_pixels_masked_before_another_degradation_are_still_noise():
    mask = CenterBox(share=0.5).draw((1, 3, 32, 48), generator=seeded())
    seen = see(Composed(parts=(mask, Downscale(factor=2), Grey())))
    assert torch.equal(seen.mask, ALL)
    check_noise(seen.source[mask.mask.bool().expand_as(X)])
    known = (mask.mask == 0)[:, :, 0].expand(2, 1, -1)  # a row above the mask
    assert seen.source.shape == X.shape and known.any()


def test_a_crop_of_a_small_grey_image_has_the_size_of_the_whole():
    small = Crop(top=1, left=2, height=8, width=9, size=(16, 24))
    seen = see(Composed(parts=(Grey(), Downscale(factor=2), small)))
    assert seen.source.shape == X.shape
    assert torch.equal(seen.mask, ALL)


@dataclass(frozen=True)
class Mirrored:
    """A user's own operator: the image, mirrored."""

    def __call__(self, x):
        return x.flip(-1)

    def pinv(self, y):
        return y.flip(-1)


@dataclass(frozen=True)
class Row:
    """A user's own operator: one row is left of each image."""

    rows: int

    def __call__(self, x):
        return x[..., :1, :]

    def pinv(self, y):
        return y.expand(-1, -1, self.rows, -1)


class KnownRow(Row):
    """The same with its own rule: the row is known."""

    def network_input(self, y, *, generator):
        seen = predict_all(self.pinv(y).clone())
        seen.mask[..., 0, :] = 0
        return NetworkInput(seen.source, seen.mask)


def test_a_users_own_operator_needs_two_methods_only():
    seen = see(Mirrored())
    assert torch.equal(seen.source, X.flip(-1)) and torch.equal(seen.mask, ALL)
    seen = see(Row(32))
    assert torch.equal(seen.source, X[..., :1, :].expand(-1, -1, 32, -1)) and torch.equal(seen.mask, ALL)


def test_a_users_own_operator_may_have_its_own_rule():
    assert isinstance(KnownRow(32), HasNetworkInput) and not isinstance(Row(32), HasNetworkInput)
    seen = see(KnownRow(32))
    assert float(seen.mask.sum()) == 2 * 31 * 48
    assert torch.equal(seen.source[..., 0, :], X[..., 0, :])


def test_masked_pixels_of_half_precision_stay_so():
    mask = Boxes().draw((1, 3, 32, 48), generator=seeded())
    seen = see(mask, X.half())
    assert seen.source.dtype == seen.mask.dtype == torch.float16


def test_a_smooth_guess_solves_laplaces_equation_from_the_rim():
    # A plane is harmonic: whatever is cut out of it comes back.
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    plane = (0.02 * rows - 0.01 * columns)[None, None].expand(1, 3, -1, -1)
    masked = torch.zeros(1, 1, 32, 32)
    masked[..., 8:20, 10:18] = 1
    filled = smooth_fill(torch.where(masked > 0, torch.tensor(99.0), plane), masked)
    assert torch.equal(filled[(masked == 0).expand_as(plane)], plane[(masked == 0).expand_as(plane)])
    assert float((filled - plane).abs().max()) < 0.02  # of a span of 0.93; measured 0.013


def test_an_image_that_is_masked_entirely_is_grey():
    assert not smooth_fill(torch.ones(1, 3, 9, 7), torch.ones(1, 1, 9, 7)).any()


@pytest.mark.parametrize("masked_input", [0.0, 0.5, "smooth"])
def test_masked_pixels_are_presented_as_set_and_degraded_images_stay(masked_input):
    x = torch.rand(1, 3, 16, 16, generator=seeded())
    fill = torch.zeros(1, 1, 16, 16)
    fill[..., 4:9, 5:12] = 1
    seen = network_input(Mask(mask=fill), Mask(mask=fill)(x), generator=seeded(1))
    other = with_masked_input(seen, masked_input)
    assert torch.equal(other.source * (1 - fill), seen.source * (1 - fill))
    inside = other.source[(fill > 0).expand_as(x)]
    if masked_input == "smooth":
        assert 0 <= float(inside.min()) < float(inside.max()) <= 1
    else:
        assert torch.equal(inside, masked_input * seen.source[(fill > 0).expand_as(x)])
    whole = network_input(Grey(), Grey()(x), generator=seeded())
    assert torch.equal(with_masked_input(whole, masked_input).source, whole.source)
