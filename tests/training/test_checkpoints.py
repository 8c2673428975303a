"""What ends a run, at whatever moment, costs it nothing but the steps since the last checkpoint."""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from safetensors.torch import load_file

from oracles import ramp
from scorefield import checkpoint
from scorefield.data.crops import open_crops
from scorefield.errors import UserError
from scorefield.training import Interrupted, Trainer
from scorefield.training.state import checkpoints, load_state
from scorefield.training.steadiness import Diverged

from . import killing
from .test_loop import rows, same, trainer
from .toys import images, recipe

EVERY = 'training.save_every="0.000001s"'


class Waits:
    """Waits after each step until the checkpoint of the step before is written."""

    def on_step(self, made, step, loss):
        end = time.monotonic() + 30
        while made._saved_step < step - 1 and time.monotonic() < end and made.skipped == 0:
            time.sleep(0.001)

    def on_checkpoint(self, made, path):
        pass


def step_of(path):
    return int(path.name.partition("-")[0])


# --- the newest two ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run of five steps that saved after each."""
    run = tmp_path_factory.mktemp("two") / "run"
    trainer(run, EVERY, "training.steps=5", callbacks=[Waits()]).fit()
    return run


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A run of eight steps, never stopped."""
    run = tmp_path_factory.mktemp("eight") / "run"
    trainer(run, "training.steps=8").fit()
    return run


def test_the_last_two_checkpoints_are_kept(two):
    assert [step_of(path) for path in checkpoints(two)] == [5, 4]
    assert len(list((two / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_a_flipped_bit_anywhere_makes_the_older_one_the_checkpoint(two, count):
    newest, older = checkpoints(two)
    whole, spread = newest.read_bytes(), random.Random(0)
    expected = torch.load(older, weights_only=True)
    try:
        for _ in range(count):
            bit = spread.randrange(8 * len(whole))
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            newest.write_bytes(flipped)
            with pytest.warns(UserWarning, match="damaged; it is not used"):
                state = load_state(two)
            assert state["step"] == 4
        assert same(state, expected)
    finally:
        newest.write_bytes(whole)
    assert load_state(two)["step"] == 5


@pytest.mark.parametrize("kind", ["cut", "empty", "text"])
def test_a_run_goes_on_from_the_older_checkpoint_as_if_it_had_been_stopped_there(two, eight, tmp_path, kind):
    run = shutil.copytree(two, tmp_path / "run")
    newest = checkpoints(run)[0]
    newest.write_bytes({"cut": newest.read_bytes()[:2000], "empty": b"", "text": b"hello"}[kind])
    with pytest.warns(UserWarning, match="damaged; it is not used"):
        again = trainer(run, "training.steps=8", resume=True)
    assert again.step == 4
    again.fit()
    assert same(load_state(run)["network"], load_state(eight)["network"])
    assert [path.name for path in (run / "checkpoints").glob("*.damaged")] == [newest.stem + ".damaged"]


def test_where_both_are_damaged_the_run_is_refused_and_its_model_offered(two, tmp_path):
    run = shutil.copytree(two, tmp_path / "run")
    for path in checkpoints(run):
        path.write_bytes(path.read_bytes()[:500])
    with pytest.warns(UserWarning), pytest.raises(UserError, match=r"damaged, and so is the 1 before.*training.init="):
        trainer(run, resume=True)
    offered = trainer(tmp_path / "new", f'training.init="{run}"')
    assert same(dict(offered.model.network.state_dict()), load_file(run / "model.safetensors"))


def test_a_state_that_holds_something_else_is_not_taken(tmp_path):
    trainer(tmp_path / "run", "training.steps=2").fit()
    (path,) = checkpoints(tmp_path / "run")
    path.unlink()
    torch.save({"step": 2}, tmp_path / "run" / "state.pt")
    with pytest.warns(UserWarning), pytest.raises(UserError, match="the run cannot resume"):
        trainer(tmp_path / "run", resume=True)


# --- kills ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.killing"])
    return context


@pytest.fixture(scope="module")
def uninterrupted(processes, tmp_path_factory):
    """A whole run, and how many moments it has."""
    folder = tmp_path_factory.mktemp("whole")
    process = processes.Process(target=killing.die_at, args=(folder / "run", 0, folder / "count"))
    process.start()
    process.join()
    assert process.exitcode == 0
    return folder / "run", int((folder / "count").read_text())


def goes_on_exactly(run, whole):
    """Resume, and compare all that a run is with the uninterrupted one."""
    torch.manual_seed(99)
    killing.train(run, resume=True)
    one, two = load_state(whole), load_state(run)
    for part in one.keys() - {"seconds"}:
        assert same(one[part], two[part]), part
    assert same(load_file(whole / "model.safetensors"), load_file(run / "model.safetensors"))
    assert sorted(rows(run)) == [2, 4, 6]
    assert not list(run.rglob(".*"))


def sample(cases, *quick):
    """The cases, all but these slow."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]


@pytest.mark.parametrize("share", sample([i / 20 for i in range(20)], 0.1, 0.5, 0.9))
def test_a_kill_at_any_moment_of_writing_is_gone_on_from_exactly(processes, uninterrupted, tmp_path, share):
    whole, moments = uninterrupted
    assert moments > 40
    process = processes.Process(target=killing.die_at, args=(tmp_path / "run", 1 + int(share * moments)))
    process.start()
    process.join()
    assert process.exitcode in (-signal.SIGKILL, 0)  # the writing thread does not always get to as many
    goes_on_exactly(tmp_path / "run", whole)


@pytest.mark.parametrize("moment", sample(range(1, 13), 2, 7))
def test_a_kill_at_any_moment_of_the_first_writes_is_gone_on_from_exactly(processes, uninterrupted, tmp_path, moment):
    process = processes.Process(target=killing.die_at, args=(tmp_path / "run", moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    goes_on_exactly(tmp_path / "run", uninterrupted[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_kills_at_random_times_one_after_another_are_gone_on_from_exactly(processes, uninterrupted, tmp_path, seed):
    draw = random.Random(seed)
    for _ in range(2):
        process = processes.Process(target=killing.train, args=(tmp_path / "run",), kwargs={"resume": True})
        process.start()
        time.sleep(draw.random() * 0.5)
        process.kill()
        process.join()
    goes_on_exactly(tmp_path / "run", uninterrupted[0])


# --- beside the steps ----------------------------------------------------------------------------


def test_a_checkpoint_is_of_the_moment_it_was_taken_though_training_goes_on_while_it_is_written(tmp_path, monkeypatch):
    true, steps, written = torch.save, [], []

    def slow(state, file):
        begun = len(steps)
        time.sleep(0.2)
        written.append((state["step"], len(steps) - begun))
        true(state, file)

    class Notes(Waits):
        def on_step(self, made, step, loss):
            steps.append(step)

    monkeypatch.setattr(torch, "save", slow)
    trainer(tmp_path / "run", EVERY, "training.steps=60", callbacks=[Notes()]).fit()
    monkeypatch.undo()
    step, beside = written[0]
    assert step == 1 and beside > 0
    assert len(written) < 60
    one = trainer(tmp_path / "one", "training.steps=1")
    one.fit()
    early = trainer(tmp_path / "early", EVERY, "training.steps=1")
    early.fit()
    assert same(load_state(tmp_path / "one")["network"], load_state(tmp_path / "early")["network"])


def test_what_the_writing_thread_fails_at_is_reported(tmp_path, monkeypatch):
    def full(state, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        trainer(tmp_path / "run", EVERY).fit()
    assert not list((tmp_path / "run").rglob(".*"))


# --- errors --------------------------------------------------------------------------------------


def test_an_error_between_two_steps_is_raised_after_the_steps_before_it_are_saved(tmp_path):
    with pytest.raises(ValueError, match="of a callback") as result:
        trainer(tmp_path / "run", callbacks=[Raises(7)]).fit()
    assert "7 steps until then are saved" in result.value.__notes__[0]
    resumed_equals_whole(tmp_path, 7)


class Raises:
    def __init__(self, step):
        self.step = step

    def on_step(self, made, step, loss):
        if step == self.step:
            raise ValueError("of a callback")

    def on_checkpoint(self, made, path):
        pass


@cache
def end_of_whole(*settings):
    """The last state of a run that nothing ended."""
    with TemporaryDirectory() as folder:
        trainer(Path(folder) / "run", *settings).fit()
        return load_state(Path(folder) / "run")


def resumed_equals_whole(tmp_path, step, *settings):
    again = trainer(tmp_path / "run", *settings, resume=True)
    assert again.step == step
    again.fit()
    one, two = end_of_whole(*settings), load_state(tmp_path / "run")
    for part in one.keys() - {"seconds"}:
        assert same(one[part], two[part]), part


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (MemoryError(), "objective"),
        (KeyboardInterrupt(), "optimizer"),
        pytest.param(MemoryError(), "optimizer", marks=pytest.mark.slow),
        pytest.param(KeyboardInterrupt(), "objective", marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_error_in_a_step_leaves_the_step_before(tmp_path, monkeypatch, error, place):
    made = trainer(tmp_path / "run", "network.dropout=0.3")
    calls = []

    def fails_at_7(true):
        def call(*args, **settings):
            calls.append(1)
            result = true(*args, **settings)
            if len(calls) == 7:
                raise error
            return result

        return call

    if place == "objective":
        losses = sys.modules["scorefield.training.losses"]
        monkeypatch.setattr(losses, "denoising_score_matching", fails_at_7(losses.denoising_score_matching))
    else:
        monkeypatch.setattr(made.optimizer, "step", fails_at_7(made.optimizer.step))
    with pytest.raises(type(error)):
        made.fit()
    monkeypatch.undo()
    # in the middle of the weights' update nothing can be saved: the run begins again
    resumed_equals_whole(tmp_path, 6 if place == "objective" else 0, "network.dropout=0.3")


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["SIGINT", "SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGHUP", "SIGUSR1"))]
)
def test_every_signal_that_asks_for_an_end_saves(tmp_path, name):
    number = getattr(signal, name)
    with pytest.raises(Interrupted, match="everything is saved") as stopped:
        trainer(tmp_path / "run", callbacks=[Sends(number)]).fit()
    assert stopped.value.signum == number
    resumed_equals_whole(tmp_path, stopped.value.step)


class Sends:
    """Sends a signal three times in one step."""

    def __init__(self, *numbers):
        self.numbers = numbers * (4 - len(numbers))

    def on_step(self, made, step, loss):
        if step == 5:
            for number in self.numbers:
                os.kill(os.getpid(), number)

    def on_checkpoint(self, made, path):
        pass


def test_the_first_of_several_signals_decides(tmp_path):
    with pytest.raises(Interrupted) as stopped:
        trainer(tmp_path / "run", callbacks=[Sends(signal.SIGTERM, signal.SIGINT)]).fit()
    assert stopped.value.signum == signal.SIGTERM


def test_a_second_ctrl_c_after_a_while_ends_the_step_and_saves_the_one_before(tmp_path, monkeypatch):
    clock = iter(range(0, 100, 5))
    monkeypatch.setattr("scorefield.training.signals.time.monotonic", lambda: next(clock))
    with pytest.raises(Interrupted, match="stopped by a signal at step 5; everything is saved"):
        trainer(tmp_path / "run", callbacks=[Sends(signal.SIGINT)]).fit()
    monkeypatch.undo()
    resumed_equals_whole(tmp_path, 5)


def test_a_signal_that_the_process_ignores_is_ignored(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        trainer(tmp_path / "run", callbacks=[Sends(signal.SIGHUP)]).fit()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert load_state(tmp_path / "run")["step"] == 20


def test_a_stop_saves_before_anything_is_drawn_and_a_signal_draws_nothing(tmp_path, monkeypatch):
    made, order = trainer(tmp_path / "run", "training.steps=3"), []
    write, preview = made._write, made._preview
    monkeypatch.setattr(made, "_write", lambda state: (order.append("saved"), write(state)))
    monkeypatch.setattr(made, "_preview", lambda *a: (order.append("drawn"), preview(*a)))
    made.fit()
    assert order == ["saved", "drawn"]
    stopped = trainer(tmp_path / "other", callbacks=[Sends(signal.SIGTERM)])
    with pytest.raises(Interrupted):
        stopped.fit()
    assert not (tmp_path / "other" / "samples").exists()


# --- steps that are not finite -------------------------------------------------------------------


def breaking(monkeypatch, when):
    """Makes the loss NaN in those calls of the objective."""
    losses = sys.modules["scorefield.training.losses"]
    true, calls = losses.denoising_score_matching, []

    def breaks(*args, **settings):
        calls.append(1)
        return true(*args, **settings) * (float("nan") if when(len(calls)) else 1.0)

    monkeypatch.setattr(losses, "denoising_score_matching", breaks)


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, monkeypatch):
    breaking(monkeypatch, lambda call: call in (3, 9, 10))
    made = trainer(tmp_path / "run", "training.log_every=1")
    before = {}

    class Keeps:
        def on_step(self, made, step, loss):
            before[step] = {name: value.clone() for name, value in made.model.network.state_dict().items()}

        def on_checkpoint(self, made, path):
            pass

    made.callbacks = (Keeps(),)
    made.fit()
    assert same(before[2], before[3]) and same(before[8], before[10])
    assert not same(before[3], before[4])
    assert made.skipped == 3
    assert [int(row["skipped"]) for row in rows(tmp_path / "run").values()] == [0, 0] + [1] * 6 + [2] + [3] * 11
    assert {float(entry["step"]) for entry in made.optimizer.state_dict()["state"].values()} == {17.0}
    assert all(bool(weight.isfinite().all()) for weight in made.average.parameters())


def test_skipping_makes_the_same_weights_as_a_step_without_the_switch(tmp_path):
    """found_inf = 0 leaves Adam's arithmetic as it is."""
    made = trainer(tmp_path / "run", "training.steps=3")
    made.fit()
    plain = trainer(tmp_path / "plain", "training.steps=3")
    plain._steady.step = lambda optimizer, loss, norm: optimizer.step()
    plain.fit()
    assert same(dict(made.model.network.state_dict()), dict(plain.model.network.state_dict()))


def test_many_in_a_row_lead_back_to_the_last_checkpoint_and_other_noise_from_there(tmp_path, monkeypatch):
    breaking(monkeypatch, lambda call: 7 <= call < 17)
    settings = (EVERY, "training.log_every=1", "training.steps=30")
    with pytest.warns(UserWarning, match=r"not finite for 10 steps to step 16; .* from its checkpoint of step 6"):
        made = trainer(tmp_path / "run", *settings, callbacks=[Waits()])
        made.fit()
    assert made.step == 30
    assert sorted(rows(tmp_path / "run")) == list(range(1, 31))
    assert all(row["loss"] != "nan" for row in rows(tmp_path / "run").values())


def test_the_advice_after_that_works(tmp_path, monkeypatch):
    run = tmp_path / "run"
    trainer(run, "training.steps=4").fit()
    with monkeypatch.context() as patched:
        breaking(patched, lambda call: True)
        with pytest.warns(UserWarning), pytest.raises(Diverged) as result:
            trainer(run, "training.steps=40", resume=True).fit()
    assert load_state(run)["step"] == 4
    advice = str(result.value).split("--resume auto ")[1].split("--set ")[1:]
    again = Trainer(
        recipe("training.steps=8", *(setting.strip() for setting in advice)),
        out=run, data=images(), device="cpu", resume=True,
        change=[setting.partition("=")[0] for setting in advice],
    )  # fmt: skip
    again.fit()
    assert load_state(run)["step"] == 8


def test_weights_that_are_not_finite_never_reach_a_checkpoint(tmp_path):
    class Spoils(Waits):
        def on_step(self, made, step, loss):
            if step == 5:
                with torch.no_grad():
                    next(made.model.parameters()).fill_(float("inf"))

    with pytest.raises(Diverged):
        trainer(tmp_path / "run", "training.steps=5", callbacks=[Spoils()]).fit()
    assert load_state(tmp_path / "run") is None


# --- another rate --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.lr", 0.0005),
        ("optimizer.betas", [0.8, 0.9]),
        pytest.param("optimizer.clip", 0.5, marks=pytest.mark.slow),
        pytest.param("average.decay", 0.5, marks=pytest.mark.slow),
    ],
)
def test_a_setting_is_changed_on_resuming_when_it_is_asked_for_and_the_run_says_so(tmp_path, key, value):
    run = tmp_path / "run"
    trainer(run, "training.steps=2").fit()
    with pytest.raises(UserError, match=f"pass --set {key}=") as result:
        trainer(run, f"{key}={value}", resume=True)
    assert f"its run has {key} = " in str(result.value)
    changed = trainer(run, f"{key}={value}", "training.steps=4", resume=True, change=[key])
    changed.fit()
    if key == "optimizer.betas":
        assert changed.optimizer.param_groups[0]["betas"] == tuple(value)
    (line,) = [line for line in (run / "recipe.toml").read_text().splitlines() if line.startswith("#")]
    assert line.startswith(f"# changed at step 2: {key} = {value!r}, before ")
    assert checkpoint.read_card(run / "model.safetensors")["notes"]["changes"] == [line.removeprefix("# ")]
    trainer(run, f"{key}={value}", "training.steps=5", resume=True).fit()  # it is the run's own now
    assert (run / "recipe.toml").read_text().count("# changed") == 1


@pytest.mark.parametrize(
    "change", ["training.seed=3", "noise.sigma_max=9.0", "network.widths=[16]", "optimizer.batch=4"]
)
def test_what_weights_and_batches_depend_on_cannot_be_changed(tmp_path, change):
    trainer(tmp_path / "run", "training.steps=2").fit()
    key = change.partition("=")[0]
    with pytest.raises(UserError, match=f"its run has {key} = ") as result:
        trainer(tmp_path / "run", change, resume=True, change=[key])
    assert "--set" not in str(result.value)


# --- one process ---------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_the_first_goes_on(processes, tmp_path):
    run = tmp_path / "run"
    refused = []

    class Tries:
        def on_step(self, made, step, loss):
            if step == 3:
                for resume in (True, False):
                    with pytest.raises(UserError, match=rf"another process writes here: number {os.getpid()} on ") as e:
                        trainer(run, resume=resume)
                    refused.append(str(e.value))

        def on_checkpoint(self, made, path):
            pass

    trainer(run, callbacks=[Tries()]).fit()
    assert len(refused) == 2 and all("\n" not in line for line in refused)
    assert load_state(run)["step"] == 20


def test_a_run_that_another_process_trained_on_meanwhile_is_not_overwritten(tmp_path):
    trainer(tmp_path / "run", "training.steps=2").fit()
    late = trainer(tmp_path / "run", "training.steps=4", resume=True)
    trainer(tmp_path / "run", "training.steps=3", resume=True).fit()
    with pytest.raises(UserError, match="another process has trained here meanwhile, to step 3"):
        late.fit()
    assert load_state(tmp_path / "run")["step"] == 3


@pytest.mark.parametrize("size", ["2", "8"])
def test_one_of_several_processes_is_refused(tmp_path, monkeypatch, size):
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError, match=rf"WORLD_SIZE: {size} processes were started; training runs in one"):
        trainer(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    trainer(tmp_path / "run")


# --- data that goes away -------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [2**30, 0], ids=["in memory", "decoded each time"])
def test_a_folder_that_goes_away_is_named_and_the_work_saved(tmp_path, memory):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(8):
        ramp(folder / f"{number}.png", 20, 20)
    crops = open_crops(folder, 8, channels=1, memory=memory)

    class Removes(Raises):
        def on_step(self, made, step, loss):
            if step == self.step:
                shutil.rmtree(folder)

    made = trainer(tmp_path / "run", "data.window=8", data=crops, callbacks=[Removes(3)])
    if memory:
        made.fit()
        assert load_state(tmp_path / "run")["step"] == 20
        return
    with pytest.raises(UserError, match=r"\d\.png: is gone; the folder was changed after it was opened") as result:
        made.fit()
    assert "3 steps until then are saved" in result.value.__notes__[0]
    assert load_state(tmp_path / "run")["step"] == 3
