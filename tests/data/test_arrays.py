import gzip
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scorefield.data.datasets import held_out, open_images, splits
from scorefield.data.formats import as_images
from scorefield.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_idx(folder, prefix="train", pixels=PIXELS, labels=LABELS, pack=None):
    end = ".gz" if pack else ""
    pack = pack or (lambda data: data)
    path = folder / f"{prefix}-images-idx3-ubyte{end}"
    path.write_bytes(pack(idx(pixels)))
    (folder / f"{prefix}-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels)))
    return path


# --- IDX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [None, gzip.compress], ids=["plain", "gz"])
def test_an_idx_pair_is_read_from_its_folder_and_from_its_file(tmp_path, pack):
    path = write_idx(tmp_path, pack=pack)
    for data in (tmp_path, path):
        opened = open_images(data)
        assert np.array_equal(opened.images[:, 0].numpy(), PIXELS)
        assert opened.labels.tolist() == LABELS.tolist()


def test_idx_splits_go_by_the_prefix(tmp_path):
    path = write_idx(tmp_path)
    write_idx(tmp_path, "t10k", pixels=PIXELS[:2], labels=LABELS[:2])
    assert set(splits(tmp_path)) == {"train", "test"}
    assert held_out(tmp_path) == "test"
    assert (len(open_images(tmp_path)), len(open_images(tmp_path, split="test"))) == (6, 2)
    assert len(open_images(path, split="test")) == 2


def test_a_missing_idx_split_is_reported(tmp_path):
    path = write_idx(tmp_path)
    for data in (tmp_path, path):
        with pytest.raises(UserError, match=r"has no split `test`"):
            open_images(data, split="test")


def test_idx_images_without_labels_have_none(tmp_path):
    path = tmp_path / "digits.idx3-ubyte"
    path.write_bytes(idx(PIXELS))
    assert open_images(path).labels is None


def test_an_idx_of_bad_magic_is_reported(tmp_path):
    path = write_idx(tmp_path)
    path.write_bytes(b"\x00\x00\x0d\x03" + path.read_bytes()[4:])
    with pytest.raises(UserError, match=r"is no IDX file of images: it starts with 00 00 0d 03, not 00 00 08 03"):
        open_images(tmp_path)


def test_labels_in_place_of_images_are_reported(tmp_path):
    write_idx(tmp_path)
    with pytest.raises(UserError, match=r"is no IDX file of images: it starts with 00 00 08 01"):
        open_images(tmp_path / "train-labels-idx1-ubyte")


def test_a_truncated_idx_is_reported(tmp_path):
    path = write_idx(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"truncated or damaged \(6 × 5 × 4 = 120 bytes promised, 113 found\)"):
        open_images(tmp_path)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_gzip_is_reported(tmp_path, kept):
    path = write_idx(tmp_path, pack=gzip.compress)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(UserError, match=r"truncated or damaged \(its gzip data end early"):
        open_images(tmp_path)


def test_an_unequal_idx_pair_is_reported(tmp_path):
    write_idx(tmp_path, labels=LABELS[:5])
    with pytest.raises(UserError, match="5 labels for 6 images"):
        open_images(tmp_path)


# --- npz and npy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["images", "arr_0", "x_train", "whatever"])
def test_an_npz_is_read_under_its_usual_names(tmp_path, name):
    np.savez(tmp_path / "set.npz", **{name: PIXELS})
    opened = open_images(tmp_path / "set.npz")
    assert np.array_equal(opened.images[:, 0].numpy(), PIXELS)
    assert (opened.name, opened.labels) == ("set", None)


def test_an_npz_with_splits_and_labels(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, train_images=PIXELS, train_labels=LABELS[:, None], test_images=PIXELS[:2])
    assert splits(path) == ("train", "test")
    assert open_images(path).labels.tolist() == LABELS.tolist()
    assert len(open_images(path, split="test")) == 2
    with pytest.raises(UserError, match="has no split `val`"):
        open_images(path, split="val")


def test_an_npz_without_images_lists_what_it_holds(tmp_path):
    np.savez(tmp_path / "set.npz", weights=np.zeros(3), bias=np.zeros(2))
    with pytest.raises(UserError, match=r"has no array of images; it holds weights \[3\], bias \[2\]\. Name it"):
        open_images(tmp_path / "set.npz")


def test_labels_of_another_length_are_reported(tmp_path):
    np.savez(tmp_path / "set.npz", images=PIXELS, labels=LABELS[:4])
    with pytest.raises(UserError, match=r"set\.npz\[labels\]: its shape \[4\] of uint8 is not that of labels"):
        open_images(tmp_path / "set.npz")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_pickled_objects_are_never_opened(tmp_path):
    objects = np.array([Bomb()], dtype=object)
    np.savez(tmp_path / "set.npz", images=objects)
    np.save(tmp_path / "set.npy", objects)
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("set.npz", "set.npy", "raw.npy", "raw.npz"):
        with pytest.raises(UserError, match=f"{name}: holds pickled objects"):
            open_images(tmp_path / name)


@pytest.mark.parametrize("name", ["set.npz", "set.npy"])
def test_a_truncated_array_file_is_reported(tmp_path, name):
    (np.savez if name.endswith("z") else np.save)(tmp_path / name, PIXELS)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=rf"{name}: is truncated or damaged"):
        open_images(tmp_path / name)


def test_an_npy_is_mapped_and_stays_unchanged_on_disk(tmp_path):
    np.save(tmp_path / "set.npy", PIXELS)
    opened = open_images(tmp_path / "set.npy")
    opened.images.zero_()
    assert np.array_equal(np.load(tmp_path / "set.npy"), PIXELS)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 5, 4), (2, 1, 5, 4)),
        ((2, 5, 4, 3), (2, 3, 5, 4)),
        ((2, 5, 4, 1), (2, 1, 5, 4)),
        ((2, 3, 5, 4), (2, 3, 5, 4)),
        ((2, 1, 5, 4), (2, 1, 5, 4)),
        ((2, 3, 4, 3), (2, 3, 3, 4)),  # both fit: the last axis is the channels
    ],
)
def test_axes_are_recognized(shape, expected):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    images = as_images(array, where="x")
    assert images.shape == expected
    if len(shape) == 4 and shape[3] in (1, 3):
        assert images[1, -1, 2, 3].item() == array[1, 2, 3, -1]


@pytest.mark.parametrize("shape", [(7,), (5, 784), (2, 5, 4, 7), (1, 2, 3, 4, 5)])
def test_other_axes_are_refused(shape):
    with pytest.raises(UserError, match=r"is not one of images\. Use \(N, H, W\)"):
        as_images(np.zeros(shape, np.uint8), where="x")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.float32([0, 0.5, 1]), [0, 128, 255]),
        (np.float64([-1, 0, 1]), [0, 128, 255]),
        (np.float32([0, 7.6, 255]), [0, 8, 255]),
        (np.bool_([0, 1, 1]), [0, 255, 255]),
        (np.int64([0, 7, 255]), [0, 7, 255]),
        (np.uint16([0, 257, 65535]), [0, 1, 255]),
    ],
)
def test_scales_are_recognized(values, expected):
    assert as_images(values.reshape(1, 1, 3), where="x").flatten().tolist() == expected


@pytest.mark.parametrize("values", [[-2.0, 1.0], [0.0, 300.0], [-1, 5], [0, 70000]])
def test_values_of_unknown_scale_are_refused(values):
    with pytest.raises(UserError, match=r"its values span .*; expected 0"):
        as_images(np.array(values).reshape(1, 1, 2), where="x")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite_are_reported(tmp_path, kind, value):
    pixels = np.full((3, 4, 4), 0.5, kind)
    pixels[1, 2, 3] = value
    np.save(tmp_path / "set.npy", pixels)
    with pytest.raises(UserError, match=r"set\.npy: has values that are NaN or infinite\. Leave those images"):
        open_images(tmp_path / "set.npy")


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="is not one of pixels"):
        as_images(np.array([[["a", "b"]]]), where="x")


@given(st.integers(0, 255), st.sampled_from([(0.0, 1.0), (-1.0, 1.0)]))
def test_bytes_saved_as_floats_come_back(level, value_range):
    low, high = value_range
    spread = np.array([0, level, 255], np.float32) / 255 * (high - low) + low
    assert as_images(spread.reshape(1, 1, 3), where="x").flatten().tolist() == [0, level, 255]


def test_arrays_are_reduced_but_never_enlarged(tmp_path):
    np.save(tmp_path / "set.npy", np.full((3, 8, 8), 77, np.uint8))
    opened = open_images(tmp_path / "set.npy", size=4, channels=3)
    assert opened.shape == (3, 4, 4)
    assert opened.images.unique().tolist() == [77]
    with pytest.raises(UserError, match=r"its images are 8×8, smaller than 16×16\. Pass a smaller --size"):
        open_images(tmp_path / "set.npy", size=16)


def test_grey_arrays_repeat_into_rgb(tmp_path):
    np.save(tmp_path / "set.npy", PIXELS)
    opened = open_images(tmp_path / "set.npy", channels=3)
    assert torch.equal(opened.images, torch.from_numpy(PIXELS)[:, None].expand(-1, 3, -1, -1))


def test_a_limit_keeps_images_and_labels_together(tmp_path):
    pixels = np.arange(100, dtype=np.uint8).reshape(100, 1, 1)
    np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(100))
    opened = open_images(tmp_path / "set.npz", limit=10)
    assert len(opened) == 10
    assert opened.images.flatten().tolist() == opened.labels.tolist()


def test_arrays_are_cropped_in_the_middle_and_then_reduced(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (2, 11, 16), np.uint8)
    np.save(tmp_path / "set.npy", pixels)
    opened = open_images(tmp_path / "set.npy", crop=8)
    assert np.array_equal(opened.images[:, 0].numpy(), pixels[:, 1:9, 4:12])
    np.save(tmp_path / "cut.npy", pixels[:, 1:9, 4:12])
    assert torch.equal(
        open_images(tmp_path / "set.npy", crop=8, size=4).images,
        open_images(tmp_path / "cut.npy", size=4).images,
    )
    with pytest.raises(UserError, match=r"its images are 16×11, too small for a crop of 12\. Crop less"):
        open_images(tmp_path / "set.npy", crop=12)


def test_impossible_crops_are_reported():
    with pytest.raises(UserError, match="crop: a square of 0 pixels is empty"):
        open_images("fashion", crop=0)
    with pytest.raises(UserError, match="crop: 20 pixels are less than the size 28×28"):
        open_images("fashion", crop=20, size=28)
