"""Peak memory of a piece of work (Linux)."""

from __future__ import annotations

from pathlib import Path
from typing import Self


class Peak:
    """The memory that the process gains inside the `with`, at its peak, in `megabytes`."""

    megabytes = 0.0

    def __enter__(self) -> Self:
        # The kernel starts the high-water mark anew from what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.megabytes = max(0.0, _status("VmHWM") - self._before)


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")
