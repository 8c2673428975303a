"""The judge learns, repeats itself, and is kept whole or not at all."""

import pytest
import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.metrics.classifier import (
    Classifier,
    load_classifier,
    save_classifier,
    train_classifier,
)


def stripes(n: int, *, size: int = 12, channels: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noisy stripes: rows, columns or diagonals, at random phases."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=g)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    along = torch.stack([y, x, y + x])[labels] + torch.randint(0, 4, (n, 1, 1), generator=g)
    bright = 128 + 80 * (along % 4 < 2) + 30 * torch.randn(n, size, size, generator=g)
    return bright.clamp(0, 255).to(torch.uint8)[:, None].repeat(1, channels, 1, 1), labels


def trained(seed: int = 0) -> Classifier:
    return train_classifier(*stripes(300), class_count=3, epochs=3, seed=seed, batch=50)


def test_a_classifier_learns_stripes():
    images, labels = stripes(300, seed=1)
    calls: list[float] = []
    classifier = train_classifier(
        *stripes(400),
        class_count=3,
        epochs=4,
        seed=0,
        batch=50,
        progress=lambda share, words: calls.append(share),
    )
    with torch.inference_mode():
        accuracy = (classifier(images).argmax(1) == labels).float().mean()
    assert accuracy > 0.95  # measured 1.0; chance is 0.33
    assert calls == [(i + 1) / 32 for i in range(32)]
    assert not classifier.training


def test_training_repeats_itself_and_leaves_the_global_random_state_alone():
    state = torch.random.get_rng_state()
    first = trained().digest()
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(7)
    assert trained().digest() == first != trained(seed=1).digest()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(8, 8), (13, 9), (64, 40)])
def test_any_size_and_channels_give_features_of_one_width(channels, size):
    classifier = Classifier(channels=channels, class_count=5).eval()
    images = torch.randint(0, 256, (2, channels, *size), dtype=torch.uint8)
    assert classifier.features(images).shape == (2, 128)
    assert classifier(images).shape == (2, 5)


def test_pixels_are_standardized_by_the_training_set():
    images, labels = stripes(300, channels=3)
    images[:, 1] //= 4
    classifier = train_classifier(images, labels, class_count=3, epochs=1, seed=0)
    pixels = images.double()
    torch.testing.assert_close(classifier.mean.flatten().double(), pixels.mean((0, 2, 3)), rtol=1e-4, atol=0)
    torch.testing.assert_close(classifier.deviation.flatten().double(), pixels.std((0, 2, 3)), rtol=1e-4, atol=0)


def test_what_was_saved_is_what_is_loaded(tmp_path):
    classifier = trained()
    facts = save_classifier(classifier, tmp_path / "c.safetensors", {"data": "stripes"})
    loaded, read = load_classifier(tmp_path / "c.safetensors")
    assert read == facts and read["data"] == "stripes"
    images, _ = stripes(20, seed=2)
    assert torch.equal(loaded(images), classifier(images))


def test_a_single_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "c.safetensors"
    save_classifier(trained(), path, {})
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_classifier(path)


@pytest.mark.parametrize("keep", [0, 500, *(pytest.param(n, marks=pytest.mark.slow) for n in (7, 100_000))])
def test_half_a_file_is_an_error_of_one_line(tmp_path, keep):
    path = tmp_path / "c.safetensors"
    save_classifier(trained(), path, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="cannot be read as a classifier") as caught:
        load_classifier(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64), "uint8"),
        (torch.zeros(4, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), "uint8"),
        (torch.zeros(4, 5, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), "5 channels"),
        (torch.zeros(4, 1, 7, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), "7×8"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), "none"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "4 integers"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4), "4 integers"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 3]), "0…3"),
        (
            torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
            torch.tensor([0, 2, 2, 0]),
            "class 1 of 3 has no images",
        ),
    ],
)
def test_what_no_classifier_can_learn_is_refused(images, labels, words):
    with pytest.raises(UserError, match=words):
        train_classifier(images, labels, class_count=3, epochs=1, seed=0)
