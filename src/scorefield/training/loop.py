"""The training loop.

Adam on an objective, with a warm-up of the learning rate, a bound on the gradient's norm, and a moving average
of the weights (`training.ema`), which sample grids and the saved model use.

A run can stop at any step, by its length, by the clock or by a signal, and resumes exactly where it stopped.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from scorefield import checkpoint
from scorefield.data.grids import save_image
from scorefield.errors import UserError
from scorefield.files import write_atomic
from scorefield.model import ScoreModel
from scorefield.noise_distributions import NoiseDistribution, draw_sigma
from scorefield.training.batch import Batch, Loader
from scorefield.training.checks import (
    can_resume,
    check_images,
    check_labels,
    check_same_data,
    check_size,
    init_from,
    inner_precision,
    with_noise_found,
)
from scorefield.training.data import DataSource, open_data
from scorefield.training.ema import averaging
from scorefield.training.log import RunLog
from scorefield.training.losses import Objective, hide_classes
from scorefield.training.previews import restored_grid, sample_grid
from scorefield.training.recipe import Recipe, build_model
from scorefield.training.signals import Interrupted, recorded_signals
from scorefield.training.state import MODEL, RECIPE, SAMPLES, STATE, load_state, save_state


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a run.

    Args:
        step: steps made.
        steps: steps to make.
        seconds: training time in all sessions.
        share: of the way to the end, in steps or by the clock, whichever is further.
        loss: mean since the last report.
    """

    step: int
    steps: int
    seconds: float
    share: float
    loss: float


class Callback(Protocol):
    """What a Trainer calls on its way."""

    def on_step(self, trainer: "Trainer", step: int, loss: Tensor) -> None:
        """After each step.

        Args:
            trainer: with the model, its optimizer and its average.
            step: steps made.
            loss: of the step, a tensor of one number; reading it from a GPU forces a synchronisation.
        """
        ...

    def on_checkpoint(self, trainer: "Trainer", path: Path) -> None:
        """After the averaged model was saved to `path`."""
        ...


class Trainer:
    """Trains the model of a recipe.

    Args:
        recipe: every setting of the run.
        out: the run's folder, free unless the run is resumed.
        data: the images: open data, a torch Dataset (see `training.data.DatasetImages`), a tensor (N, C, H, W)
            of uint8, a path or a bundled name; by default what `recipe.data` names.
        objective: replaces the recipe's objective, see `training.losses.Objective`.
        callbacks: called after each step and each checkpoint.
        stop_after: seconds of this run, from its start or resumption, after which it saves and stops.
        resume: continue the run in `out`, if there is one.
        device: a torch device, or "auto".
        report: called at each row of the log.

    Raises:
        UserError: a setting or data that cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        out: str | Path,
        data: DataSource | None = None,
        objective: Objective | None = None,
        callbacks: Sequence[Callback] = (),
        stop_after: float | None = None,
        resume: bool = False,
        device: str = "auto",
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        self.out, self.stop_after, self.report, self.callbacks = Path(out), stop_after, report, tuple(callbacks)
        if stop_after is not None and not stop_after > 0:
            raise UserError("stop_after", f"training needs a length, got {stop_after:g} s.")
        if objective is not None:
            recipe = replace(recipe, objective=objective)
        resumed = can_resume(recipe, self.out, resume=resume)
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.data = open_data(data, recipe)
        check_images(self.data)
        check_labels(recipe, self.data)
        recipe = with_noise_found(recipe, self.data, self.out if resumed else None)
        self.recipe = recipe
        torch.manual_seed(recipe.training.seed)
        model = build_model(recipe, self.data.shape, self.data.class_count).to(self.device)
        self.model = model.with_precision(inner_precision(recipe, self.device))
        check_size(self.model)
        if recipe.training.init and not resumed:
            init_from(self.model, recipe.training.init)
        settings = recipe.optimizer
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), settings.lr, betas=settings.betas, eps=settings.eps, fused=True
        )
        self.average = AveragedModel(
            self.model.network, multi_avg_fn=averaging(recipe.average.decay, recipe.average.span)
        )
        self.generator = torch.Generator(self.device).manual_seed(recipe.training.seed)
        self.step, self.seconds = 0, 0.0
        if resumed and (state := load_state(self.out)) is not None:
            self._restore(state)

    @property
    def averaged(self) -> ScoreModel:
        """The model with the averaged weights."""
        return ScoreModel(
            self.average.module, self.model.parameterization, self.model.spec, precision=self.model.precision
        )

    def summary(self) -> str:
        """The network, its size and where it runs, in a line."""
        parameters = sum(weight.numel() for weight in self.model.parameters())
        precision = str(self.model.precision).removeprefix("torch.")
        shape = "×".join(str(side) for side in self.model.shape)
        return f"{self.recipe.network.kind}, {parameters:,} parameters, {shape}, {precision} on {self.device}"

    def fit(self) -> ScoreModel:
        """Train until the recipe's steps are made or the time is over; returns the averaged model.

        Raises:
            Interrupted: a signal came; the run is saved.
            RuntimeError: the loss is not finite; the last checkpoint stands.
        """
        recipe, rules = self.recipe, self.recipe.training
        write_atomic(self.out / RECIPE, recipe.to_toml())
        distribution = recipe.noise_levels.distribution
        before, started = self.seconds, time.perf_counter()
        saved = previewed = started
        losses: list[Tensor] = []
        norms: list[Tensor] = []
        loading, window, window_step = 0.0, started, self.step
        self.model.train()
        with (
            Loader(recipe, self.data, self.device) as loader,
            RunLog(self.out, step=self.step) as log,
            recorded_signals() as caught,
        ):
            while self.step < rules.steps:
                start = time.perf_counter()
                batch = loader(self.step)
                loading += time.perf_counter() - start
                loss, norm = self._update(batch, distribution)
                losses.append(loss)
                norms.append(norm)
                self.step += 1
                for callback in self.callbacks:
                    callback.on_step(self, self.step, loss)
                now = time.perf_counter()
                self.seconds = before + now - started
                over = bool(caught) or (self.stop_after is not None and now - started >= self.stop_after)
                last = over or self.step == rules.steps
                saving = last or now - saved >= rules.save_every
                logging = last or self.step % rules.log_every == 0
                mean = self._checked_mean(losses, norms) if saving or logging else math.nan
                if logging:
                    made = self.step - window_step
                    log.row({
                        "step": self.step,
                        "images": self.step * recipe.optimizer.batch,
                        "seconds": self.seconds,
                        "loss": mean,
                        "lr": self.optimizer.param_groups[0]["lr"],
                        "gradient_norm": float(torch.stack(norms).mean()),
                        "images_per_second": made * recipe.optimizer.batch / (now - window),
                        "data_share": loading / (now - window),
                    })  # fmt: skip
                    if self.report is not None:
                        self.report(self._progress(mean, now - started))
                    losses, norms, loading, window, window_step = [], [], 0.0, now, self.step
                if last or now - previewed >= rules.sample_every:
                    self._preview(log, loader.first)
                    previewed = time.perf_counter()
                if saving:
                    self.save()
                    saved = time.perf_counter()
                if over:
                    break
        if caught:
            raise Interrupted(caught[0], self.out, self.step)
        return self.averaged.eval()

    def save(self) -> None:
        """Write the resume state, then the averaged model."""
        save_state(
            {
                "step": self.step,
                "seconds": self.seconds,
                "network": self.model.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
                "torch": torch.get_rng_state(),
                "data": self.data.digest(),
            },
            self.out,
        )
        notes = {
            "data": self.data.name,
            "data_digest": self.data.digest(),
            "images_seen": self.step * self.recipe.optimizer.batch,
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "recipe": self.recipe.to_dict(),
        }
        if self.model.classes:
            notes["class_names"] = list(self.data.class_names or map(str, range(self.model.classes)))
        checkpoint.save(self.averaged, self.out / MODEL, notes=notes)
        for callback in self.callbacks:
            callback.on_checkpoint(self, self.out / MODEL)

    def _update(self, batch: Batch, distribution: NoiseDistribution) -> tuple[Tensor, Tensor]:
        settings = self.recipe.optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * _rate(self.step, settings.warmup, settings.decay_after)
        sigma = draw_sigma(distribution, len(batch.x0), generator=self.generator)
        sigma = sigma.clamp(*self.model.sigma_range)
        condition = hide_classes(batch.condition, self.recipe.training.drop_class, generator=self.generator)
        losses = self.recipe.objective(self.model, batch.x0, sigma, condition=condition, generator=self.generator)
        loss = losses.mean() if batch.weights is None else (losses * batch.weights).mean()
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip or math.inf)
        self.optimizer.step()
        self.average.update_parameters(self.model.network)
        return loss.detach(), norm

    def _checked_mean(self, losses: list[Tensor], norms: list[Tensor]) -> float:
        """The mean loss. A loss or a gradient that is not finite never reaches a checkpoint."""
        mean, norm = float(torch.stack(losses).mean()), float(torch.stack(norms).mean())
        if not math.isfinite(mean + norm):
            raise RuntimeError(
                f"{self.out}: the loss is {mean:g} and the gradient's norm {norm:g} near step {self.step};"
                ' the last checkpoint stands. Lower optimizer.lr or set training.precision = "float32".'
            )
        return mean

    def _preview(self, log: RunLog, batch: Batch | None) -> None:
        """A grid of samples or restorations by the averaged weights, always from the same noise."""
        model, count = self.averaged.eval(), self.recipe.training.sample_count
        sheet = sample_grid(model, count) if batch is None else restored_grid(model, batch, count)
        save_image(sheet, self.out / SAMPLES / f"{self.step:07d}.png")
        log.image("samples", np.asarray(sheet.convert("RGB")), self.step)
        self.average.module.train()

    def _progress(self, loss: float, passed: float) -> Progress:
        steps = self.recipe.training.steps
        share = self.step / steps if self.stop_after is None else max(self.step / steps, passed / self.stop_after)
        return Progress(step=self.step, steps=steps, seconds=self.seconds, share=min(share, 1.0), loss=loss)

    def _restore(self, state: dict[str, Any]) -> None:
        check_same_data(state, self.data, self.out)
        checkpoint.fit_weights(self.model.network, state["network"], where=self.out / STATE)
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        self.step, self.seconds = state["step"], state["seconds"]


def _rate(step: int, warmup: int, decay_after: int) -> float:
    """The learning rate's factor: a linear rise over `warmup` steps, then 1, then √(decay_after/step)."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * (math.sqrt(decay_after / step) if decay_after and step > decay_after else 1.0)


__all__ = ["Callback", "Progress", "Trainer"]
