import os

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield.data import folder as folders
from scorefield.data.datasets import open_images, splits
from scorefield.data.folder import open_folder
from scorefield.data.image_set import Skipped
from scorefield.errors import UserError


def write(path, size=(8, 8), color=128, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


def noise(path, size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOREFIELD_CACHE", str(tmp_path / ".cache"))


def test_images_come_in_sorted_order_from_all_depths(tmp_path):
    for i, name in enumerate(["b/deep/z.png", "a.bmp", "b/c.PNG", "q.webp.gif"]):
        write(tmp_path / name, color=10 * i)
    write(tmp_path / ".hidden/no.png")
    write(tmp_path / "._no.png")
    opened = open_images(tmp_path)
    assert opened.images[:, 0, 0, 0].tolist() == [10, 20, 0, 30]
    assert (opened.shape, opened.images.dtype, opened.labels) == ((1, 8, 8), torch.uint8, None)
    assert opened.name == tmp_path.name


def test_class_folders_become_labels(tmp_path):
    write(tmp_path / "dog/1.png")
    write(tmp_path / "cat/2.png")
    write(tmp_path / "cat/1.png")
    opened = open_images(tmp_path)
    assert opened.class_names == ("cat", "dog")
    assert opened.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize("stray", ["stray.png", "cat/deeper/1.png"])
def test_there_are_no_labels_where_one_image_lies_outside_the_class_folders(tmp_path, stray):
    for name in ("dog/1.png", "cat/1.png", stray):
        write(tmp_path / name)
    assert open_images(tmp_path).labels is None


def test_labels_follow_the_images_when_one_is_skipped(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        write(tmp_path / name)
    (tmp_path / "a/0.png").write_bytes(b"junk")
    opened = open_images(tmp_path)
    assert opened.labels.tolist() == [0, 1]


def test_train_and_test_folders_are_splits(tmp_path):
    write(tmp_path / "train/1.png", color=1)
    write(tmp_path / "test/1.png", color=2)
    assert splits(tmp_path) == ("test", "train")
    assert open_images(tmp_path).images.unique().tolist() == [1]
    assert open_images(tmp_path, split="test").images.unique().tolist() == [2]
    with pytest.raises(UserError, match=r"has no split `val`\. Known: test, train\."):
        open_images(tmp_path, split="val")


def test_a_class_called_train_is_a_class(tmp_path):
    for name in ("train/1.png", "car/1.png"):
        write(tmp_path / name)
    assert open_images(tmp_path).class_names == ("car", "train")


def test_a_folder_without_splits_has_train_alone(tmp_path):
    write(tmp_path / "1.png")
    with pytest.raises(UserError, match="has no split `test`"):
        open_images(tmp_path, split="test")


def test_channels_are_inferred_and_mixed_ones_are_reported(tmp_path):
    write(tmp_path / "a.png")
    write(tmp_path / "b.png", mode="LA", color=(1, 255))
    assert open_images(tmp_path).shape[0] == 1
    write(tmp_path / "c.png", mode="RGB", color=(1, 2, 3))
    opened = open_images(tmp_path)
    assert opened.shape[0] == 3
    assert opened.notes == ("2 of 3 images are grey; all are read as RGB.",)
    assert opened.images[2, :, 0, 0].tolist() == [1, 2, 3]
    assert open_images(tmp_path, channels=1).shape[0] == 1


def test_mixed_sizes_need_a_size(tmp_path):
    write(tmp_path / "a.png", size=(64, 48))
    write(tmp_path / "b.png", size=(40, 32))
    with pytest.raises(UserError, match=r"images differ in size: from 40×32 to 64×48\. Pass --size"):
        open_images(tmp_path)
    assert open_images(tmp_path, size=32).shape == (1, 32, 32)
    assert open_images(tmp_path, size=(16, 32)).shape == (1, 16, 32)


def test_a_rotated_photo_counts_with_its_upright_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (8, 4)).save(tmp_path / "turned.png", exif=exif)
    write(tmp_path / "plain.png", size=(4, 8))
    assert open_images(tmp_path).shape == (1, 8, 4)


def test_images_smaller_than_the_size_are_skipped_and_listed(tmp_path):
    write(tmp_path / "big.png", size=(40, 40))
    write(tmp_path / "low.png", size=(64, 31))
    write(tmp_path / "narrow.png", size=(31, 64))
    opened = open_images(tmp_path, size=32)
    assert len(opened) == 1
    assert [s.path for s in opened.skipped] == ["low.png", "narrow.png"]
    assert opened.skipped[0] == Skipped(path="low.png", reason="smaller than 32×32")
    wide = open_images(tmp_path, size=(31, 64))  # height, width
    assert [s.path for s in wide.skipped] == ["big.png", "narrow.png"]


def test_when_all_are_too_small_the_error_says_so(tmp_path):
    write(tmp_path / "low.png")
    with pytest.raises(UserError, match=r"none of its 1 images can be used \(low\.png: smaller than 32×32\).*--size"):
        open_images(tmp_path, size=32)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_files_among_good_ones_are_skipped_counted_and_listed(tmp_path, monkeypatch):
    good = noise(tmp_path / "good.png")
    (tmp_path / "half.png").write_bytes(good.read_bytes()[:6000])
    (tmp_path / "junk.jpg").write_bytes(b"junk")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    Image.new("1", (11_000, 10_000)).save(tmp_path / "bomb.png")
    opened = open_images(tmp_path, size=32)
    assert len(opened) == 1
    reasons = {s.path: s.reason for s in opened.skipped}
    assert list(reasons) == ["bomb.png", "gone.png", "half.png", "junk.jpg"]
    assert "more than 100 million pixels" in reasons["bomb.png"]
    assert reasons["gone.png"] == "no such file"
    assert "truncated" in reasons["half.png"]
    assert "not an image" in reasons["junk.jpg"]


def test_a_folder_of_bad_files_alone_is_an_error(tmp_path):
    (tmp_path / "junk.jpg").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"none of its 1 images can be used \(junk\.jpg: is not an image"):
        open_images(tmp_path)


def test_a_folder_whose_only_image_is_truncated_is_an_error(tmp_path):
    half = noise(tmp_path / "half.png")
    half.write_bytes(half.read_bytes()[:6000])
    with pytest.raises(UserError, match=r"none of its 1 images can be used \(half\.png: is truncated"):
        open_images(tmp_path)
    with pytest.raises(UserError, match=r"none of its 1 images can be used \(half\.png: is truncated"):
        open_folder(tmp_path, size=None, channels=None, limit=None, track=None, memory=0)


def test_an_empty_folder_and_one_without_images_are_reported(tmp_path):
    with pytest.raises(UserError, match=r"the folder is empty\."):
        open_images(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"holds no images \(1 other files\)"):
        open_images(tmp_path)
    np.save(tmp_path / "set.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"holds no images.*Pass the file .*set\.npy itself"):
        open_images(tmp_path)


def test_a_limit_takes_a_fixed_sample_of_all_classes(tmp_path):
    for label in "abcd":
        for i in range(20):
            write(tmp_path / label / f"{i:02}.png", color=i)
    first, again = (open_images(tmp_path, limit=20) for _ in range(2))
    assert len(first) == 20
    assert torch.equal(first.images, again.images)
    assert set(first.labels.tolist()) == {0, 1, 2, 3}
    with pytest.raises(UserError, match="limit: 0 is no number of images"):
        open_images(tmp_path, limit=0)


def test_progress_is_reported_to_the_end_even_with_skipped_files(tmp_path):
    for i in range(5):
        write(tmp_path / f"{i}.png")
    (tmp_path / "junk.png").write_bytes(b"junk")
    reports = []
    open_images(tmp_path, track=lambda done, total: reports.append((done, total)))
    assert reports[-1] == (12, 12)
    assert reports == sorted(reports)


def test_a_large_folder_is_mapped_from_the_cache_and_not_decoded_again(tmp_path, monkeypatch):
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        noise(tmp_path / "set" / name)
    (tmp_path / "set/a/0.png").write_bytes(b"junk")

    def opened(memory):
        return open_folder(tmp_path / "set", size=(16, 16), channels=None, limit=None, track=None, memory=memory)

    plain, first = opened(2**30), opened(0)
    monkeypatch.setattr(folders, "decode", lambda *a, **k: pytest.fail("decoded again"))
    monkeypatch.setattr(folders, "header", lambda *a, **k: pytest.fail("measured again"))
    second = opened(0)
    for other in (first, second):
        assert torch.equal(other.images, plain.images)
        assert torch.equal(other.labels, plain.labels)
        assert other.skipped == plain.skipped
        assert other.digest() == plain.digest()
    files = sorted(p.suffix for p in (tmp_path / ".cache/images").iterdir())
    assert files == [".bin", ".json"]


def test_writing_to_a_mapped_set_leaves_the_cache_alone(tmp_path):
    noise(tmp_path / "set/1.png")
    arguments = {"size": None, "channels": None, "limit": None, "track": None, "memory": 0}
    first = open_folder(tmp_path / "set", **arguments)
    before = first.images.clone()
    first.images.zero_()
    assert torch.equal(open_folder(tmp_path / "set", **arguments).images, before)


@pytest.mark.parametrize("change", ["content", "new file", "degraded cache"])
def test_a_changed_folder_or_degraded_cache_is_decoded_anew(tmp_path, change):
    folder = tmp_path / "set"
    arguments = {"size": None, "channels": None, "limit": None, "track": None, "memory": 0}
    one = write(folder / "1.png", color=1)
    open_folder(folder, **arguments)
    if change == "content":
        write(one, color=2)
        os.utime(one, ns=(1, 1))
    elif change == "new file":
        write(folder / "2.png", color=2)
    else:
        next((tmp_path / ".cache/images").glob("*.json")).write_text("{")
    opened = open_folder(folder, **arguments)
    assert opened.images[:, 0, 0, 0].tolist() == {"content": [2], "new file": [1, 2], "degraded cache": [1]}[change]


def test_too_little_disk_for_the_cache_is_reported_before_decoding(tmp_path, monkeypatch):
    write(tmp_path / "set/1.png")
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match=r"too little disk space.*SCOREFIELD_CACHE"):
        open_folder(tmp_path / "set", size=None, channels=None, limit=None, track=None, memory=0)


# --- crop ----------------------------------------------------------------------------------------


def test_a_crop_is_the_middle_square_and_then_reduced_as_pillow_does(tmp_path):
    """The aligned images of CelebA are 178×218: the crop of 140 leaves out 19 left and 39 above."""
    pixels = np.random.default_rng(0).integers(0, 256, (218, 178, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    square = Image.fromarray(pixels[39:179, 19:159])
    assert np.array_equal(open_images(tmp_path, crop=140).images[0].permute(1, 2, 0), np.asarray(square))
    reduced = square.resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=3.0)
    opened = open_images(tmp_path, crop=140, size=32)
    assert np.array_equal(opened.images[0].permute(1, 2, 0), np.asarray(reduced))


def test_a_crop_of_a_jpeg_is_cut_from_the_whole_image(tmp_path):
    """Decoding at a fraction of the size, as for reducing only, would cut another part."""
    y, x = np.mgrid[:512, :512]
    Image.fromarray(((x + y) // 4).astype(np.uint8)).save(tmp_path / "big.jpg", quality=95)
    opened = open_images(tmp_path, crop=64, size=8)
    with Image.open(tmp_path / "big.jpg") as image:
        middle = np.asarray(image)[224:288, 224:288].astype(float)
    assert abs(opened.images.float().mean().item() - middle.mean()) < 1
    assert opened.images.min() > middle.min() - 5


def test_images_too_small_for_the_crop_are_skipped_and_counted(tmp_path):
    write(tmp_path / "big.png", size=(40, 40))
    write(tmp_path / "low.png", size=(64, 31))
    opened = open_images(tmp_path, crop=32, size=16)
    assert opened.shape == (1, 16, 16)
    assert opened.skipped == (Skipped(path="low.png", reason="too small for a crop of 32"),)
    (tmp_path / "big.png").unlink()
    with pytest.raises(UserError, match=r"none of its 1 images .*too small for a crop of 32\)\. Pass a smaller"):
        open_images(tmp_path, crop=32)


def test_images_of_different_sizes_become_one_by_a_crop(tmp_path):
    write(tmp_path / "a.png", size=(40, 50))
    write(tmp_path / "b.png", size=(60, 45))
    assert open_images(tmp_path, crop=32).shape == (1, 32, 32)


def test_each_crop_has_its_own_place_in_the_cache(tmp_path):
    noise(tmp_path / "set/1.png")
    whole, cut, small = (
        open_folder(tmp_path / "set", size=(16, 16), crop=crop, channels=None, limit=None, track=None, memory=0).images
        for crop in (None, 32, 16)
    )
    assert not torch.equal(whole, cut)
    assert not torch.equal(cut, small)
    assert len(list((tmp_path / ".cache/images").glob("*.bin"))) == 3


# --- classes -------------------------------------------------------------------------------------


def test_a_class_folder_without_images_is_noted(tmp_path):
    for name in ("cat/1.png", "dog/1.png"):
        write(tmp_path / name)
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird/notes.txt").write_text("none yet")
    (tmp_path / ".hidden").mkdir()
    opened = open_images(tmp_path)
    assert opened.class_names == ("cat", "dog")
    assert opened.notes == ("sub-folder `bird` has no images.",)
    assert "bird" in opened.summary()
