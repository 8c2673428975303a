"""Any number of threads may use one model: each gets the bytes that it gets alone."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import scorefield as sf
from oracles import lively, seeded
from scorefield.kernels import rows
from scorefield.kernels.prepacked import prepacked
from scorefield.networks import Energy, RefineNet, UNet
from scorefield.restoration import Dejpeg, Inpaint

THREADS = 8


@pytest.fixture(params=[3, pytest.param(THREADS, marks=pytest.mark.slow)])
def threads(request):
    """How many threads start at once."""
    return request.param


@contextmanager
def beside(compute):
    """Within, another thread computes the same again and again; every result must equal the first."""
    expected, ended, wrong = compute(), threading.Event(), []

    def work():
        while not ended.is_set():
            wrong.extend([1] * (not torch.equal(compute(), expected)))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not wrong


def assert_alone_and_together_are_equal(call, threads):
    """`call(i)` for i from 0, one after the other and then in threads that start at once."""
    alone = [call(i) for i in range(threads)]
    start = threading.Barrier(threads)

    def together(i):
        start.wait()
        return call(i)

    with ThreadPoolExecutor(threads) as pool:
        for result, expected in zip(pool.map(together, range(threads)), alone, strict=True):
            assert torch.equal(result, expected)
    assert len({expected.numpy().tobytes() for expected in alone}) == threads


@torch.no_grad()
def test_sampling(threads):
    model = sf.load("fashion")
    x, sigma = torch.randn(2, *model.shape, generator=seeded()), torch.tensor([0.5, 3.0])
    with beside(lambda: plain(model, x, sigma)):
        assert_alone_and_together_are_equal(lambda i: sf.sample(model, 2, steps=2, seed=i), threads)


@torch.no_grad()
def plain(model, *args):
    return model(*args)


@pytest.mark.parametrize("task", [Dejpeg(quality=20), Inpaint()], ids=lambda task: task.name)
def test_restoring(task, threads):
    model = sf.load("photos")
    images = [np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8) for i in range(THREADS)]

    def restore(i):
        return torch.from_numpy(sf.restore(model, images[i], task, steps=2, seed=i).levels[0])

    x, sigma = torch.randn(1, 3, 16, 16, generator=seeded()), torch.tensor([0.5])
    condition = sf.Condition(source=x, mask=torch.ones(1, 1, 16, 16))
    with beside(lambda: plain(model, x, sigma, condition)):
        assert_alone_and_together_are_equal(restore, threads)


def test_refinenet_along_rows(monkeypatch, threads):
    monkeypatch.setattr(rows, "_FEWEST", 1)
    network = lively(RefineNet(channels=1, width=32, levels=2), spread=0.02)
    x = torch.randn(THREADS, 2, 1, 8, 8, generator=seeded())

    @torch.no_grad()
    def chain(i):
        with prepacked():
            y = x[i]
            for level in range(2):
                y = y + 0.1 * network(y, torch.full((2,), float(level)))
        return y

    with beside(lambda: plain(network, x[0], torch.zeros(2))):
        assert_alone_and_together_are_equal(chain, threads)


def test_energies_beside_attention_of_another_kind(threads):
    """An energy's attention has a second derivative; that must not change how another thread's is computed."""
    network = lively(UNet(channels=1, widths=(8, 16), attention=(1,), head_width=8))
    energy = Energy(network)
    x, label = torch.randn(THREADS, 2, 1, 8, 8, generator=seeded()), torch.zeros(2)

    def slopes(i):
        return torch.cat([energy(x[i], label).detach() for _ in range(3)])

    with beside(lambda: plain(network, x[0], label)):
        assert_alone_and_together_are_equal(slopes, threads)


def test_training_between_two_samples_counts():
    model = sf.load("fashion")
    before = sf.sample(model, 1, steps=2)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.data.mul_(1.01)  # a change that no version counter records
    after = sf.sample(model, 1, steps=2)
    changed = sf.load("fashion")
    changed.network.load_state_dict(model.network.state_dict())
    assert torch.equal(after, sf.sample(changed, 1, steps=2)) and not torch.equal(after, before)
