"""MobileNetV2 by torchvision's names, and LPIPS, each against a plain form with random weights."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from oracles import seeded
from scorefield.errors import UserError
from scorefield.evaluation.reference import choose_features
from scorefield.metrics.features import metric_names
from scorefield.metrics.lpips import AlexNet, read_lpips
from scorefield.metrics.mobilenet import MobileNetV2, mobilenet_features, normalized
from training.toys import images

REAL = Path(os.environ.get("SCOREFIELD_MOBILENET", "/nowhere"))
"""torchvision's file, where there is one."""


def pixels(n, side, seed=0, channels=3):
    return torch.randint(0, 256, (n, channels, side, side), generator=seeded(seed)).to(torch.uint8)


def lively(network):
    """Weights under which activity neither dies nor grows."""
    generator = seeded(1)
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        draw = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            tensor.copy_(draw * (2 / tensor[0].numel()) ** 0.5)
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        else:
            tensor.copy_(1 + 0.1 * draw if name.endswith("weight") else 0.1 * draw)
    return network


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with weights under torchvision's names, and those weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = lively(MobileNetV2()).state_dict()
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.save(state, path)
    return path, state


def plain(state, x):
    """The network written out, block by block, from torchvision's names."""

    def conv(x, name, stride=1, groups=1):
        w = state[f"{name}.weight"]
        return F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2, groups=groups)

    def norm(x, name):
        mean, var, w, b = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, w, b, eps=1e-5)

    x = F.relu6(norm(conv(x, "features.0.0", stride=2), "features.0.1"))
    strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    for block, stride in enumerate(strides, 1):
        name, y = f"features.{block}.conv", x
        first = 0
        if block > 1:
            y = F.relu6(norm(conv(y, f"{name}.0.0"), f"{name}.0.1"))
            first = 1
        y = F.relu6(norm(conv(y, f"{name}.{first}.0", stride, groups=y.shape[1]), f"{name}.{first}.1"))
        y = norm(conv(y, f"{name}.{first + 1}"), f"{name}.{first + 2}")
        x = x + y if x.shape == y.shape else y
    x = F.relu6(norm(conv(x, "features.18.0"), "features.18.1")).mean((2, 3))
    return x, F.linear(x, state["classifier.1.weight"], state["classifier.1.bias"])


def test_features_are_those_of_the_network_written_out(weights):
    path, state = weights
    images = pixels(2, 40)
    found = mobilenet_features(path)(images)
    features, logits = plain(state, normalized(images))
    assert found.features.shape == (2, 1280)
    torch.testing.assert_close(found.features, features, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(found.probabilities, logits.softmax(1), atol=1e-4, rtol=1e-3)


def test_an_image_of_224_goes_in_as_it_is_and_grey_as_three_channels():
    images = pixels(1, 224, channels=1)
    seen = normalized(images)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (images[0, 0, 3, 5] / 255 - mean) / deviation
    torch.testing.assert_close(seen[0, :, 3, 5], expected)
    assert normalized(pixels(1, 30)).shape == (1, 3, 224, 224)


def test_the_name_holds_the_digest_and_a_distance_is_no_fid(weights):
    path, _ = weights
    features = choose_features(images(channels=3), f"mobilenet:{path}")
    assert features.name.startswith("mobilenet-")
    assert len(features.name) == len("mobilenet-") + 4
    assert metric_names(features.name)[0] == f"FD[{features.name}]"


def test_weights_may_be_a_safetensors_file(weights, tmp_path):
    path = weights[0] if isinstance(weights, tuple) else weights
    save_file(torch.load(path, weights_only=True), tmp_path / "w.safetensors")
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        mobilenet_features(tmp_path / "w.safetensors")(images).features, mobilenet_features(path)(images).features,
        rtol=0, atol=0)  # fmt: skip


def test_weights_of_something_else_are_reported(tmp_path, weights):
    path, state = weights
    short = {name: value for name, value in state.items() if not name.startswith("features.7.")}
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(UserError, match=r"lacks 15 of MobileNetV2's weights: features.7"):
        mobilenet_features(tmp_path / "short.pth")
    torch.save(state | {"classifier.1.weight": torch.zeros(10, 1280)}, tmp_path / "ten.pth")
    with pytest.raises(UserError, match=r"classifier.1.weight is \(10, 1280\), not \(1000, 1280\)"):
        mobilenet_features(tmp_path / "ten.pth")
    with pytest.raises(UserError, match="no such file"):
        mobilenet_features(tmp_path / "none.pth")
    with pytest.raises(UserError, match="mobilenet:FILE"):
        choose_features(images(channels=3), "mobilenet")


@pytest.mark.skipif(not REAL.is_file(), reason="torchvision's file is not there")
def test_the_published_weights_are_known_by_their_digest():
    features = mobilenet_features(REAL)
    assert features.name == "mobilenet-b035"
    found = features(pixels(1, 224))
    assert found.features.mean() > 0.1


# --- LPIPS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lpips")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = lively(AlexNet()).state_dict()
    torch.save(state | {"classifier.1.weight": torch.zeros(3)}, folder / "alexnet.pth")  # ours has no such
    heads = {
        f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1, generator=seeded(i))
        for i, w in enumerate((64, 192, 384, 256, 256))
    }
    torch.save(heads, folder / "alex.pth")
    return folder / "alexnet.pth", folder / "alex.pth", state, heads


def test_lpips_is_the_weighted_distance_of_unit_features(two_files):
    *files, state, heads = two_files
    a, b = pixels(3, 40, seed=1), pixels(3, 40, seed=2)

    def layers(images):
        x = images.double() / 127.5 - 1
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).reshape(3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).reshape(
            3, 1, 1
        )
        for i, (index, stride, pad) in enumerate([(0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)]):
            if i in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            w, bias = (state[f"features.{index}.{k}"].double() for k in ("weight", "bias"))
            x = F.conv2d(x, w, bias, stride, pad).clamp_min(0)
            yield x

    expected = torch.zeros(3, dtype=torch.float64)
    for i, (x, y) in enumerate(zip(layers(a), layers(b), strict=True)):
        for n in range(3):
            total = 0.0
            for row in range(x.shape[2]):
                for column in range(x.shape[3]):
                    u, v = x[n, :, row, column], y[n, :, row, column]
                    difference = u / u.norm() - v / v.norm()
                    total += float(heads[f"lin{i}.model.1.weight"].flatten().double() @ difference**2)
            expected[n] += total / (x.shape[2] * x.shape[3])
    distance = read_lpips(*files)
    torch.testing.assert_close(distance(a, b).double(), expected, atol=1e-4, rtol=1e-4)
    assert distance(a, a).abs().max() == 0
    assert distance.name.startswith("LPIPS[alexnet-")


def test_files_that_are_not_those_of_lpips_are_reported(two_files, tmp_path):
    network, heads, *_ = two_files
    with pytest.raises(UserError, match="lacks 10 of AlexNet's weights"):
        read_lpips(heads, heads)
    with pytest.raises(UserError, match="alex.pth"):
        read_lpips(network, network)
    with pytest.raises(UserError, match="too small"):
        read_lpips(network, heads)(pixels(1, 16), pixels(1, 16))
