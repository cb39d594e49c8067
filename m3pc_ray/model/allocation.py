"""Keeps freed memory in the process, so that large temporaries do not fault their pages in anew at every step."""

from __future__ import annotations

import ctypes
import functools
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEPT_BYTES = 2**29
_LARGEST_BYTES = 2**25  # glibc refuses more


@functools.cache
def keep_freed_memory() -> bool:
    """Asks glibc to reuse up to 512 MB of freed memory instead of returning it to the system; once per process.

    By default every tensor above a threshold is mapped afresh and each of its pages faulted in: a fifth to a third of
    the time of a planning decision (1000 to 3500 page faults). Returns whether it was done: False where the C library
    has no such setting (not Linux, musl).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
