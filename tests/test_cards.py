"""Cards that others wrote: judged whole before anything is built, told in one line."""

import json
import random
import struct
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save as to_bytes

from mutations import WILD, counted_weights, mutated
from scorefield import checkpoint, networks, parameterization
from scorefield.errors import UserError
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.parameterization import EDM, NCSN, VariancePreserving
from scorefield.plain import MAX_DEPTH

SPEC = ModelSpec(shape=(1, 8, 8), restoration=RestorationSpec(tasks=("colorize",), max_jpeg_quality=50))
MODELS = {
    "unet": ScoreModel(networks.UNet(channels=1, widths=(8,), attention=(0,), head_width=8), EDM(), SPEC),
    "resunet": ScoreModel(networks.ResUNet(channels=1, widths=(8, 8), blocks=(1, 1), head_width=8), EDM(), SPEC),
    "refinenet": ScoreModel(
        networks.RefineNet(channels=1, width=4, levels=2), NCSN(sigmas=(2.0, 1.0)), ModelSpec(shape=(1, 8, 8))
    ),
    "energy": ScoreModel(
        networks.Energy(networks.MLP(features=2, width=8, depth=1)),
        VariancePreserving(conditioning="index", sigmas=(2.0, 1.0)),
        ModelSpec(shape=(2,)),
    ),
}
CARDS = {"wild": (*WILD, None, {"kind": "energy", "network": 5}, [None]), "keys": ("wild", "kind", "blocks", "network")}


def card_of(model: ScoreModel) -> dict:
    return {
        "version": 2,
        "network": networks.to_card(model.network),
        "parameterization": parameterization.to_card(model.parameterization),
        "spec": asdict(model.spec),
        "notes": {},
    }


def write(path, card, model):
    """A checkpoint of the model's weights under another card."""
    text = card if isinstance(card, str) else json.dumps(card)
    path.write_bytes(to_bytes(model.network.state_dict(), metadata={"scorefield": text}))
    return path


def mutated_cards_give_a_model_or_one_line(path, count):
    """How many are refused. No other exception, and no network much larger than the weights in the file."""
    rng, refused = random.Random(0), 0
    with counted_weights() as built:
        for number in range(count):
            model = MODELS[rng.choice(list(MODELS))]
            built.clear()
            card = mutated(json.loads(json.dumps(card_of(model))), rng, **CARDS)
            try:
                checkpoint.load(write(path, card, model))
            except UserError as error:
                refused += 1
                assert len(str(error).splitlines()) == 1 and len(str(error)) < 1000, (number, card)
            assert sum(built) <= 2 * sum(p.numel() for p in model.network.parameters()), (number, card)
    return refused


def test_mutated_cards_give_a_model_or_one_line(tmp_path):
    assert 10 < mutated_cards_give_a_model_or_one_line(tmp_path / "model.safetensors", 30) < 30


@pytest.mark.slow
def test_300_mutated_cards_give_a_model_or_one_line(tmp_path):
    assert 150 < mutated_cards_give_a_model_or_one_line(tmp_path / "model.safetensors", 300) < 300


@pytest.mark.parametrize("kind", MODELS)
def test_untouched_cards_are_read_back(tmp_path, kind):
    model = MODELS[kind]
    read = checkpoint.load(write(tmp_path / "model.safetensors", card_of(model), model))
    assert read.spec == model.spec and read.parameterization == model.parameterization
    for name, value in model.network.state_dict().items():
        assert torch.equal(read.network.state_dict()[name], value)


ABSURD = [
    ("network.blocks", 10**6), ("network.blocks", 10**9), ("network.widths", [10**6]), ("network.widths", [2] * 10**4),
    ("network.widths", "88"), ("network.patch", 10**5), ("network.classes", 10**12), ("network.head_width", 0),
    ("network.source_channels", -1), ("network.source_channels", 10**9), ("network.dropout", 2),
    ("network.attention", [0] * 10**5), ("network.kind", []), ("network", []),
    ("parameterization.sigma_data", -1), ("parameterization.sigma_data", 0), ("parameterization.sigma_data", 1e40),
    ("parameterization.sigma_data", "0.5"), ("parameterization.kind", {}), ("parameterization.input", []),
    ("spec.shape", "../.."), ("spec.shape", []), ("spec.shape", [1, 8]), ("spec.shape", [1, -8, 8]),
    ("spec.shape", [1, 10**9, 10**9]), ("spec.shape", [1.0, 8, 8]), ("spec.value_range", "xxx"),
    ("spec.value_range", [1, -1]), ("spec.value_range", [0, float("inf")]), ("spec.sigma_range", [10**9]),
    ("spec.sigma_range", [2, 1]), ("spec.sigma_range", [0, 1]), ("spec.sigma_range", [1, float("nan")]),
    ("spec.restoration", 3), ("spec.restoration", {"tasks": "colorize"}), ("spec.restoration", {"tasks": [3]}),
    ("spec.restoration", {"tasks": [], "steps": 10**9}), ("spec.restoration", {"tasks": [], "masked_input": "rough"}),
    ("spec.restoration", {"tasks": [], "max_jpeg_quality": 101}), ("notes", []), ("version", None),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), ABSURD)
def test_absurd_settings_are_told_with_their_place(tmp_path, place, value):
    model, card = MODELS["unet"], card_of(MODELS["unet"])
    *sections, key = place.split(".")
    section = card
    for name in sections:
        section = section[name]
    section[key] = value
    with pytest.raises(UserError, match=r"model\.safetensors: its card") as caught:
        checkpoint.load(write(tmp_path / "model.safetensors", card, model))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a":' * 10_000, "[" * 9000 + "]" * 9000, "[]", "3", "null",
                                  '{"version": ' + "9" * 5000 + "}"])  # fmt: skip
def test_cards_that_are_nested_or_no_table_are_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"model\.safetensors: "):
        checkpoint.load(write(tmp_path / "model.safetensors", text, MODELS["unet"]))


def test_energies_of_energies_are_bounded(tmp_path):
    model, card = MODELS["energy"], card_of(MODELS["energy"])
    for _ in range(MAX_DEPTH):
        card["network"] = {"kind": "energy", "network": card["network"], "form": "inner"}
    with pytest.raises(UserError, match="nested more than"):
        checkpoint.load(write(tmp_path / "model.safetensors", card, model))


@pytest.mark.parametrize("header", [
    {"w": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}},
    {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**12]}},
    {"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    {"w": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}},
    {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
    {"w": []}, {"w": {}}, [], "w", 3,
])  # fmt: skip
def test_headers_with_lies_are_told_in_one_line(tmp_path, header):
    if isinstance(header, dict):
        header["__metadata__"] = {"scorefield": json.dumps(card_of(MODELS["unet"]))}
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with pytest.raises(UserError, match=r"model\.safetensors: "):
        checkpoint.load(path)
    path.write_bytes(struct.pack("<Q", 2**63) + text)
    with pytest.raises(UserError, match=r"model\.safetensors: not a whole"):
        checkpoint.load(path)


def test_a_network_that_no_memory_holds_is_not_built(monkeypatch):
    card = {"kind": "unet", "channels": 1, "widths": [2**14] * 2, "blocks": 1}
    monkeypatch.setattr("os.sysconf", lambda name: 2**17)  # 16 GB in pages of 128 kB
    with pytest.raises(UserError, match=r"network: .* weights need .* GB, this machine has 17\."):
        networks.from_card(card)
