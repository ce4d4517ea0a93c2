"""A plugin's wire: a page that its code reads again and again (tripwire.py). Without the page the code traps.

The law: only the page of an instance that lives is cut or mended; whoever calls knows that it does.
"""

from __future__ import annotations

import ctypes
import mmap
import os

_protect = ctypes.CDLL(None, use_errno=True).mprotect
_protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_NOTHING = 0
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


def cut(address: int) -> None:
    _set(address, _NOTHING)


def mend(address: int) -> None:
    _set(address, _READ_WRITE)


def _set(address: int, protection: int) -> None:
    if _protect(address, mmap.PAGESIZE, protection):
        error = ctypes.get_errno()
        raise OSError(error, f"a plugin's wire cannot be changed: {os.strerror(error)}")
