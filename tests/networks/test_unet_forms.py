"""The U-Net in the form of Dhariwal & Nichol (2021), which is Palette's: what it computes, and its size."""

import json
from dataclasses import asdict

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, group_norm, linear, silu

from oracles import lively, seeded
from scorefield.errors import UserError
from scorefield.networks import UNet, from_card, to_card
from scorefield.networks.layers import Attention
from scorefield.training import read_recipe

FORM = {
    "channels": 3, "source_channels": 3, "widths": (8, 16, 16), "blocks": 2, "attention": (1, 2),
    "head_width": 8, "groups": 4, "resample": "residual", "middle": "attention",
}  # fmt: skip


def image(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


# --- an oracle: the published network once more, from its description ------------------------------


def published(weights, x, gamma, *, widths, blocks, attention, head_width, groups):
    """Blocks by name, in the order of App. A of Dhariwal & Nichol; x is concatenated with its source."""

    def apply(what, name, x, **form):
        return what(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **form)

    def norm(name, x):
        return group_norm(x, groups, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def twice(x):
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    def block(name, x, resize=lambda x: x):
        hidden = apply(conv2d, f"{name}.conv1", resize(silu(norm(f"{name}.norm1", x))), padding=1)
        scale, shift = apply(linear, f"{name}.tell", silu(embedding))[..., None, None].chunk(2, 1)
        hidden = silu(norm(f"{name}.norm2", hidden) * (1 + scale) + shift)
        hidden = apply(conv2d, f"{name}.conv2", hidden, padding=1)
        straight = resize(x)
        return hidden + (apply(conv2d, f"{name}.skip", x) if f"{name}.skip.weight" in weights else straight)

    def attend(name, x):
        q, k, v = apply(conv2d, f"{name}.qkv", norm(f"{name}.norm", x)).flatten(2).chunk(3, 1)
        heads = zip(*(part.split(head_width, 1) for part in (q, k, v)), strict=True)
        mixed = [v @ (q.mT @ k / head_width**0.5).softmax(-1).mT for q, k, v in heads]
        return x + apply(conv2d, f"{name}.out", torch.cat(mixed, 1).view_as(x))

    half = widths[0] // 2
    angles = gamma[:, None] * 10_000 ** (-torch.arange(half) / half)
    embedding = apply(linear, "embed.1", torch.cat([angles.cos(), angles.sin()], 1))
    embedding = apply(linear, "embed.3", silu(embedding))

    skips, place = [apply(conv2d, "first", x, padding=1)], 0
    for level in range(len(widths)):
        for number in range(-(level > 0), blocks):
            name, place = f"down.{place}", place + 1
            x = block(name, skips[-1], resize=(lambda x: avg_pool2d(x, 2)) if number < 0 else lambda x: x)
            skips.append(attend(f"{name}.attend", x) if level in attention and number >= 0 else x)
    x = block("after", attend("middle.attend", block("middle", skips[-1])))
    place = 0
    for level in reversed(range(len(widths))):
        for _ in range(blocks + 1):
            x = block(f"up.{place}", torch.cat([x, skips.pop()], 1))
            x = attend(f"up.{place}.attend", x) if level in attention else x
            place += 1
        if level > 0:
            x, place = block(f"up.{place}", x, resize=twice), place + 1
    return apply(conv2d, "last", silu(norm("norm", x)), padding=1)


@pytest.mark.parametrize("attention", [(), (1, 2)], ids=str)
def test_it_computes_the_published_function(attention):
    network = lively(UNet(**{**FORM, "attention": attention}))
    x, source, gamma = image(2, 3, 16, 8), image(2, 3, 16, 8, seed=1), torch.tensor([0.3, 0.98])
    settings = {key: FORM[key] for key in ("widths", "blocks", "head_width", "groups")}
    with torch.no_grad():
        expected = published(network.state_dict(), torch.cat([x, source], 1), gamma, attention=attention, **settings)
        torch.testing.assert_close(network(x, gamma, source), expected, rtol=1e-4, atol=1e-4)


def test_palettes_recipe_builds_the_published_size():
    """ClassifierFreeGuidance-diffusion's network for 256 pixels has 553,838,086 weights.

    Its 1,000 classes are rows of 1,024; it gives a variance for each of three channels; it takes no source.
    """
    section = asdict(read_recipe("palette").network)
    del section["energy"]
    with torch.device("meta"):
        network = from_card({"kind": "unet", **section, "channels": 3, "source_channels": 3})
    count = sum(weight.numel() for weight in network.parameters())
    assert count == 553_838_086 - 1000 * 1024 - 3 * (9 * 256 + 1) + 3 * 9 * 256 == 552_814_083


# --- its settings, one by one ----------------------------------------------------------------------


def test_each_form_has_a_card_and_takes_any_size():
    for form in ({"resample": "residual"}, {"middle": "attention"}, {"attention_pieces": 2}, FORM):
        network = lively(UNet(**{"channels": 3, "source_channels": 3, "widths": (8, 8, 16), "attention": (2,), **form}))
        card = json.loads(json.dumps(to_card(network)))
        again = from_card(card)
        again.load_state_dict(network.state_dict())
        assert to_card(again) == card
        x, source = image(2, 3, 13, 9), image(2, 3, 13, 9, seed=1)
        with torch.no_grad():
            output = network(x, torch.zeros(2), source)
            assert torch.equal(again.eval()(x, torch.zeros(2), source), output)
        assert output.shape == x.shape and bool(output.isfinite().all())


def test_the_gradient_reaches_every_weight_of_the_published_form():
    network = lively(UNet(**FORM))
    network(image(2, 3, 8, 8), torch.tensor([0.3, 0.9]), image(2, 3, 8, 8, seed=1)).square().sum().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert silent == []


def test_checkpointing_changes_no_number_and_calls_every_block_twice():
    networks = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = lively(UNet(**FORM, dropout=0.3, checkpointing=checkpointing)).train()
        calls = []
        network.middle.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(1)  # of dropout
        loss = network(image(2, 3, 8, 8), torch.tensor([0.3, 0.9]), image(2, 3, 8, 8, seed=1)).square().sum()
        loss.backward()
        networks.append((loss, [p.grad for p in network.parameters()], len(calls)))
    (loss, grads, once), (again, same, twice) = networks
    assert torch.equal(loss, again) and all(torch.equal(a, b) for a, b in zip(grads, same, strict=True))
    assert (once, twice) == (1, 2)


def test_attention_in_pieces_is_attention_of_each_piece():
    whole = lively(Attention(8, 4, pieces=1))
    parts = lively(Attention(8, 4, pieces=2))
    parts.load_state_dict(whole.state_dict())
    whole.norm = parts.norm = torch.nn.Identity()  # whose means are those of the whole image
    x = image(2, 8, 4, 6)
    with torch.no_grad():
        expected = torch.cat([torch.cat([whole(part) for part in row.chunk(2, 3)], 3) for row in x.chunk(2, 2)], 2)
        torch.testing.assert_close(parts(x), expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(whole(x), expected, atol=1e-2)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"resample": "residuals"}, "network.resample: no such kind 'residuals'. Did you mean `residual`"),
        ({"middle": "attend"}, "network.middle: no such kind 'attend'"),
        ({"attention_pieces": 0}, "network.attention_pieces: must be 1 or more, got 0"),
    ],
    ids=str,
)
def test_impossible_forms_are_refused(wrong, line):
    with pytest.raises(UserError, match=line):
        UNet(channels=3, **wrong)
