"""One switch turns the kernels off: for the process, or for a block of one thread."""

import os
import subprocess
import sys
import threading

import pytest

from scorefield import kernels


@pytest.mark.parametrize(("value", "on"), [(None, "True"), ("1", "True"), ("0", "False")])
def test_the_environment_decides_for_the_process(value, on):
    environment = {k: v for k, v in os.environ.items() if k != "SCOREFIELD_KERNELS"}
    environment |= {} if value is None else {"SCOREFIELD_KERNELS": value}
    program = (
        "from scorefield import kernels, __version__; from scorefield.kernels.malloc import tune_malloc; import sys\n"
        "print(kernels.enabled(), 'torch' in sys.modules, tune_malloc() and not kernels.enabled())"
    )
    out = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.split() == [on, "False", "False"]


def test_a_block_decides_for_its_own_thread_and_ends():
    seen = []
    with kernels.use(True):
        with kernels.use(False):
            assert not kernels.enabled()
            thread = threading.Thread(target=lambda: seen.append(kernels.enabled()))
            thread.start()
            thread.join()
        assert kernels.enabled()
    assert seen == [os.environ.get("SCOREFIELD_KERNELS", "1") != "0"]
