"""The network for points."""

import json

import torch

from oracles import lively, seeded
from scorefield.networks import MLP, from_card, to_card


def test_points_come_back_in_their_own_shape():
    assert MLP(features=3, width=16)(torch.zeros(5, 3), torch.zeros(5)).shape == (5, 3)


def test_the_gradient_reaches_every_weight_once_none_is_zero():
    network = lively(MLP(features=2, width=16))
    network(torch.randn(4, 2, generator=seeded()), torch.linspace(-1, 1, 4)).square().sum().backward()
    assert all(bool((p.grad != 0).any()) for p in network.parameters())


def test_the_label_matters():
    network = lively(MLP(features=2, width=16))
    both = network(torch.ones(2, 2), torch.tensor([0.0, 1.0]))
    assert not torch.allclose(both[0], both[1], atol=1e-3)


def test_residual_layers_start_as_nothing():
    torch.manual_seed(0)
    network = MLP(features=2, width=16)
    x, shallow = torch.randn(3, 2, generator=seeded()), network(torch.ones(3, 2), torch.zeros(3))
    assert x.shape == shallow.shape
    direct = network.last(torch.nn.functional.silu(network.first(torch.ones(3, 2))))
    torch.testing.assert_close(shallow, direct)


def test_a_card_builds_the_same_network_again():
    network = MLP(features=2, width=16, depth=2)
    card = json.loads(json.dumps(to_card(network)))
    again = from_card(card)
    assert to_card(again) == card
    again.load_state_dict(network.state_dict())


def test_the_activation_is_the_one_requested():
    x, label = torch.randn(3, 2, generator=seeded()), torch.zeros(3)
    torch.manual_seed(0)
    network = MLP(features=2, width=16, activation="softplus")
    direct = network.last(torch.nn.functional.softplus(network.first(x)))  # residual layers start as nothing
    torch.testing.assert_close(network(x, label), direct)
    assert to_card(network)["activation"] == "softplus"
    assert to_card(MLP(features=2))["activation"] == "silu"
