"""Makes the C library keep freed memory for the next allocation.

A step of training or sampling on a CPU allocates and frees the same large tensors again and again. By default
glibc returns the largest ones to the system, which clears every page again when it is next touched: up to
200,000 page faults a step, a fifth of the time. See malloc(3), mallopt(3).
"""

import ctypes
import sys

from scorefield.kernels import enabled

__all__ = ["tune_malloc"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # M_… of malloc.h
_KEPT = 2**31 - 1  # bytes at the top of the heap that stay: the largest int, so all of them
_MAPPED_FROM = 2**30  # bytes above which an allocation is mapped on its own; a larger number is refused


def tune_malloc() -> bool:
    """Keep freed memory in the process.

    This holds for the whole process, until it ends: it then occupies as much memory as it ever used at once.
    The commands call it; a program that uses this library beside other work decides for itself.

    Returns:
        Whether the C library accepted. False where it is not glibc, or where the kernels are off.
    """
    if not enabled() or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl
        return False
    options = ((_MMAP_THRESHOLD, _MAPPED_FROM), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, 0))
    accepted = [mallopt(option, value) == 1 for option, value in options]  # set every option
    return all(accepted)
