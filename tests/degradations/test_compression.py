"""Files that photographs have been through: what each writes, in which shares, and what the network is told."""

import io

import pytest
import torch
from PIL import Image

from oracles import seeded
from scorefield.data.image import to_float, to_pil, to_tensor, to_uint8
from scorefield.degradations import Blur, Compressed, EncodedJPEG, RandomCompression, Save, network_input
from scorefield.degradations.jpeg import standard_tables
from scorefield.errors import UserError

RANGE = (-1.0, 1.0)


def image(channels=3, height=32, width=48):
    x = Blur(std=1.5)(torch.randn(1, channels, height, width, generator=seeded()))
    return 0.8 * x / x.abs().max()


def tables_told(operator, x):
    return network_input(operator, operator(x), generator=seeded()).tables


@pytest.mark.parametrize("channels", [1, 3])
def test_one_jpeg_is_that_of_the_encoder(channels):
    x = image(channels)
    mine = Compressed(saves=(Save(quality=20, subsampling="4:4:4"),))(x)
    assert torch.equal(mine, EncodedJPEG(quality=20, subsampling="4:4:4")(x))
    assert torch.equal(Compressed(saves=())(x), x)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_other_formats_are_written_by_their_encoders(kind):
    x = image()
    y = Compressed(saves=(Save(format=kind, quality=20),))(x)
    assert y.shape == x.shape
    assert 0.5 < float((y - x).abs().mean()) * 127.5 < 20


def test_shifted_blocks_begin_before_the_image():
    """The part of an image that begins in a block's middle, cut from the saved whole."""
    x = image(height=40, width=56)
    pixels = to_uint8(x, RANGE)[0]
    pixels[:, :3] = pixels[:, 3:4]  # what `shift` repeats
    pixels[:, :, :5] = pixels[:, :, 5:6]
    file = io.BytesIO()
    to_pil(pixels).save(file, "JPEG", quality=10, subsampling="4:4:4")
    expected = to_tensor(Image.open(file))[:, 3:, 5:]
    save = Save(quality=10, subsampling="4:4:4", shift=(3, 5))
    y = Compressed(saves=(save,))(to_float(pixels[None, :, 3:, 5:], RANGE))
    assert torch.equal(to_uint8(y, RANGE)[0], expected)


def test_a_reduced_file_has_smaller_blocks_and_the_images_size():
    x = image(height=64, width=64)
    y = Compressed(saves=(Save(quality=1, subsampling="4:4:4", reduced=0.5),))(x)[0, 0]
    jumps = (y[:, 1:] - y[:, :-1]).abs().mean(0)
    at_4 = jumps[3::4].mean()
    between = torch.stack([jumps[k::4].mean() for k in (0, 1, 2)]).mean()
    assert at_4 > 1.3 * between  # blocks of 8 pixels, reduced by half


def test_the_network_is_told_the_last_files_tables():
    x = image()
    first, last = Save(quality=80), Save(quality=30)
    told = tables_told(Compressed(saves=(first, last)), x)
    assert torch.equal(told[0], torch.tensor([*standard_tables(30)[0], *standard_tables(30)[1]]).float())
    odd = ((7,) * 64, (9,) * 64)
    assert set(tables_told(Compressed(saves=(Save(tables=odd),)), x)[0].tolist()) == {7.0, 9.0}


@pytest.mark.parametrize(
    "operator",
    [
        Compressed(saves=()),
        Compressed(saves=(Save(quality=30),), hidden=True),
        Compressed(saves=(Save(quality=30), Save(format="WEBP", quality=30))),
        Compressed(saves=(Save(quality=30, shift=(0, 4)),)),
        Compressed(saves=(Save(quality=30, reduced=0.7),)),
    ],
    ids=str,
)
def test_it_is_told_none_where_they_are_not_those_of_the_image(operator):
    assert tables_told(operator, image()) is None


def test_the_shares_are_those_asked_for():
    family, n = RandomCompression(), 2000
    drawn = [family.draw((1, 3, 64, 64), generator=seeded(k)) for k in range(n)]
    saves = [save for operator in drawn for save in operator.saves if save.format == "JPEG"]
    expected = {
        "clean": (sum(not operator.saves for operator in drawn) / n, family.clean, n),
        "again": (sum(any(any(s.shift) for s in o.saves) for o in drawn) / n, family.again * 63 / 64, n),
        "reduced": (sum(any(s.reduced < 1 for s in o.saves) for o in drawn) / n, family.reduced, n),
        "other": (sum(any(s.format != "JPEG" for s in o.saves) for o in drawn) / n, family.other, n),
        "hidden": (sum(operator.hidden for operator in drawn) / n, family.hidden, n),
        "4:4:4": (sum(s.subsampling == "4:4:4" for s in saves) / len(saves), family.full_chroma, len(saves)),
        "odd": (sum(s.tables is not None for s in saves) / len(saves), family.odd_tables, len(saves)),
    }
    for name, (found, share, count) in expected.items():
        assert abs(found - share) < 4 * (share * (1 - share) / count) ** 0.5, name
    qualities = torch.tensor([s.quality for s in saves]).float()
    assert (qualities.min(), qualities.max()) == (5, 95)
    assert abs(float(qualities.mean()) - 50) < 4 * 26.3 / len(saves) ** 0.5  # std of the uniform on 5 … 95
    assert all(1 <= q <= 255 for s in saves if s.tables for table in s.tables for q in table)


def test_a_seed_gives_the_same_file():
    one, other = (RandomCompression().draw((1, 3, 32, 48), generator=seeded(5)) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    "make",
    [
        lambda: Save(quality=0),
        lambda: Save(reduced=0.0),
        lambda: Save(shift=(-1, 0)),
        lambda: RandomCompression(quality=(30, 20)),
        lambda: RandomCompression(clean=0.6, again=0.6),
        lambda: RandomCompression(hidden=-0.1),
        lambda: Compressed(saves=(Save(),))(torch.zeros(1, 2, 8, 8)),
    ],
)
def test_mistakes_are_refused(make):
    with pytest.raises(UserError):
        make()
