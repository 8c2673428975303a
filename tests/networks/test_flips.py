"""The mean over flips: what it computes, that it commutes with flips, and that it is another network's in all else."""

import pytest
import torch

from oracles import lively, seeded
from scorefield.errors import UserError
from scorefield.model import Condition, ModelSpec, ScoreModel
from scorefield.networks import MLP, FlipAveraged, ResUNet, UNet
from scorefield.parameterization import EDM

FLIPS = [(), (-1,), (-2,), (-2, -1)]


def image(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def tabled():
    torch.manual_seed(0)
    return lively(ResUNet(channels=3, source_channels=3, widths=(8, 16), blocks=(1, 1), tables=True))


def test_it_is_the_mean_of_the_network_on_four_flips():
    network, x, source, label = tabled(), image(2, 3, 12, 10), image(2, 3, 12, 10, seed=1), torch.tensor([0.3, 2.0])
    tables = torch.randint(1, 99, (2, 128), generator=seeded()).float()
    parts = [network(x.flip(d), label, source.flip(d), tables=tables).flip(d) for d in FLIPS]
    assert not torch.allclose(parts[0], parts[1], atol=1e-3)  # the network itself does not commute with flips
    out = FlipAveraged(network)(x, label, source, tables=tables)
    torch.testing.assert_close(out, sum(parts) / 4)


@pytest.mark.parametrize("dims", FLIPS)
def test_it_commutes_with_flips(dims):
    network, x, source, label = FlipAveraged(tabled()), image(1, 3, 8, 8), image(1, 3, 8, 8, seed=1), torch.ones(1)
    parts = [network.network(x.flip(d), label, source.flip(d)) for d in FLIPS]
    there = network(x.flip(dims), label, source.flip(dims)).flip(dims)
    # the same four terms in another order: three roundings of sums that are no larger than that of the terms' sizes
    bound = 4 * torch.finfo(torch.float32).eps * sum(part.abs().max() for part in parts)
    assert (there - network(x, label, source)).abs().max() <= bound


def test_classes_reach_the_network():
    torch.manual_seed(0)
    network = lively(UNet(channels=1, widths=(8, 8), classes=3))
    averaged, x = FlipAveraged(network), image(2, 1, 8, 8)
    assert averaged.classes == 3 and not averaged.tables
    model = ScoreModel(network, EDM(), ModelSpec(shape=(1, 8, 8))).with_flips()
    out = [model(x, 1.0, Condition(classes=torch.tensor([k, k]))) for k in (0, 2)]
    assert model.classes == 3 and not torch.equal(*out)


def test_a_model_with_flips_shares_the_weights_and_takes_tables():
    model = ScoreModel(tabled(), EDM(), ModelSpec(shape=(3, 8, 8)))
    flipped = model.with_flips()
    assert flipped.takes_tables and flipped.spec is model.spec
    assert {p.data_ptr() for p in flipped.parameters()} == {p.data_ptr() for p in model.parameters()}


def test_a_specialist_of_a_model_with_flips_has_flips():
    special = ScoreModel(tabled(), EDM(), ModelSpec(shape=(3, 8, 8)))
    general = ScoreModel(tabled(), EDM(), special.spec, specialists={"dejpeg": lambda general: special})
    assert general.for_task("dejpeg") is special
    flipped = general.with_flips()
    assert isinstance(flipped.for_task("dejpeg").network, FlipAveraged)
    assert flipped.for_task("dejpeg").network.network is special.network
    assert flipped.for_task("inpaint") is flipped


def test_points_have_no_flips():
    model = ScoreModel(MLP(features=2), EDM(), ModelSpec(shape=(2,)))
    with pytest.raises(UserError, match="draws points, not images"):
        model.with_flips()
