"""Networks: tensors in, tensors out. What the output means is the parameterization's matter.

Every network is called as `network(x, label, source)` and returns a tensor of x's shape. A network with classes
(`unet.HasClasses`) takes them as a fourth argument. The arguments of its constructor are kept in `settings`, so
that a checkpoint's card can build it again.

A network of your own is registered under a name::

    @networks.register("my-network")
    class MyNetwork(nn.Module):
        def __init__(self, *, channels: int, width: int = 64) -> None:
            super().__init__()
            self.settings = {"channels": channels, "width": width}
            ...

Checkpoints then hold it like any other, and a recipe takes it, `network.kind = "my-network"`, with the keywords of
its constructor as settings: `channels` is that of the images, `source_channels`, where the constructor has it, that
of a condition. A card never imports code: the program that loads the checkpoint imports
the module that registers the network first, on the command line by `scorefield --import my_module VERB …`.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from scorefield.errors import UserError, did_you_mean
from scorefield.networks.diffusers_unet import Diffusers
from scorefield.networks.energy import Energy
from scorefield.networks.flips import FlipAveraged
from scorefield.networks.mlp import MLP
from scorefield.networks.refinenet import RefineNet
from scorefield.networks.resunet import ResUNet
from scorefield.networks.unet import UNet
from scorefield.plain import check_memory, check_plain, check_settings

__all__ = [
    "MLP",
    "Diffusers",
    "Energy",
    "FlipAveraged",
    "Network",
    "RefineNet",
    "ResUNet",
    "UNet",
    "build",
    "from_card",
    "kind_hint",
    "register",
    "registered",
    "sketch",
    "to_card",
]

_KINDS: dict[str, type[nn.Module]] = {
    "diffusers": Diffusers,
    "energy": Energy,
    "mlp": MLP,
    "refinenet": RefineNet,
    "resunet": ResUNet,
    "unet": UNet,
}

_BUILT_IN = frozenset(_KINDS)

_Class = TypeVar("_Class", bound=type[nn.Module])


class Network(Protocol):
    """What a ScoreModel calls."""

    settings: dict[str, Any]
    """The keyword arguments that build it again: plain data, or networks."""

    def __call__(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """A tensor of x's shape, from x (B, ...), label (B,) and further channels."""
        ...


def register(name: str) -> Callable[[_Class], _Class]:
    """Class decorator that makes a network of your own a kind of network, see the module's example.

    A network whose attention must be differentiated twice, within `Energy` or for score matching by derivatives,
    may call `scaled_dot_product_attention` as usual.

    Args:
        name: of the kind, in checkpoints and cards.

    Raises:
        ValueError: the name belongs to another class.
    """

    def add(network: _Class) -> _Class:
        known = _KINDS.get(name)
        if known is not None and _identity(known) != _identity(network):
            raise ValueError(f"the network kind {name!r} is taken by {'.'.join(_identity(known))}")
        _KINDS[name] = network
        return network

    return add


def registered() -> dict[str, type[nn.Module]]:
    """The classes that `register` added, by name."""
    return {name: cls for name, cls in _KINDS.items() if name not in _BUILT_IN}


def to_card(network: nn.Module) -> dict[str, Any]:
    """The network as plain data: its kind and its settings.

    Raises:
        UserError: a network of no known kind, or without settings.
    """
    kind = next((name for name, cls in _KINDS.items() if type(network) is cls), None)
    if kind is None:
        raise UserError(
            "network",
            f"a {type(network).__name__} has no card.",
            f"Known: {', '.join(_KINDS)}. Register a class of your own with @scorefield.networks.register.",
        )
    settings = getattr(network, "settings", None)
    if not isinstance(settings, dict):
        raise UserError(
            f"network {kind}",
            f"a {type(network).__name__} has no `settings`.",
            "Keep the constructor's arguments there, as a dictionary.",
        )
    settings = cast(dict[str, Any], settings)
    inner = {key: to_card(value) for key, value in settings.items() if isinstance(value, nn.Module)}
    return {"kind": kind, **settings, **inner}


def from_card(card: dict[str, Any]) -> nn.Module:
    """The network that `to_card` described, with fresh weights.

    Raises:
        UserError: an unknown kind or setting.
    """
    sketch(card)
    return build(card)


def sketch(card: dict[str, Any]) -> nn.Module | None:
    """The network that `to_card` described, without memory for its weights: on PyTorch's meta device.

    A network of your own may not be made there: None where one takes part.

    Raises:
        UserError: an unknown kind or setting, one of another type or out of bounds, or more weights than fit into the
            machine's memory.
    """
    check_plain(card, "network")
    if not _is_built_in(card):
        return None
    with torch.device("meta"):
        network = build(card)
    check_memory(sum(weight.numel() for weight in network.state_dict().values()), "network")
    return network


def _is_built_in(card: dict[str, Any]) -> bool:
    inner = [value for value in card.values() if isinstance(value, dict) and "kind" in value]
    return str(card.get("kind")) not in registered() and all(_is_built_in(cast(dict[str, Any], one)) for one in inner)


def build(card: dict[str, Any]) -> nn.Module:
    """The network of a card that `sketch` has judged, with fresh weights.

    Raises:
        UserError: an unknown kind or setting.
    """
    settings = dict(card)
    kind: object = settings.pop("kind", "")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError("network", f"no such kind {kind!r}.", kind_hint(str(kind), _KINDS))
    for key, value in settings.items():
        if isinstance(value, dict) and "kind" in value:  # the card of a network inside this one
            settings[key] = build(cast(dict[str, Any], value))
    check_settings(_KINDS[kind], settings, f"network {kind}")
    try:
        return _KINDS[kind](**settings)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"network {kind}", str(error)) from error


def kind_hint(kind: str, known: Iterable[str]) -> str:
    """What to do about an unknown kind of network."""
    own = "For a network of your own, import the module that registers it: scorefield --import MODULE …"
    return f"{did_you_mean(kind, known)} {own}"


def _identity(cls: type) -> tuple[str, str]:
    """Module and name of a class: a module that is imported twice registers the same class again."""
    return cls.__module__, cls.__qualname__
