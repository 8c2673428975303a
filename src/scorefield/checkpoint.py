"""The one file format of models: safetensors, with the model's card in its header.

The card holds everything that builds the model again, its network, parameterization and `ModelSpec`, and notes on its
training. It is in the same file as the weights, so the two cannot be separated. It also holds a digest of the whole
file, which is checked when the weights are read.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from scorefield import networks, parameterization
from scorefield.errors import UserError
from scorefield.files import write_atomic
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.plain import check_plain, check_settings

__all__ = ["fit_weights", "is_card_missing", "load", "read_card", "read_weights", "save"]

_HEADER = "scorefield"
_VERSION = 2
_MAX_HEADER = 100_000_000  # bytes; safetensors' own bound
_ENTRIES = {"network", "parameterization", "spec", "notes"}
_DIGEST = "sha256"
_BLANK = "-" * 64  # stands for the digest while that is computed, over the whole file


def save(
    model: ScoreModel,
    path: Path,
    *,
    notes: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    weights: dict[str, Tensor] | None = None,
) -> Path:
    """Write the model's weights and card to `path`, atomically.

    Args:
        model: the model.
        path: a .safetensors file; an existing one is replaced.
        notes: plain data for the card (data set, steps, measures, …).
        dtype: of the weights in the file; by default their own. `load` reads them as float32.
        weights: in place of the model's own: a copy of earlier ones, or averaged ones.

    Raises:
        UserError: a weight is not finite.
    """
    values = model.network.state_dict() if weights is None else weights
    values = {name: value.detach().to("cpu", dtype).contiguous() for name, value in values.items()}
    _check_finite(values, path)
    card = {
        _DIGEST: _BLANK,  # first, so that the first blank in the file is this one, whatever the notes hold
        "version": _VERSION,
        "network": networks.to_card(model.network),
        "parameterization": parameterization.to_card(model.parameterization),
        "spec": asdict(model.spec),
        "notes": notes or {},
    }
    # safetensors' own writer makes a temporary file of a random name beside this one, which a kill would leave there
    content = bytearray(to_bytes(values, metadata={_HEADER: json.dumps(card)}))
    place = content.index(_BLANK.encode())
    content[place : place + len(_BLANK)] = hashlib.sha256(content).hexdigest().encode()
    return write_atomic(path, content)


def is_card_missing(path: Path) -> bool:
    """Whether a file is safetensors, but not a model of scorefield."""
    try:
        with safe_open(path, framework="pt") as file:
            return _HEADER not in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_card(path: Path) -> dict[str, Any]:
    """The card of a checkpoint, without reading its weights.

    Raises:
        UserError: no such file, cut short, or not a model of scorefield.
    """
    if not path.is_file():
        raise UserError(path, "no such checkpoint.", "Give a .safetensors file, a run folder or a model's name.")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            if length > min(size, _MAX_HEADER):
                raise ValueError
            metadata = json.loads(file.read(length)).get("__metadata__", {})
        card: dict[str, Any] = json.loads(metadata[_HEADER])
    except KeyError as error:
        raise UserError(path, "a safetensors file, but not a model of scorefield: it has no card.") from error
    except (ValueError, struct.error, AttributeError, TypeError, RecursionError) as error:
        raise UserError(
            path, "not a whole safetensors file; half-written, or something else.", "Train or copy it again."
        ) from error
    if not isinstance(card, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(path, "its card is no table of settings.")
    check_plain(card, path)
    if card.get("version") != _VERSION:
        raise UserError(path, f"its card has version {card.get('version')}, this program reads {_VERSION}.")
    if lacking := _ENTRIES - card.keys():
        raise UserError(path, f"its card lacks {', '.join(sorted(lacking))}.")
    if unknown := card.keys() - _ENTRIES - {"version", _DIGEST}:
        raise UserError(path, f"its card has the unknown entry {min(unknown)!r}; it is damaged.", "Copy it again.")
    for entry in sorted(_ENTRIES):
        if not isinstance(card[entry], dict):
            raise UserError(path, f"its card's {entry} is no table of settings.")
    try:
        _read_spec(card["spec"])
    except UserError as error:
        raise UserError(path, f"its card is wrong: {error}") from error
    return card


def load(path: Path, *, device: str | torch.device = "cpu") -> ScoreModel:
    """The model that `save` wrote, in evaluation mode.

    Raises:
        UserError: the file is missing, half-written or damaged, a weight is not finite, or the weights do not fit the
            card.
    """
    card, shapes = read_card(path), _shapes_in(path)
    _check_digest(path, card)
    try:
        parts = parameterization.from_card(card["parameterization"]), _read_spec(card["spec"])
        sketch = networks.sketch(card["network"])
        if sketch is not None:
            _check_fit(_shapes_of(sketch.state_dict()), shapes, path)  # before memory is taken
        network = networks.build(card["network"])
    except UserError as error:
        if error.where == str(path):
            raise
        raise UserError(path, f"its card is wrong: {error}") from error
    weights = read_weights(path, device=device)
    _check_finite(weights, path)
    model = ScoreModel(network, *parts).to(device)
    fit_weights(model.network, weights, where=path)
    return model.eval()


def _check_digest(path: Path, card: dict[str, Any]) -> None:
    """See that the file is as it was written, where its card has a digest; those before version 0.2 have none."""
    if _DIGEST not in card:
        return
    with path.open("rb") as file:
        length = file.read(8)
        header = file.read(struct.unpack("<Q", length)[0])
        sha = hashlib.sha256(length + header.replace(str(card[_DIGEST]).encode(), _BLANK.encode(), 1))
        while part := file.read(2**20):
            sha.update(part)
    if sha.hexdigest() != card[_DIGEST]:
        raise UserError(path, "damaged (its digest is not the one in its card).", "Train or copy it again.")


def _check_finite(weights: dict[str, Tensor], path: Path) -> None:
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise UserError(path, f"weight `{name}` is not finite.", "Train again, with a lower rate or in float32.")


def _read_spec(card: dict[str, Any]) -> ModelSpec:
    """The `ModelSpec` that `asdict` wrote; JSON turned its tuples into lists."""
    settings = _with_tuples(card)
    restoration: object = settings.pop("restoration", None)
    check_settings(ModelSpec, settings, "spec")
    if restoration is not None:
        if not isinstance(restoration, dict):
            raise UserError("spec.restoration", "is no table of settings.")
        check_settings(RestorationSpec, cast(dict[str, Any], restoration), "spec.restoration")
    inner = None if restoration is None else _with_tuples(cast(dict[str, Any], restoration))
    try:
        return ModelSpec(**settings, restoration=None if inner is None else RestorationSpec(**inner))
    except ValueError as error:
        raise UserError("spec", f"{error}.") from error


def _with_tuples(card: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in card.items()}


def read_weights(path: Path, *, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """The weights of a checkpoint by their names.

    Raises:
        UserError: the file is half-written or damaged.
    """
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise UserError(path, f"half-written or damaged ({error}).", "Train or copy it again.") from error


def fit_weights(network: torch.nn.Module, weights: dict[str, Tensor], *, where: object) -> None:
    """Load `weights` into the network if every name and shape agrees.

    Raises:
        UserError: names the first weight that is missing, left over, or of another shape.
    """
    _check_fit(_shapes_of(network.state_dict()), _shapes_of(weights), where)
    network.load_state_dict(weights)


_Shapes = dict[str, tuple[int, ...]]


def _check_fit(own: _Shapes, theirs: _Shapes, where: object) -> None:
    for name in sorted(own.keys() | theirs.keys()):
        if name not in theirs or name not in own:
            side = "lacks" if name not in theirs else "has the unknown"
            raise UserError(where, f"made for another network: it {side} weight `{name}`.")
        if own[name] != theirs[name]:
            raise UserError(where, f"made for another network: `{name}` is {theirs[name]}, expected {own[name]}.")


def _shapes_of(weights: Mapping[str, Tensor]) -> _Shapes:
    return {name: tuple(value.shape) for name, value in weights.items()}


def _shapes_in(path: Path) -> _Shapes:
    """The shapes of a file's weights, from its header."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(path, f"half-written or damaged ({error}).", "Train or copy it again.") from error
