"""Mutated settings: a card or a recipe with wild values, and how much memory building from it takes."""

import copy
from contextlib import contextmanager
from unittest.mock import patch

from torch import nn

WILD = (10**6, 10**9, 10**30, -1, 0, 0.5, 1e300, float("nan"), float("inf"), "xxx", "../..", "\x1b[2J", "", True,
        [], {}, [[]], [10**9], [1] * 50, {"kind": "unet"}, {"kind": []})  # fmt: skip


def places(value, at=()):
    """Where a change may be made: the keys to every entry, sections included."""
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*at, key))


def mutated(plain, rng, *, wild, keys):
    """The settings with one to three changes: a wild value, a missing key, one of the keys too many."""
    made = copy.deepcopy(plain)
    for _ in range(rng.randint(1, 3)):
        at = rng.choice([place for place in places(made) if place])
        section = made
        for key in at[:-1]:
            section = section[key]
        change = rng.choice(("value", "value", "value", "drop", "add"))
        if change == "drop":
            del section[at[-1]]
        elif change == "add" and isinstance(section, dict):
            section[rng.choice(keys)] = copy.deepcopy(rng.choice(wild))
        else:
            section[at[-1]] = copy.deepcopy(rng.choice(wild))
    return made


@contextmanager
def counted_weights():
    """The list of the sizes of all parameters that get memory meanwhile."""
    sizes, init = [], nn.Parameter.__new__

    def counted(cls, data=None, requires_grad=True):
        if data is not None and data.device.type != "meta":
            sizes.append(data.numel())
        return init(cls, data, requires_grad)

    with patch.object(nn.Parameter, "__new__", counted):
        yield sizes
