"""Features carry a name, are trained once, and tell good images from bad ones."""

import json
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.evaluation.reference import choose_features
from scorefield.metrics import features as module
from scorefield.metrics.classifier import Classifier, save_classifier
from scorefield.metrics.distances import frechet_distance, kernel_distance
from scorefield.metrics.features import (
    ClassifierFeatures,
    RandomFeatures,
    classifier_features,
    load_features,
    random_features,
)


def stripes(n: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=g)
    wave = (torch.arange(12) + torch.randint(0, 4, (n, 1), generator=g)) % 4 < 2
    rows = wave[:, :, None].expand(n, 12, 12)
    picked = torch.where(labels.bool()[:, None, None], rows, rows.mT)
    bright = 100 + 80 * picked + 25 * torch.randn(n, 12, 12, generator=g)
    return bright.clamp(0, 255).to(torch.uint8)[:, None], labels


@pytest.fixture
def quick(monkeypatch):
    """A training of a second."""
    monkeypatch.setattr(module, "_PASSES", 1000)


def test_a_classifier_is_trained_once_and_kept(quick, tmp_path):
    images, labels = stripes(400)
    calls: list[float] = []
    first = classifier_features(
        images, labels, name="My Stripes", cache=tmp_path, progress=lambda share, _: calls.append(share)
    )
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("my-stripes-") and path.suffix == ".safetensors"
    trained = len(calls)
    second = classifier_features(
        images, labels, name="My Stripes", cache=tmp_path, progress=lambda share, _: calls.append(share)
    )
    assert len(calls) == trained > 0
    assert second.name == first.name == f"my-stripes-classifier-{first.classifier.digest()[:4]}"
    assert torch.equal(second(images[:9]).features, first(images[:9]).features)
    assert second.facts == first.facts
    assert float(second.facts["held_out_accuracy"]) > 0.8 and second.facts["images"] == 360


def test_other_pixels_or_labels_train_another_classifier(quick, tmp_path):
    images, labels = stripes(120)
    names = {classifier_features(images, labels, name="s", cache=tmp_path).name}
    names.add(classifier_features(images, 1 - labels, name="s", cache=tmp_path).name)
    changed = images.clone()
    changed[3, 0, 4, 4] ^= 1
    classifier_features(changed, labels, name="s", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3 and len(names) == 2


def test_a_degraded_file_is_trained_again_with_a_word(quick, tmp_path):
    images, labels = stripes(120)
    first = classifier_features(images, labels, name="s", cache=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="Training it again"):
        again = classifier_features(images, labels, name="s", cache=tmp_path)
    assert again.name == first.name
    assert classifier_features(images, labels, name="s", cache=tmp_path).name == first.name


def test_labels_may_be_any_integers(quick, tmp_path):
    images, labels = stripes(120)
    kept = classifier_features(images, 40 * labels - 7, name="s", cache=tmp_path)
    assert kept.classifier.class_count == 2


def test_features_do_not_depend_on_the_batch_and_probabilities_sum_to_one(quick, tmp_path):
    images, labels = stripes(120)
    kept = classifier_features(images, labels, name="s", cache=tmp_path)
    together, alone = kept(images[:5]), [kept(x) for x in images[:5].split(1)]
    torch.testing.assert_close(together.features, torch.cat([x.features for x in alone]), rtol=1e-4, atol=1e-5)
    assert together.probabilities is not None
    torch.testing.assert_close(together.probabilities.sum(1), torch.ones(5))
    assert together.features.dtype == torch.float32 and together.features.shape == (5, 128)
    with pytest.raises(UserError, match="3 channels, but these features take 1"):
        kept(images.repeat(1, 3, 1, 1))


def test_one_class_or_missing_labels_train_no_classifier(tmp_path):
    images, labels = stripes(20)
    with pytest.raises(UserError, match="1 classes"):
        classifier_features(images, 0 * labels, name="s", cache=tmp_path)
    with pytest.raises(UserError, match="19 labels"):
        classifier_features(images, labels[:19], name="s", cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_kept_classifier_can_be_named_as_a_file(quick, tmp_path):
    images, labels = stripes(120)
    kept = classifier_features(images, labels, name="s", cache=tmp_path)
    loaded = load_features(next(tmp_path.iterdir()))
    assert loaded.name == kept.name
    assert torch.equal(loaded(images).features, kept(images).features)


@pytest.mark.parametrize("facts", [
    {"channels": 1, "class_count": 10**12}, {"channels": 10**12, "class_count": 2}, {"channels": [], "class_count": 2},
    [], 3, {},
])  # fmt: skip
def test_facts_that_lie_are_refused_before_anything_is_built(quick, tmp_path, facts):
    save_file(Classifier(channels=1, class_count=2).state_dict(), tmp_path / "x.safetensors",
              metadata={"format": "scorefield-classifier-1", "facts": json.dumps(facts)})  # fmt: skip
    with pytest.raises(UserError, match="cannot be read as a classifier"):
        load_features(tmp_path / "x.safetensors")


def test_deeply_nested_facts_are_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors",
              metadata={"format": "scorefield-classifier-1", "facts": "[" * 100_000})  # fmt: skip
    with pytest.raises(UserError, match="cannot be read as a classifier"):
        load_features(tmp_path / "x.safetensors")


def test_features_compute_on_the_device_that_was_asked_for(quick, tmp_path):
    images, labels = stripes(120)
    train = ImageSet(images=images, labels=labels, name="s", source="s")
    own = choose_features(train, None)
    assert isinstance(own, ClassifierFeatures) and own.classifier.mean.device.type == "cpu"
    again = choose_features(train, None, device="meta")  # kept in the cache now, so that nothing is computed
    assert isinstance(again, ClassifierFeatures) and again.classifier.mean.device.type == "meta"
    save_classifier(own.classifier, tmp_path / "own.safetensors", {"name": "own"})
    named = choose_features(train, tmp_path / "own.safetensors", device="meta")
    assert isinstance(named, ClassifierFeatures) and named.classifier.mean.device.type == "meta"
    random = choose_features(train, "random", device="meta")
    assert isinstance(random, RandomFeatures) and {f.device.type for f in random.filters} == {"meta"}


class Writer(nn.Module):
    """A program that writes a file of its own choice."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, self.path)
        return x.float().mean(3).flatten(1)


def _with_comment(archive: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return [(name, code.replace(b"torch.save(", b"(torch.save # \n(")) for name, code in archive.items()]


def _with_line_break(archive: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return [(name, code.replace(b"torch.save(", b"torch.save\\\n(")) for name, code in archive.items()]


def _with_upper_case_file(archive: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return [(name.replace(".py", ".PY"), code) for name, code in archive.items()]


def _with_upper_case_folder(archive: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return [(name.replace("/code/", "/CODE/"), code) for name, code in archive.items()]


def _with_two_entries(archive: dict[str, bytes]) -> list[tuple[str, bytes]]:
    harmless = [(name, b"") for name in archive if name.endswith(".py")]
    return [*archive.items(), *harmless]


def _unchanged(archive: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return list(archive.items())


_HIDINGS = (_unchanged, _with_comment, _with_line_break, _with_upper_case_file, _with_upper_case_folder,
            _with_two_entries)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("hide", _HIDINGS)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PT", ".safetensors", ""])
def test_a_program_is_refused_however_it_hides(tmp_path, hide, suffix):
    written = tmp_path / "written"
    torch.jit.script(Writer(str(written))).save(tmp_path / "plain.zip")
    with zipfile.ZipFile(tmp_path / "plain.zip") as plain:
        entries = hide({name: plain.read(name) for name in plain.namelist()})
    path = tmp_path / f"features{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        for name, code in entries:
            archive.writestr(name, code)
    with pytest.raises(UserError, match="cannot be read as a classifier|no safetensors file"):
        load_features(path)(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert not written.exists()


@pytest.mark.filterwarnings("ignore")
def test_an_export_archive_is_refused_since_its_weights_are_unpickled(tmp_path):
    exported = torch.export.export(nn.Flatten(), (torch.zeros(2, 1, 8, 8),))
    torch.export.save(exported, tmp_path / "features.pt2")
    with pytest.raises(UserError, match="no safetensors file"):
        load_features(tmp_path / "features.pt2")


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pt2", ".pkl", ".safetensors"])
def test_a_pickle_is_refused_and_never_run(tmp_path, suffix):
    path = tmp_path / f"trap{suffix}"
    torch.save(Trap(tmp_path / "sprung"), path)
    with pytest.raises(UserError):
        load_features(path)
    assert not (tmp_path / "sprung").exists()


def test_files_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_features(tmp_path / "absent.safetensors")
    (tmp_path / "words.safetensors").write_text("words")
    with pytest.raises(UserError, match="cannot be read as a classifier"):
        load_features(tmp_path / "words.safetensors")
    save_file({"x": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not a classifier that scorefield saved"):
        load_features(tmp_path / "other.safetensors")


def dead_leaves(n: int, *, seed: int, size: int = 32, leaves: int = 40) -> Tensor:
    """Discs of random colour over one another: a plain model of photographs (Lee et al. 2001)."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 3, 1, 1, generator=g).expand(n, 3, size, size)
    y0, x0 = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    for _ in range(leaves):
        center = (torch.rand(n, 2, 1, 1, generator=g) * 1.5 - 0.25) * size
        radius = 1.5 / (torch.rand(n, 1, 1, generator=g) * 0.95 + 0.05).sqrt()  # p(r) ~ r⁻³
        inside = (y0 - center[:, 0]) ** 2 + (x0 - center[:, 1]) ** 2 < (2 * radius) ** 2
        x = torch.where(inside[:, None], torch.rand(n, 3, 1, 1, generator=g), x)
    return x


def to_bytes(x: Tensor) -> Tensor:
    return (x * 255).round().clamp(0, 255).to(torch.uint8)


def blurred(x: Tensor, sigma: float) -> Tensor:
    reach = torch.arange(-4, 5)
    kernel = (-(reach**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).repeat(3, 1, 1, 1)
    x = F.conv2d(F.pad(x, (4, 4, 0, 0), mode="replicate"), kernel, groups=3)
    return F.conv2d(F.pad(x, (0, 0, 4, 4), mode="replicate"), kernel.mT, groups=3)


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    return dead_leaves(250, seed=0), dead_leaves(250, seed=1)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_random_features_rank_degradation_by_its_strength(images, seed):
    _, other = images
    extract = random_features(3, seed=seed)
    noise = torch.randn(other.shape, generator=torch.Generator().manual_seed(2))
    schedules = {
        "blur": [blurred(other, s) for s in (0.7, 1.0, 2.0)] + [other.mean((2, 3), keepdim=True) + 0 * other],
        "noise": [other + s * noise for s in (0.05, 0.1, 0.2)],
        "grey": [other.mean(1, keepdim=True) + 0 * other],
    }
    real, same = (extract(to_bytes(x)).features for x in images)
    for degraded in schedules.values():
        levels = [extract(to_bytes(x)).features for x in degraded]
        for measure in (frechet_distance, lambda a, b: kernel_distance(a, b)[0]):
            distances = [1.5 * abs(measure(same, real)), *(measure(x, real) for x in levels)]
            assert all(a < b for a, b in pairwise(distances)), distances


def test_random_features_are_the_same_at_every_call_and_named_by_their_seed():
    images = to_bytes(dead_leaves(3, seed=0))
    first = random_features(3)
    torch.rand(3)
    assert torch.equal(first(images).features, random_features(3)(images).features)
    assert not torch.equal(first(images).features, random_features(3, seed=5)(images).features)
    assert (first.name, random_features(3, seed=5).name) == ("random-conv", "random-conv-5")
    assert first(images).probabilities is None


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(8, 8), (9, 13), (64, 48)])
def test_random_features_take_any_size_and_channels(channels, size):
    images = torch.randint(0, 256, (3, channels, *size), dtype=torch.uint8)
    extract: RandomFeatures = random_features(channels)
    found = extract(images).features
    assert found.dtype == torch.float32 and found.isfinite().all()
    assert found.shape == (3, random_features(channels)(images[:1]).features.shape[1])
