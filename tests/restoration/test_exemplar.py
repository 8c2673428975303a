"""Patches of the image under wide masks: exact where the image repeats, and the known is never changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import scorefield as sf
from scorefield.degradations.smooth import smooth_fill
from scorefield.restoration import Inpaint
from scorefield.restoration.exemplar import depth, exemplar_fill


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def box(h, w, top, left, side):
    mask = torch.zeros(h, w)
    mask[top : top + side, left : left + side] = 1
    return mask


def stripes(h=64, w=64, period=8, channels=3):
    """An image that repeats: every patch under a mask is shown elsewhere."""
    x = torch.arange(w).expand(h, w) % period
    return torch.stack([x / period, (x > 2).float(), (x > 5).float()])[:channels]


@pytest.mark.parametrize(("h", "w"), [(64, 64), (61, 75)])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_repeats_is_continued_exactly(h, w, channels):
    image = stripes(h, w, channels=channels)
    mask = box(h, w, 20, 18, 24)
    degraded = torch.where(mask > 0, torch.tensor(0.5), image)
    filled = exemplar_fill(degraded, mask, generator=seeded())
    torch.testing.assert_close(filled, image, rtol=0, atol=1e-5)  # a mean of equal proposals: rounding alone


def test_a_flat_image_stays_flat():
    image, mask = torch.full((3, 40, 40), 0.25), box(40, 40, 10, 10, 20)
    filled = exemplar_fill(torch.where(mask > 0, torch.tensor(9.0), image), mask, generator=seeded())
    torch.testing.assert_close(filled, image, rtol=0, atol=1e-6)


def test_known_pixels_are_kept_and_masked_values_do_not_matter():
    image, mask = torch.rand(3, 48, 40, generator=seeded(1)), box(48, 40, 8, 8, 20)
    one = exemplar_fill(image, mask, generator=seeded())
    other = exemplar_fill(torch.where(mask > 0, torch.tensor(7.0), image), mask, generator=seeded())
    assert torch.equal(one[:, mask == 0], image[:, mask == 0])
    assert torch.equal(one, other)
    assert float(one.min()) >= 0 and float(one.max()) <= 1  # proposals are of the known part


def test_texture_is_as_rough_as_around_it():
    """White noise, the hardest texture: proposals differ and are averaged, but far less than by an interpolation."""
    image, mask = torch.rand(1, 96, 96, generator=seeded(2)), box(96, 96, 32, 32, 32)
    filled = exemplar_fill(image, mask, generator=seeded())
    smooth = smooth_fill(image[None], mask[None, None])[0]
    inside = mask > 0
    assert float(filled[:, inside].var()) > 4 * float(smooth[:, inside].var())


@pytest.mark.parametrize(("h", "w"), [(3, 3), (6, 20), (12, 12)])
def test_where_no_patch_is_known_the_image_is_interpolated(h, w):
    image = torch.rand(3, h, w, generator=seeded(3))
    mask = torch.ones(h, w)
    mask[0, 0] = 0
    filled = exemplar_fill(image, mask, generator=seeded())
    assert torch.equal(filled, smooth_fill(image[None], mask[None, None])[0])


def test_depth_counts_steps_to_the_known():
    mask = box(9, 9, 2, 2, 5) > 0
    rings = torch.tensor([[1, 1, 1, 1, 1], [1, 2, 2, 2, 1], [1, 2, 3, 2, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]])
    assert torch.equal(depth(mask, 9)[2:7, 2:7], rings)
    assert torch.equal(depth(mask, 2)[2:7, 2:7], rings.clamp_max(2))
    assert int(depth(mask, 9)[mask == 0].sum()) == 0
    assert int(depth(torch.ones(3, 5, dtype=torch.bool), 4).min()) == 4  # beyond the edges nothing is known


@pytest.mark.parametrize("box_of_mask", [(0, 0, 5), (4, 2, 5), (2, 3, 6), (0, 0, 9)])
def test_depth_is_the_same_wherever_the_mask_lies(box_of_mask):
    mask = box(9, 9, *box_of_mask) > 0
    slow, rest = mask.long(), mask
    for _ in range(5):
        wide = torch.nn.functional.pad(rest, (1, 1, 1, 1), value=True)
        rest = torch.stack([wide[y : y + 9, x : x + 9] for y in range(3) for x in range(3)]).all(0)
        slow += rest.long()
    assert torch.equal(depth(mask, 6), slow)
    assert int(depth(torch.zeros(4, 4, dtype=torch.bool), 3).max()) == 0


@pytest.mark.parametrize(("h", "w"), [(40, 40), (41, 43), (64, 39)])
def test_pixels_at_the_images_borders_and_corners_are_filled_too(h, w):
    image = stripes(h, w)
    for top, left in ((0, 0), (0, w - 12), (h - 12, 0), (h - 12, w - 12)):
        mask = box(h, w, top, left, 12)
        filled = exemplar_fill(torch.where(mask > 0, torch.tensor(9.0), image), mask, generator=seeded())
        assert float(filled.max()) <= 1 and float(filled.min()) >= 0


def test_a_large_image_is_filled_within_a_window_of_it(monkeypatch):
    """Far from the mask, neither pixels nor the size of the image matter."""
    model, sizes = sf.load("photos"), []

    def recorded(image, mask, *, generator):
        sizes.append(tuple(image.shape[1:]))
        return exemplar_fill(image, mask, generator=generator)

    monkeypatch.setattr("scorefield.restoration.multiscale.exemplar_fill", recorded)
    noise = np.random.default_rng(0).integers(0, 256, (420, 440, 3), np.uint8)
    mask = box(420, 440, 200, 200, 16).numpy()
    sf.restore(model, noise, Inpaint(mask=mask))
    assert sizes == [(16 + 2 * 128, 16 + 2 * 128)]


def test_a_seed_gives_one_result_and_another_a_different_one():
    image, mask = torch.rand(3, 80, 80, generator=seeded(4)), box(80, 80, 30, 30, 20)
    one = exemplar_fill(image, mask, generator=seeded(5))
    assert torch.equal(one, exemplar_fill(image, mask, generator=seeded(5)))
    assert not torch.equal(one, exemplar_fill(image, mask, generator=seeded(6)))


def test_the_model_restores_the_rim_and_patches_the_rest():
    """Far under the mask the result is a mean of known pixels; thin masks are the network's alone."""
    model = sf.load("photos")
    assert model.spec.restoration.rim == 4
    image = (255 * stripes(96, 96)).round().byte().permute(1, 2, 0).numpy()
    mask = box(96, 96, 28, 28, 40).numpy()
    restored = sf.restore(model, np.where(mask[..., None] > 0, np.uint8(0), image), Inpaint(mask=mask))
    level = restored.levels[0]
    assert (level[mask == 0] == image[mask == 0]).all()
    deep = depth(torch.from_numpy(mask) > 0, 9).numpy() > 4
    assert np.abs(level[deep].astype(int) - image[deep]).max() <= 1
    alone = sf.load("photos")
    alone.spec = replace(alone.spec, restoration=replace(alone.spec.restoration, rim=None))
    thin = np.zeros((96, 96), np.float32)
    thin[40:46, 10:80] = 1
    results = [sf.restore(each, image, Inpaint(mask=thin)).levels[0] for each in (model, alone)]
    assert (results[0] == results[1]).all()


def test_candidates_differ_and_a_grey_image_stays_grey():
    noise = np.random.default_rng(0).integers(0, 256, (72, 72, 1), np.uint8).repeat(3, 2)
    mask = box(72, 72, 16, 16, 40).numpy()
    one, other = sf.restore("photos", noise, Inpaint(mask=mask), candidates=2).levels
    assert (one != other).any()
    assert (one == one[..., :1]).all()
