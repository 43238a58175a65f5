"""A limit on the time that a recording may take, that stops even a stage that is stuck."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.errors import UsageError

_AGAIN = 5.0


class OutOfTimeError(BaseException):
    """The time is up. Like KeyboardInterrupt no Exception, so that nothing on the way takes it
    for an error of its own and goes on."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raises OutOfTimeError in what runs inside once `seconds` have passed; no limit for None.

    A timer of the system interrupts Python wherever it is, waiting for a disk or a network
    included; only one single call into C (a batch through a network: seconds) ends first.
    UsageError where there is no such timer: outside of the main thread, and on Windows."""
    if seconds is None:
        yield
        return
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        raise UsageError("a time limit needs the main thread and a system with interval timers")

    rung = False

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal rung
        rung = True
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)  # again: a bare except may swallow one
    try:
        yield
    except Exception:
        if rung:  # C code may turn what `ring` raised into an error of its own
            raise OutOfTimeError from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
