import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield.data.datasets import BUNDLED as NAMES
from scorefield.data.datasets import ImageSet, card, known_data, open_images, splits
from scorefield.errors import UserError


def test_a_missing_path_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such file or folder\. Check the path\."):
        open_images(tmp_path / "nowhere")


def test_a_misspelt_bundled_name_is_guessed():
    with pytest.raises(UserError, match=r"fashoin: no bundled set, .*\. Did you mean `fashion`\?"):
        open_images("fashoin")


def test_one_image_is_not_a_set(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "one.png")
    with pytest.raises(UserError, match=r"one\.png: is one image, not a set\. Pass the folder"):
        open_images(tmp_path / "one.png")


def test_an_unknown_kind_of_file_is_reported(tmp_path):
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(UserError, match=r"table\.csv: is no kind of data that is known\. Pass a folder"):
        open_images(tmp_path / "table.csv")


def test_impossible_sizes_and_channels_are_reported():
    with pytest.raises(UserError, match="size: 0×0 is no size"):
        open_images("fashion", size=0)
    with pytest.raises(UserError, match="channels: 2 is not possible"):
        open_images("fashion", channels=2)


def test_a_folder_named_as_a_bundled_set_is_reached_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fashion").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "fashion/one.png")
    assert len(open_images("./fashion")) == 1
    assert len(open_images("fashion", split="test")) == 2000


def test_a_folder_beside_the_user_does_not_change_what_the_name_of_a_bundled_set_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fashion", "album"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "one.png")
    assert len(open_images("fashion")) > 1
    for written in ("./fashion", "fashion/", tmp_path / "fashion", Path("fashion"), "album", "./album"):
        assert len(open_images(written)) == 1
    with pytest.raises(UserError, match=r"fashon: no bundled set, .*\. Did you mean `fashion`"):
        open_images("fashon")


def test_the_digest_distinguishes_pixels_and_shapes():
    def digest(images):
        return ImageSet(images=images, labels=None, name="x", source="x").digest()

    images = torch.arange(16, dtype=torch.uint8).reshape(2, 1, 2, 4)
    assert digest(images) == digest(images.clone())
    assert len(digest(images)) == 16
    assert len({digest(images), digest(images + 1), digest(images.reshape(2, 1, 4, 2))}) == 3
    assert digest(images.transpose(2, 3)) == digest(images.transpose(2, 3).contiguous())


def test_selecting_keeps_labels_beside_their_images():
    opened = open_images("fashion", split="test").select(torch.tensor([5, 3]))
    assert opened.labels.tolist() == [5, 3]
    assert opened.images.shape == (2, 1, 28, 28)


# --- bundled sets --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_bundled_pixels_are_those_of_the_card(name):
    for split in splits(name):
        opened = open_images(name, split=split)
        entry = card(name).splits[split]
        assert (len(opened), opened.shape) == (entry["n"], card(name).shape)
        pixels = np.ascontiguousarray(opened.images.permute(0, 2, 3, 1).numpy())
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == entry["sha256"]
        assert opened.labels.shape == (len(opened),)
        assert set(opened.labels.tolist()) == set(range(len(opened.class_names)))


def test_bundled_fashion_has_as_many_of_each_class():
    assert torch.bincount(open_images("fashion").labels).tolist() == [1000] * 10
    assert torch.bincount(open_images("fashion", split="test").labels).tolist() == [200] * 10


def test_bundled_splits_share_no_emoji():
    train, test = (
        {image.numpy().tobytes() for image in open_images("emoji", split=s).images} for s in ("train", "test")
    )
    assert len(test) > 100
    assert not train & test


def test_bundled_sets_are_small_and_carry_their_licences():
    from importlib.resources import files

    folder = files("scorefield") / "assets" / "data"
    total = sum(len(f.read_bytes()) for f in folder.iterdir() if f.is_file())
    assert total <= 10_000_000
    for name in NAMES:
        assert "MIT License" in (folder / card(name).licence_file).read_text()
        assert card(name).licence in known_data()[name]


def test_a_bundled_set_has_no_other_split():
    with pytest.raises(UserError, match="fashion: has no split `val`"):
        open_images("fashion", split="val")


def test_bundled_emoji_can_be_reduced_and_greyed():
    opened = open_images("emoji", size=32, channels=1, limit=20)
    assert opened.images.shape == (20, 1, 32, 32)
