"""The training loop.

Adam on an objective, with a warm-up of the learning rate, a bound on the gradient's norm, and a moving average
of the weights (`training.ema`), which sample grids and the saved model use.

A run can stop at any step, by its length, by the clock, by a signal or by an error, and resumes exactly where it
stopped. A checkpoint is a copy of the state at the end of a step, which a thread writes while training goes on; it
takes the memory of one more set of weights, averages and moments.
"""

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from scorefield.files import locked, write_atomic
from scorefield.model import ScoreModel
from scorefield.noise_distributions import draw_sigma
from scorefield.training.batch import Batch, Loader
from scorefield.training.checks import (
    can_resume,
    changes_of,
    check_images,
    check_labels,
    check_same_data,
    check_size,
    init_from,
    inner_precision,
    recipe_text,
    refuse_many_processes,
    with_noise_found,
)
from scorefield.training.data import DataSource, open_data
from scorefield.training.ema import averaging
from scorefield.training.log import RunLog
from scorefield.training.losses import Objective, hide_classes
from scorefield.training.previews import restored_grid, sample_grid
from scorefield.training.recipe import Recipe, build_model
from scorefield.training.saver import Saver
from scorefield.training.signals import Interrupted, recorded_signals
from scorefield.training.state import MODEL, RECIPE, SAMPLES, begin_session, copied, load_state, save_state
from scorefield.training.steadiness import Diverged, Steadiness


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
        change: settings, as "optimizer.lr", that a resumed run takes from `recipe` although it began with others; the
            change is noted in its recipe.toml and in the model's card.
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
        change: Collection[str] = (),
        device: str = "auto",
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        self.out, self.stop_after, self.report, self.callbacks = Path(out), stop_after, report, tuple(callbacks)
        if stop_after is not None and not stop_after > 0:
            raise UserError("stop_after", f"training needs a length, got {stop_after:g} s.")
        refuse_many_processes()
        if objective is not None:
            recipe = replace(recipe, objective=objective)
        resumed = can_resume(recipe, self.out, resume=resume, change=change)
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.data = open_data(data, recipe)
        check_images(self.data)
        check_labels(recipe, self.data)
        self._data_digest = self.data.digest()
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
        self._steady = Steadiness(self.device)
        if resumed and (state := load_state(self.out)) is not None:
            check_same_data(state, self._data_digest, self.data.source, self.out)
            self._restore(state)
        self._saved_step = self.step
        self.changes = changes_of(recipe, self.out, self.step) if resumed else ()
        self._random: dict[str, Any] | None = self._random_states()

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

        Whatever ends training, the steps made until then are saved, if they can be.

        Raises:
            UserError: another process trains in this folder.
            Interrupted: a signal came; the run is saved.
            Diverged: step after step the loss is not finite; the last checkpoint stands.
        """
        with locked(self.out):
            begin_session(self.out, self.step)
            write_atomic(self.out / RECIPE, recipe_text(self.recipe, self.changes))
            if self.step and not self._model_is_of_this_step():
                self._write_model(self._snapshot())
            with (
                Loader(self.recipe, self.data, self.device) as loader,
                RunLog(self.out, step=self.step) as log,
                recorded_signals() as caught,
                ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as pool,
            ):
                saver = Saver(pool)
                try:
                    self._train(loader, log, caught, saver)
                except BaseException as error:
                    self._save_after(error, saver)
                    if caught:
                        raise Interrupted(caught[0], self.out, self.step, saved=self._saved_step) from error
                    raise
        if caught:
            raise Interrupted(caught[0], self.out, self.step, saved=self._saved_step)
        return self.averaged.eval()

    def save(self) -> None:
        """Write a checkpoint, then the averaged model.

        Raises:
            FloatingPointError: a weight is not finite.
        """
        if not self._finite_weights():
            raise FloatingPointError(f"the weights at step {self.step} are not finite")
        self._write(self._snapshot())
        self._saved()

    @property
    def skipped(self) -> int:
        """Steps without an update, since the loss or the gradient was not finite."""
        return self._steady.skipped

    def _train(self, loader: Loader, log: RunLog, caught: list[int], saver: Saver) -> None:
        rules = self.recipe.training
        before, started = self.seconds, time.perf_counter()
        saved = previewed = started
        window = _Window(step=self.step, start=started)
        self.model.train()
        while self.step < rules.steps:
            self._random = self._random_states()
            start = time.perf_counter()
            batch = loader(self.step)
            window.loading += time.perf_counter() - start
            loss, norm = self._update(batch)
            window.losses.append(loss)
            window.norms.append(norm)
            for callback in self.callbacks:
                callback.on_step(self, self.step, loss)
            now = time.perf_counter()
            self.seconds = before + now - started
            over = bool(caught) or (self.stop_after is not None and now - started >= self.stop_after)
            last = over or self.step == rules.steps
            due = now - saved >= rules.save_every and not saver.busy
            saving = last or (due and not self._steady.in_row)  # a checkpoint to go back to ends with a good step
            logging = last or self.step % rules.log_every == 0
            if saver.finished():
                self._saved()
            looking = saving or logging or self.device.type == "cpu"  # elsewhere it would make every step wait
            if (looking and self._steady.in_row >= rules.patience) or (saving and not self._finite_weights()):
                saver.wait()
                self._go_back()
                log.rewind(self.step)
                window = _Window(step=self.step, start=time.perf_counter())
                continue
            if logging:
                mean = self._log(log, window, now)
                if self.report is not None:
                    self.report(self._progress(mean, now - started))
                window = _Window(step=self.step, start=now)
            if saving:
                saver.wait()
                self._random = self._random_states()  # callbacks may have drawn numbers
                snapshot = self._snapshot()
                saver.start(lambda snapshot=snapshot: self._write(snapshot))
                saved = time.perf_counter()
            if last:
                saver.wait()
                self._saved()
            if (last and not caught) or now - previewed >= rules.sample_every:
                self._preview(log, loader.first)
                previewed = time.perf_counter()
            if over:
                break

    def _log(self, log: RunLog, window: "_Window", now: float) -> float:
        """Write a row; the mean loss of the steps that were not skipped."""
        batch, passed = self.recipe.optimizer.batch, now - window.start
        losses, norms = torch.stack(window.losses), torch.stack(window.norms)
        finite = losses.isfinite() & norms.isfinite()
        mean = float(losses[finite].mean())
        log.row({
            "step": self.step,
            "images": self.step * batch,
            "seconds": self.seconds,
            "loss": mean,
            "lr": self.optimizer.param_groups[0]["lr"],
            "gradient_norm": float(norms[finite].mean()),
            "images_per_second": (self.step - window.step) * batch / passed,
            "data_share": window.loading / passed,
            "skipped": self._steady.skipped,
        })  # fmt: skip
        return mean

    def _snapshot(self) -> dict[str, Any]:
        """A copy of all that a checkpoint holds, at the end of a step."""
        if self._random is None:
            raise RuntimeError("a step is under way")
        return copied({
            "step": self.step,
            "seconds": self.seconds,
            "network": self.model.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "data": self._data_digest,
            **self._random,
            **self._steady.state(),
        })  # fmt: skip

    def _finite_weights(self) -> bool:
        return all(bool(weight.isfinite().all()) for weight in self.average.parameters()) and all(
            bool(weight.isfinite().all()) for weight in self.model.parameters()
        )

    def _write(self, state: dict[str, Any]) -> None:
        """Write a snapshot as a checkpoint and as the averaged model."""
        save_state(state, self.out)
        self._write_model(state)
        self._saved_step = state["step"]

    def _write_model(self, state: dict[str, Any]) -> None:
        notes = {
            "data": self.data.name,
            "data_digest": self._data_digest,
            "images_seen": state["step"] * self.recipe.optimizer.batch,
            "steps": state["step"],
            "seconds": round(state["seconds"], 1),
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "recipe": self.recipe.to_dict(),
        }
        if state["skipped"] or state["times_back"]:
            notes |= {"skipped_steps": state["skipped"], "times_back": state["times_back"]}
        if self.changes:
            notes["changes"] = list(self.changes)
        if self.model.classes:
            notes["class_names"] = list(self.data.class_names or map(str, range(self.model.classes)))
        average: dict[str, Tensor] = state["average"]
        weights = {name.removeprefix("module."): value for name, value in average.items() if name.startswith("module.")}
        checkpoint.save(self.model, self.out / MODEL, notes=notes, weights=weights)

    def _model_is_of_this_step(self) -> bool:
        """Whether the saved model is that of the checkpoint; a kill between the two leaves the one before."""
        try:
            return checkpoint.read_card(self.out / MODEL)["notes"].get("steps") == self.step
        except UserError:
            return False

    def _saved(self) -> None:
        for callback in self.callbacks:
            callback.on_checkpoint(self, self.out / MODEL)

    def _save_after(self, error: BaseException, saver: Saver) -> None:
        """Save the last whole step before an error; what prevents it is not to hide the error."""
        with suppress(Exception):
            saver.wait()
        if isinstance(error, Diverged) or self._saved_step == self.step or self._random is None:
            return
        with suppress(Exception):
            self.save()
            error.add_note(f"The {self.step} steps until then are saved in {self.out}; --resume auto goes on.")

    def _update(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Make a step; the loss and the gradient's norm. If they are not finite, the weights stay as they are."""
        settings, distribution = self.recipe.optimizer, self.recipe.noise_levels.distribution
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
        self._random = None  # from here to its end the step is half made
        self._steady.step(self.optimizer, loss.detach(), norm)
        self.average.update_parameters(self.model.network)
        self.step += 1
        self._random = self._random_states()
        return loss.detach(), norm

    def _random_states(self) -> dict[str, Any]:
        states: dict[str, Any] = {"generator": self.generator.get_state(), "torch": torch.get_rng_state()}
        return states | ({"device": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {})

    def _go_back(self) -> None:
        """Return to the last checkpoint, and draw other noise from there.

        Raises:
            Diverged: it was done before without avail, or there is no checkpoint yet.
        """
        step, patience = self.step, self.recipe.training.patience
        state = load_state(self.out) if self._steady.may_go_back(self._saved_step) else None
        if state is None:
            raise Diverged(self.out, step, patience, self.recipe)
        self._restore(state)
        self._steady.went_back(step)
        seed = f"{self.recipe.training.seed}:{self._steady.times_back}"
        self.generator.manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7], "big"))
        self._random = self._random_states()
        warnings.warn(
            f"{self.out}: the loss was not finite for {patience} steps to step {step}; "
            f"training goes on from its checkpoint of step {self.step}, with other noise.",
            stacklevel=2,
        )

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
        checkpoint.fit_weights(self.model.network, state["network"], where=self.out)
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        settings = self.recipe.optimizer
        for group in self.optimizer.param_groups:  # the checkpoint's are those of before a change
            group.update(betas=settings.betas, eps=settings.eps)
        torch.set_rng_state(state["torch"])
        try:
            self.generator.set_state(state["generator"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(state["device"], self.device)
        except (RuntimeError, TypeError, KeyError):
            self.generator.manual_seed(self.recipe.training.seed + state["step"])
            warnings.warn(
                f"{self.out}: begun on another device; its noise is drawn anew on {self.device}.", stacklevel=2
            )
        self._steady.restore(state)
        self.step, self.seconds = state["step"], state["seconds"]


@dataclass
class _Window:
    """What a row of the log is about: the steps since the last."""

    step: int
    start: float
    loading: float = 0.0
    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)


def _rate(step: int, warmup: int, decay_after: int) -> float:
    """The learning rate's factor: a linear rise over `warmup` steps, then 1, then √(decay_after/step)."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * (math.sqrt(decay_after / step) if decay_after and step > decay_after else 1.0)


__all__ = ["Callback", "Progress", "Trainer"]
