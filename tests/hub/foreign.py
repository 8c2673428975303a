"""Small networks of spandrel's architectures with random weights, saved as their authors' programs do.

Spandrel imports torchvision for two architectures that are not read here (LaMa, RestoreFormer). Where it is not
installed, a stub takes its place while spandrel is imported.
"""

import sys
from importlib import import_module
from types import ModuleType

import torch


def with_spandrel():
    """The package, imported without torchvision if need be."""
    try:
        return import_module("spandrel")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("torchvision"):
            raise
    names = ["torchvision", "torchvision.transforms", "torchvision.transforms.functional"]
    stubs = {name: ModuleType(name) for name in names}
    stubs[names[-1]].__dict__.update(InterpolationMode=None, rotate=None, normalize=None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "spandrel"]:
        del sys.modules[name]  # what the failed import left
    sys.modules.update(stubs)
    try:
        return import_module("spandrel")
    finally:
        for name in stubs:
            del sys.modules[name]


def _esrgan():
    from spandrel.architectures.ESRGAN import ESRGAN

    network = ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4, plus=False)
    return network, network.model[-1]


def _compact(scale=2, channels=3):
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    network = SRVGGNetCompact(
        num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale, act_type="prelu"
    )
    return network, None  # adds to the enlarged image


def _fbcnn():
    from spandrel.architectures.FBCNN import FBCNN

    network = FBCNN(in_nc=3, out_nc=3, nc=[8, 8, 8, 512], nb=2, act_mode="R")
    return network, network.m_tail


def _nafnet():
    from spandrel.architectures.NAFNet import NAFNet

    return NAFNet(img_channel=3, width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]), None


def _dncnn():
    from spandrel.architectures.DnCNN import DnCNN

    return DnCNN(in_nc=1, out_nc=1, nc=8, nb=8, act_mode="R"), None


def _swinir():
    from spandrel.architectures.SwinIR import SwinIR

    network = SwinIR(
        img_size=16, in_chans=3, embed_dim=12, depths=[2], num_heads=[2], window_size=8, mlp_ratio=2, upscale=1,
        upsampler="", resi_connection="1conv",
    )  # fmt: skip
    return network, None


MADE = {
    "esrgan": _esrgan,
    "compact": _compact,
    "fbcnn": _fbcnn,
    "nafnet": _nafnet,
    "dncnn": _dncnn,
    "swinir": _swinir,
    "compact3": lambda: _compact(3),
    "grey": lambda: _compact(2, 1),
}


def write(folder, name, *, key="params_ema"):
    """A .pth file of such a network, and the network itself."""
    with_spandrel()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, last = MADE[name]()
    with torch.no_grad():
        if last is not None:  # outputs about the middle of the range, which the descriptor does not clip
            last.bias.fill_(0.5)
    path = folder / f"{name}.pth"
    if name == "fbcnn":
        network.half().float()  # 29 million weights, most in layers of a fixed width: saved in half precision
    weights = {part: value.half() if name == "fbcnn" else value for part, value in network.state_dict().items()}
    torch.save({key: weights} if key else weights, path)
    return path, network.eval()
