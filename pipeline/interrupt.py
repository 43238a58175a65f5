"""Being told to end: Ctrl+C, or SIGTERM (a pod is moved, a unit is stopped)."""

from __future__ import annotations

import signal
from types import FrameType

EXIT_CODE = 130

_told = False  # of the process, as its signals are


def listen() -> None:
    """From now on both signals raise KeyboardInterrupt in the main thread."""
    global _told
    _told = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def check() -> None:
    """KeyboardInterrupt once the process was told to end. To be asked wherever an Exception is
    taken for a recording's failure, and before each stage: C code (torch's, for one) may turn the
    KeyboardInterrupt that the signal raised into an error of its own, and one that is raised while
    an object is being disposed of is dropped by Python."""
    if _told:
        raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    global _told
    _told = True
    raise KeyboardInterrupt
