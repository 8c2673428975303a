"""The U-Net without normalization: what it computes, any size, and what it refuses."""

import pytest
import torch
from torch.nn.functional import conv2d, linear, pixel_shuffle, pixel_unshuffle, silu

from oracles import lively, seeded
from scorefield.errors import UserError
from scorefield.kernels.prepacked import prepacked
from scorefield.networks import ResUNet, from_card, to_card

FORM = {"channels": 3, "source_channels": 3, "widths": (8, 16), "blocks": (2, 1)}


def image(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def described(weights, x, source, label, *, widths, blocks):
    """The network once more, from its module's description; without attention, patches of 2."""

    def apply(what, name, x, **form):
        return what(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **form)

    def stage(name, count, x):
        for i in range(count):
            a, b = apply(linear, f"{name}.{i}.tell", embedding)[..., None, None].chunk(2, 1)
            hidden = ((1 + a) * apply(conv2d, f"{name}.{i}.conv1", x, padding=1) + b).clamp(min=0)
            x = x + 0.3 * apply(conv2d, f"{name}.{i}.conv2", hidden, padding=1)
        return x

    half = widths[0] // 2
    angles = label[:, None] * 10_000 ** (-torch.arange(half) / half)
    embedding = apply(linear, "embed.1", torch.cat([angles.cos(), angles.sin()], 1))
    embedding = silu(apply(linear, "embed.3", silu(embedding)))
    large = apply(conv2d, "first", pixel_unshuffle(torch.cat([x, source], 1), 2), padding=1)
    large = stage("down.0", blocks[0], large)
    small = stage("down.1", blocks[1], apply(conv2d, "smaller.0", large, stride=2))
    small = stage("up.1", blocks[1], small)
    large = large + pixel_shuffle(apply(conv2d, "larger.0", small), 2)
    return pixel_shuffle(apply(conv2d, "last", stage("up.0", blocks[0], large), padding=1), 2)


def test_it_is_the_network_of_its_description():
    network = lively(ResUNet(**FORM, attention=False))
    x, source, label = (image(*s) for s in ((2, 3, 8, 12), (2, 3, 8, 12), (2,)))
    expected = described(dict(network.named_parameters()), x, source, label, widths=(8, 16), blocks=(2, 1))
    torch.testing.assert_close(network(x, label, source), expected, rtol=1e-4, atol=1e-5)


def test_it_starts_at_zero_and_its_card_builds_it_again():
    network = ResUNet(**FORM)
    x, label = image(1, 3, 8, 8), torch.zeros(1)
    assert not network(x, label, x).any()
    again = from_card(to_card(network))
    again.load_state_dict(lively(network).state_dict())
    assert torch.equal(again(x, label, x), network(x, label, x))


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (16, 8)])
def test_any_size_goes(size):
    network = ResUNet(**FORM)
    x = image(2, 3, *size)
    assert network(x, torch.zeros(2), x).shape == x.shape


def test_a_small_input_gives_a_small_output():
    """Without attention and shifts it is homogeneous: its output scales with its input."""
    network = lively(ResUNet(**FORM, attention=False))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("bias") or ".tell." in name:
                weight.zero_()
    x, label = image(1, 3, 8, 8), torch.zeros(1)
    torch.testing.assert_close(
        network(0.01 * x, label, 0.01 * x), 0.01 * network(x, label, x), rtol=1e-4, atol=0.01 * 1e-5
    )


def test_packed_weights_give_the_same():
    network = lively(ResUNet(**FORM))
    x, label = image(1, 3, 16, 16), torch.zeros(1)
    with torch.no_grad(), prepacked():
        kept = network(x, label, x)
    torch.testing.assert_close(kept, network(x, label, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 5}, "1 to 4 channels, got 5"),
        ({"widths": (7, 16)}, "first must be even, got 7"),
        ({"widths": ()}, "must be positive"),
        ({"patch": 0}, "must be positive"),
        ({"blocks": (1,)}, r"a number for each of the widths \[8, 16\], got \[1\]"),
        ({"blocks": (1, -1)}, "a number for each"),
    ],
)
def test_mistakes_are_reported(change, message):
    with pytest.raises(UserError, match=message):
        ResUNet(**FORM | change)
