"""What every operator keeps to, over the list of all: replay, A A⁺ A = A, the network's input, and tiles."""

import pytest
import torch

from oracles import seeded
from scorefield import degradations
from scorefield.degradations import (
    JPEG,
    AdditiveNoise,
    Blur,
    Box,
    Composed,
    Crop,
    Downscale,
    EncodedJPEG,
    Grey,
    Identity,
    Local,
    Mask,
    Rotated,
    Scratches,
    network_input,
)

X = torch.rand(2, 3, 32, 48, generator=seeded()) * 2 - 1
MASK = Mask(mask=(torch.rand(1, 1, 32, 48, generator=seeded(1)) > 0.5).float())
MARKS = Scratches().draw(X.shape, generator=seeded(2))
OPERATORS = {
    "mask": MASK,
    "grey": Grey(),
    "crop": Crop(top=1, left=0, height=30, width=45, size=(32, 48)),
    "downscale": Downscale(factor=2),
    "blur": Blur(std=1.3),
    "jpeg": JPEG(quality=10),
    "encoded jpeg": EncodedJPEG(quality=10),
    "noise": AdditiveNoise(std=0.1, seed=3),
    "scratches": MARKS,
    "identity": Identity(),
    "rotated": Rotated(degradation=Blur(std=1.3), orientation=6),
    "composed": Composed(parts=(Grey(), Downscale(factor=2))),
}
OPAQUE = 1.5 / 127.5  # a mark's opacity is at most 255/255, so pinv keeps y there
ROUNDING = {"encoded jpeg": 0.05, "composed": 2e-4, "scratches": OPAQUE}  # others: float32 over a few sums


@pytest.fixture(params=OPERATORS)
def name(request):
    return request.param


def test_the_list_holds_every_public_operator(name):
    public = {
        key for key in degradations.__all__
        if hasattr(getattr(degradations, key), "pinv") and key != "Degradation"
    }  # fmt: skip
    assert public == {type(operator).__name__ for operator in OPERATORS.values()}


def test_an_operator_gives_the_same_at_every_call(name):
    assert torch.equal(OPERATORS[name](X), OPERATORS[name](X))


def test_the_pseudo_inverse_is_degraded_to_the_observation(name):
    operator = OPERATORS[name]
    y = operator(X)
    back = operator.pinv(y)
    assert back.shape == X.shape
    assert float((operator(back) - y).abs().mean()) <= ROUNDING.get(name, 1e-5) * float(y.abs().mean())


def test_the_networks_input_has_the_images_size_and_a_binary_mask(name):
    operator = OPERATORS[name]
    source, mask = network_input(operator, operator(X), generator=seeded())
    assert source.shape == X.shape and mask.shape == (2, 1, 32, 48)
    assert ((mask == 0) | (mask == 1)).all()
    known = (mask == 0).expand_as(source)
    assert torch.equal(source[known], X[known])


def test_a_batch_is_degraded_image_by_image(name):
    if name == "noise":
        return  # its values are drawn for the whole batch
    operator = OPERATORS[name]
    alone = torch.cat([operator(x[None]) for x in X])
    torch.testing.assert_close(operator(X), alone, atol=1e-5, rtol=1e-5)


def test_tiles_of_a_local_operator_are_parts_of_the_whole(name):
    operator = OPERATORS[name]
    if not isinstance(operator, Local):
        assert name in ("crop", "noise", "rotated")
        return
    boxes = [Box(0, 16, 32, 32), Box(0, 0, 32, 32)]  # whole blocks of JPEG and of Downscale
    cut = operator.cut(boxes)(torch.cat([X[(slice(1), slice(None), *box.slices)] for box in boxes]))
    whole = operator(X[:1])
    for tile, box in zip(cut, boxes, strict=True):
        part = whole[(0, slice(None), *operator.part(box).slices)]
        if name in ("blur", "encoded jpeg"):  # a blur mirrors at a tile's edges, a decoder smooths chroma across them
            inner = (slice(None), slice(8, -8), slice(8, -8))
            tile, part = tile[inner], part[inner]
        torch.testing.assert_close(tile, part, atol=1e-2 if name == "blur" else 1e-5, rtol=1e-5)
