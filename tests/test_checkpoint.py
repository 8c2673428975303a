"""Weights and card in one file: round trip, degradation, and strangers."""

import errno
import hashlib
import json
import random
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from oracles import lively, seeded, tiny_model
from scorefield import checkpoint, networks
from scorefield.errors import UserError
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.networks import MLP, UNet
from scorefield.parameterization import EDM, NCSN


@pytest.fixture
def saved(tmp_path):
    return checkpoint.save(tiny_model(), tmp_path / "model.safetensors", notes={"steps": 3})


def write(path, content):
    path.write_bytes(content)
    return path


def with_card(path, change):
    """The file again with its card changed, and without a digest."""
    card = checkpoint.read_card(path)
    del card["sha256"]
    change(card)
    save_file(load_file(path), path, metadata={"scorefield": json.dumps(card)})


def test_what_was_saved_gives_the_same_bytes_when_loaded(saved):
    model, again = tiny_model(), checkpoint.load(saved)
    x, sigma = torch.randn(3, 1, 8, 8, generator=seeded()), torch.tensor([0.01, 1.0, 50.0])
    with torch.no_grad():
        assert torch.equal(model(x, sigma), again(x, sigma))
        assert torch.equal(model.noise(x, sigma), again.noise(x, sigma))
    assert not again.training


def test_a_model_keeps_all_that_its_card_tells(tmp_path):
    network = lively(UNet(channels=3, widths=(8,), source_channels=2, patch=2))
    family = NCSN(sigmas=(2.0, 0.1))
    model = ScoreModel(network, family, ModelSpec(shape=(3, 5, 7), value_range=(0.0, 1.0), sigma_range=(0.1, 2.0)))
    again = checkpoint.load(checkpoint.save(model, tmp_path / "m.safetensors"))
    assert again.parameterization == family
    assert (again.shape, again.value_range, again.sigma_range) == ((3, 5, 7), (0.0, 1.0), (0.1, 2.0))
    assert again.spec == model.spec
    assert again.network.settings == network.settings


def test_a_conditional_models_card_says_what_it_restores(tmp_path):
    known = RestorationSpec(tasks=("dejpeg", "inpaint"), masked_input="smooth", steps=2, max_jpeg_quality=50)
    spec = ModelSpec(shape=(2,), restoration=known)
    model = ScoreModel(MLP(features=2, width=8), EDM(), spec)
    assert checkpoint.load(checkpoint.save(model, tmp_path / "m.safetensors")).spec == spec


def test_a_spec_with_an_unknown_entry_is_refused(saved):
    with_card(saved, lambda card: card["spec"].update(depth=3))
    with pytest.raises(UserError, match=r"its card is wrong: spec: no such setting `depth`"):
        checkpoint.load(saved)


def test_a_network_for_points_is_saved_as_well(tmp_path):
    model = ScoreModel(MLP(features=2, width=8), EDM(), ModelSpec(shape=(2,)))
    again = checkpoint.load(checkpoint.save(model, tmp_path / "m.safetensors"))
    x = torch.ones(3, 2)
    assert torch.equal(model(x, torch.ones(3)), again(x, torch.ones(3)))


def test_notes_lie_in_the_card(saved):
    assert checkpoint.read_card(saved)["notes"] == {"steps": 3}


def test_saving_twice_gives_the_same_file(saved, tmp_path):
    other = checkpoint.save(tiny_model(), tmp_path / "other.safetensors", notes={"steps": 3})
    assert saved.read_bytes() == other.read_bytes()


@given(st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_anywhere_is_called_half_written(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "model.safetensors"
    whole = checkpoint.save(tiny_model(), path).read_bytes()
    write(path, whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"model\.safetensors: .*half-written"):
        checkpoint.load(path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100])
def test_a_file_of_a_few_bytes_is_called_half_written(saved, length):
    write(saved, saved.read_bytes()[:length])
    with pytest.raises(UserError, match="half-written"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        bytes(64),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 3) + b"\xff\xfe\xfd",
        struct.pack("<Q", 2**63) + b"{}",
    ],
)
def test_a_file_of_another_kind_is_not_taken_for_a_checkpoint(tmp_path, content):
    with pytest.raises(UserError, match=r"x\.safetensors: not a whole safetensors file"):
        checkpoint.load(write(tmp_path / "x.safetensors", content))


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_another_program_have_no_card(tmp_path, metadata):
    save_file({"w": torch.zeros(2)}, tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(UserError, match="it has no card"):
        checkpoint.load(tmp_path / "x.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.safetensors: no such checkpoint"):
        checkpoint.load(tmp_path / "gone.safetensors")


def test_a_card_of_another_version_is_refused(saved):
    with_card(saved, lambda card: card.update(version=1))
    with pytest.raises(UserError, match="version 1, this program reads 2"):
        checkpoint.load(saved)


def test_a_card_that_lacks_something_is_refused(saved):
    with_card(saved, lambda card: card.pop("network"))
    with pytest.raises(UserError, match=r"card.*network"):
        checkpoint.load(saved)


def test_weights_of_another_shape_are_named(saved):
    with_card(saved, lambda card: card["network"].update(channels=3))
    with pytest.raises(UserError, match=r"another network: `(first|last)\.\w+` is \(.*\), expected \(.*\)"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("last.bias"), "lacks weight `last.bias`"),
        (lambda w: w.update(stray=torch.zeros(1)), "has the unknown weight `stray`"),
    ],
)
def test_missing_and_left_over_weights_are_named(saved, change, message):
    card, weights = checkpoint.read_card(saved), load_file(saved)
    change(weights)
    del card["sha256"]
    save_file(weights, saved, metadata={"scorefield": json.dumps(card)})
    with pytest.raises(UserError, match=message):
        checkpoint.load(saved)


def test_a_network_of_no_known_kind_is_not_saved(tmp_path):
    model = ScoreModel(torch.nn.Linear(2, 2), EDM(), ModelSpec(shape=(2,)))
    with pytest.raises(UserError, match="network"):
        checkpoint.save(model, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_checkpoint_and_no_litter(saved, monkeypatch):
    before = saved.read_bytes()

    def half(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", half)
        with pytest.raises(OSError, match="No space"):
            checkpoint.save(tiny_model(), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_no_flipped_bit_goes_unseen(saved, count):
    """All bits of the header's length, and some spread over header and weights."""
    whole = saved.read_bytes()
    spread = random.Random(0)
    for bit in [*range(64), *(spread.randrange(8 * len(whole)) for _ in range(count))]:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        saved.write_bytes(flipped)
        with pytest.raises(UserError):
            checkpoint.load(saved)
    saved.write_bytes(whole)
    checkpoint.load(saved)


@pytest.mark.slow
def test_no_bit_of_the_header_is_free(saved):
    """The card's own letters included: those of the digest's name, of the version, of the notes."""
    whole = saved.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for place in range(8, header):
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UserError):
            checkpoint.load(saved)


BLANK = "-" * 64  # as many dashes as a digest has digits


@pytest.mark.parametrize(
    "notes",
    [
        {"data": BLANK},
        {BLANK: 1},
        {"sha256": BLANK},
        {"a": [{"sha256": BLANK}, 100 * "-"]},
        {"a": f'"sha256": "{BLANK}"}}'},
    ],
    ids=["text", "name", "digest", "nested", "quoted"],
)
def test_notes_of_any_text_are_kept_and_the_model_loads(tmp_path, notes):
    path = checkpoint.save(tiny_model(), tmp_path / "model.safetensors", notes=notes)
    assert checkpoint.read_card(path)["notes"] == notes
    checkpoint.load(path)


def test_a_model_of_weights_that_spell_dashes_loads(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.view(torch.uint8).fill_(ord("-"))
    checkpoint.load(checkpoint.save(model, tmp_path / "model.safetensors"))


def test_a_file_whose_digest_ends_its_card_loads(saved, tmp_path):
    """As version 0.2.0 wrote it."""
    card = checkpoint.read_card(saved)
    del card["sha256"]
    card["sha256"] = BLANK
    save_file(load_file(saved), saved, metadata={"scorefield": json.dumps(card)})
    content = saved.read_bytes()
    saved.write_bytes(content.replace(BLANK.encode(), hashlib.sha256(content).hexdigest().encode(), 1))
    checkpoint.load(saved)


def test_a_network_is_sketched_once_when_it_is_loaded(saved, monkeypatch):
    true, calls = networks.sketch, []
    monkeypatch.setattr(networks, "sketch", lambda card: (calls.append(card), true(card))[1])
    checkpoint.load(saved)
    assert len(calls) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_neither_saved_nor_loaded(saved, tmp_path, value):
    model = tiny_model()
    with torch.no_grad():
        model.network.last.bias[0] = value
    with pytest.raises(UserError, match=r"weight `last.bias` is not finite"):
        checkpoint.save(model, tmp_path / "other.safetensors")
    card, weights = checkpoint.read_card(saved), load_file(saved)
    del card["sha256"]
    weights["last.bias"][0] = value
    save_file(weights, saved, metadata={"scorefield": json.dumps(card)})
    with pytest.raises(UserError, match=r"model\.safetensors: weight `last.bias` is not finite"):
        checkpoint.load(saved)
