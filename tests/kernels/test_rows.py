"""Convolution, pooling, resizing and normalization in rows are torch's own, with their gradients."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, elu, interpolate

from oracles import seeded
from scorefield import kernels
from scorefield.kernels import rows, winograd
from scorefield.kernels.instance_norm import instance_norm
from scorefield.kernels.prepacked import prepacked
from scorefield.networks.refinenet import HalvingConv, InstanceNorm

EPS = torch.finfo(torch.float32).eps


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def plain_norm(x, gamma, alpha, beta):
    """Song & Ermon (2019), App. A.1, one channel of one image after the other."""
    y = torch.empty_like(x)
    for b in range(len(x)):
        means = torch.stack([channel.mean() for channel in x[b]])
        for c, channel in enumerate(x[b]):
            own = (channel - means[c]) / (channel.var(correction=0) + 1e-5).sqrt()
            among = (means[c] - means.mean()) / (means.var() + 1e-5).sqrt()
            y[b, c] = gamma[b, c] * (own + alpha[b, c] * among) + beta[b, c]
    return y


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("laid", [False, True])
def test_instance_norm_is_its_equation_and_so_are_its_gradients(laid, active):
    dtype = torch.float32 if laid else torch.float64
    x = (noise(2, 5, 6, 4) + 0.3 * noise(2, 5, 1, 1, seed=9)).to(dtype)
    given = [x, *(1 + noise(2, 5, seed=s).to(dtype) for s in (1, 2, 3))]
    for value in given:
        value.requires_grad_()
    g = noise(2, 5, 6, 4, seed=4).to(dtype)

    ours = instance_norm(rows.to_rows(x) if laid else x, *given[1:], active=active)
    exact = [value.detach().double().requires_grad_() for value in given]
    plain = plain_norm(*exact)
    plain = elu(plain) if active else plain

    tolerance = {"rtol": 1e-4, "atol": 1e-5} if laid else {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(ours.double(), plain, **tolerance)
    grads = torch.autograd.grad(ours, given, g)
    for got, want in zip(grads, torch.autograd.grad(plain, exact, g.double()), strict=True):
        torch.testing.assert_close(got.double(), want, **tolerance)


def test_without_means_the_norm_is_instance_norm_scaled_and_shifted():
    norm = InstanceNorm(5, 3, means=False)
    x, level = noise(2, 5, 6, 4), torch.tensor([2, 0])
    gamma, beta = (part[..., None, None] for part in norm.table[level].split(5, 1))
    want = gamma * torch.nn.functional.instance_norm(x) + beta
    for given in (x, rows.to_rows(x)):
        torch.testing.assert_close(norm(given, level), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("height", [1, 2, 3, 5, 7, 14, 28, 32])
def test_a_convolution_along_rows_is_the_convolution(height, dilation):
    x, weight, bias = noise(2, 3, height, 6), noise(4, 3, 3, 3, seed=1), noise(4, seed=2)
    given = [value.requires_grad_() for value in (x, weight, bias)]
    ours = winograd.conv3x3(rows.to_rows(x), weight, bias, dilation=dilation)
    exact = [value.detach().double().requires_grad_() for value in given]
    want = conv2d(*exact, padding=dilation, dilation=dilation)
    error = float((ours - want).detach().abs().max())
    # 27 products and a bias, 28 eps at most; √ of it is usual. The gradient sums over all pixels.
    assert error < 28 * EPS * float(want.detach().abs().max())
    g = noise(*want.shape, seed=3)
    for got, true in zip(
        torch.autograd.grad(ours, given, g), torch.autograd.grad(want, exact, g.double()), strict=True
    ):
        assert float((got - true).abs().max()) < 1e-5 * float(true.abs().max())


@pytest.mark.parametrize("size", [1, 3])
def test_a_halving_convolution_is_a_convolution_and_the_mean_of_squares(size):
    layer, x = HalvingConv(3, 5, size), noise(2, 3, 6, 8)
    want = avg_pool2d(conv2d(x, layer.weight, layer.bias, padding=size // 2), 2)
    for given in (x, rows.to_rows(x)):
        torch.testing.assert_close(layer(given), want, rtol=1e-4, atol=1e-5)


def test_pooling_and_resizing_are_what_they_are_called_in_both_layouts():
    x = noise(2, 3, 7, 9)
    for given in (x, rows.to_rows(x)):
        torch.testing.assert_close(rows.mean_pool(given, 2), avg_pool2d(x, 5, 1, 2), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(rows.max_pool(given, 2), torch.nn.functional.max_pool2d(x, 5, 1, 2))
        want = interpolate(x, size=(14, 20), mode="bilinear", align_corners=True)
        torch.testing.assert_close(rows.resize(given, 14, 20), want, rtol=1e-4, atol=1e-5)
        assert rows.resize(given, 7, 9) is given


@pytest.mark.parametrize("dilation", [1, 4])
def test_packed_weights_convolve_along_rows_as_the_plain_ones(dilation):
    x, weight, bias = noise(2, 3, 8, 14), torch.nn.Parameter(noise(4, 3, 3, 3, seed=1)), noise(4, seed=2)
    with torch.no_grad():
        want = winograd.conv3x3(rows.to_rows(x), weight, bias, dilation=dilation)
        with prepacked():
            for _ in range(2):
                y = winograd.conv3x3(rows.to_rows(x), weight, bias, dilation=dilation)
                torch.testing.assert_close(y, want, rtol=0, atol=28 * EPS * float(want.abs().max()))


def test_the_switch_turns_rows_off():
    x, weight = rows.to_rows(noise(16, 64, 28, 28)), noise(8, 64, 3, 3, seed=1)
    assert rows.is_faster(x) and rows.in_rows(x)
    with kernels.use(False):
        assert not rows.is_faster(x) and not rows.in_rows(x)
        assert torch.equal(winograd.conv3x3(x, weight), conv2d(x, weight, padding=1))
        assert torch.equal(rows.mean_pool(x, 2), avg_pool2d(x, 5, 1, 2))
