"""Folders of pairs."""

import pytest
from PIL import Image

from scorefield.data.crops import read_pairs
from scorefield.errors import UserError


def save(path, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)
    return path


@pytest.mark.parametrize("layout", [("before", "after"), ("input", "target")])
def test_images_of_one_name_are_a_pair_whatever_their_suffix(tmp_path, layout):
    befores = [save(tmp_path / layout[0] / name) for name in ("sub/b.png", "a.jpg")]
    afters = [save(tmp_path / layout[1] / name) for name in ("sub/b.png", "a.png")]
    pairs = read_pairs(tmp_path)
    assert [pair.name for pair in pairs] == ["a", "sub/b"]
    assert [pair.before for pair in pairs] == befores[::-1]
    assert [pair.after for pair in pairs] == afters[::-1]
    assert {pair.size for pair in pairs} == {(4, 6)}


def test_an_image_without_partner_is_named(tmp_path):
    for name in ("before/a.png", "after/a.png", "after/b.png"):
        save(tmp_path / name)
    with pytest.raises(UserError, match=r"after/b\.png: has no partner of that name in before/\.$"):
        read_pairs(tmp_path)
    for name in ("before/c.png", "before/d.png"):
        save(tmp_path / name)
    with pytest.raises(UserError, match=r"before/c\.png: has no partner .* in after/\. Nor has 1 other\."):
        read_pairs(tmp_path)


def test_a_partner_of_another_size_is_reported(tmp_path):
    save(tmp_path / "before/a.png")
    save(tmp_path / "after/a.png", (8, 4))
    with pytest.raises(UserError, match=r"before/a\.png: is 6×4, its partner 8×4"):
        read_pairs(tmp_path)


def test_two_of_one_name_are_reported(tmp_path):
    for name in ("before/a.png", "before/a.jpg", "after/a.png"):
        save(tmp_path / name)
    with pytest.raises(UserError, match=r"before/a\.png: has the name of a\.jpg"):
        read_pairs(tmp_path)


def test_what_is_no_folder_of_pairs_is_reported(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        read_pairs(tmp_path / "gone")
    save(tmp_path / "before/a.png")
    with pytest.raises(UserError, match="no sub-folders before and after, or input and target"):
        read_pairs(tmp_path)
    (tmp_path / "after").mkdir()
    with pytest.raises(UserError, match="after: the folder is empty"):
        read_pairs(tmp_path)


def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    save(tmp_path / "before/a.png")
    (tmp_path / "after").mkdir()
    (tmp_path / "after/a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"after/a\.png: is not an image"):
        read_pairs(tmp_path)
