"""Quality against training time on all of Fashion-MNIST, beside the peer; quality against evaluations.

Both train from scratch on the same images with the same number of threads and are judged by the same
classifier's features, against the same test set, with the same number of samples. The clock of ours runs
through everything a user waits for in `Trainer.fit` (its logs, grids and checkpoints); the peer's runs
through its updates alone.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import peer
from scorefield.data.datasets import open_images
from scorefield.data.grids import grid, save_image
from scorefield.data.image import to_uint8
from scorefield.metrics.distances import frechet_distance, inception_score, kernel_distance
from scorefield.metrics.features import classifier_features
from scorefield.model import ScoreModel
from scorefield.samplers import sample
from scorefield.training import Trainer, read_recipe

HEUN_STEPS = (3, 5, 9, 18)  # 5, 9, 17 and 35 evaluations: Heun's counts are odd


class Judge:
    """Distances to Fashion-MNIST's test set on the features of a classifier of its training set."""

    def __init__(self, data: Path) -> None:
        self.train, self.test = open_images(data), open_images(data, split="test")
        assert self.train.labels is not None
        self.features = classifier_features(self.train.images, self.train.labels, name="fashion-mnist")
        self.real = self.features(self.test.images).features

    def __call__(self, images: Tensor) -> dict[str, float]:
        """Fréchet and kernel distance and inception-type score of uint8 images (N, 1, 28, 28)."""
        found = self.features(images)
        assert found.probabilities is not None
        return {
            "n": len(images),
            "FD": frechet_distance(found.features, self.real),
            "KD": kernel_distance(found.features, self.real)[0],
            "IT": inception_score(found.probabilities)[0],
        }


def ours(
    data: Path, minutes: Sequence[float], out: Path, settings: Sequence[str] = ()
) -> Iterator[tuple[Trainer, ScoreModel, dict[str, Any]]]:
    """Train the default recipe and yield trainer, model and facts at each mark, in minutes."""
    recipe = read_recipe("default", [f'data.source="{data}"', *settings])
    trainer = Trainer(recipe, out=out)
    for minute in minutes:
        trainer.stop_after = 60 * minute - trainer.seconds
        model = trainer.fit()
        facts = {
            "minute": minute,
            "parameters": sum(p.numel() for p in model.parameters()),
            "steps": trainer.step,
            "images_per_second": trainer.step * recipe.optimizer.batch / trainer.seconds,
        }
        yield trainer, model, facts


def draw(model: ScoreModel, n: int, steps: int) -> tuple[Tensor, float]:
    """N samples as uint8, and images per second."""
    start = time.perf_counter()
    images = to_uint8(sample(model, n, steps=steps, batch=125), model.value_range).cpu()
    return images, n / (time.perf_counter() - start)


def run(
    data: Path,
    minutes: Sequence[float],
    out: Path,
    *,
    samples: int,
    peer_minutes: Sequence[float],
    peer_samples: int,
) -> dict[str, Any]:
    """Both, and the floor: as many real training images against the test set."""
    judge = Judge(data)
    train = open_images(data)
    results: dict[str, Any] = {
        "judge": judge.features.name,
        "accuracy": judge.features.facts.get("held_out_accuracy"),
        "real": judge(train.images[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:samples]]),
        "ours": [],
        "evaluations": [],
        "peer": [],
    }
    model, parameters = None, 0
    for trainer, model, facts in ours(data, minutes, out / "ours"):
        images, rate = draw(model, samples, 18)
        results["ours"].append(facts | judge(images) | {"samples_per_second": rate})
        results["ours"][-1]["FD_at_peer_n"] = judge(images[:peer_samples])["FD"]
        save_image(grid(images[:64]), out / f"ours-{facts['minute']:g}m.png")
        trainer.save()
        parameters = facts["parameters"]
        print(results["ours"][-1], flush=True)
    assert model is not None
    for steps in HEUN_STEPS:
        images, rate = draw(model, samples, steps)
        entry = {"evaluations": 2 * steps - 1, "samples_per_second": rate} | judge(images)
        results["evaluations"].append(entry)
        print(entry, flush=True)
    if peer_minutes:
        results["peer"] = list(run_peer(judge, train.images, peer_minutes, out, parameters, peer_samples))
    return results


def run_peer(
    judge: Judge, images: Tensor, minutes: Sequence[float], out: Path, parameters: int, samples: int
) -> Iterator[dict[str, Any]]:
    """The peer with at least as many parameters, sampled by its 250 DDIM steps.

    Of its averaged and its last weights those count that draw better 100 samples in 50 steps: after a few
    minutes its average still lags.
    """
    form = peer.choose(parameters)
    for mark in peer.train(images, minutes, form=form, recipe=peer.Recipe(threads=torch.get_num_threads())):
        probe = {
            name: judge(peer.sample(weights, 100, sampling_timesteps=50))["FD"]
            for name, weights in mark.weights.items()
        }
        name = min(probe, key=probe.__getitem__)
        start = time.perf_counter()
        photos = peer.sample(mark.weights[name], samples)
        rate = samples / (time.perf_counter() - start)
        save_image(grid(photos[:64]), out / f"peer-{mark.minute:g}m.png")
        facts = {
            "minute": mark.minute,
            "parameters": peer.parameter_count(form),
            "steps": mark.steps,
            "images_per_second": mark.images_per_second,
        }
        entry = facts | {"weights": name, "samples_per_second": rate} | judge(photos)
        print(entry, flush=True)
        yield entry
