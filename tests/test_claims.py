"""Of all who want a recording at once, one has it; and who lost it notices before it writes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.claims import Claim, ClaimLostError, Claims, Owner
from pipeline.storage import Folder
from tests.conftest import ROOT
from tests.s3_server import Bucket


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder(str(tmp_path / "out"))
    bucket: Bucket = request.getfixturevalue("s3")
    return Folder(f"{bucket.uri}/out")


def taken(claims: Claims, recording: str = "a") -> Claim:
    claim = claims.acquire(recording)
    assert isinstance(claim, Claim)
    return claim


def at_once(claims: Claims, count: int) -> list[Claim]:
    """The claims that `count` threads get of one recording when they ask together."""
    got: list[Claim | Owner] = []
    together = threading.Barrier(count)

    def ask() -> None:
        together.wait()
        got.append(claims.acquire("a"))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [claim for claim in got if isinstance(claim, Claim)]


def test_one_of_many_gets_a_recording_and_the_others_learn_who(folder: Folder) -> None:
    claims = Claims(folder)
    (claim,) = at_once(claims, 6)
    other = claims.acquire("a")
    assert isinstance(other, Owner) and other.pid == os.getpid()
    assert isinstance(claims.acquire("b"), Claim)
    claim.release()
    assert folder.names("claims") == ["b.1"]
    assert isinstance(claims.acquire("a"), Claim)


def test_one_of_many_takes_over_when_a_lease_runs_out(folder: Folder) -> None:
    sleeper = taken(Claims(folder, lease=0.2))
    time.sleep(0.25)
    (claim,) = at_once(Claims(folder), 6)
    with pytest.raises(ClaimLostError):
        sleeper.renew()
    sleeper.release()  # what is another's stays
    claim.renew()
    assert len(folder.names("claims")) == 1


@pytest.mark.parametrize("again", [False, True])
def test_an_owner_that_slept_through_a_whole_takeover_notices(folder: Folder, again: bool) -> None:
    """Also where a third one has begun from the first number again."""
    sleeper = taken(Claims(folder, lease=0.05))
    time.sleep(0.1)
    taken(Claims(folder)).release()
    third = taken(Claims(folder)) if again else None
    before = folder.names("claims")
    with pytest.raises(ClaimLostError):
        sleeper.renew()
    sleeper.release()
    assert folder.names("claims") == before == (["a.1"] if again else [])
    if third is not None:
        third.renew()


class Drowsy(Folder):
    """Sleeps before it creates a file, while `meanwhile` happens."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def create(self, name: str, data: bytes) -> bool:
        self.meanwhile()
        return super().create(name, data)


def test_who_looked_before_the_first_claim_was_made_comes_late(folder: Folder) -> None:
    claims, drowsy = Claims(folder), Drowsy(folder.uri)
    held: list[Claim] = []

    def meanwhile() -> None:
        if not held:
            held.append(taken(claims))
            held[0].renew()  # so that the first name is free again

    drowsy.meanwhile = meanwhile
    assert isinstance(Claims(drowsy).acquire("a"), Owner)
    held[0].renew()
    assert folder.names("claims") == ["a.3"]


def test_a_held_claim_outlives_its_lease_and_is_gone_afterwards(folder: Folder) -> None:
    with Claims(folder, lease=2).hold("a") as claim:
        assert isinstance(claim, Claim)
        for _ in range(10):
            time.sleep(0.3)
            with Claims(folder).hold("a") as other:
                assert isinstance(other, Owner)
        claim.renew()
    assert folder.names("claims") == []


def test_the_claim_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from jobs.claims import Claims; from pipeline.storage import Folder\n"
        "Claims(Folder(sys.argv[1])).acquire('a'); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        claims = Claims(Folder(str(tmp_path)))
        assert isinstance(claims.acquire("a"), Owner)
        os.kill(process.pid, signal.SIGKILL)
    assert isinstance(claims.acquire("a"), Claim)


def test_a_claim_that_was_not_written_whole_is_no_owner(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("claims/a.3", b'{"token": "x", "ho')
    assert isinstance(Claims(folder).acquire("a"), Claim)
    assert folder.names("claims") == ["a.4"]


def test_after_a_renewal_nobody_else_owns_for_a_whole_lease(tmp_path: Path) -> None:
    """Workers that fall asleep at random, often for longer than their lease."""
    lease = 0.1
    claims = Claims(Folder(str(tmp_path)), lease)
    owned: list[tuple[float, float, int]] = []  # from, at least until, who

    def work(who: int) -> None:
        chance = random.Random(who)
        while len(owned) < 60:
            claim = claims.acquire("a")
            if isinstance(claim, Owner):
                time.sleep(chance.uniform(0, lease / 4))
                continue
            try:
                for _ in range(3):
                    time.sleep(chance.choice([0, 0, lease / 10, lease * 1.2]))
                    began = time.time()
                    claim.renew()
                    written = time.time()
                    time.sleep(lease / 20)  # the record is written
                    owned.append((written, min(time.time(), began + lease), who))
            except ClaimLostError:
                pass
            claim.release()

    threads = [threading.Thread(target=work, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    owned.sort()
    for (_, until, who), (start, _, other) in pairwise(owned):
        assert who == other or start >= until, (owned, who, other)
