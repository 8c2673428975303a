"""Packed weights convolve as the plain ones, belong to one block of one thread, and follow a change of weights."""

import threading

import pytest
import torch
from torch.nn.functional import conv2d, interpolate

from oracles import lively, seeded
from scorefield import kernels
from scorefield.kernels.prepacked import channels_last, keeps, prepacked
from scorefield.networks import UNet
from scorefield.networks.layers import Conv3x3


def conv(into, out):
    return lively(Conv3x3(into, out))


def image(*shape, **form):
    return channels_last(torch.randn(*shape, generator=seeded(), **form))


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 5, 4, 7), (1, 8, 6, 6)], ids=str)
def test_an_upsampled_convolution_is_the_convolution_of_repeated_pixels(shape):
    layer, x = conv(shape[1], 4).double(), image(*shape, dtype=torch.float64).requires_grad_()
    plain = conv2d(interpolate(x, scale_factor=2.0), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer.upsampled(x), plain, rtol=1e-12, atol=1e-12)
    for value in (x, layer.weight):
        ours, theirs = (torch.autograd.grad(y.sin().sum(), value)[0] for y in (layer.upsampled(x), plain))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        plain = conv2d(interpolate(x, scale_factor=2.0), layer.weight, layer.bias, padding=1)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 8, 8, 6), (1, 96, 32, 32), (8, 96, 16, 5), (1, 3, 33, 2)], ids=str)
def test_packed_weights_convolve_as_the_plain_ones(shape, bias, dilation):
    layer = lively(Conv3x3(shape[1], 96, dilation=dilation, bias=bias))
    x = image(*shape)
    # two sums of the 9 C products in two orders: each adds up about √(9 C) roundings, at most four times that
    off = 8 * torch.finfo(torch.float32).eps * (9 * shape[1]) ** 0.5
    with torch.no_grad():
        with kernels.use(False):
            plain, twice = layer(x), layer.upsampled(x)
        with prepacked():
            for _ in range(2):
                torch.testing.assert_close(layer(x), plain, rtol=0, atol=off * float(plain.abs().max()))
                torch.testing.assert_close(layer.upsampled(x), twice, rtol=1e-5, atol=1e-4)


def test_half_precision_is_packed_too():
    layer, x = conv(8, 8), image(2, 8, 5, 5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain, twice = layer(x), layer.upsampled(x)
        with prepacked():
            assert layer(x).dtype == torch.bfloat16
            torch.testing.assert_close(layer(x), plain, rtol=2e-2, atol=2e-2)
            torch.testing.assert_close(layer.upsampled(x), twice, rtol=2e-2, atol=2e-2)


def test_another_size_or_precision_is_packed_anew():
    layer = conv(4, 4)
    with torch.no_grad(), prepacked():
        for size in (5, 9, 5):
            x = image(1, 4, size, size)
            expected = conv2d(x, layer.weight, layer.bias, padding=1)
            torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
            with torch.autocast("cpu", torch.bfloat16):
                torch.testing.assert_close(layer(x).float(), expected, rtol=5e-2, atol=5e-2)


def test_two_weights_of_one_shape_keep_their_own_copies():
    layers, x = [lively(Conv3x3(4, 4), seed=seed) for seed in range(2)], image(1, 4, 5, 5)
    with torch.no_grad(), prepacked():
        for layer in [*layers, *layers]:
            torch.testing.assert_close(layer(x), conv2d(x, layer.weight, layer.bias, padding=1), rtol=1e-5, atol=1e-5)


def doubled_in_place(layer):
    layer.weight.mul_(2)


def given_other_storage(layer):
    layer.weight.data = 2 * layer.weight.data


def replaced(layer):
    layer.weight = torch.nn.Parameter(2 * layer.weight)


@pytest.mark.parametrize("change", [doubled_in_place, given_other_storage, replaced])
def test_a_changed_weight_is_packed_anew_within_the_block(change):
    layer, x = conv(4, 4), image(1, 4, 5, 5)
    with torch.no_grad(), prepacked():
        layer(x), layer.upsampled(x)
        change(layer)
        torch.testing.assert_close(layer(x), conv2d(x, layer.weight, layer.bias, padding=1), rtol=1e-5, atol=1e-5)
        twice = conv2d(interpolate(x, scale_factor=2.0), layer.weight, layer.bias, padding=1)
        torch.testing.assert_close(layer.upsampled(x), twice, rtol=1e-5, atol=1e-5)


def test_a_block_leaves_nothing_behind_even_after_a_failure():
    layer, x = conv(4, 4), image(1, 4, 5, 5)
    before = set(vars(layer))
    with torch.no_grad():
        with pytest.raises(KeyError), prepacked(), prepacked():
            layer(x)
            raise KeyError
        assert not keeps(x, layer.weight)
        assert set(vars(layer)) == before
        layer.weight.data.mul_(2)  # a change that no version counter records
        with prepacked():
            torch.testing.assert_close(layer(x), conv2d(x, layer.weight, layer.bias, padding=1), rtol=1e-5, atol=1e-5)


def test_an_inner_block_ends_and_the_outer_one_goes_on():
    layer, x = conv(4, 4), image(1, 4, 5, 5)
    with torch.no_grad(), prepacked():
        with prepacked():
            layer(x)
        assert keeps(x, layer.weight)


def test_a_block_is_that_of_its_own_thread():
    layer, x, seen = conv(4, 4), image(1, 4, 5, 5), []
    with torch.no_grad(), prepacked():
        thread = threading.Thread(target=lambda: seen.append(keeps(x, layer.weight)))
        thread.start()
        thread.join()
    assert seen == [False]


def test_the_switch_turns_it_off():
    layer, x = conv(4, 4), image(1, 4, 5, 5)
    with torch.no_grad(), prepacked(), kernels.use(False):
        assert not keeps(x, layer.weight)
        assert torch.equal(layer(x), conv2d(x, layer.weight, layer.bias, padding=1))
        assert torch.equal(
            layer.upsampled(x), conv2d(interpolate(x, scale_factor=2.0), layer.weight, layer.bias, padding=1)
        )


def test_gradients_are_those_outside_of_a_block():
    network = lively(UNet(channels=1, widths=(8, 8), resample="residual"))
    x, label = torch.randn(1, 1, 8, 8, generator=seeded()).requires_grad_(), torch.zeros(1)
    plain = torch.autograd.grad(network(x, label).sum(), x)[0]
    with prepacked():
        torch.testing.assert_close(torch.autograd.grad(network(x, label).sum(), x)[0], plain, rtol=0, atol=0)


def test_a_network_made_in_inference_mode_is_packed_too():
    with torch.inference_mode():
        layer, x = conv(4, 4), image(1, 4, 5, 5)
        with prepacked():
            torch.testing.assert_close(layer(x), conv2d(x, layer.weight, layer.bias, padding=1), rtol=1e-5, atol=1e-5)


def test_a_whole_network_is_the_same_within_a_block():
    network = lively(UNet(channels=3, source_channels=3, widths=(8, 16), resample="residual", middle="attention"))
    x, source = torch.randn(2, 2, 3, 11, 9, generator=seeded())
    with torch.no_grad():
        plain = network(x, torch.tensor([0.2, 0.9]), source)
        with prepacked():
            again = network(x, torch.tensor([0.2, 0.9]), source)
    torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-5)
