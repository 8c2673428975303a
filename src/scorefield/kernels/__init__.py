"""Optional speed on a CPU. Each kernel computes what a plain torch call computes, up to rounding.

| module | what it speeds up |
| --- | --- |
| `prepacked` | 3×3 convolutions of networks that do not change during a call |
| `rows`, `winograd` | convolution, pooling and resizing of many small images |
| `instance_norm` | RefineNet's normalization |
| `malloc` | repeated allocation of large tensors |

One switch turns all of them off: the environment variable `SCOREFIELD_KERNELS=0` for the process, `use(False)`
for a block of code. Each function then makes the plain call.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["enabled", "use"]

_DEFAULT = os.environ.get("SCOREFIELD_KERNELS", "1") != "0"
_chosen: ContextVar[bool] = ContextVar("scorefield_kernels", default=_DEFAULT)


def enabled() -> bool:
    """Whether the kernels are on, in this thread."""
    return _chosen.get()


@contextmanager
def use(on: bool) -> Generator[None]:
    """Turn the kernels on or off within the block, for this thread alone."""
    token = _chosen.set(on)
    try:
        yield
    finally:
        _chosen.reset(token)
