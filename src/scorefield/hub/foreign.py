"""Restoration networks of other programs, as our models.

The library spandrel knows the architectures by their weights. Each network maps a degraded image y to a restored one,
possibly s times as large: a regression, D(x; σ, y) = F(y), whatever x and σ. A condition has the shape of x, so where
s > 1 the small image enters as A⁺y, each pixel s × s times, of which the network takes one. Everything else, tiles,
quantisation cells, alpha, metadata, is that of any model.

Nothing of a file runs. A pickle is read with `weights_only`, TorchScript is not opened, and the size of what is read
and built is bounded by that of the file.

References:
    spandrel. https://github.com/chaiNNer-org/spandrel
"""

import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from scorefield.checkpoint import is_card_missing
from scorefield.errors import UserError
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.parameterization import Regression

__all__ = ["ForeignNetwork", "foreign_facts", "import_spandrel", "is_foreign", "precision_of"]

SUFFIXES = frozenset({".pth", ".pt", ".ckpt"})

_PAIRED = "paired"
_TASKS: dict[str, tuple[str, ...]] = {
    "DnCNN": ("denoise", "dejpeg"),  # Zhang et al. (2017) train it for both
    "DRUNet": ("denoise",),
    "FBCNN": ("dejpeg",),
    "FFTformer": ("deblur",),
    "HVICIDNet": (),  # low light
    "KBNet": ("denoise",),
    "MixDehazeNet": (),
    "RetinexFormer": (),  # low light
    "SAFMNBCIE": ("dejpeg",),
    "SCUNet": ("denoise",),
}
"""What architectures that keep the size are for; "paired" takes all of them. Others are trained for anything."""
_ANY = ("dejpeg", "denoise", "deblur", "descratch")

_SIDE, _WIDE = 192, 384
"""Side of tiles in pixels of the small image: with an overlap of 32, 1.44 times the work of the whole image. The 64
channels of a network of ESRGAN's kind at four times the side take 150 MB. Architectures for which spandrel discourages
tiles get larger ones."""

_MOST_BYTES = 2**33  # of a file and of what it holds; the largest published networks have 1 GB
_MOST_WEIGHTS = 50_000  # tensors
_LONGEST = 2_000  # parts of one sequence, which spandrel builds up to the largest index in a name
_SPARE = 2**28  # bytes beside the weights: attention masks and indices of positions, made when a network is built
_MOST_CALLS = 500_000  # of torch while a network is built, a few for each weight


def is_foreign(path: Path) -> bool:
    """Whether a file's weights are not ours: a pickle by its suffix, or safetensors without a card of scorefield."""
    return path.suffix.lower() in SUFFIXES or (path.suffix.lower() == ".safetensors" and is_card_missing(path))


class ForeignNetwork(nn.Module):
    """A network that spandrel built, as F of a `Regression`: it sees the degraded image alone.

    Args:
        descriptor: an `ImageModelDescriptor`. It pads images to the sizes that the network needs.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.inner = cast(nn.Module, descriptor.model)
        self.descriptor = descriptor

    def forward(self, x: Tensor, label: Tensor, source: Tensor) -> Tensor:
        """F(y), (B, C, H, W), from A⁺y of the same shape, values from 0 to 1; x and label are not used."""
        s = self.descriptor.scale
        small = source[..., ::s, ::s]
        return torch.cat([self.descriptor(one) for one in small.split(1)])  # spandrel takes one image at a time


def import_spandrel(path: str | Path) -> ScoreModel:
    """A network that maps an image to a restored one, as a conditional model in evaluation mode.

    Its tasks follow from its architecture: "upscale" by its own factor alone, or, where it keeps the size, those that
    such networks are trained for, and "paired". Pixels are in [0, 1].

    Args:
        path: a .pth, .pt, .ckpt or .safetensors file.

    Raises:
        UserError: spandrel is not installed; a file that is damaged, holds more than weights, or claims to hold more
            than it does; an architecture that is unknown, needs more than the image, restores aligned faces alone, or
            is for other channels than grey or RGB; a weight that is not finite.
    """
    path = Path(path)
    try:
        spandrel: Any = import_module("spandrel")
    except ImportError as error:
        lacking = "spandrel" if error.name in {None, "spandrel"} else f"spandrel with {error.name}"
        mend = 'pip install "scorefield[spandrel]"'
        raise UserError(path, f"weights of another program need the package {lacking}:", mend) from error
    weights = _checked(spandrel.canonicalize_state_dict(_read(path)), path)
    descriptor = _build(spandrel, weights, path)
    _check_kind(spandrel, descriptor, path)
    scale, channels = int(descriptor.scale), int(descriptor.output_channels)
    own = (*_TASKS.get(descriptor.architecture.id, _ANY), _PAIRED)
    side = scale * (_SIDE if descriptor.tiling == spandrel.ModelTiling.SUPPORTED else _WIDE)
    restoration = RestorationSpec(tasks=("upscale",) if scale > 1 else own, steps=1, tile=side, scale=scale)
    spec = ModelSpec(
        shape=(channels, side, side), value_range=(0.0, 1.0), sigma_range=(1.0, 1.0), restoration=restoration
    )
    return ScoreModel(ForeignNetwork(descriptor), Regression(), spec).eval()


def foreign_facts(model: ScoreModel) -> dict[str, Any]:
    """The properties of the network of a model that `import_spandrel` made, by name, for people."""
    descriptor = cast(ForeignNetwork, model.network).descriptor
    return {
        "network": f"{descriptor.architecture.name}, of another program",
        "tags": ", ".join(descriptor.tags),
        "channels": descriptor.input_channels,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "half precision": descriptor.supports_half,
        "bfloat16": descriptor.supports_bfloat16,
    }


def precision_of(network: ForeignNetwork, device: str | torch.device, precision: torch.dtype | None) -> torch.dtype:
    """The number format inside such a network.

    The network returns the image itself, not a small correction. bfloat16 has 8 bits: near white its steps are
    whole levels of 255. So by default it is float16 on a GPU, for networks that support it, and else float32.

    Raises:
        UserError: a format that the network does not support.
    """
    halves = {torch.float16: network.descriptor.supports_half, torch.bfloat16: network.descriptor.supports_bfloat16}
    if precision is None:
        return torch.float16 if torch.device(device).type == "cuda" and halves[torch.float16] else torch.float32
    if not halves.get(precision, True):
        name = network.descriptor.architecture.name
        raise UserError("precision", f"a {name} does not compute in {precision}.", "Take float32, or leave it out.")
    return precision


def _read(path: Path) -> dict[str, Any]:
    """What the file holds, on the CPU."""
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise UserError(path, f"{size / 1e9:.0f} GB are too large for weights of a network that restores.")
    if path.suffix.lower() == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(path, f"half-written or damaged ({error}).", "Copy it again.") from error
    try:
        _check_zip(path, size)
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            known = file.read(2) in {b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}
        what = "it holds more than weights, which could run code" if known else "not weights of PyTorch"
        raise UserError(path, f"{what}; not read.", "Give a file of weights alone.") from error
    except Exception as error:  # torch promises none in particular for a file that is something else
        mend = "TorchScript is not read; else copy it again."
        raise UserError(path, "not weights of PyTorch, or damaged.", mend) from error
    if not isinstance(content, dict):
        mend = "Of NCSN? scorefield models import."
        raise UserError(path, f"holds a {type(content).__name__}, not the weights of one network.", mend)
    return cast(dict[str, Any], content)


def _check_zip(path: Path, size: int) -> None:
    """See that a zip does not unfold to much more than it is: `torch.save` does not compress."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unfolded = sum(part.file_size for part in archive.infolist())
    if unfolded > 2 * size + 2**20:
        raise UserError(path, f"would unfold from {size:,} bytes to {unfolded:,}; not read.", "Copy it again.")


def _checked(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The weights, once each is seen to be plain, finite and no larger than its storage."""
    mend = "Give a file of one network's weights."
    if not state or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        raise UserError(path, "holds other things than the weights of one network.", mend)
    if len(state) > _MOST_WEIGHTS:
        raise UserError(path, f"holds {len(state):,} tensors: no network that restores.", mend)
    for name, value in cast(Mapping[str, Tensor], state).items():
        if len(name) > 500 or any(int(index) >= _LONGEST for index in re.findall(r"(?<![^.])\d+(?![^.])", name)):
            raise UserError(path, f"its weight `{name[:60]}` has an index beyond {_LONGEST:,}.", mend)
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(path, f"its weight `{name}` claims to be more than the file holds.", "Copy it again.")
        if not bool(torch.isfinite(value).all()):
            raise UserError(path, f"weight `{name}` is not finite.", "Copy it again, or take another.")
    return dict(cast(Mapping[str, Tensor], state))


class _Bounded(TorchDispatchMode):
    """Refuses, before memory is taken, to build more than `limit` bytes.

    The architecture follows from names and shapes alone; those of a small file may describe a network of any size.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.left, self.calls = limit, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        self.left -= _bytes_made(func, args, kwargs or {})
        if self.left < 0 or self.calls > _MOST_CALLS:
            raise MemoryError
        return func(*args, **(kwargs or {}))


def _bytes_made(func: Any, args: Any, kwargs: Mapping[str, Any]) -> int:
    """The bytes of what an operation of torch makes from sizes; 0 for other operations."""
    name = func.overloadpacket.__name__
    width = (kwargs.get("dtype") or torch.get_default_dtype()).itemsize
    if name == "arange":  # (end), (start, end) or (start, end, step)
        first, last, step = (0, *args, 1) if len(args) == 1 else (*args, 1)[:3]
        return 8 * math.ceil(abs((last - first) / step))
    if name == "linspace":
        return 8 * int(args[2])
    if name == "repeat":
        return args[0].numel() * args[0].element_size() * math.prod(args[1])
    sizes = args[1] if name.startswith("new_") else args[0] if args else ()
    if isinstance(sizes, list | tuple) and all(isinstance(side, int) for side in sizes):
        return width * math.prod(cast(list[int], sizes))
    return 0


def _build(spandrel: Any, weights: dict[str, Tensor], path: Path) -> Any:
    held = sum(4 * value.numel() for value in weights.values())
    try:
        with _Bounded(2 * held + _SPARE):
            return spandrel.MAIN_REGISTRY.load(weights)
    except spandrel.UnsupportedModelError as error:
        raise UserError(path, "weights of an architecture that spandrel does not know.") from error
    except (MemoryError, RecursionError) as error:
        raise UserError(path, "describes a network larger than the file; not built.", "Copy it again.") from error
    except Exception as error:  # whatever an architecture meets in weights that are not quite its own
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(path, f"no network could be built from its weights: {what}.") from error


def _check_kind(spandrel: Any, descriptor: Any, path: Path) -> None:
    """Check that a network takes an image and returns one like it."""
    name = descriptor.architecture.name
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise UserError(path, f"a {name} needs a mask beside the image.", "Inpaint with a model of scorefield.")
    if descriptor.purpose == "FaceSR":
        raise UserError(path, f"a {name} restores faces alone, cut out and aligned.", "Give one for whole images.")
    channels = int(descriptor.input_channels), int(descriptor.output_channels)
    if channels not in {(1, 1), (3, 3)}:
        takes = f"a {name} that takes {channels[0]} channels and returns {channels[1]}"
        raise UserError(path, f"{takes}.", "Networks from grey to grey or RGB to RGB are read.")
