"""Every parameterization trains by the same loop, and its model samples."""

import numpy as np
import pytest
import torch

from scorefield.samplers import sample
from scorefield.training import Trainer, read_recipe

FAMILIES = [
    *(f'kind="{kind}"' for kind in ("edm", "score", "ncsnv2", "ncsn")),
    *(f'kind="variance-preserving", predicts="{predicts}"' for predicts in ("noise", "x0", "velocity")),
    *(
        f'kind="variance-preserving", predicts="{predicts}", conditioning="index"'
        for predicts in ("noise", "x0", "velocity")
    ),
    'kind="variance-preserving", conditioning="time"',
]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameterization_trains_and_samples(tmp_path, family):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8))
    settings = [
        f'data.source="{tmp_path / "few.npy"}"',
        f"parameterization={{{family}}}",
        'noise.distribution={kind="levels", levels=5}',
        "noise.sigma_max=10.0",
        "network.widths=[8]",
        "optimizer.batch=4",
        "training.steps=2",
        "training.sample_count=2",
    ]
    model = Trainer(read_recipe("default", settings), out=tmp_path / "run").fit()
    assert torch.isfinite(sample(model, 2, steps=3)).all()
