"""What every test may count on: one thread, a cache of its own, seeded randomness."""

import gc
import os
import sys

import pytest
from hypothesis import settings

os.environ["OMP_NUM_THREADS"] = "1"  # one thread to each worker, and to every process that a test starts
sys.modules["tensorboard"] = None  # absent: it takes longer to load than a run of these tests; `test_log.py` has it
settings.register_profile("scorefield", deadline=None, derandomize=True, database=None, max_examples=30)
settings.load_profile("scorefield")


def pytest_collection_finish(session):
    """What collecting made stays to the end; the garbage collector need not look through it in every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """No test reads or fills the user's own cache."""
    before = os.environ.get("SCOREFIELD_CACHE")
    os.environ["SCOREFIELD_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["SCOREFIELD_CACHE"]
    else:
        os.environ["SCOREFIELD_CACHE"] = before


@pytest.fixture
def generator():
    """A generator at seed 0."""
    import torch  # not above: the process that hands out the tests needs none

    return torch.Generator().manual_seed(0)
