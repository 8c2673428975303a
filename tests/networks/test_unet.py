"""The U-Net takes any image, starts at 0, and depends on all its conditions."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import lively, seeded
from scorefield.errors import UserError
from scorefield.networks import UNet, from_card, to_card
from scorefield.networks.layers import Attention


def unet(**settings):
    return UNet(**{"channels": 1, "widths": (8, 8, 16), **settings})


@settings(max_examples=15)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(1, 4), st.sampled_from([1, 2, 3]))
def test_any_size_and_channel_count_comes_back_in_its_own_shape(height, width, channels, patch):
    network = lively(unet(channels=channels, patch=patch, attention=(2,), head_width=8))
    x = torch.randn(2, channels, height, width, generator=seeded())
    with torch.no_grad():
        output = network(x, torch.tensor([0.1, -1.0]))
    assert output.shape == x.shape
    assert bool(output.isfinite().all()) and float(output.std(correction=0)) > 0


@pytest.mark.parametrize(("height", "width", "patch"), [(8, 8, 1), (7, 10, 2), (5, 3, 4)])
def test_every_pixel_is_seen_and_every_pixel_is_drawn(height, width, patch):
    network = lively(unet(patch=patch))
    x = torch.randn(1, 1, height, width, generator=seeded(), requires_grad=True)
    output = network(x, torch.zeros(1))
    seen = torch.autograd.grad(output.square().sum(), x)[0]
    assert bool((seen != 0).all())
    assert bool((output != 0).all())


@pytest.mark.parametrize(("height", "width", "patch"), [(7, 9, 1), (5, 3, 2)])
def test_an_odd_image_is_one_whose_lower_and_right_edge_were_repeated(height, width, patch):
    network = lively(unet(patch=patch))
    x = torch.randn(1, 1, height, width, generator=seeded())
    rows = torch.arange(network.multiple * 2).clamp_max(height - 1)
    columns = torch.arange(network.multiple * 3).clamp_max(width - 1)
    even = x[..., rows[: -(-height // network.multiple) * network.multiple], :]
    even = even[..., columns[: -(-width // network.multiple) * network.multiple]]
    with torch.no_grad():
        whole, label = network(even, torch.zeros(1)), torch.zeros(1)
        torch.testing.assert_close(network(x, label), whole[..., :height, :width], rtol=1e-4, atol=1e-5)


def test_a_fresh_network_says_nothing():
    x = torch.randn(2, 1, 9, 9, generator=seeded())
    assert torch.equal(unet()(x, torch.zeros(2)), torch.zeros_like(x))


def test_the_gradient_reaches_every_weight_once_none_is_zero():
    network = lively(unet(blocks=2, attention=(1, 2), head_width=4))
    x = torch.randn(2, 1, 8, 8, generator=seeded())
    network(x, torch.tensor([0.3, -0.7])).square().sum().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert silent == []


def test_a_few_steps_from_a_fresh_start_move_every_weight():
    torch.manual_seed(0)
    network = unet(attention=(2,), head_width=8)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    x, target = torch.randn(2, 4, 1, 8, 8, generator=seeded())
    losses = []
    for _ in range(8):
        loss = (network(x, torch.linspace(-1, 1, 4)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    assert [n for n, p in network.named_parameters() if torch.equal(p, before[n])] == []


def test_the_label_matters_and_each_image_has_its_own():
    network, x = lively(unet()), torch.randn(1, 1, 8, 8, generator=seeded()).expand(2, -1, -1, -1)
    with torch.no_grad():
        both = network(x, torch.tensor([0.0, 1.0]))
        assert not torch.allclose(both[0], both[1], atol=1e-3)
        torch.testing.assert_close(both[1:], network(x[1:], torch.tensor([1.0])), rtol=1e-4, atol=1e-5)


def test_a_source_is_concatenated_to_the_image():
    network = lively(unet(source_channels=2))
    x, label = torch.randn(1, 1, 6, 6, generator=seeded()), torch.zeros(1)
    one, other = torch.zeros(1, 2, 6, 6), torch.ones(1, 2, 6, 6)
    with torch.no_grad():
        assert not torch.allclose(network(x, label, one), network(x, label, other), atol=1e-3)
        assert network(x, label, one).shape == x.shape


def test_attention_carries_a_far_pixel_across_the_image():
    x = torch.zeros(1, 1, 24, 24, requires_grad=True)

    def reach(attention):
        # without norms' statistics only attention spans more than the kernels' field
        network = lively(UNet(channels=1, widths=(8,), attention=attention, head_width=4))
        for module in network.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.forward = lambda h: h
        corner = network(x, torch.zeros(1))[0, 0, 0, 0]
        return float(torch.autograd.grad(corner, x)[0][0, 0, -1, -1].abs())

    assert reach(()) == 0
    assert reach((0,)) > 0


def test_attention_is_softmax_of_products_head_by_head():
    attention = lively(Attention(8, 4))
    x = torch.randn(2, 8, 3, 5, generator=seeded())
    with torch.no_grad():
        q, k, v = attention.qkv(attention.norm(x)).flatten(2).chunk(3, 1)  # (B, C, N) each
        heads = []
        for h in (slice(0, 4), slice(4, 8)):
            weights = (torch.einsum("bcn,bcm->bnm", q[:, h], k[:, h]) / 4**0.5).softmax(-1)
            heads.append(torch.einsum("bnm,bcm->bcn", weights, v[:, h]))
        expected = x + attention.out(torch.cat(heads, 1).reshape(x.shape))
        torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [8, 24, 40, 100])
def test_heads_divide_any_width(width):
    network = lively(UNet(channels=1, widths=(width,), attention=(0,), head_width=32))
    assert network(torch.zeros(1, 1, 4, 4), torch.zeros(1)).shape == (1, 1, 4, 4)


def test_a_card_builds_the_same_network_again():
    network = unet(channels=3, source_channels=1, blocks=2, attention=(1,), patch=2, head_width=4, dropout=0.1)
    card = json.loads(json.dumps(to_card(network)))
    again = from_card(card)
    assert to_card(again) == card
    again.load_state_dict(network.state_dict())


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 0},
        {"channels": 5},
        {"widths": ()},
        {"widths": (8, 0)},
        {"widths": (7, 8)},
        {"blocks": 0},
        {"patch": 0},
        {"attention": (3,)},
        {"attention": (-1,)},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UserError, match="network"):
        unet(**wrong)


def test_unknown_kinds_and_settings_are_named():
    with pytest.raises(UserError, match=r"no such kind 'unets'.*Did you mean `unet`"):
        from_card({"kind": "unets"})
    with pytest.raises(UserError, match=r"network unet.*depth"):
        from_card({"kind": "unet", "channels": 1, "depth": 2})
    with pytest.raises(UserError, match=r"network unet.*channels"):
        from_card({"kind": "unet"})


def test_a_network_of_no_known_kind_has_no_card():
    with pytest.raises(UserError, match=r"network.*Identity"):
        to_card(torch.nn.Identity())


# --- classes -------------------------------------------------------------------------------------


def test_each_class_is_heard_and_so_is_none():
    network = lively(unet(classes=3))
    x = torch.randn(1, 1, 8, 8, generator=seeded()).expand(4, -1, -1, -1)
    with torch.no_grad():
        outputs = network(x, torch.zeros(4), None, torch.tensor([0, 1, 2, -1]))
        for i in range(4):
            for j in range(i):
                assert not torch.allclose(outputs[i], outputs[j], atol=1e-3)
        torch.testing.assert_close(network(x, torch.zeros(4))[0], outputs[3], rtol=1e-4, atol=1e-5)


def test_the_class_is_added_to_the_noise_levels_vector_before_its_last_nonlinearity():
    network = lively(unet(classes=2))
    x, label = torch.randn(2, 1, 8, 8, generator=seeded()), torch.tensor([0.3, -0.5])
    heard = []
    network.middle.register_forward_pre_hook(lambda module, args: heard.append(args[1]))
    with torch.no_grad():
        network(x, label, None, torch.tensor([1, -1]))
        *first, last = network.embed
        hidden = torch.nn.Sequential(*first)(label) + network.embed_class.weight[[1, 2]]
        torch.testing.assert_close(heard[0], last(hidden))


def test_a_network_without_classes_is_the_one_it_always_was():
    """Same card, same names of weights, same first weights, same numbers."""
    torch.manual_seed(0)
    plain = unet()
    torch.manual_seed(0)
    labelled = unet(classes=4)
    assert "classes" not in to_card(plain) and to_card(labelled) == to_card(plain) | {"classes": 4}
    assert labelled.state_dict().keys() - plain.state_dict().keys() == {"embed_class.weight"}
    for name, value in plain.state_dict().items():
        assert torch.equal(value, labelled.state_dict()[name])
    card = json.loads(json.dumps(to_card(labelled)))
    again = from_card(card)
    again.load_state_dict(labelled.state_dict())
    assert to_card(again) == card
    with pytest.raises(UserError, match="network.classes: cannot be fewer than none"):
        unet(classes=-1)


# --- the linear map ------------------------------------------------------------------------------


def test_the_linear_map_is_added_pixel_by_pixel_and_follows_the_noise_level():
    network = lively(unet(channels=2, source_channels=1, patch=2, linear=True))
    torch.nn.init.zeros_(network.last.weight), torch.nn.init.zeros_(network.last.bias)
    x, source = torch.randn(3, 2, 5, 7, generator=seeded()), torch.randn(3, 1, 5, 7, generator=seeded(1))
    label = torch.tensor([0.3, -0.5, 0.3])
    with torch.no_grad():
        output = network(x, label, source)
        maps = network.linear(network.embed(label)).view(3, 2, 4)
        expected = torch.einsum("bij,bjhw->bihw", maps[..., :3], torch.cat([x, source], 1))
        torch.testing.assert_close(output, expected + maps[..., 3, None, None], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(maps[0], maps[2])
        assert not torch.allclose(maps[0], maps[1], atol=1e-2)


def test_the_linear_map_keeps_float32_in_half_precision():
    network = unet(linear=True)
    with torch.no_grad():
        network.linear.bias.copy_(torch.tensor([1.0, 0.0]))
        x = torch.randn(1, 1, 8, 8, generator=seeded())
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(network(x, torch.zeros(1)), x)


def test_a_network_with_a_linear_map_begins_as_the_one_without():
    torch.manual_seed(0)
    plain = unet()
    torch.manual_seed(0)
    mapped = unet(linear=True)
    assert to_card(mapped) == to_card(plain) | {"linear": True} and "linear" not in to_card(plain)
    assert mapped.state_dict().keys() - plain.state_dict().keys() == {"linear.weight", "linear.bias"}
    assert all(torch.equal(value, mapped.state_dict()[name]) for name, value in plain.state_dict().items())
    x = torch.randn(2, 1, 9, 9, generator=seeded())
    assert torch.equal(mapped(x, torch.zeros(2)), torch.zeros_like(x))
