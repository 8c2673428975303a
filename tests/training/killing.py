"""Training in a process of its own that ends itself, without warning, at a given moment."""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from scorefield.training import Trainer

from .toys import images, recipe

SETTINGS = ("training.steps=6", "training.log_every=2", 'training.save_every="0.000001s"', "network.dropout=0.3")


class Slow:
    """Gives the thread that writes time to do so between two steps."""

    def on_step(self, trainer, step, loss):
        time.sleep(0.02)

    def on_checkpoint(self, trainer, path):
        pass


def train(out, *, resume=False):
    """The whole run, or what is left of it."""
    Trainer(recipe(*SETTINGS), out=out, data=images(), device="cpu", callbacks=[Slow()], resume=resume).fit()


def die_at(out, moment, count=None):
    """Train until the moment: the one of that number among all that touch the run's files; never, if it is 0.

    Args:
        out: the run's folder.
        moment: just before which the process kills itself.
        count: a file to write the number of moments to.
    """
    torch.set_num_threads(1)
    sys.modules["tensorboard"] = None  # absent: it loads for seconds
    seen, root = [0], os.fspath(out)

    def happens():
        seen[0] += 1
        if seen[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event, arguments):
        if event in {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"} and any(
            isinstance(part, str | bytes | os.PathLike) and os.fsdecode(part).startswith(root) for part in arguments[:2]
        ):
            happens()

    sync, save = os.fsync, torch.save

    def fsync(handle):
        happens()
        sync(handle)

    def in_two_halves(state, file):
        save(state, file)
        whole = file.tell()
        file.truncate(whole // 2)
        file.flush()
        happens()
        file.seek(0)
        file.truncate()
        save(state, file)

    os.fsync, torch.save = fsync, in_two_halves
    sys.addaudithook(hook)
    train(Path(out))
    if count is not None:
        Path(count).write_text(str(seen[0]))
