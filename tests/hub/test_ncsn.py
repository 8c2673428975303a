"""Checkpoints of NCSN's and NCSNv2's authors become models that give the same scores, or one clear line."""

import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, elu, instance_norm, interpolate, max_pool2d

from oracles import seeded
from scorefield import checkpoint, score
from scorefield.errors import UserError
from scorefield.hub import import_ncsn
from scorefield.parameterization import NCSN, NCSNv2

DOWN = {  # stage: dilation (None where it does not dilate), halves
    "small": {"res1": (None, False), "res2": (None, True), "res3": (2, False), "res4": (4, False)},
    "deeper": {
        "res1": (None, False),
        "res2": (None, True),
        "res3": (None, True),
        "res4": (2, False),
        "res5": (4, False),
    },
    "deepest": {
        "res1": (None, False),
        "res2": (None, True),
        "res3": (None, True),
        "res31": (None, True),
        "res4": (2, False),
        "res5": (4, False),
    },
}
WIDTHS = {"small": (1, 2, 2, 2), "deeper": (1, 2, 2, 4, 4), "deepest": (1, 2, 2, 2, 4, 4)}
UP = {
    "small": ("refine1", "refine2", "refine3", "refine4"),
    "deeper": ("refine1", "refine2", "refine3", "refine4", "refine5"),
    "deepest": ("refine1", "refine2", "refine31", "refine3", "refine4", "refine5"),
}


class Authors:
    """The networks by the papers and the names in the published files, step by step and with no thrift.

    A weight is drawn when it is first asked for, so one call makes a checkpoint.
    """

    def __init__(self, form="small", *, levels=3, channels=1, width=4, means=True, seed=0):
        self.form, self.levels, self.channels, self.width, self.means = form, levels, channels, width, means
        self.weights, self.generator = OrderedDict(), seeded(seed)
        with torch.no_grad():
            self(torch.rand(1, channels, 16, 16), torch.zeros(1, dtype=torch.long))

    def weight(self, name, *shape, about=0.0):
        if name not in self.weights:
            spread = 0.3 if about else (2 / torch.tensor(shape[1:]).prod().item()) ** 0.5 if len(shape) > 1 else 0.3
            self.weights[name] = about + spread * torch.randn(shape, generator=self.generator)
        return self.weights[name]

    def conv(self, name, x, out, size=3, *, bias=True, dilation=1):
        weight = self.weight(f"{name}.weight", out, x.shape[1], size, size)
        added = self.weight(f"{name}.bias", out) if bias else None
        return conv2d(x, weight, added, padding=dilation * (size // 2), dilation=dilation)

    def norm(self, name, x, level):
        c = x.shape[1]
        if self.levels is None:
            gamma, alpha, beta = (self.weight(f"{name}.{part}", c)[None] for part in ("gamma", "alpha", "beta"))
        else:
            table = self.weight(f"{name}.embed.weight", self.levels, (3 if self.means else 2) * c, about=1.0)
            gamma, *alpha, beta = table[level].split(c, 1)
            alpha = alpha[0] if alpha else torch.zeros_like(gamma)
        means = x.mean((2, 3))
        means = (means - means.mean(1, keepdim=True)) / (means.var(1, keepdim=True) + 1e-5).sqrt()
        h = instance_norm(x) + (means * alpha)[..., None, None]
        return gamma[..., None, None] * h + beta[..., None, None]

    def inner(self, name, x, level):
        return x if self.levels is None else self.norm(name, x, level)

    def residual(self, name, x, level, out, dilation, halves, change):
        d, c = dilation or 1, x.shape[1]
        pooled = ".conv" if halves else ""
        h = self.conv(f"{name}.conv1", elu(self.norm(f"{name}.normalize1", x, level)), c, dilation=d)
        h = elu(self.norm(f"{name}.normalize2", h, level))
        h = self.conv(f"{name}.conv2{pooled}", h, out, dilation=d)
        if change:
            x = self.conv(f"{name}.shortcut{pooled}", x, out, 3 if dilation else 1, dilation=d)
        return avg_pool2d(x + h, 2) if halves else x + h

    def units(self, name, x, level, count):
        for i in range(1, count + 1):
            before = x
            for j in (1, 2):
                h = elu(self.inner(f"{name}.{i}_{j}_norm", x, level))
                x = self.conv(f"{name}.{i}_{j}_conv", h, x.shape[1], bias=False)
            x = x + before
        return x

    def refine(self, name, xs, level, out, *, end):
        hs = [self.units(f"{name}.adapt_convs.{i}", x, level, 2) for i, x in enumerate(xs)]
        h, size = hs[0], hs[0].shape[-2:]
        if len(hs) > 1:
            hs = [
                self.conv(f"{name}.msf.convs.{i}", self.inner(f"{name}.msf.norms.{i}", h, level), out)
                for i, h in enumerate(hs)
            ]
            h = sum(interpolate(h, size=size, mode="bilinear", align_corners=True) for h in hs)
        path = h = elu(h)
        for i in range(2):
            path = self.inner(f"{name}.crp.norms.{i}", path, level)
            path = max_pool2d(path, 5, 1, 2) if self.levels is None else avg_pool2d(path, 5, 1, 2)
            path = self.conv(f"{name}.crp.convs.{i}", path, out, bias=False)
            h = h + path
        return self.units(f"{name}.output_convs", h, level, 3 if end else 1)

    def __call__(self, x, level):
        """The score times σ for NCSNv2, the score for NCSN."""
        h = self.conv("begin_conv", 2 * x - 1, self.width)
        layers, widths = [], [self.width * width for width in WIDTHS[self.form]]
        for (name, (dilation, halves)), out in zip(DOWN[self.form].items(), widths, strict=True):
            h = self.residual(f"{name}.0", h, level, out, dilation, halves, name != "res1")
            h = self.residual(f"{name}.1", h, level, out, dilation, False, False)
            layers.append(h)
        below = []
        outs = [widths[0], *widths[:-1]]
        for name, layer, out in zip(UP[self.form], reversed(layers), reversed(outs), strict=True):
            below = [self.refine(name, [layer, *below], level, out, end=name == UP[self.form][-1])]
        return self.conv("end_conv", elu(self.norm("normalizer", below[0], level)), self.channels)


def saved(tmp_path, content, name="checkpoint.pth", **how):
    torch.save(content, tmp_path / name, **how)
    return tmp_path / name


V1 = {"form": "small", "levels": 3}
V2 = {"form": "small", "levels": None}
SIGMAS = torch.tensor([2.0, 0.5, 0.1])


def weights_of(net, *, sigmas=None, prefix=""):
    named = {f"{prefix}{name}": value.clone() for name, value in net.weights.items()}
    return OrderedDict(named if sigmas is None else {**named, f"{prefix}sigmas": sigmas})


# --- the same scores -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "levels", "means"),
    [
        pytest.param(form, levels, means, marks=() if row == column else pytest.mark.slow)
        for row, form in enumerate(("small", "deeper", "deepest"))
        for column, (levels, means) in enumerate(((3, True), (3, False), (None, True)))
    ],
)
def test_the_imported_model_gives_the_scores_of_the_network_it_came_from(form, levels, means, tmp_path):
    net = Authors(form, levels=levels, means=means, channels=3)
    content = [weights_of(net, sigmas=None if levels else SIGMAS, prefix="module."), {"state": {}}]
    model = import_ncsn(saved(tmp_path, content)).model
    x, level = torch.rand(3, 3, 16, 16, generator=seeded()), torch.tensor([0, 2, 1])
    sigma = torch.tensor(model.parameterization.sigmas)[level]
    with torch.no_grad():
        want = net(x, level) / (1 if levels else sigma[:, None, None, None])
        got = score(model, x, sigma)
    assert float((got - want).norm()) < 1e-5 * float(want.norm())


def test_ncsns_schedule_is_geometric_with_as_many_levels_as_its_tables(tmp_path):
    path = saved(tmp_path, [weights_of(Authors(**V1)), {}])
    model = import_ncsn(path).model
    assert isinstance(model.parameterization, NCSN)
    assert model.parameterization.sigmas == pytest.approx((1.0, 0.1, 0.01))
    assert (model.shape, model.value_range) == ((1, 28, 28), (0.0, 1.0))
    assert model.sigma_range == pytest.approx((0.01, 1.0))
    other = import_ncsn(path, sigma_max=4, sigma_min=0.04, size=16).model
    assert other.parameterization.sigmas == pytest.approx((4.0, 0.4, 0.04)) and other.shape == (1, 16, 16)


def test_ncsnv2s_schedule_is_the_one_in_the_file(tmp_path):
    path = saved(tmp_path, [weights_of(Authors(**V2), sigmas=SIGMAS), {}])
    model = import_ncsn(path).model
    assert isinstance(model.parameterization, NCSNv2)
    assert model.parameterization.sigmas == pytest.approx((2.0, 0.5, 0.1))
    other = import_ncsn(path, sigma_max=4, sigma_min=0.04).model
    assert other.parameterization.sigmas == pytest.approx((4.0, 0.4, 0.04))


def test_the_average_is_taken_unless_the_last_weights_are_requested(tmp_path):
    last, average = Authors(**V2), Authors(**V2, seed=1)
    path = saved(tmp_path, [weights_of(last, sigmas=SIGMAS, prefix="module."), {}, 3, 100, dict(average.weights)])
    found, raw = import_ncsn(path), import_ncsn(path, raw=True)
    assert (found.weights, raw.weights) == ("average", "last")
    assert torch.equal(found.model.network.first.weight, average.weights["begin_conv.weight"])
    assert torch.equal(raw.model.network.first.weight, last.weights["begin_conv.weight"])
    assert found.model.parameterization.sigmas == pytest.approx((2.0, 0.5, 0.1))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_alone_are_read_too_and_so_is_the_old_file_format(prefix, zipped, tmp_path):
    net = Authors(**V1)
    path = saved(tmp_path, weights_of(net, prefix=prefix), _use_new_zipfile_serialization=zipped)
    found = import_ncsn(path)
    assert torch.equal(found.model.network.last.weight, net.weights["end_conv.weight"])
    assert found.weights == "last"


def test_rescaled_means_pixels_from_minus_one_to_one(tmp_path):
    net = Authors(**V1)
    model = import_ncsn(saved(tmp_path, [weights_of(net)]), rescaled=True).model
    assert model.value_range == (-1.0, 1.0)
    x, level = torch.rand(2, 1, 16, 16, generator=seeded()), torch.tensor([1, 1])
    with torch.no_grad():
        got = score(model, 2 * x - 1, torch.full((2,), 0.1))
        assert float((got - net(x, level)).norm()) < 1e-5 * float(got.norm())


def test_an_imported_model_is_saved_and_loaded_like_any_other(tmp_path):
    found = import_ncsn(saved(tmp_path, [weights_of(Authors(**V2), sigmas=SIGMAS)]))
    again = checkpoint.load(checkpoint.save(found.model, tmp_path / "model.safetensors"))
    x, sigma = torch.rand(2, 1, 16, 16, generator=seeded()), torch.tensor([0.5, 0.1])
    with torch.no_grad():
        assert torch.equal(again(x, sigma), found.model(x, sigma))
    assert again.parameterization.sigmas == found.model.parameterization.sigmas


def test_what_was_found_is_reported(tmp_path):
    facts = import_ncsn(saved(tmp_path, [weights_of(Authors("deeper", levels=3, means=False))])).facts
    assert facts["network"] == "NCSN, deeper" and facts["width"] == 4 and facts["channels"] == 1
    assert facts["schedule"] == "3 noise levels, 1 to 0.01" and facts["weights"] == "last"
    assert facts["parameters"] == sum(w.numel() for w in Authors("deeper", means=False).weights.values())


# --- what does not fit ---------------------------------------------------------------------------


def refused(path, match, **settings):
    with pytest.raises(UserError, match=match) as caught:
        import_ncsn(path, **settings)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_counted_and_the_first_of_each_kind_is_named(tmp_path):
    net = Authors(**V1)
    content = weights_of(net, prefix="module.")
    del content["module.res1.0.conv1.weight"], content["module.res3.1.normalize2.embed.weight"]
    content["module.res2.0.conv2.conv.bias"] = torch.zeros(5)
    content["module.res2.0.conv2.weight_u"] = torch.zeros(5)
    refused(
        saved(tmp_path, [content]),
        r"2 missing \(first res1\.0\.conv1\.weight\), "
        r"1 of another shape \(first res2\.0\.conv2\.conv\.bias \(5,\) for \(8,\)\), "
        r"1 unknown \(first res2\.0\.conv2\.weight_u\)",
    )


def test_a_network_with_other_normalizations_is_refused(tmp_path):
    content = weights_of(Authors(**V1))
    for name in [name for name in content if "embed" in name]:
        content[name.replace("embed.weight", "bn.running_mean")] = content.pop(name)[0]
    refused(saved(tmp_path, [content]), r"missing \(first res1.*other normalizations")


@pytest.mark.parametrize(
    "content",
    [
        {"a": torch.zeros(3)},
        [{"state": {}, "param_groups": []}, {}],
        [],
        torch.zeros(3),
        {"begin_conv.weight": torch.zeros(3)},
        {"begin_conv.weight": "none"},
    ],
)
def test_a_checkpoint_of_something_else_is_refused(content, tmp_path):
    refused(saved(tmp_path, content), r"checkpoint\.pth: (not a network|no weights)")


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    class Code:
        def __reduce__(self):
            return (print, ("code ran",))

    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as file:
        file.writestr("notes.txt", "hello")
    (tmp_path / "text.pth").write_text("hello, this is no checkpoint\n" * 10)
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(Code()))
    whole = saved(tmp_path, [weights_of(Authors(**V1))], "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    saved(tmp_path, [Code()], "run.pth")
    for name in ("zip", "text", "empty", "code", "half", "run"):
        refused(tmp_path / f"{name}.pth", rf"{name}\.pth: (not a checkpoint|it holds more than tensors)")
    refused(tmp_path / "none.pth", "no such file")
    refused(tmp_path, "no such file")


def test_code_in_a_file_does_not_run(tmp_path, capsys):
    class Code:
        def __reduce__(self):
            return (print, ("code ran",))

    refused(saved(tmp_path, [Code()]), "more than tensors")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({}, "no schedule.*--sigma-max, --sigma-min and --levels"),
        ({"levels": 3}, "both --sigma-max and --sigma-min"),
        ({"levels": 3, "sigma_max": 1.0, "sigma_min": 2.0}, "0 < sigma_min < sigma_max"),
    ],
)
def test_a_schedule_that_is_lacking_or_rises_is_named(settings, match, tmp_path):
    refused(saved(tmp_path, dict(Authors(**V2).weights)), match, **settings)


def test_a_schedule_in_the_file_that_rises_is_refused(tmp_path):
    refused(saved(tmp_path, [weights_of(Authors(**V2), sigmas=SIGMAS.flip(0))]), "must decrease")


def test_a_size_that_the_network_cannot_take_is_refused(tmp_path):
    refused(saved(tmp_path, [weights_of(Authors("deepest"))]), "divide by 8", size=20)
