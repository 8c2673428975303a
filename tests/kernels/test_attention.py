"""Attention with a second derivative gives the fused kernels' values, in its own thread alone."""

import threading

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from oracles import seeded
from scorefield.kernels.attention import attention, twice_differentiable
from scorefield.networks import UNet


class Foreign(torch.nn.Module):
    """A module of another package, which calls torch's attention itself."""

    def forward(self, *qkv):
        return scaled_dot_product_attention(*qkv)


def qkv():
    return torch.randn(3, 2, 4, 9, 8, generator=seeded(), dtype=torch.float64)


@pytest.mark.parametrize("call", [attention, Foreign()], ids=["ours", "foreign"])
def test_values_and_both_derivatives_are_those_of_the_equation(call):
    def written(q, k, v):
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v

    def through(function):
        x = qkv().requires_grad_()
        y = function(*x)
        (slope,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        return y, slope, torch.autograd.grad(slope.square().sum(), x)[0]

    with twice_differentiable(call):
        ours = through(call)
    for got, want in zip(ours, through(written), strict=True):
        torch.testing.assert_close(got, want)
    torch.testing.assert_close(call(*qkv()), ours[0].detach())


def test_it_ends_with_the_block_and_other_threads_do_not_see_it():
    x, seen = qkv().requires_grad_(), []

    def kind():
        return type(attention(*x).grad_fn).__name__

    fused = kind()
    with twice_differentiable(UNet(channels=1)):
        assert kind() != fused
        thread = threading.Thread(target=lambda: seen.append(kind()))
        thread.start()
        thread.join()
    assert [*seen, kind()] == [fused, fused]
