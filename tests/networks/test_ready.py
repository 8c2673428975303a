"""Convolutions give what they gave, in whatever order their weights lie, and forget what they kept."""

import pytest
import torch
from torch.nn.functional import conv2d, interpolate

from oracles import lively, seeded
from scorefield.kernels.prepacked import Conv3x3, lay, ready
from scorefield.networks import UNet


def conv(into, out):
    return lively(Conv3x3(into, out))


def image(*shape, **form):
    return lay(torch.randn(*shape, generator=seeded(), **form))


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 5, 4, 7), (1, 8, 6, 6)], ids=str)
def test_a_doubling_convolution_is_the_convolution_of_repeated_pixels(shape):
    layer, x = conv(shape[1], 4).double(), image(*shape, dtype=torch.float64).requires_grad_()
    plain = conv2d(interpolate(x, scale_factor=2.0), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer.doubled(x), plain, rtol=1e-12, atol=1e-12)
    for value in (x, layer.weight):
        ours, theirs = (torch.autograd.grad(y.sin().sum(), value)[0] for y in (layer.doubled(x), plain))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        plain = conv2d(interpolate(x, scale_factor=2.0), layer.weight, layer.bias, padding=1)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 8, 8, 6), (1, 96, 32, 32), (8, 96, 16, 5), (1, 3, 33, 2)], ids=str)
def test_kept_weights_convolve_as_before(shape, bias, dilation):
    layer = lively(Conv3x3(shape[1], 96, dilation=dilation, bias=bias))
    x = image(*shape)
    # two sums of the 9 C products in two orders: each adds up about √(9 C) roundings, at most four times that
    off = 8 * torch.finfo(torch.float32).eps * (9 * shape[1]) ** 0.5
    with torch.no_grad():
        plain, twice = layer(x), layer.doubled(x)
        with ready(layer):
            for _ in range(2):
                torch.testing.assert_close(layer(x), plain, rtol=0, atol=off * float(plain.abs().max()))
                torch.testing.assert_close(layer.doubled(x), twice, rtol=1e-5, atol=1e-4)


def test_half_precision_is_kept_too():
    layer, x = conv(8, 8), image(2, 8, 5, 5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain, twice = layer(x), layer.doubled(x)
        with ready(layer):
            assert layer(x).dtype == torch.bfloat16
            torch.testing.assert_close(layer(x), plain, rtol=2e-2, atol=2e-2)
            torch.testing.assert_close(layer.doubled(x), twice, rtol=2e-2, atol=2e-2)


def test_another_size_or_precision_is_made_anew():
    layer = conv(4, 4)
    with torch.no_grad(), ready(layer):
        for size in (5, 9, 5):
            x = image(1, 4, size, size)
            expected = conv2d(x, layer.weight, layer.bias, padding=1)
            torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
            with torch.autocast("cpu", torch.bfloat16):
                torch.testing.assert_close(layer(x).float(), expected, rtol=5e-2, atol=5e-2)


def test_what_was_kept_is_forgotten_at_the_end_even_of_a_failure():
    layer, x = conv(4, 4), image(1, 4, 5, 5)
    with torch.no_grad():
        with pytest.raises(KeyError), ready(layer), ready(layer):
            layer(x)
            raise KeyError
        assert layer.kept is None
        layer.weight.mul_(2)
        expected = conv2d(x, layer.weight, layer.bias, padding=1)
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_an_inner_use_leaves_the_outer_one_its_copies():
    layer, x = conv(4, 4), image(1, 4, 5, 5)
    with torch.no_grad(), ready(layer):
        with ready(layer):
            layer(x)
        assert layer.kept


def test_gradients_go_through_as_ever():
    network = lively(UNet(channels=1, widths=(8, 8), resample="residual"))
    x, label = torch.randn(1, 1, 8, 8, generator=seeded()).requires_grad_(), torch.zeros(1)
    plain = torch.autograd.grad(network(x, label).sum(), x)[0]
    with ready(network):
        torch.testing.assert_close(torch.autograd.grad(network(x, label).sum(), x)[0], plain, rtol=0, atol=0)


def test_a_whole_network_is_the_same_when_ready():
    network = lively(UNet(channels=3, source_channels=3, widths=(8, 16), resample="residual", middle="attention"))
    x, source = torch.randn(2, 2, 3, 11, 9, generator=seeded())
    with torch.no_grad():
        plain = network(x, torch.tensor([0.2, 0.9]), source)
        with ready(network):
            again = network(x, torch.tensor([0.2, 0.9]), source)
    torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-5)
