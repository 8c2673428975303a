"""Strokes, rectangles and frames: the distributions of masks that Palette is trained on."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oracles import seeded
from scorefield.degradations import Boxes, Brush, FreeForm, Mask, Uncropping
from scorefield.errors import UserError

FAMILIES = [Brush(), Boxes(), FreeForm(), Uncropping(), Uncropping(share=0.2)]
sizes = st.tuples(st.integers(8, 96), st.integers(8, 96))


def drawn(family, size, count, seed=0):
    """Fills, (count, H, W)."""
    generator = seeded(seed)
    return torch.cat([family.draw((1, 3, *size), generator=generator).mask[0] for _ in range(count)])


@given(sizes, st.sampled_from(FAMILIES), st.integers(0, 2**31))
def test_a_mask_of_any_size_fills_something_keeps_something_and_can_be_drawn_again(size, family, seed):
    one, other = (family.draw((2, 3, *size), generator=seeded(seed)) for _ in range(2))
    assert isinstance(one, Mask)
    assert one.mask.shape == (1, 1, *size)
    assert set(one.mask.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(one.mask, other.mask)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_generator_draws_ever_other_masks(family):
    fills = drawn(family, (64, 64), 12)
    assert len({fill.numpy().tobytes() for fill in fills}) >= 4  # of uncropping there are five


@given(sizes, st.integers(0, 2**31))
def test_rectangles_cover_a_tenth_to_two_fifths(size, seed):
    cover = float(Boxes().draw((1, 3, *size), generator=seeded(seed)).mask.mean())
    assert 0.1 - 1e-6 <= cover <= 0.4 + 1e-6


def corners(fill):
    """How many rectangles have their upper left corner to themselves."""
    padded = torch.nn.functional.pad(fill, (1, 0, 1, 0))
    left, above, both = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    return int((fill * (1 - left) * (1 - above) * (1 - both)).sum())


def test_one_to_five_rectangles_are_as_likely():
    # Of 1 to 2 % in all, so that few meet, which would hide a corner.
    seen = Counter(corners(fill) for fill in drawn(Boxes(cover=(0.01, 0.02)), (128, 128), 2000))
    assert set(seen) <= {1, 2, 3, 4, 5}
    for count in range(1, 6):
        assert seen[count] / 2000 == pytest.approx(0.2, abs=0.03)  # measured 0.18 to 0.22


def test_the_cover_of_rectangles_is_spread_over_its_range():
    cover = drawn(Boxes(count=(1, 1)), (128, 128), 1000).mean((1, 2))
    assert float(cover.mean()) == pytest.approx(0.25, abs=0.01)  # of U(0.1, 0.4)
    assert float(cover.std()) == pytest.approx(0.3 / math.sqrt(12), abs=0.01)


def test_three_of_five_masks_are_strokes():
    # Strokes so thin that they cover less than any rectangles.
    family = FreeForm(strokes=Brush(strokes=(1, 1), vertices=(1, 1), width=(1.0, 1.0)))
    strokes = drawn(family, (48, 48), 3000).mean((1, 2)) < 0.1
    assert float(strokes.float().mean()) == pytest.approx(0.6, abs=0.03)
    assert float((drawn(FreeForm(brush=0), (48, 48), 50).mean((1, 2)) >= 0.1).float().mean()) == 1


def span(fill):
    """Height and width of the box around what is filled."""
    rows, columns = fill.any(1).nonzero(), fill.any(0).nonzero()
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


def test_a_piece_of_a_stroke_is_steep_and_no_longer_than_a_quarter_of_the_diagonal():
    family = Brush(strokes=(1, 1), vertices=(1, 1), width=(20.0, 20.0))
    fills = drawn(family, (256, 256), 300)
    inner = [f for f in fills if not (f[0].any() or f[-1].any() or f[:, 0].any() or f[:, -1].any())]
    assert len(inner) > 100
    lengths = []
    for fill in inner:
        h, w = (side - 21 for side in span(fill))  # a disc of 20 has 21 pixels across, its middle included
        assert w <= h / math.tan(2 * math.pi / 5 - 2 * math.pi / 15) + 2
        assert math.hypot(h, w) <= math.hypot(256, 256) / 4 + 2
        assert float(fill.sum()) == pytest.approx(20 * math.hypot(h, w) + math.pi * 100, rel=0.15, abs=60)
        lengths.append(math.hypot(h, w))
    assert sum(lengths) / len(lengths) == pytest.approx(math.hypot(256, 256) / 8, rel=0.1)


def test_a_stroke_goes_zigzag_and_both_ways():
    # Eleven pieces rise by 0.94 d/8 each in the mean. Were they all upwards, none would stay within.
    family = Brush(strokes=(1, 1), vertices=(11, 11), width=(8.0, 8.0))
    fills = drawn(family, (512, 512), 120)
    edges = torch.cat([fills[:, 0], fills[:, -1], fills[:, :, 0], fills[:, :, -1]], 1)
    inner = fills[~edges.any(1)]
    assert len(inner) > 20
    heights = sorted(span(fill)[0] for fill in inner)
    assert heights[len(inner) // 2] < 4 * math.hypot(512, 512) / 8
    starts = [int(fill.any(0).nonzero().min()) for fill in inner]
    assert min(starts) < 128 < max(starts)  # to the left and to the right


def test_strokes_grow_with_the_image():
    small, large = (float(drawn(Brush(), (n, n), 300).mean()) for n in (64, 192))
    assert small == pytest.approx(large, rel=0.15)  # measured 0.166 and 0.158


def test_strokes_cover_as_much_as_requested():
    cover = drawn(Brush(cover=(0.2, 0.3)), (64, 64), 50).mean((1, 2))
    assert float(cover.min()) >= 0.2 and float(cover.max()) <= 0.3
    with pytest.raises(UserError, match=r"brush: no mask of 1000 covers 99% to 100%"):
        Brush(cover=(0.99, 1.0), strokes=(1, 1)).draw((1, 3, 16, 16), generator=seeded())


def test_uncropping_takes_one_side_or_all_four_alike_and_half_the_image():
    fills = drawn(Uncropping(), (40, 64), 2000)
    assert float((fills.mean((1, 2)) - 0.5).abs().max()) < 0.02
    gone = torch.stack([f.all(1).all(1) for f in (fills[:, :1], fills[:, -1:])], 1)  # top, bottom
    side = torch.stack([f.all(1).all(1) for f in (fills[:, :, :1], fills[:, :, -1:])], 1)  # left, right
    sides = torch.cat([gone, side], 1).sum(1)
    assert set(sides.tolist()) == {1, 4}
    assert float((sides == 4).float().mean()) == pytest.approx(0.5, abs=0.04)
    alone = torch.cat([gone, side], 1)[sides == 1].float().mean(0)
    torch.testing.assert_close(alone, torch.full((4,), 0.25), atol=0.04, rtol=0)


def test_a_frame_is_even_all_around():
    frames = [f for f in drawn(Uncropping(), (64, 32), 40) if f[0].all() and f[-1].all() and f[:, 0].all()]
    kept = 1 - frames[0]
    assert span(kept) == (45, 23)  # √½ of 64 and 32: 45.3 and 22.6
    assert torch.equal(frames[0], frames[-1])
    assert int(kept.any(1).nonzero().min()) == 9 and int(kept.any(0).nonzero().min()) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Brush(vertices=(5, 4)), "brush: vertices"),
        (lambda: Brush(cover=(0.2, 1.5)), "brush: cover"),
        (lambda: Boxes(count=(0, 3)), "boxes: count"),
        (lambda: Boxes(cover=(0.4, 0.1)), "boxes: cover"),
        (lambda: FreeForm(brush=1.5), "masks: a share"),
        (lambda: Uncropping(share=1.0), "uncropping: a share"),
    ],
)
def test_a_distribution_that_cannot_be_is_reported(make, message):
    with pytest.raises(UserError, match=message):
        make()
