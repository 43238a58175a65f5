"""Who works on which recording: claims with leases, in a folder or a bucket that knows no locks
and no compare-and-swap, only the exclusive creation of a name.

    OUT/claims/<id>.<n>     the highest n is the claim; there is one file but for moments

A claim's file is never written again. Whoever renews a lease, or takes over one that has run out,
creates n+1. One creator wins; the other learns that it lost. The winner then looks whether n is
still the file that it knew: if not, it comes late (it slept while others took over and finished),
and withdraws. Only then is n deleted, always before n+1 can be; so whoever still finds n knows
that nobody went on from it. A first claim has no n to look at: it must be alone in the listing.

An owner renews its lease right before it writes the record: the write then has a whole lease of
time. Clocks may differ by three quarters of a lease, which is what a living owner has left.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from jobs.periodic import Periodic
from pipeline.errors import HansardError, OutputError
from pipeline.storage import Folder

LEASE = 120.0
CLAIMS = "claims"
_TRIES = 10


class ClaimLostError(HansardError):
    """Another worker has taken the recording over."""


@dataclass(frozen=True)
class Owner:
    """What a claim's file says. `until`: seconds since 1970. `processes` names the space in
    which `pid` means something: this boot of this machine, this container."""

    token: str
    host: str
    pid: int
    processes: str
    until: float

    @property
    def worker(self) -> str:
        return f"{self.host}:{self.pid}"

    def gone(self) -> bool:
        """Whether the lease has run out, or its process has ended and can be seen to have."""
        return time.time() > self.until or (
            self.processes == _processes() != "" and not _alive(self.pid)
        )


_OWNER = TypeAdapter(Owner)


class Claims:
    """The claims in an output folder; `lease` in seconds."""

    def __init__(self, folder: Folder, lease: float = LEASE) -> None:
        self.folder = folder
        self.lease = lease

    @contextmanager
    def hold(self, recording: str, dead: Collection[str] = ()) -> Iterator[Claim | Owner]:
        """The claim, kept up by a thread until the end; or its owner, where another has it."""
        held = self.acquire(recording, dead)
        if isinstance(held, Owner):
            yield held
            return
        held.keep_up()
        try:
            yield held
        finally:
            held.release()

    def acquire(self, recording: str, dead: Collection[str] = ()) -> Claim | Owner:
        """One try. Takes over a claim whose owner is gone, or known as one of the `dead` workers
        (host:pid)."""
        mine = Owner(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            pid=os.getpid(),
            processes=_processes(),
            until=time.time() + self.lease,
        )
        for _ in range(_TRIES):
            standing = self._standing(recording)
            newest = max(standing, default=0)
            seen = self._read(recording, newest) if newest else b""
            if seen is None:  # renewed or released this moment
                continue
            owner = _owner(seen)
            if owner is not None and not owner.gone() and owner.worker not in dead:
                return owner
            data = _OWNER.dump_json(mine)
            if self._follow(recording, standing, seen, data):
                return Claim(self, recording, newest + 1, mine, data)
        raise OutputError(f"{self.folder}: {CLAIMS}/{recording}.*: claimed and released too fast")

    def owners(self) -> dict[str, Owner]:
        """Whose each claimed recording is, the gone ones too."""
        newest: dict[str, int] = {}
        for name in self.folder.names(CLAIMS):
            recording, _, number = name.rpartition(".")
            if number.isdecimal():
                newest[recording] = max(int(number), newest.get(recording, 0))
        names = {_name(recording, n): recording for recording, n in newest.items()}
        owners = {names[name]: _owner(data) for name, data in self.folder.read_all(names)}
        return {recording: owner for recording, owner in owners.items() if owner is not None}

    def _follow(self, recording: str, standing: list[int], seen: bytes, data: bytes) -> bool:
        """Creates the claim after those that stand, of which the newest holds `seen`, and
        deletes them. False where another was faster."""
        newest = max(standing, default=0)
        name = _name(recording, newest + 1)
        # A bucket's client may create a file, miss the answer, try again and find its own.
        if not self.folder.create(name, data) and self.folder.read(name) != data:
            return False
        if not self._in_time(recording, newest, seen):
            self.folder.delete(name)
            return False
        for number in standing:
            self.folder.delete(_name(recording, number))
        return True

    def _in_time(self, recording: str, newest: int, seen: bytes) -> bool:
        """Whether the claim after `newest` was created before anybody else went on from it."""
        if newest == 0:
            return self._standing(recording) == [1]
        return self._read(recording, newest) == seen

    def _standing(self, recording: str) -> list[int]:
        numbers = (
            name.removeprefix(f"{recording}.")
            for name in self.folder.names(CLAIMS)
            if name.startswith(f"{recording}.")
        )
        return sorted(int(number) for number in numbers if number.isdecimal())

    def _read(self, recording: str, number: int) -> bytes | None:
        return self.folder.read(_name(recording, number))


class Claim:
    """A recording that this process may work on, until `lost`."""

    def __init__(
        self, claims: Claims, recording: str, number: int, owner: Owner, data: bytes
    ) -> None:
        self._claims = claims
        self._recording = recording
        self._number = number
        self._owner = owner
        self._data = data
        self._renewed = time.monotonic()
        self._lock = threading.Lock()
        self._renewals = Periodic(self._renew_in_time, claims.lease / 4)
        self.lost = False

    def keep_up(self) -> None:
        """Starts the thread that renews the lease, four times before it runs out."""
        self._renewals.start()

    def renew(self) -> None:
        """Makes the lease a whole one again. ClaimLostError where another has taken over;
        OutputError where the store does not answer."""
        with self._lock:
            if not self.lost:
                owner = replace(self._owner, until=time.time() + self._claims.lease)
                data = _OWNER.dump_json(owner)
                if self._claims._follow(self._recording, [self._number], self._data, data):
                    self._number, self._data = self._number + 1, data
                    self._renewed = time.monotonic()
                else:
                    self.lost = True
            if self.lost:
                raise ClaimLostError(f"{self._recording}: another worker has taken it over")

    def release(self) -> None:
        """Deletes the claim where it is still held; ends the thread."""
        self._renewals.stop()
        with self._lock:
            if not self.lost:
                with suppress(OutputError):  # it runs out by itself
                    self._claims.folder.delete(_name(self._recording, self._number))

    def _renew_in_time(self) -> bool:
        """False where there is nothing to renew any more."""
        try:
            self.renew()
        except ClaimLostError:
            return False
        except OutputError:
            self.lost |= time.monotonic() - self._renewed > self._claims.lease
        return not self.lost


def _name(recording: str, number: int) -> str:
    return f"{CLAIMS}/{recording}.{number}"


def _owner(data: bytes) -> Owner | None:
    """None for a file that was not written whole: its writer is gone."""
    try:
        return _OWNER.validate_json(data)
    except ValidationError:
        return None


def _processes() -> str:
    """Names the processes that this one can see: the boot and the namespace of its pid; empty
    where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
