"""The peer: `denoising-diffusion-pytorch` 2.3.4, trained and sampled as its own Trainer does.

Its defaults are kept: v-prediction of 1000 steps on the sigmoid schedule, Adam (0.9, 0.99), gradients
clipped at norm 1, an average of decay 0.995 updated every 10 steps. Wherever its documentation leaves a
choice, the one that favours it in a few minutes is taken:

- Trainer's own batch of 16 at 1e-4, not the README's 2 × 32 at 8e-5: four times the updates per image
  at a higher rate (`--batch 32 --accumulate 2 --lr 8e-5` is the README's recipe).
- Images lie in memory, loading costs nothing, and the Trainer's horizontal flips, which would teach it
  shoes that point the other way, are left out.
- Its average is slow at a few hundred steps, so the last weights are kept too (`--weights online`).

It lives in a folder of its own, outside the environment, without torchvision, accelerate and scipy:
they serve only its image folder, its Trainer and an option that is off; stubs stand in on import.

Example:
    python -m benchmarks.peer --parameters 370000 --minutes 3 --out /tmp/peer
"""

import argparse
import functools
import gzip
import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from scorefield.files import atomic, cache_dir, write_atomic

PINS = ("denoising-diffusion-pytorch==2.3.4", "einops==0.8.2", "ema-pytorch==0.8.3", "tqdm==4.70.1")
STUBS = ("torchvision", "accelerate", "scipy", "scipy.optimize")
UNUSED = ("transforms", "utils", "Accelerator", "linear_sum_assignment")  # what it imports from them
DATA = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")


@dataclass(frozen=True, kw_only=True)
class Form:
    """The settings of its U-Net; everything else, as the four attention heads, is its default."""

    dim: int
    dim_mults: tuple[int, ...] = (1, 2, 4)
    attn_dim_head: int = 32


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How it is trained."""

    batch: int = 16  # images per gradient
    accumulate: int = 1  # gradients per update
    lr: float = 1e-4
    precision: str = "float32"  # all that its Trainer offers on a processor, or "bfloat16" by autocast
    seed: int = 0  # of weights, order and noise
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The state of training when the clock, which runs in training alone, passes a mark."""

    minute: float
    steps: int
    images_per_second: float
    loss: float  # mean over the last 100 gradients
    weights: dict[str, nn.Module]  # "ema", which its Trainer samples, and "online"


def install(target: Path) -> Path:
    """Install the pinned packages into the folder `target`, once, without their dependencies."""
    done = target / "pins.json"
    if not done.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", str(target), *PINS], check=True)
        write_atomic(done, json.dumps(PINS))
    return target


@functools.cache
def peer() -> tuple[ModuleType, ModuleType]:
    """Its package and that of its moving average, installed and imported on the first call."""
    target = install(cache_dir() / "peer-2.3.4")
    os.environ.setdefault("TQDM_DISABLE", "1")  # a bar per sampling call otherwise
    stubs = {name: ModuleType(name) for name in STUBS if name not in sys.modules}
    for stub in stubs.values():
        vars(stub).update(dict.fromkeys(UNUSED))
    sys.modules.update(stubs)
    sys.path.insert(0, str(target))
    try:
        return tuple(map(importlib.import_module, ("denoising_diffusion_pytorch", "ema_pytorch")))
    finally:
        sys.path.remove(str(target))
        for name in stubs:  # the rest of the process must not meet them
            del sys.modules[name]


def parameter_count(form: Form) -> int:
    """Parameters of its U-Net on grey images, counted without allocating them."""
    with torch.device("meta"):
        unet = peer()[0].Unet(**asdict(form), channels=1)
    return sum(p.numel() for p in unet.parameters())


def choose(parameters: int) -> Form:
    """The form whose count is nearest to `parameters` from above.

    Three resolutions (28 → 14 → 7) in its usual doublings; heads of its 32 channels, or of 16, which
    suit so narrow a network and make it faster.
    """
    settings = product(range(8, 129, 4), ((1, 2, 4), (1, 2, 3), (1, 2, 2)), (16, 32))
    forms = [Form(dim=dim, dim_mults=mults, attn_dim_head=head) for dim, mults, head in settings]
    counts = {form: count for form in forms if (count := parameter_count(form)) >= parameters}
    return min(counts, key=counts.__getitem__)


def construct(form: Form) -> nn.Module:
    """Its diffusion, with its defaults, around its U-Net, for grey images of 28 × 28."""
    unet = peer()[0].Unet(**asdict(form), channels=1)
    return peer()[0].GaussianDiffusion(unet, image_size=28)


def train(images: Tensor, minutes: Sequence[float], *, form: Form, recipe: Recipe) -> Iterator[Mark]:
    """Train on `images`, (N, 1, 28, 28), uint8, and yield at each mark of training time, increasing.

    What the caller does meanwhile is not on the clock.
    """
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    model = construct(form)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, betas=(0.9, 0.99))
    ema = peer()[1].EMA(model, beta=0.995, update_every=10)
    batches = (i for _ in iter(int, 1) for i in torch.randperm(len(images)).split(recipe.batch))
    steps, clock, losses = 0, 0.0, []
    for minute in minutes:
        model.train()
        while clock < 60 * minute:
            start = time.perf_counter()
            for _ in range(recipe.accumulate):
                clean = images[next(batches)] / 255
                with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                    loss = model(clean) / recipe.accumulate
                loss.backward()
                losses.append(loss.item() * recipe.accumulate)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.update()
            steps += 1
            clock += time.perf_counter() - start
        seen, weights = steps * recipe.batch * recipe.accumulate, {"ema": ema.ema_model, "online": model}
        loss = float(np.mean(losses[-100:]))
        yield Mark(minute=minute, steps=steps, images_per_second=seen / clock, loss=loss, weights=weights)


def sample(model: nn.Module, n: int, *, sampling_timesteps: int = 250, batch: int = 64, seed: int = 0) -> Tensor:
    """`n` images (n, 1, 28, 28), uint8, in float32: by DDIM, or at all 1000 steps ancestral."""
    model.eval()
    model.sampling_timesteps = sampling_timesteps
    model.is_ddim_sampling = sampling_timesteps < model.num_timesteps
    with torch.random.fork_rng():  # training between marks goes on undisturbed
        torch.manual_seed(seed)
        drawn = [model.sample(batch_size=min(batch, n - start)) for start in range(0, n, batch)]
    return (torch.cat(drawn) * 255).round().clamp(0, 255).to(torch.uint8)


def load(path: Path, *, weights: str = "ema") -> nn.Module:
    """The model of a checkpoint, with its "ema" or its "online" weights."""
    content = torch.load(path, weights_only=True)
    model = construct(Form(**content["form"]))
    model.load_state_dict(content[weights])
    return model


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--out", type=Path, required=True, help="folder for checkpoints, samples and report.json")
    option("--data", type=Path, default=DATA, help="images in IDX format, gzipped")
    option("--parameters", type=int, default=370_000, help="count that the peer must reach")
    option("--minutes", type=float, nargs="+", default=[3.0], help="marks of training time")
    option("--weights", choices=["ema", "online"], nargs="+", default=["ema"])
    option("--samples", type=int, default=1000)
    option("--sampling-timesteps", type=int, nargs="+", default=[250])
    option("--again", action="store_true", help="only sample, from the checkpoints in --out")
    option("--peer-precision", dest="precision", choices=["float32", "bfloat16"], default="float32")
    for name in ("batch", "accumulate", "lr", "seed", "threads"):
        default = getattr(Recipe(), name)
        option(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def train_and_keep(args: argparse.Namespace) -> dict:
    """Train to each mark, keep its weights, and return the report so far."""
    form = choose(args.parameters)
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})
    chips = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    machine = {"processors": chips, "torch": torch.__version__, "load": os.getloadavg()}
    pixels = np.frombuffer(gzip.decompress(args.data.read_bytes()), np.uint8, offset=16).copy()
    report = {"parameters": parameter_count(form), "form": asdict(form), "recipe": asdict(recipe)}
    report |= {"machine": machine, "training": [], "sampling": []}
    for mark in train(torch.from_numpy(pixels).view(-1, 1, 28, 28), args.minutes, form=form, recipe=recipe):
        states = {name: model.state_dict() for name, model in mark.weights.items()}
        with atomic(args.out / f"{mark.minute:g}m.pt") as part:
            torch.save({"form": asdict(form), **states}, part)
        report["training"].append({k: v for k, v in vars(mark).items() if k != "weights"})
    return report


def main() -> None:
    """Train, or take up what was trained; then sample at each mark."""
    args = arguments()
    torch.set_num_threads(args.threads)
    path = args.out / "report.json"
    report = json.loads(path.read_text()) if args.again else train_and_keep(args)
    write_atomic(path, json.dumps(report, indent=1))
    for minute, weights, steps in product(args.minutes, args.weights, args.sampling_timesteps):
        model, name = load(args.out / f"{minute:g}m.pt", weights=weights), f"{minute:g}m-{weights}-{steps}"
        start = time.perf_counter()
        drawn = sample(model, args.samples, sampling_timesteps=steps, seed=args.seed)
        rate = args.samples / (time.perf_counter() - start)
        np.savez(args.out / f"{name}.npz", images=drawn.numpy())
        report["sampling"].append({"name": name, "samples": args.samples, "images_per_second": rate})
        write_atomic(path, json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
