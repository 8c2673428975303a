"""CIFAR's binary version: bytes known one by one; the pickled version is refused."""

import io
import pickle
import tarfile

import numpy as np
import pytest

from scorefield.data.datasets import open_images, splits
from scorefield.errors import UserError

RNG = np.random.default_rng(0)
PER_FILE = 4


def record(label, *, coarse=None):
    """One record: its label, then red, green and blue planes, row by row."""
    head = [label] if coarse is None else [coarse, label]
    planes = RNG.integers(0, 256, (3, 32, 32), np.uint8)
    return planes, bytes(head) + planes.tobytes()


def batch(labels, **options):
    planes, rows = zip(*(record(label, **options) for label in labels), strict=True)
    return np.stack(planes), b"".join(rows)


@pytest.fixture
def ten(tmp_path):
    """A CIFAR-10 of four images a file, and what is in it: its folder, pixels and labels by split."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    pixels, labels = {"train": [], "test": []}, {"train": [], "test": []}
    for i, name in enumerate([f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]):
        split = "test" if "test" in name else "train"
        own = [(3 * i + j) % 10 for j in range(PER_FILE)]
        planes, data = batch(own)
        (folder / name).write_bytes(data)
        pixels[split].append(planes)
        labels[split] += own
    (folder / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(10)) + "\n\n")
    (folder / "readme.html").write_text("<html>")
    return folder, {split: np.concatenate(parts) for split, parts in pixels.items()}, labels


def packed(folder, path, inside="cifar-10-batches-bin"):
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, f"{inside}/{file.name}")
    return path


@pytest.mark.parametrize("form", ["folder", "its parent", "archive"])
def test_the_binary_version_is_read_byte_for_byte(tmp_path, ten, form):
    folder, pixels, labels = ten
    data = {"folder": folder, "its parent": tmp_path}.get(form) or packed(folder, tmp_path / "cifar-10-binary.tar.gz")
    assert splits(data) == ("train", "test")
    for split in ("train", "test"):
        opened = open_images(data, split=split)
        assert opened.shape == (3, 32, 32)
        assert np.array_equal(opened.images.numpy(), pixels[split])
        assert opened.labels.tolist() == labels[split]
        assert opened.class_names == tuple(f"class{i}" for i in range(10))
    with pytest.raises(UserError, match="has no split `val`"):
        open_images(data, split="val")


def test_images_come_cut_reduced_grey_and_limited_like_any_others(ten):
    folder = ten[0]
    assert open_images(folder, size=8, channels=1, limit=3).images.shape == (3, 1, 8, 8)
    assert open_images(folder, crop=20).shape == (3, 20, 20)


def test_the_fine_classes_of_cifar_100_are_its_labels(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    planes, data = batch([99, 0, 57], coarse=7)
    (folder / "train.bin").write_bytes(data)
    (folder / "test.bin").write_bytes(data[: 2 + 3072])
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine{i}" for i in range(100)))
    opened = open_images(folder)
    assert opened.labels.tolist() == [99, 0, 57]
    assert np.array_equal(opened.images.numpy(), planes)
    assert opened.class_names[99] == "fine99"
    assert len(open_images(tmp_path, split="test")) == 1


@pytest.mark.parametrize("left", [1, 3072, 3074, 0])
def test_a_file_cut_short_is_reported(ten, left):
    path = ten[0] / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(
        UserError,
        match=rf"data_batch_2\.bin: is truncated or damaged: {left} bytes are no number of records of 3073",
    ):
        open_images(ten[0])


def test_a_label_beyond_the_classes_is_reported(ten):
    path = ten[0] / "data_batch_2.bin"
    data = bytearray(path.read_bytes())
    data[3073] = 10
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"data_batch_2\.bin: is damaged or no CIFAR-10: it has a label 10"):
        open_images(ten[0])


def test_a_missing_batch_is_reported(ten):
    (ten[0] / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match=r"cifar-10-batches-bin: lacks data_batch_3\.bin\. Unpack"):
        open_images(ten[0])


def test_an_archive_cut_short_is_reported(tmp_path, ten):
    path = packed(ten[0], tmp_path / "cifar-10-binary.tar.gz")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cifar-10-binary\.tar\.gz: is truncated or damaged"):
        open_images(path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def python_version(folder, names):
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    return folder


@pytest.mark.parametrize(
    ("inside", "names"),
    [
        ("cifar-10-batches-py", ["data_batch_1", "test_batch", "batches.meta"]),
        ("cifar-100-python", ["train", "test", "meta"]),
    ],
)
@pytest.mark.parametrize("form", ["folder", "its parent", "archive"])
def test_the_pickled_version_is_refused_by_the_name_of_the_right_one(tmp_path, inside, names, form):
    folder = python_version(tmp_path / inside, names)
    data = {"folder": folder, "its parent": tmp_path}.get(form) or packed(
        folder, tmp_path / f"{inside.replace('batches-py', 'python')}.tar.gz", inside
    )
    for call in (open_images, splits):
        with pytest.raises(UserError, match=r"is the Python version of CIFAR.*cifar-10-binary\.tar\.gz") as raised:
            call(data)
        assert "\n" not in str(raised.value)


def test_an_archive_of_other_things_is_reported(tmp_path):
    with tarfile.open(tmp_path / "cifar-x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    with pytest.raises(UserError, match="holds no CIFAR"):
        open_images(tmp_path / "cifar-x.tar")


def test_a_single_file_of_cifar_asks_for_its_folder(ten):
    with pytest.raises(UserError, match=r"data_batch_1\.bin: .*folder or archive of CIFAR"):
        open_images(ten[0] / "data_batch_1.bin")
