"""A file and fresh memory behind it as one piece of memory, of which every process has its own to write to.

    address   | file's pages: in memory once, a page of one's own on the first write | zeros: one's own pages |

The room is no part of the file: a hole in a file would be filled with pages of the page cache, twice the memory, and on
a tmpfs for good.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import sys
from typing import Any

from m3pc_ray.errors import UserError

ALIGNMENT = mmap.ALLOCATIONGRANULARITY
"""A mapping starts at a multiple of so many bytes of the file: the page size."""
_MAP_FIXED = 0x10  # <asm-generic/mman-common.h>; mmap has no name for it
_MAP_FAILED = ctypes.c_void_p(-1).value


def check_mapping_possible() -> None:
    """Raises UserError where this system is not Linux."""
    if not sys.platform.startswith("linux"):
        raise UserError(f"data.share_memory: works on Linux only, this is {sys.platform}; set it to false")


def map_privately(descriptor: int, offset: int, size: int, room: int) -> mmap.mmap:
    """`size` bytes of an open file from `offset` on, then `room` zero bytes; what is written stays in this process.

    The memory is unmapped when nothing refers to it any more; the file may be closed or deleted before, but must not be
    shortened. Raises OSError where the system refuses.
    """
    memory = mmap.mmap(-1, size + room, flags=mmap.MAP_PRIVATE)
    protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | _MAP_FIXED
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _mmap()(address, size, protection, flags, descriptor, offset) in (None, _MAP_FAILED):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return memory


@functools.cache
def _mmap() -> Any:
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    return function
