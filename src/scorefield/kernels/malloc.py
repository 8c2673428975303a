"""Memory that a network gives back is asked for again at once: here the C library is told to keep it.

A step of training or sampling on a processor takes and frees the same large tensors again and again. By
default glibc hands the largest back to the system each time, and the system clears every page anew when it is
touched: up to 200,000 page faults a step, a fifth of the time. See malloc(3), mallopt(3).
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # M_… of malloc.h
_KEPT = 2**31 - 1
_MAPPED_FROM = 2**30


def keep_freed() -> bool:
    """Keep what is freed for the program's own next use; whether the C library takes such orders.

    For the whole process, and until it ends: it then holds as much memory as it ever used at once. The
    commands call it; a program that has this library beside other work decides for itself.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl
        return False
    orders = ((_MMAP_THRESHOLD, _MAPPED_FROM), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, 0))
    taken = [mallopt(what, value) == 1 for what, value in orders]  # give every order
    return all(taken)
