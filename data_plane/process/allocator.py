"""How the C library treats memory that a worker gives back.

The law: pieces of bodies come and go with every request, so the memory under them stays. glibc returns the top of its heap to
the system whenever 128 KiB are free there, and takes it again, a page fault for each 4 KiB: with bodies of 1 MiB through a
plugin, that was 0.7 of 3.7 ms of CPU time.
"""

from __future__ import annotations

import ctypes

# <malloc.h>: parameters of mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

# Bytes that a worker may keep beyond what it uses, and the size from which a piece goes back to the system at once.
KEPT_BYTES = 32 * 1024 * 1024
LARGE_BYTES = 8 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Of this process, from now on. False where the C library has no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, LARGE_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
