import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorefield.data import Batches
from scorefield.data.image import to_uint8


def numbered(n, side=4):
    """Image i shows i on its left half and i + 100 on its right."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, side, side)
    images[..., side // 2 :] += 100
    return images


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_every_image_is_seen_once_an_epoch(n, batch_size, seed):
    feed = Batches(numbered(n), batch_size, seed=seed)
    seen = torch.cat([feed.indices(step) for step in range(-(-3 * n // batch_size))])
    for epoch in range(3):
        assert sorted(seen[epoch * n : (epoch + 1) * n].tolist()) == list(range(n))


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_a_batch_depends_on_its_number_alone(n, batch_size, steps):
    options = {"seed": 3, "flip": True, "dequantize": True}
    used = Batches(numbered(n), batch_size, **options)
    for step in steps:  # any order, back and forth
        batch = used.batch(step)
        assert batch.shape == (batch_size, 1, 4, 4)
        assert torch.equal(batch, Batches(numbered(n), batch_size, **options).batch(step))


def test_epochs_and_seeds_differ_in_their_order():
    feed, other = Batches(numbered(50), 50, seed=0), Batches(numbered(50), 50, seed=1)
    assert not torch.equal(feed.indices(0), feed.indices(1))
    assert not torch.equal(feed.indices(0), other.indices(0))


def test_batches_are_the_images_named_by_their_indices():
    images = numbered(20)
    feed = Batches(images, 8, seed=0, value_range=(0.0, 1.0))
    for step in range(5):
        assert torch.equal(to_uint8(feed.batch(step), (0.0, 1.0)), images[feed.indices(step)])


def test_half_of_the_images_are_mirrored_left_to_right():
    images = numbered(20)
    feed = Batches(images, 20, seed=0, flip=True, value_range=(0.0, 1.0))
    mirrored = 0
    for step in range(100):
        pixels, plain = to_uint8(feed.batch(step), (0.0, 1.0)), images[feed.indices(step)]
        turned = (pixels == plain.flip(-1)).flatten(1).all(1)
        assert (turned ^ (pixels == plain).flatten(1).all(1)).all()
        mirrored += int(turned.sum())
    assert mirrored == pytest.approx(1000, abs=110)  # 5 standard deviations of a fair coin


def test_dequantized_values_lie_uniformly_within_their_level():
    images = numbered(20, side=16)
    feed = Batches(images, 20, seed=0, value_range=(-1.0, 1.0), dequantize=True)
    levels = (feed.batch(0) + 1) * 128  # v + U
    within = levels - images[feed.indices(0)]
    assert within.min() >= -1e-4
    assert within.max() <= 1 + 1e-4
    assert within.mean().item() == pytest.approx(0.5, abs=5 / (12 * within.numel()) ** 0.5)


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_values_fill_the_range(value_range):
    images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    batch = Batches(images, 2, seed=0, value_range=value_range).batch(0)
    assert batch.dtype == torch.float32
    assert sorted(batch.flatten().tolist()) == pytest.approx(value_range)


def test_few_permutations_are_held():
    feed = Batches(numbered(10), 7, seed=0)
    for step in range(100):
        feed.batch(step)
    assert len(feed._permutations) <= 2
    assert feed.epoch(100) == 70


def test_a_set_without_images_gives_no_batches():
    with pytest.raises(ValueError, match="no batches of 4"):
        Batches(numbered(0), 4, seed=0)


def test_labels_come_with_their_images_whatever_the_order_of_asking():
    images, labels = numbered(20), torch.arange(20) * 3
    feed = Batches(images, 7, seed=5, labels=labels, flip=True, value_range=(0.0, 1.0))
    for step in (0, 9, 2, 2, 5):
        pixels = to_uint8(feed.batch(step), (0.0, 1.0))
        which = pixels.flatten(1).min(1).values.long()
        assert torch.equal(feed.classes(step), which * 3)
        fresh = Batches(images, 7, seed=5, labels=labels)
        assert torch.equal(feed.classes(step), fresh.classes(step))
    assert Batches(images, 7, seed=5).classes(3) is None


def test_a_share_of_the_images_is_made_grey():
    color = torch.randint(256, (40, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    plain, greyed = (Batches(color, 40, seed=0, grey=share, value_range=(0.0, 255.0)).batch(0) for share in (0, 0.5))
    changed = (plain != greyed).flatten(1).any(1)
    assert 10 < int(changed.sum()) < 30
    luma = (plain * torch.tensor((0.299, 0.587, 0.114))[:, None, None]).sum(1, keepdim=True)
    assert float((greyed - luma)[changed].abs().max()) <= 0.5 + 1e-3  # rounded
    assert torch.equal(Batches(color[:, :1], 40, seed=0, grey=1.0).batch(0), Batches(color[:, :1], 40, seed=0).batch(0))
