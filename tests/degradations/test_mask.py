"""Masks: white is filled, and the operator can be replayed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oracles import seeded
from scorefield.degradations import CenterBox, Mask, Side, read_mask
from scorefield.errors import UserError

SIDES = ("left", "right", "top", "bottom")
FAMILIES = [CenterBox(), CenterBox(share=0.3), *(Side(side=side, share=0.4) for side in SIDES)]
sizes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 24), st.integers(2, 24))


@given(sizes, st.sampled_from([*FAMILIES, None]))
def test_what_went_through_the_degradation_once_goes_through_its_inverse_unchanged(shape, family):
    x = torch.randn(shape, generator=seeded())
    if family is None:
        degradation = Mask(mask=(torch.rand(shape[0], 1, *shape[2:], generator=seeded(1)) > 0.5).float())
    else:
        degradation = family.draw(shape, generator=seeded())
    y = degradation(x)
    assert torch.equal(degradation(degradation.pinv(y)), y)
    assert torch.equal(degradation(x), y)


@given(sizes, st.sampled_from(FAMILIES))
def test_a_family_fills_something_and_keeps_something_of_any_size(shape, family):
    fill = family.draw(shape, generator=seeded()).mask
    assert fill.shape == (1, 1, *shape[2:])
    assert set(fill.flatten().tolist()) == {0.0, 1.0}


def test_the_pixels_under_the_mask_are_gone_and_the_others_are_kept():
    x = torch.randn(2, 3, 4, 4, generator=seeded())
    degradation = CenterBox().draw(x.shape, generator=seeded())
    y, masked = degradation(x), degradation.mask.bool().expand_as(x)
    assert torch.equal(y[~masked], x[~masked]) and not bool(y[masked].any())


def test_the_box_lies_in_the_middle():
    fill = CenterBox(share=0.5).draw((1, 1, 8, 4), generator=seeded()).mask[0, 0]
    expected = torch.zeros(8, 4)
    expected[2:6, 1:3] = 1
    assert torch.equal(fill, expected)


@pytest.mark.parametrize(
    ("side", "rows", "columns"),
    [
        ("left", slice(None), slice(0, 2)),
        ("right", slice(None), slice(6, 8)),
        ("top", slice(0, 1), slice(None)),
        ("bottom", slice(3, 4), slice(None)),
    ],
)
def test_a_side_is_filled_and_no_more(side, rows, columns):
    fill = Side(side=side, share=0.25).draw((1, 1, 4, 8), generator=seeded()).mask[0, 0]
    expected = torch.zeros(4, 8)
    expected[rows, columns] = 1
    assert torch.equal(fill, expected)


def test_an_unknown_side_is_named():
    with pytest.raises(UserError, match=r"no such side 'up'.*bottom"):
        Side(side="up").draw((1, 1, 4, 4), generator=seeded())


def image(path, rows, mode="L"):
    Image.fromarray(np.array(rows, np.uint8)).convert(mode).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P"])
def test_white_is_filled_and_black_is_kept(tmp_path, mode):
    path = image(tmp_path / "m.png", [[255, 0, 0], [0, 255, 255]], mode)
    assert read_mask(path, (2, 3)).mask.tolist() == [[[[1, 0, 0], [0, 1, 1]]]]
    assert read_mask(path, (2, 3), invert=True).mask.tolist() == [[[[0, 1, 1], [1, 0, 0]]]]


def test_greys_split_at_the_middle(tmp_path):
    assert read_mask(image(tmp_path / "m.png", [[0, 127, 128, 255]]), (1, 4)).mask.flatten().tolist() == [
        0,
        0,
        1,
        1,
    ]


@pytest.mark.parametrize("factor", [2, 5])
def test_a_mask_of_another_size_is_brought_to_the_images(tmp_path, factor):
    small = np.kron(np.eye(2, 3), np.ones((2, 2)))
    large = image(tmp_path / "large.png", 255 * np.kron(small, np.ones((factor, factor))))
    assert torch.equal(read_mask(large, (4, 6)).mask[0, 0], torch.from_numpy(small).float())
    tiny = image(tmp_path / "tiny.png", 255 * np.eye(2, 3))
    assert torch.equal(read_mask(tiny, (4, 6)).mask[0, 0], torch.from_numpy(small).float())


def test_a_mask_of_another_aspect_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"the mask is 8×8, the image 30×20"):
        read_mask(image(tmp_path / "m.png", 255 * np.eye(8)), (20, 30))


@pytest.mark.parametrize(("level", "message"), [(255, "all white"), (0, "all black")])
def test_a_mask_of_one_colour_is_refused(tmp_path, level, message):
    path = image(tmp_path / "m.png", np.full((4, 4), level))
    with pytest.raises(UserError, match=message):
        read_mask(path, (4, 4))
    with pytest.raises(UserError, match="all black" if message == "all white" else "all white"):
        read_mask(path, (4, 4), invert=True)


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "m.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"m\.png"):
        read_mask(tmp_path / "m.png", (4, 4))
    with pytest.raises(UserError, match="no such file"):
        read_mask(tmp_path / "gone.png", (4, 4))
