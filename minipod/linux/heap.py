"""What the C library does with memory that is free again: mallopt(3)."""

from __future__ import annotations

from typing import Final

from minipod.linux.libc import libc

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3


def keep(size: int) -> None:
    """Keep up to *size* freed bytes for the next blocks, of up to *size* each.

    By default a block of 128 KiB is a mapping of its own and free memory at the heap's top goes back to the kernel: a process that
    makes and drops such blocks all the time faults every page of each in anew.
    """
    libc.mallopt(M_MMAP_THRESHOLD, size)
    libc.mallopt(M_TRIM_THRESHOLD, size)
