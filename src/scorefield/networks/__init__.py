"""Networks: tensors in, tensors out. What the output means is parameterization's matter.

Every network is called as `network(x, label, source)` and gives a tensor of x's shape; one that may be told
classes (`unet.HasClasses`) takes them as a fourth argument. Its constructor's arguments are kept in
`settings`, so that a checkpoint's card can build it again.
"""

from collections.abc import Callable
from typing import Any, Protocol, cast

from torch import Tensor, nn

from scorefield.errors import UserError, did_you_mean
from scorefield.networks.energy import Energy
from scorefield.networks.foreign import Diffusers
from scorefield.networks.mlp import MLP
from scorefield.networks.refinenet import RefineNet
from scorefield.networks.resunet import ResUNet
from scorefield.networks.unet import UNet

_KINDS: dict[str, Callable[..., nn.Module]] = {
    "diffusers": Diffusers,
    "energy": Energy,
    "mlp": MLP,
    "refinenet": RefineNet,
    "resunet": ResUNet,
    "unet": UNet,
}


class Network(Protocol):
    """What a ScoreModel calls."""

    settings: dict[str, Any]

    def __call__(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """A tensor of x's shape, from x (B, ...), label (B,) and further channels."""
        ...


def to_card(network: nn.Module) -> dict[str, Any]:
    """The network as plain data: its kind and its settings.

    Raises:
        UserError: a network of none of our kinds, which no card could build again.
    """
    kind = next((name for name, cls in _KINDS.items() if type(network) is cls), None)
    if kind is None:
        raise UserError("network", f"a {type(network).__name__} has no card.", f"Known: {', '.join(_KINDS)}.")
    settings = cast(dict[str, Any], network.settings)
    inner = {key: to_card(value) for key, value in settings.items() if isinstance(value, nn.Module)}
    return {"kind": kind, **settings, **inner}


def from_card(card: dict[str, Any]) -> nn.Module:
    """The network that `to_card` described, with fresh weights.

    Raises:
        UserError: an unknown kind or setting.
    """
    settings = dict(card)
    kind = settings.pop("kind", "")
    if kind not in _KINDS:
        raise UserError("network", f"no such kind {kind!r}.", did_you_mean(kind, _KINDS))
    for key, value in settings.items():
        if isinstance(value, dict) and "kind" in value:  # the card of a network inside this one
            settings[key] = from_card(cast(dict[str, Any], value))
    try:
        return _KINDS[kind](**settings)
    except TypeError as error:
        raise UserError(f"network {kind}", str(error)) from error
