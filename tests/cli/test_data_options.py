"""What the verbs make of images on the way in: crops, CIFAR, classes without images."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from training.toys import ramps

from .conftest import sets


@pytest.fixture
def photos(tmp_path):
    """Six images of 12×16 whose middle 8×8 is black."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(6):
        pixels = np.full((16, 12), 200, np.uint8)
        pixels[4:12, 2:10] = 0
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return folder


def test_inspect_and_train_crop_and_evaluate_does_as_the_training_did(call, tiny, photos, tmp_path):
    facts = tmp_path / "facts.json"
    result = call("data", "inspect", photos, "--crop", 8, "--json", facts)
    assert result.code == 0, result.err
    assert re.search(r"^shape +1×8×8$", result.out, re.M)
    assert json.loads(facts.read_text())["mean"] == [0.0]
    made = call("train", tiny, "--data", photos, "--crop", 8, "--out", tmp_path / "run", *sets("training.steps=2"))
    assert made.code == 0, made.err
    assert "crop = 8" in (tmp_path / "run" / "recipe.toml").read_text()
    result = call("evaluate", tmp_path / "run", "--data", photos, "-n", 2, "--steps", 2)
    assert result.code == 0, result.err
    assert "first cropped to 8×8, as in training" in result.err


def test_inspect_notes_classes_without_images(call, photos, tmp_path):
    pixels, labels = ramps(6)
    np.savez(tmp_path / "gap.npz", images=pixels, labels=np.where(labels == 1, 3, labels))
    result = call("data", "inspect", tmp_path / "gap.npz")
    assert result.code == 0, result.err
    assert "note: class 1 has no images." in result.out
    assert "class 2" not in result.out
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
    for path in photos.iterdir():
        path.rename(tmp_path / "pets" / "cat" / path.name)
    result = call("data", "inspect", tmp_path / "pets")
    assert "note: sub-folder `dog` has no images." in result.out


def test_inspect_shows_cifar_with_its_classes(call, tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]:
        (folder / name).write_bytes(b"".join(bytes([label]) + bytes([80]) * 3072 for label in range(10)))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta.txt").write_text("\n".join(names))
    result = call("data", "inspect", folder, "--json", tmp_path / "facts.json")
    assert result.code == 0, result.err
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert (facts["images"], facts["shape"]) == (50, "3×32×32")
    assert facts["classes"] == dict.fromkeys(names, 5)


def test_a_run_that_goes_on_with_other_images_is_reported(call, tiny, data, tmp_path):
    pixels, _ = ramps(20, seed=5)
    copy = tmp_path / "copy.npy"
    np.save(copy, pixels)
    command = ["train", tiny, "--data", copy, "--out", tmp_path / "run"]
    assert call(*command, *sets("training.steps=2")).code == 0
    np.save(copy, pixels[::-1].copy())
    line = call(*command, "--resume", "auto").complaint()
    assert "its run began with images of digest" in line


def test_sampling_again_with_fewer_leaves_no_older_image(call, run, tmp_path):
    out = tmp_path / "images"
    for n in (4, 2):
        result = call("sample", run, "-n", n, "--steps", 2, "--out", out, "--overwrite")
        assert result.code == 0, result.err
    assert sorted(path.name for path in out.iterdir()) == ["00000.png", "00001.png"]


def test_a_recipe_with_automatic_noise_shows_the_numbers_that_it_found(call, tiny, data, tmp_path):
    result = call("train", tiny, "--data", data, "--out", tmp_path / "run", "--dry-run", *sets("noise=auto"))
    assert result.code == 0, result.err
    assert 'kind = "levels"' in result.out
    assert '"auto"' not in result.out.partition("[training]")[0]


def test_a_size_that_the_network_cannot_take_is_reported_before_any_training(call, tmp_path):
    np.save(tmp_path / "odd.npy", np.random.default_rng(0).integers(0, 256, (8, 9, 9), np.uint8))
    command = [
        "train",
        "ncsn-mnist-small",
        "--data",
        tmp_path / "odd.npy",
        "--size",
        9,
        "--out",
        tmp_path / "run",
    ]
    line = call(*command, *sets("network.width=4")).complaint()
    assert "9×9" in line
    assert "size" in line
    assert not (tmp_path / "run").exists()
