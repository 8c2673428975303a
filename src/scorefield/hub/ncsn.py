"""The checkpoints of NCSN and NCSNv2's authors, as our models.

Their training programs save a list: the network's weights, the optimizer's state and, in NCSNv2, epoch, step
and the average of the weights. Each weight of our RefineNet has one name in their files, by a few rules; the
form, the width, the channels and the number of noise levels show in the shapes.

Files are read with `weights_only`: no code of theirs runs.

References:
    Song & Ermon (2019): https://github.com/ermongroup/ncsn
    Song & Ermon (2020): https://github.com/ermongroup/ncsnv2
"""

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from scorefield import schedules
from scorefield.errors import UserError
from scorefield.model import ModelSpec, ScoreModel
from scorefield.networks.refinenet import FORMS, RefineNet
from scorefield.parameterization import NCSN, NCSNv2

__all__ = ["Imported", "import_ncsn"]

Weights = dict[str, Tensor]

_STAGES = {"small": "1 2 3 4", "deeper": "1 2 3 4 5", "deepest": "1 2 3 31 4 5"}
_BLOCKS = {"small": "1 2 3 4", "deeper": "1 2 3 4 5", "deepest": "1 2 31 3 4 5"}

_RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^first\.", "begin_conv."),
    (r"^last\.", "end_conv."),
    (r"^norm\.", "normalizer."),
    (r"\.norm(\d)\.", r".normalize\1."),
    (r"(\.adapt\.\d|\.output)\.(norm|conv)s\.(\d+)", lambda m: _unit(m[1], m[2], int(m[3]))),
    (r"\.adapt\.", ".adapt_convs."),
    (r"\.output\.", ".output_convs."),
    (r"\.fusion\.", ".msf."),
    (r"\.pooling\.", ".crp."),
)
"""From a name of ours to theirs, one rule after the other; stages and blocks are numbered before."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What a checkpoint held.

    Args:
        model: the model.
        weights: which of the file's weights it has: `average`, or `last` of the training.
        facts: what was found, by name, for people.
    """

    model: ScoreModel
    weights: str
    facts: dict[str, Any]


def import_ncsn(
    path: str | Path,
    *,
    raw: bool = False,
    rescaled: bool = False,
    sigma_max: float | None = None,
    sigma_min: float | None = None,
    levels: int | None = None,
    size: int | None = None,
) -> Imported:
    """Read a checkpoint of NCSN or NCSNv2.

    Args:
        path: what `torch.save` wrote in their training: the list, or only the weights.
        raw: take the last weights where there is an average too.
        rescaled: the network saw pixels in [−1, 1] (their `data.rescaled`); by default they are in [0, 1].
        sigma_max: first noise level of the geometric schedule; by default the file's own, or NCSN's 1.
        sigma_min: last noise level; by default the file's own, or NCSN's 0.01.
        levels: noise levels, where the file has neither a table nor a schedule of them.
        size: side of the images, which no file holds; by default 28 for grey ones, 32 for color.

    Raises:
        UserError: not a file of `torch.save`, no such checkpoint, weights that do not fit (the first of each
            kind is named), or a schedule that is lacking or wrong.
    """
    path = Path(path)
    states = _read(path)
    weights, which = _choose(states, path, raw=raw)
    network = _network(weights, path, centre=not rescaled)
    _fill(network, weights, path)
    schedule = _schedule(weights, network, path, sigma_max, sigma_min, levels)
    channels = cast(int, network.settings["channels"])
    side = size or (28 if channels == 1 else 32)
    network.check_size(side, side)
    labelled = network.settings["levels"] is not None
    model = ScoreModel(
        network,
        NCSN(sigmas=schedule) if labelled else NCSNv2(sigmas=schedule),
        ModelSpec(
            shape=(channels, side, side),
            value_range=(-1.0, 1.0) if rescaled else (0.0, 1.0),
            sigma_range=(schedule[-1], schedule[0]),
        ),
    ).eval()
    facts = {
        "network": f"{'NCSN' if labelled else 'NCSNv2'}, {network.form}",
        "width": network.settings["width"],
        "channels": channels,
        "parameters": sum(p.numel() for p in network.parameters()),
        "schedule": f"{len(schedule)} noise levels, {schedule[0]:g} to {schedule[-1]:g}",
        "weights": which,
    }
    return Imported(model=model, weights=which, facts=facts)


def _read(path: Path) -> list[Any]:
    """What the file holds, as a list of states."""
    if not path.is_file():
        raise UserError(path, "no such file.", "Give a checkpoint of ncsn or ncsnv2 (checkpoint_….pth).")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = "it holds more than tensors, which could run code" if _is_pickle(path) else "not a checkpoint"
        mend = "Give a checkpoint of ncsn or ncsnv2 (checkpoint_….pth)."
        raise UserError(path, f"{what}; not read.", mend) from error
    except Exception as error:  # torch promises none in particular for a file that is something else
        raise UserError(path, "not a checkpoint of PyTorch, or a degraded one.", "Copy it again.") from error
    return list(content) if isinstance(content, list | tuple) else [content]  # pyright: ignore[reportUnknownVariableType]


def _is_pickle(path: Path) -> bool:
    """Whether the file is a pickle, or a zip that should hold one."""
    with path.open("rb") as file:
        return file.read(2) in {b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}


def _choose(states: list[Any], path: Path, *, raw: bool) -> tuple[Weights, str]:
    """The weights, and which they are; what the average lacks (the schedule) is the network's own."""
    last = _weights(states[0] if states else None)
    average = _weights(states[4]) if len(states) >= 5 else {}
    if not last:
        raise UserError(path, "no weights in it where ncsn and ncsnv2 have theirs.", "Give their checkpoint.")
    return (last, "last") if raw or not average else (last | average, "average")


def _weights(state: object) -> Weights:
    """The state's tensors, without DataParallel's prefix; nothing where it is no dictionary of tensors."""
    if not isinstance(state, dict):
        return {}
    named = cast(dict[object, object], state)
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in named.items()):
        return {}
    return {str(name).removeprefix("module."): cast(Tensor, value).detach() for name, value in named.items()}


def _network(weights: Weights, path: Path, *, centre: bool) -> RefineNet:
    """The network whose shapes the weights show."""
    first, table = weights.get("begin_conv.weight"), weights.get("normalizer.embed.weight")
    if first is None or first.ndim != 4:
        raise UserError(path, "not a network of ncsn or ncsnv2: no `begin_conv.weight`.", "Give their checkpoint.")
    width, channels = first.shape[:2]
    form = "deepest" if _has(weights, "res31.") else "deeper" if _has(weights, "res5.") else "small"
    return RefineNet(
        channels=channels,
        width=width,
        levels=None if table is None else len(table),
        form=form,
        means=table is None or table.shape[-1] != 2 * width,
        centre=centre,
    )


def _has(weights: Weights, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in weights)


def _schedule(
    weights: Weights,
    network: RefineNet,
    path: Path,
    sigma_max: float | None,
    sigma_min: float | None,
    levels: int | None,
) -> tuple[float, ...]:
    """The requested schedule, by default the file's own."""
    own = weights.get("sigmas")
    count = cast(int | None, network.settings["levels"]) or (len(own) if own is not None else levels)
    if own is not None and sigma_max is None and sigma_min is None:
        return tuple(schedules.check_schedule(own.float()))
    if count is None:
        raise UserError(path, "no schedule of noise levels in it.", "Pass --sigma-max, --sigma-min and --levels.")
    if network.settings["levels"] is None and (sigma_max is None or sigma_min is None):
        raise UserError(path, "NCSNv2's schedule has no usual ends.", "Pass both --sigma-max and --sigma-min.")
    return tuple(
        schedules.geometric(
            1.0 if sigma_max is None else sigma_max, 0.01 if sigma_min is None else sigma_min, count
        ).tolist()
    )


def _fill(network: RefineNet, weights: Weights, path: Path) -> None:
    """Load the weights, all of them, or say which do not fit."""
    used: set[str] = {"sigmas"}
    missing: list[str] = []
    misshapen: list[str] = []
    filled: Weights = {}
    for name, own in network.state_dict().items():
        theirs = _theirs(name, network.form)
        parts = [theirs] if network.settings["levels"] or not name.endswith(".table") else _vectors(theirs)
        used.update(parts)
        lacking = [part for part in parts if part not in weights]
        missing += lacking
        if lacking:
            continue
        value = torch.cat([weights[part] for part in parts], -1)
        filled[name] = value[None] if len(parts) > 1 else value
        if filled[name].shape != own.shape:
            misshapen.append(f"{parts[0]} {tuple(value.shape)} for {tuple(own.shape)}")
    unknown = [name for name in weights if name not in used]
    faults = [
        f"{len(names)} {kind} (first {names[0]})"
        for kind, names in (("missing", missing), ("of another shape", misshapen), ("unknown", unknown))
        if names
    ]
    if faults:
        raise UserError(
            path,
            f"its weights are not a {network.form} RefineNet of width {network.settings['width']}: "
            f"{', '.join(faults)}.",
            "Networks with other normalizations or with spectral normalization are not read.",
        )
    network.load_state_dict(filled)


def _theirs(name: str, form: str) -> str:
    """Their name of a weight of ours."""
    part, _, rest = name.partition(".")
    if part in {"stages", "refine"}:
        index, _, inner = rest.partition(".")
        numbers = (_STAGES if part == "stages" else _BLOCKS)[form].split()
        pooled = part == "stages" and FORMS[form][int(index)].halve and inner.startswith("0.")
        if pooled and not inner.startswith("0.conv1"):
            inner = re.sub(r"^0\.(conv2|shortcut)\.", r"0.\1.conv.", inner)
        name = f"{'res' if part == 'stages' else 'refine'}{numbers[int(index)]}.{inner}"
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"\.table$", ".embed.weight", name)


def _unit(part: str, kind: str, index: int) -> str:
    """A layer of residual units: ours are in one row, theirs by unit and place in it."""
    return f"{part}.{index // 2 + 1}_{index % 2 + 1}_{kind}"


def _vectors(theirs: str) -> list[str]:
    """The three vectors that NCSNv2 has in place of a table with one row."""
    return [theirs.replace("embed.weight", part) for part in ("gamma", "alpha", "beta")]
