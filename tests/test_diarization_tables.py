"""What the tables of who speaks when count, and that what was heard once is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.attribution import wrong_words
from benchmarks.clustering import Meeting, matched, meeting, time_together
from benchmarks.diarization_sets import HEARD, Sets
from jobs.references import ScoredWord
from pipeline.profile import load_profile
from pipeline.records import Sentence, Turn, Word

STEP = 750


def right_share(made: Meeting, found: list[tuple[float, float, str]]) -> float:
    return matched(time_together(found, made.speakers))


def test_accuracy_is_the_share_of_time_under_the_right_label() -> None:
    made = meeting(40, 2, seed=3)
    true = [(at * STEP, at * STEP + STEP, f"S{who}") for at, who in enumerate(made.speakers)]
    assert right_share(made, [(float(a), float(b), label) for a, b, label in true]) == 1.0
    one = right_share(made, [(0.0, 40.0 * STEP, "S1")])
    assert one == max(list(made.speakers).count(who) for who in (0, 1)) / 40
    late = [(a + STEP / 2, b + STEP / 2, label) for a, b, label in true]
    late[0] = (0.0, late[0][1], late[0][2])
    changes = sum(
        one != other for one, other in zip(made.speakers, made.speakers[1:], strict=False)
    )
    assert right_share(made, late) == pytest.approx(1 - changes / 2 / 40)


def said(*words: tuple[str, int]) -> list[ScoredWord]:
    return [ScoredWord(who, "word", start, start + 100) for who, start in words]


def turn(speaker: str, *starts: int) -> Turn:
    words = tuple(Word("word", start, start + 100, 1.0) for start in starts)
    return Turn(speaker, (Sentence(words),))


def test_words_under_a_wrong_speaker_are_counted_whatever_the_speakers_are_called() -> None:
    truth = said(("ann", 0), ("ann", 200), ("bob", 400), ("bob", 600), ("ann", 800))
    assert wrong_words(truth, [turn("S1", 0, 200), turn("S2", 400, 600), turn("S1", 800)]) == 0
    assert wrong_words(truth, [turn("S2", 0, 200, 400), turn("S1", 600), turn("S2", 800)]) == 1
    assert wrong_words(truth, [turn("S1", 0, 200, 400, 600, 800)]) == 2


def test_a_word_without_a_speaker_is_no_score() -> None:
    with pytest.raises(ValueError, match="shorter"):
        wrong_words(said(("ann", 0), ("bob", 400)), [turn("S1", 0)])


def test_what_was_heard_is_kept(tmp_path: Path, shared_data: Path) -> None:
    sets = Sets(shared_data, tmp_path, load_profile("default"), quick=True)
    first = next(sets.recordings("ami"))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert sorted(path.name.split("-")[0] for path in kept) == sorted(HEARD)
    again = next(sets.recordings("ami"))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert again.speech == first.speech
    assert (again.embeddings.vectors == first.embeddings.vectors).all()
    assert (again.segmentation.active == first.segmentation.active).all()
    changed = load_profile("default", ["segmentation.step_ms=2500"])
    next(Sets(shared_data, tmp_path, changed, quick=True).recordings("ami"))
    new = {path.name.split("-")[0] for path in tmp_path.rglob("*.*") if path not in kept}
    assert new == {"segmentation"}
