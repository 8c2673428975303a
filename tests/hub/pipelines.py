"""Tiny pipelines of diffusers with random weights, as the package itself writes them."""

import torch

from oracles import lively, seeded
from scorefield.hub.export import export_diffusers
from scorefield.model import ModelSpec, ScoreModel
from scorefield.networks import UNet
from scorefield.parameterization import VariancePreserving
from scorefield.schedules import linear_beta

PLAIN = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 8),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
SKIPPING = {  # the blocks of NCSN++
    **PLAIN,
    "in_channels": 3,
    "out_channels": 3,
    "time_embedding_type": "fourier",
    "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
    "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D"),
    "block_out_channels": (32, 32),
    "norm_num_groups": None,
    "downsample_padding": 0,
    "mid_block_scale_factor": 1.41421356237,
}


def unet(settings=PLAIN, **others):
    import diffusers

    torch.manual_seed(0)
    return lively(diffusers.UNet2DModel(**{**settings, **others}), spread=0.05).eval()


def save_ddpm(folder, *, settings=PLAIN, **scheduler):
    """A DDPMPipeline's folder, with its network and its scheduler."""
    import diffusers

    network = unet(settings)
    distribution = diffusers.DDPMScheduler(**{"num_train_timesteps": 50, "beta_end": 0.2, **scheduler})
    diffusers.DDPMPipeline(network, distribution).save_pretrained(folder)
    return network, distribution


def ours(*, widths=(8, 16), groups=4, size=8, channels=1, predicts="noise", sigmas=None, **settings):
    """A model of ours conditioned on the step, with lively weights."""
    torch.manual_seed(0)
    network = lively(UNet(channels=channels, widths=widths, groups=groups, **settings))
    schedule = tuple((linear_beta(1e-3, 0.2, 50) if sigmas is None else sigmas).tolist())
    return ScoreModel(
        network,
        VariancePreserving(predicts=predicts, conditioning="index", sigmas=schedule),
        ModelSpec(shape=(channels, size, size), sigma_range=(schedule[-1], schedule[0])),
    ).eval()


def exported(folder, **settings):
    """A model of ours and the folder that it was written to."""
    model = ours(**settings)
    return model, export_diffusers(model, folder)


def images(n=2, *, channels=1, size=8, seed=0):
    return torch.randn(n, channels, size, size, generator=seeded(seed))
