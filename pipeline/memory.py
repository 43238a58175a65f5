"""Memory: given back to the system where it was freed, and not searched for garbage where all of
it stays."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


def release() -> None:
    """Unmaps what the C library keeps after it was freed. Hours of batches of ever other sizes
    leave it holes between the small results that stay, and the process would grow with the
    recording although nothing holds on to its audio. Only glibc has the call; it takes some
    milliseconds."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@contextmanager
def uncollected() -> Iterator[None]:
    """In which modules are imported and models read: hundreds of thousands of objects that stay,
    and through which Python would look for garbage again and again, a fifth of the time. It does
    not later either (Ray has every process of a cluster look)."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
