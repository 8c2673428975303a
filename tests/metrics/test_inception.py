"""The standard Inception network and its metrics, against plain forms and torch-fidelity's numbers."""

import math
import sys
import types
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from oracles import seeded
from scorefield.errors import UserError
from scorefield.evaluation.reference import choose_features
from scorefield.metrics import weights as module
from scorefield.metrics.distances import frechet_distance, inception_score, kernel_distance, kernel_subsets
from scorefield.metrics.features import NetworkFeatures, metric_names
from scorefield.metrics.inception import Inception, inception_features, resize
from scorefield.metrics.weights import INCEPTION
from training.toys import images


def random_weights(network):
    """Weights by a fixed stream, in the order of their published names; activity neither dies nor grows."""
    generator = seeded(2015)
    names = sorted(n for n in network.state_dict() if not n.endswith("num_batches_tracked"))
    with torch.no_grad():
        for name in names:
            tensor = network.state_dict()[name]
            if tensor.ndim > 1:
                spread = (2 / tensor[0].numel()) ** 0.5
            elif name.endswith(("running_var", "bn.weight")):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
                continue
            else:
                spread = 0.1
            tensor.copy_(spread * torch.randn(tensor.shape, generator=generator))
    return network.eval()


def published_names(network):
    return {name.removeprefix("body."): tensor for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        made = Inception().to_empty(device="cpu")
    by_name = published_names(made)

    class Published:  # the stream runs over the published names
        def state_dict(self):
            return by_name

        def eval(self):
            return self

    random_weights(Published())
    return made.eval()


def some(n, channels, height, width, seed=0):
    return torch.randint(0, 256, (n, channels, height, width), generator=seeded(seed)).to(torch.uint8)


# --- the resize ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(5, 9), (11, 11), (30, 17)])
def test_the_resize_is_tensorflows_with_neither_half_pixels_nor_aligned_corners(height, width):
    x = some(2, 3, height, width).double()
    out = resize(x, side=11)
    for i in range(11):
        for j in range(11):
            y0, x0 = math.floor(i * height / 11), math.floor(j * width / 11)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            dy, dx = i * height / 11 - y0, j * width / 11 - x0
            top = x[..., y0, x0] * (1 - dx) + x[..., y0, x1] * dx
            bottom = x[..., y1, x0] * (1 - dx) + x[..., y1, x1] * dx
            assert torch.allclose(out[..., i, j], top * (1 - dy) + bottom * dy, atol=1e-3)


def test_the_resize_keeps_images_of_the_networks_own_size():
    x = some(1, 3, 299, 299).float()
    assert torch.equal(resize(x), x)


# --- the network ---------------------------------------------------------------------------------


def test_the_network_has_the_published_weights_names_and_shapes(network):
    weights = published_names(network)
    assert sum(name.endswith("conv.weight") for name in weights) == 94
    assert sum(p.numel() for p in network.parameters()) == 23_834_568 + 8 * 2049  # torchvision's, 1008 classes
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6a.branch3x3dbl_3.bn.running_mean": (96,),
        "Mixed_6c.branch7x7dbl_3.conv.weight": (160, 160, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch_pool.conv.weight": (192, 1280, 1, 1),
        "Mixed_7c.branch3x3dbl_3b.bn.running_var": (384,),
        "fc.weight": (1008, 2048),
    }.items():
        assert tuple(weights[name].shape) == shape


def test_features_and_logits_are_torch_fidelitys_on_weights_of_a_fixed_stream(network):
    """Numbers from torch-fidelity 0.4.0's own network with these weights, on these images."""
    with torch.inference_mode():
        features, logits = network(some(2, 3, 32, 40))
    found = (features[0, :3].tolist(), features.double().norm(dim=1).tolist(),
             logits[1, :3].tolist(), logits.double().norm(dim=1).tolist())  # fmt: skip
    for ours, theirs in zip(found, GOLDEN, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_average_pools_leave_the_padding_out_and_the_last_block_takes_the_maximum(network):
    ones = torch.ones(1, 1, 4, 4)
    assert torch.equal(network.body.Mixed_7b.pool(ones), ones)
    spike = torch.zeros(1, 1, 5, 5)
    spike[..., 2, 2] = 9
    assert network.body.Mixed_7b.pool(spike)[0, 0, 1, 1] == 1
    assert network.body.Mixed_7c.pool(spike)[0, 0, 1, 1] == 9


def test_grey_is_rgb_thrice_and_batches_change_nothing(network):
    judge = NetworkFeatures(name="test", network=network, prepare=lambda x: x, batch=1, probability_dtype=torch.float64)
    grey = some(2, 1, 28, 28)
    one = judge(grey)
    three = replace(judge, batch=2)(grey.expand(-1, 3, -1, -1))
    assert torch.allclose(one.features, three.features, rtol=1e-4, atol=1e-5)
    assert one.features.shape == (2, 2048)
    assert torch.allclose(one.probabilities.sum(1), torch.ones(2).double())
    with pytest.raises(UserError, match="4 channels; test takes grey or RGB"):
        judge(some(1, 4, 16, 16))
    with pytest.raises(UserError, match="must be uint8"):
        judge(torch.rand(1, 3, 16, 16))


@pytest.mark.slow
def test_the_function_is_torch_fidelitys(network, tmp_path):
    fidelity = with_torch_fidelity()
    path = tmp_path / "weights.pth"
    torch.save(published_names(network), path)
    theirs = fidelity("inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path))
    ours = inception_features(path)
    assert ours.name.startswith("inception-") and ours.name != INCEPTION
    for channels, height, width in ((3, 32, 32), (1, 28, 28), (3, 64, 48), (3, 299, 299), (3, 400, 350)):
        x = some(3, channels, height, width, seed=height)
        features, logits = theirs(x.expand(-1, 3, -1, -1).contiguous())
        with torch.inference_mode():
            f, z = ours.network(x.expand(-1, 3, -1, -1))
        assert (f - features).abs().max() <= 1e-4 * features.abs().max()
        assert (z - logits).abs().max() <= 1e-4 * logits.abs().max()
        assert torch.equal(ours(x).features, f)


@pytest.mark.slow
def test_fid_kid_and_is_are_torch_fidelitys_from_the_same_features():
    with_torch_fidelity()
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = torch.randn(1500, 48, generator=seeded(1)), torch.randn(1200, 48, generator=seeded(2)) * 1.2 + 0.1
    logits = 3 * torch.randn(1503, 20, generator=seeded(3))
    theirs = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)
    assert frechet_distance(a, b) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    kid = kid_features_to_metric(a, b, verbose=False)
    assert kernel_distance(a, b) == pytest.approx(tuple(kid.values()), rel=1e-4)
    isc = isc_features_to_metric(logits)
    assert inception_score(logits.double().softmax(1)) == pytest.approx(tuple(isc.values()), rel=1e-9)


def with_torch_fidelity():
    """Their network's class; torchvision, which it imports for its data sets, may be missing."""
    if "torchvision" not in sys.modules and find_spec("torchvision") is None:
        for name in ("", ".datasets", ".models", ".transforms", ".transforms.functional"):
            stub = types.ModuleType(f"torchvision{name}")
            stub.__getattr__ = lambda attribute: type(attribute, (), {})
            sys.modules[stub.__name__] = stub
            if name:
                parent, child = stub.__name__.rsplit(".", 1)
                setattr(sys.modules[parent], child, stub)
    return pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3").FeatureExtractorInceptionV3


# --- its weights ---------------------------------------------------------------------------------

EXPECTED = {"a.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(4), "bn.num_batches_tracked": torch.tensor(0)}


def read(path):
    return module.read_weights(path, EXPECTED, network="Inception", mend="")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("counted", [True, False])
def test_weights_are_read_from_files_of_either_format(tmp_path, zipped, counted):
    given = {"a.weight": torch.ones(2, 3), "fc.bias": torch.ones(4)}
    given |= {"bn.num_batches_tracked": torch.tensor(7)} if counted else {}
    torch.save(given, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "w.pth")
    assert found.keys() == EXPECTED.keys()
    assert torch.equal(found["a.weight"], torch.ones(2, 3))


class Evil:
    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a.weight": torch.ones(2, 3)}, "lacks 1 of Inception's weights: fc.bias"),
        ({"a.weight": torch.ones(2, 3), "fc.bias": torch.ones(4), "z": torch.ones(1)}, "has besides 1 .*: z"),
        ({"a.weight": torch.ones(3, 2), "fc.bias": torch.ones(4)}, r"a.weight is \(3, 2\), not \(2, 3\)"),
        ({"a.weight": torch.ones(2, 3), "fc.bias": 4}, "fc.bias is int"),
        ([1, 2], "holds a list"),
        (Evil(), "cannot be read"),
    ],
    ids=["lacks", "besides", "shape", "number", "list", "program"],
)
def test_a_file_of_other_weights_is_refused_with_what_does_not_fit(tmp_path, content, words, capsys):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=words):
        read(tmp_path / "w.pth")
    assert "ran" not in capsys.readouterr().out


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot be read as weights"):
        read(tmp_path / "w.pth")
    with pytest.raises(UserError, match="no such file"):
        choose_features(images(), f"inception:{tmp_path / 'none.pth'}")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A place to fetch from that holds a small file, whose digest is the one expected."""
    (tmp_path / "there.pth").write_bytes(b"weights" * 999)
    monkeypatch.setenv("SCOREFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "INCEPTION_URL", (tmp_path / "there.pth").as_uri())
    monkeypatch.setattr(module, "INCEPTION_SHA256", module.sha256(tmp_path / "there.pth"))
    monkeypatch.setattr(module, "INCEPTION_BYTES", (tmp_path / "there.pth").stat().st_size)
    return tmp_path


def test_published_weights_are_fetched_once_and_kept(shelf):
    reports = []
    path = module.fetch_inception(progress=lambda *now: reports.append(now))
    assert path.read_bytes() == b"weights" * 999
    assert reports[-1] == (1.0, "Fetching Inception's weights")
    (shelf / "there.pth").unlink()
    assert module.fetch_inception() == path
    assert [p.name for p in path.parent.iterdir()] == ["pt_inception-2015-12-05-6726825d.pth"]


def test_what_is_not_the_published_file_is_not_kept(shelf):
    (shelf / "there.pth").write_bytes(b"a page of an error")
    with pytest.raises(UserError, match="another file"):
        module.fetch_inception()
    assert list((shelf / "cache" / "features").iterdir()) == []


def test_a_degraded_copy_is_fetched_again(shelf):
    path = module.fetch_inception()
    path.write_bytes(b"half")
    assert module.fetch_inception().read_bytes() == b"weights" * 999


def test_without_a_network_one_line_says_how_to_get_them(shelf, monkeypatch):
    monkeypatch.setattr(module, "INCEPTION_URL", "http://127.0.0.1:9/weights.pth")
    with pytest.raises(UserError, match=r"can't be fetched \(.*Download http.* --features inception:FILE"):
        inception_features()


# --- names and settings --------------------------------------------------------------------------


def test_only_the_published_weights_give_numbers_the_standard_names():
    assert metric_names(INCEPTION) == (
        "FID[inception-2015-12-05]",
        "KID[inception-2015-12-05]",
        "IS[inception-2015-12-05]",
    )
    for other in ("inception-ab12cd34", "ramps-classifier-9f3a", "random-conv"):
        assert metric_names(other) == (f"FD[{other}]", f"KD[{other}]", f"inception-type[{other}]")


def test_the_settings_are_reported():
    assert kernel_subsets(500, 1000) == "all pairs of 500 and 1000"
    assert kernel_subsets(2000, 10_000) == "100 subsets of 1000"
    assert kernel_subsets(500, 10_000) == "100 subsets of 500 and 1000"


def test_kid_takes_torch_fidelitys_subsets():
    """Its definition in plain NumPy: choice without replacement by RandomState(2020), unbiased, degree 3."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(90, 6)), rng.normal(size=(70, 6)) + 0.2
    stream, values = np.random.RandomState(2020), []
    for _ in range(7):
        f = a[stream.choice(90, 20, replace=False)]
        g = b[stream.choice(70, 20, replace=False)]
        kff, kgg, kfg = ((x @ y.T / 6 + 1) ** 3 for x, y in ((f, f), (g, g), (f, g)))
        values.append((kff.sum() - kff.trace() + kgg.sum() - kgg.trace()) / (20 * 19) - 2 * kfg.mean())
    found = kernel_distance(torch.from_numpy(a), torch.from_numpy(b), subsets=7, subset_size=20)
    assert found == pytest.approx((np.mean(values), np.std(values)), rel=1e-10)


def test_is_takes_torch_fidelitys_parts_of_a_shuffle():
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(103, 5))  # 103 rows do not part evenly
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    shuffled, scores = p[np.random.RandomState(2020).permutation(103)], []
    for i in range(10):
        part = shuffled[i * 103 // 10 : (i + 1) * 103 // 10]
        scores.append(np.exp((part * np.log(part / part.mean(0))).sum(1).mean()))
    assert inception_score(torch.from_numpy(p)) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-10)


GOLDEN = (
    [0.0104009, 0.9293054, 0.0],
    [441.778249, 454.734811],
    [4.6758466, -20.5812206, 15.1816139],
    [442.810169, 455.732395],
)


def test_more_bytes_than_the_file_has_are_not_fetched(shelf, tmp_path):
    (tmp_path / "there.pth").write_bytes(b"weights" * 999_999)
    with pytest.raises(UserError, match="more bytes than the file has"):
        module.fetch_inception()
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_the_published_digest_is_whole():
    assert len(module.INCEPTION_SHA256) == 64


def test_a_file_of_the_same_first_digits_has_another_name(shelf, monkeypatch):
    path = module.fetch_inception()
    digest = module.sha256(path)
    monkeypatch.setattr(module, "INCEPTION_SHA256", digest[:8] + "0" * 56)
    assert module.inception_name(path) == f"inception-{digest[:8]}"
