"""Something done again and again beside what a process does."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Periodic:
    """Calls `work` every `seconds`, first after so many, in a thread of its own, from `start` to
    `stop`, or until it returns False."""

    def __init__(self, work: Callable[[], bool | None], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for a call under way. Nothing where it was never started."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds) and self._work() is not False:
            pass
