"""The training loop.

Adam on a score-matching objective, its learning rate warmed up, the gradient's norm clipped, the weights
averaged (`averaging` says how). Sample grids and the saved model use the averaged weights.

A run can stop at any step, by its length, by the clock or by a signal, and goes on exactly where it stopped.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from scorefield import checkpoint
from scorefield.data.crops import Windows
from scorefield.data.grids import save_image
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.files import write_atomic
from scorefield.model import ScoreModel
from scorefield.noise_distributions import draw_sigma
from scorefield.training.batch import Fed, Feed
from scorefield.training.checks import (
    begin_with,
    check_images,
    check_labels,
    check_same_data,
    check_size,
    goes_on,
    inner_precision,
    open_recipe_data,
    with_noise_found,
)
from scorefield.training.ema import averaging
from scorefield.training.log import RunLog
from scorefield.training.losses import classes_told, image_losses
from scorefield.training.previews import restored_grid, sample_grid
from scorefield.training.recipe import Recipe, build_model
from scorefield.training.signals import Interrupted, noted_signals
from scorefield.training.state import MODEL, RECIPE, SAMPLES, STATE, load_state, save_state


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is.

    Args:
        step: steps made.
        steps: steps to make.
        seconds: training time so far, however often it was stopped.
        share: of the way to its end, in steps or by the clock, whichever comes first.
        loss: mean since the last report.
    """

    step: int
    steps: int
    seconds: float
    share: float
    loss: float


class Trainer:
    """Follows a recipe.

    Args:
        recipe: what to do.
        out: the run's folder, free unless the run goes on.
        data: the images; by default what `recipe.data` names.
        stop_after: seconds from its start, or from where it goes on, after which it saves and stops.
        resume: go on from `out` if it holds a run.
        device: a torch device, or `auto`.
        report: called after every few steps.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        out: str | Path,
        data: ImageSet | Windows | None = None,
        stop_after: float | None = None,
        resume: bool = False,
        device: str = "auto",
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        self.out, self.stop_after, self.report = Path(out), stop_after, report
        if stop_after is not None and not stop_after > 0:
            raise UserError("stop_after", f"training needs a length, got {stop_after:g} s.")
        going_on = goes_on(recipe, self.out, resume=resume)
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.data = data or open_recipe_data(recipe)
        check_images(self.data)
        check_labels(recipe, self.data)
        recipe = with_noise_found(recipe, self.data, self.out if going_on else None)
        self.recipe = recipe
        torch.manual_seed(recipe.training.seed)
        self.model = build_model(recipe, self.data.shape, self.data.class_count).to(self.device)
        self.model.precision = inner_precision(recipe, self.device)
        check_size(self.model)
        if recipe.training.init and not going_on:
            begin_with(self.model, recipe.training.init)
        settings = recipe.optimizer
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), settings.lr, betas=settings.betas, eps=settings.eps, fused=True
        )
        self.average = AveragedModel(
            self.model.network, multi_avg_fn=averaging(recipe.average.decay, recipe.average.span)
        )
        self.generator = torch.Generator(self.device).manual_seed(recipe.training.seed)
        self.step, self.seconds = 0, 0.0
        if going_on and (state := load_state(self.out)) is not None:
            self._restore(state)

    @property
    def averaged(self) -> ScoreModel:
        """The model with the averaged weights."""
        return ScoreModel(
            self.average.module,
            self.model.parameterization,
            shape=self.model.shape,
            value_range=self.model.value_range,
            sigma_range=self.model.sigma_range,
            precision=self.model.precision,
            tasks=self.model.tasks,
            hole=self.model.hole,
            jpeg_up_to=self.model.jpeg_up_to,
        )

    def summary(self) -> str:
        """The network, its size and where it runs, in a line."""
        parameters = sum(weight.numel() for weight in self.model.parameters())
        precision = str(self.model.precision).removeprefix("torch.")
        shape = "×".join(str(side) for side in self.model.shape)
        return f"{self.recipe.network.kind}, {parameters:,} parameters, {shape}, {precision} on {self.device}"

    def fit(self) -> ScoreModel:
        """Train until the recipe's steps are made or its time is over; the averaged model.

        Raises:
            Interrupted: a signal came; all is saved.
            RuntimeError: the loss is no longer a number; the last checkpoint stands.
        """
        recipe, rules = self.recipe, self.recipe.training
        write_atomic(self.out / RECIPE, recipe.to_toml())
        distribution = recipe.noise_distribution()
        before, begun = self.seconds, time.perf_counter()
        saved = drawn = begun
        losses: list[Tensor] = []
        norms: list[Tensor] = []
        feeding, window, window_step = 0.0, begun, self.step
        self.model.train()
        with (
            Feed(recipe, self.data, self.device) as feed,
            RunLog(self.out, step=self.step) as log,
            noted_signals() as caught,
        ):
            while self.step < rules.steps:
                start = time.perf_counter()
                fed = feed(self.step)
                feeding += time.perf_counter() - start
                loss, norm = self._update(fed, distribution)
                losses.append(loss)
                norms.append(norm)
                self.step += 1
                now = time.perf_counter()
                self.seconds = before + now - begun
                over = bool(caught) or (self.stop_after is not None and now - begun >= self.stop_after)
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
                        "data_share": feeding / (now - window),
                    })  # fmt: skip
                    if self.report is not None:
                        self.report(self._progress(mean, now - begun))
                    losses, norms, feeding, window, window_step = [], [], 0.0, now, self.step
                if last or now - drawn >= rules.sample_every:
                    self._draw(log, feed)
                    drawn = time.perf_counter()
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
            "recipe": self.recipe.model_dump(mode="json", exclude_none=True),
        }
        if self.model.classes:
            notes["class_names"] = list(self.data.class_names or map(str, range(self.model.classes)))
        checkpoint.save(self.averaged, self.out / MODEL, notes=notes)

    def _update(self, fed: Fed, distribution: Any) -> tuple[Tensor, Tensor]:
        settings = self.recipe.optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * _schedule(self.step, settings.warmup, settings.decay_after)
        sigma = draw_sigma(distribution, len(fed.x0), generator=self.generator)
        sigma = sigma.clamp(*self.model.sigma_range)
        told = classes_told(fed.classes, self.recipe.training.drop_class, generator=self.generator)
        if fed.condition is not None:
            told = replace(fed.condition, classes=told and told.classes)
        losses = image_losses(
            self.recipe.objective, self.model, fed.x0, sigma, condition=told, generator=self.generator
        )
        loss = losses.mean() if fed.weights is None else (losses * fed.weights).mean()
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip or math.inf)
        self.optimizer.step()
        self.average.update_parameters(self.model.network)
        return loss.detach(), norm

    def _checked_mean(self, losses: list[Tensor], norms: list[Tensor]) -> float:
        """The mean loss, if it and the gradients are numbers: broken weights never replace a checkpoint."""
        mean, norm = float(torch.stack(losses).mean()), float(torch.stack(norms).mean())
        if not math.isfinite(mean + norm):
            raise RuntimeError(
                f"{self.out}: the loss is {mean:g} and the gradient's norm {norm:g} near step {self.step};"
                ' the last checkpoint stands. Lower optimizer.lr or set training.precision = "float32".'
            )
        return mean

    def _draw(self, log: RunLog, feed: Feed) -> None:
        """A grid of samples from the averaged weights, always from the same noise."""
        model, count = self.averaged.eval(), self.recipe.training.sample_count
        sheet = sample_grid(model, count) if feed.first is None else restored_grid(model, feed.first, count)
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


def _schedule(step: int, warmup: int, decay_after: int) -> float:
    """The learning rate's factor: a linear rise over `warmup` steps, then 1, then √(decay_after/step)."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * (math.sqrt(decay_after / step) if decay_after and step > decay_after else 1.0)
