"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
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


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
