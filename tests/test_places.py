"""Which of the CPUs that conductors leave idle are worth a helper, and whose they are."""

from __future__ import annotations

import pytest

from pipeline.cluster.places import Places, Report


def at(recording: str, stage: str, completed: int = 0, total: int = 1) -> Report:
    return Report(recording, stage, completed, total, "node", 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds."""
    now = [100.0]
    monkeypatch.setattr("pipeline.cluster.places.time.monotonic", lambda: now[0])
    return now


def test_cpus_are_spare_once_the_driver_has_no_recordings_for_them() -> None:
    places = Places()
    assert places.spare(8) == 0, "nothing is known yet"
    places.expected = 3
    assert places.spare(8) == 5
    for recording in "abcdefghij":
        places.tell(at(recording, "asr"))
    assert places.spare(8) == 0
    for recording in "abcdef":
        places.tell(at(recording, ""))
    assert places.spare(8) == 4


def test_a_helper_comes_where_it_has_more_to_do_than_start(clock: list[float]) -> None:
    places = Places()
    places.tell(at("a", "asr"))
    assert places.helpers(8, own=()) == 0, "nobody knows how long it takes"
    clock[0] += 2
    places.tell(at("a", "asr", 1000, 6000))
    assert places.helpers(8, own=()) == 2, "ten seconds to come"
    places.tell(at("b", "asr", 1000, 100_000))
    assert places.helpers(8, own=()) == 2, "it has just begun, as far as is known"
    clock[0] += 2
    places.tell(at("b", "asr", 1000, 100_000))
    assert places.helpers(8, own=()) == 8
    assert places.helpers(8, own={"asr"}) == 0, "workers of its own do that"
    clock[0] += 100
    places.tell(at("a", "punctuation"))
    places.tell(at("b", ""))
    assert places.helpers(8, own=()) == 0, "another stage"


def test_a_stage_that_begins_again_after_a_death_is_timed_anew(clock: list[float]) -> None:
    places = Places()
    places.tell(at("a", "asr"))
    clock[0] += 100
    places.tell(at("a", "asr", 5000, 6000))
    places.tell(at("a", "asr", 0, 6000))
    clock[0] += 1
    places.tell(at("a", "asr", 3000, 6000))
    assert places.helpers(8, own=()) == 0, "a second to come"


def test_helpers_are_shared_evenly() -> None:
    places = Places()
    for recording in "abc":
        places.tell(at(recording, "asr"))
    assert [places.share(recording, 7) for recording in "abc"] == [3, 2, 2]
    assert [places.share(recording, 2) for recording in "abc"] == [1, 1, 0]
