"""RefineNet is NCSN's function, by fewer operations, and can be differentiated twice."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from oracles import lively, seeded
from scorefield import kernels, score
from scorefield.errors import UserError
from scorefield.hub import import_ncsn
from scorefield.kernels import rows
from scorefield.networks import RefineNet, from_card, to_card


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def network(**settings):
    torch.manual_seed(0)
    return lively(RefineNet(**{"channels": 1, "width": 4, "levels": 3, **settings}), spread=0.05)


LABEL = torch.tensor([0.0, 2.0])


# --- counts, shapes, refusals --------------------------------------------------------------------


def test_ncsns_network_for_mnist_has_its_number_of_parameters():
    with torch.device("meta"):
        net = RefineNet(channels=1, width=64, levels=10)
    assert sum(p.numel() for p in net.parameters()) == 7_638_657


@pytest.mark.parametrize(
    ("form", "levels", "means", "side"),
    [
        ("small", 3, True, 6),
        ("small", None, True, 28),
        ("deeper", 3, False, 8),
        ("deeper", None, True, 36),
        ("deepest", None, True, 16),
        ("deepest", 2, True, 40),
    ],
)
def test_every_form_gives_images_of_the_size_it_got(form, levels, means, side):
    net = network(form=form, levels=levels, means=means, channels=3)
    x = noise(2, 3, side, side + net.multiple)
    with torch.no_grad():
        y = net(x, torch.tensor([0.0, 1.0]))
    assert y.shape == x.shape and bool(y.isfinite().all()) and float(y.std()) > 0


@pytest.mark.parametrize(
    ("form", "height", "width"),
    [("small", 27, 28), ("deeper", 28, 30), ("deepest", 20, 24), ("deepest", 8, 8)],
)
def test_a_size_that_cannot_be_halved_as_often_is_refused_before_any_work(form, height, width):
    net = network(form=form)
    with pytest.raises(UserError, match=rf"RefineNet takes sides that divide by \d, got {height}×{width}"):
        net.check_size(height, width)
    with pytest.raises(UserError, match="divide by"):
        net(noise(1, 1, height, width), LABEL[:1])


@pytest.mark.parametrize("settings", [{"form": "smal"}, {"width": 0}, {"levels": 0}, {"channels": 0}])
def test_settings_that_mean_nothing_are_named(settings):
    with pytest.raises(UserError, match="network"):
        RefineNet(**{"channels": 1, **settings})


def test_a_card_builds_the_same_network():
    net = network(form="deeper", means=False, centre=False, source_channels=2)
    again = from_card(json.loads(json.dumps(to_card(net))))
    again.load_state_dict(net.state_dict())
    x, source = noise(2, 1, 8, 8), noise(2, 2, 8, 8, seed=1)
    assert torch.equal(net(x, LABEL, source), again(x, LABEL, source))


# --- what it hears -------------------------------------------------------------------------------


def test_the_label_picks_the_row_of_the_table_and_nothing_else():
    net, x = network(), noise(2, 1, 8, 8)
    with torch.no_grad():
        conditioned = net(x, torch.tensor([1.0, 1.0]))
        assert not torch.allclose(conditioned, net(x, torch.tensor([2.0, 2.0])))
        assert torch.equal(conditioned, net(x, torch.tensor([1.2, 0.9])))
        deaf = network(levels=None)
        assert torch.equal(deaf(x, LABEL), deaf(x, LABEL + 5))


def test_the_source_is_heard():
    net, x = network(source_channels=1), noise(2, 1, 8, 8)
    with torch.no_grad():
        assert not torch.allclose(net(x, LABEL, noise(2, 1, 8, 8, seed=1)), net(x, LABEL, 0 * x))


def test_centring_sees_the_unit_interval_as_minus_one_to_one():
    net, x = network(), noise(2, 1, 8, 8)
    plain = network(centre=False)
    plain.load_state_dict(net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(net(x, LABEL), plain(2 * x - 1, LABEL))


def test_images_do_not_hear_each_other_however_many_go_through_at_once(monkeypatch):
    net, x, label = network(), noise(5, 1, 8, 8), torch.tensor([0.0, 1, 2, 1, 0])
    with torch.no_grad():
        together = net(x, label)
        monkeypatch.setattr("scorefield.networks.refinenet._AT_ONCE", 2 * 64)
        torch.testing.assert_close(net(x, label), together, rtol=1e-4, atol=1e-5)
        alone = torch.cat([net(x[i : i + 1], label[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


# --- the whole, differentiated -------------------------------------------------------------------


@pytest.mark.parametrize("levels", [3, pytest.param(None, marks=pytest.mark.slow)])
def test_the_fast_way_is_the_plain_way(levels, monkeypatch):
    net, x = network(levels=levels, width=16), noise(3, 1, 28, 28)
    label = torch.tensor([0.0, 1.0, 2.0])

    def both():
        y = net(x, label)
        return y.detach(), torch.autograd.grad(y.square().sum(), list(net.parameters()))

    monkeypatch.setattr(rows, "_NARROWEST", 16)
    monkeypatch.setattr(rows, "_FEWEST", 1)
    fast, fast_grads = both()
    with torch.no_grad():
        kept = net(x, label)
    assert float((kept - fast).abs().max()) < 1e-5 * float(fast.abs().max())
    with kernels.use(False):
        plain, plain_grads = both()
    assert float((fast - plain).abs().max()) < 1e-5 * float(plain.abs().max())
    for a, b in zip(fast_grads, plain_grads, strict=True):
        assert float((a - b).norm()) <= 1e-3 * float(b.norm()) + 1e-5


@pytest.mark.parametrize("levels", [pytest.param(2, marks=pytest.mark.slow), None])
def test_gradients_and_their_gradients_agree_with_finite_differences(levels):
    net = network(levels=levels, width=2).double()
    x = noise(1, 1, 4, 4, dtype=torch.float64).requires_grad_()
    label = torch.ones(1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: net(x, label), (x,))
    assert torch.autograd.gradgradcheck(lambda x: net(x, label) ** 2, (x,), atol=1e-4, fast_mode=True)


def test_twice_differentiated_the_fast_way_is_the_plain_way(monkeypatch):
    net, x = network(width=16), noise(2, 1, 8, 8)

    def sliced():
        given = x.clone().requires_grad_()
        v = noise(2, 1, 8, 8, seed=1)
        y = net(given, LABEL)
        (row,) = torch.autograd.grad((y * v).sum(), given, create_graph=True)
        loss = (row * v).sum() + y.square().sum() / 2
        return torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)

    monkeypatch.setattr(rows, "_NARROWEST", 16)
    monkeypatch.setattr(rows, "_FEWEST", 1)
    fast = sliced()
    with kernels.use(False):
        plain = sliced()
    for a, b in zip(fast, plain, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert float((a - b).norm()) <= 2e-3 * float(b.norm()) + 1e-4


def test_jacobians_come_out_the_same_forward_backward_and_batched():
    net, x = network(), noise(1, 1, 2, 4)

    def flat(v):
        return net(v.reshape(1, 1, 2, 4), LABEL[:1]).flatten()

    backward = torch.autograd.functional.jacobian(flat, x.flatten())
    batched = torch.autograd.functional.jacobian(flat, x.flatten(), vectorize=True)
    forward = torch.func.jacfwd(flat)(x.flatten())
    reverse = torch.func.jacrev(flat)(x.flatten())
    for other in (batched, forward, reverse):
        torch.testing.assert_close(other, backward, rtol=1e-3, atol=1e-4)


def test_in_half_precision_it_stays_near_float32():
    net, x = network(width=16), noise(2, 1, 28, 28)
    with torch.no_grad():
        y = net(x, LABEL)
        with torch.autocast("cpu", torch.bfloat16):
            half = net(x, LABEL)
    assert float((half.float() - y).norm()) < 0.05 * float(y.norm())


# --- against the authors' programs, where their source is at hand ---------------------------------

SOURCE = os.environ.get("NCSN_SOURCE", "")
"""A folder with clones of both repositories, `ncsn` and `ncsnv2`."""


def theirs(repository, module, kind, **model):
    import importlib
    import sys

    folder = str(Path(SOURCE) / repository)
    for name in [name for name in sys.modules if name.split(".")[0] == "models"]:
        del sys.modules[name]
    sys.path.insert(0, folder)
    try:
        built = getattr(importlib.import_module(module), kind)
    finally:
        sys.path.remove(folder)
    config = SimpleNamespace(
        device="cpu",
        data=SimpleNamespace(logit_transform=False, rescaled=False, channels=1, image_size=model.pop("side")),
        model=SimpleNamespace(
            ngf=16,
            num_classes=4,
            normalization="InstanceNorm++",
            nonlinearity="elu",
            spec_norm=False,
            sigma_dist="geometric",
            sigma_begin=1,
            sigma_end=0.01,
        ),
    )
    return lively(built(config), spread=0.05)


@pytest.mark.skipif(not SOURCE, reason="NCSN_SOURCE names no clones of the authors' programs")
@pytest.mark.parametrize(
    ("repository", "module", "kind", "side"),
    [
        ("ncsn", "models.cond_refinenet_dilated", "CondRefineNetDilated", 28),
        ("ncsn", "models.cond_refinenet_dilated", "CondRefineNetDeeperDilated", 32),
        ("ncsnv2", "models.ncsn", "NCSN", 32),
        ("ncsnv2", "models.ncsn", "NCSNdeeper", 32),
        ("ncsnv2", "models.ncsnv2", "NCSNv2", 32),
        ("ncsnv2", "models.ncsnv2", "NCSNv2Deeper", 32),
        ("ncsnv2", "models.ncsnv2", "NCSNv2Deepest", 32),
    ],
)
def test_with_the_authors_weights_it_is_the_authors_function(repository, module, kind, side, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_NARROWEST", 16)
    monkeypatch.setattr(rows, "_FEWEST", 1)
    net = theirs(repository, module, kind, side=side)
    torch.save([net.state_dict(), {}], tmp_path / "checkpoint.pth")
    model = import_ncsn(tmp_path / "checkpoint.pth", size=side).model
    x, level = torch.rand(4, 1, side, side, generator=seeded()), torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        want = net(x, level)
        got = score(model, x, torch.tensor(model.parameterization.sigmas)[level])
    assert float((got - want).norm()) < 1e-5 * float(want.norm())
