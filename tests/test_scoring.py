"""Scores on cases whose values are known by hand, the formats of references, and what
`evaluate` says when something does not fit."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from pyannote.core import Segment, Timeline
from rich.console import Console

from jobs.evaluation import evaluate
from jobs.references import (
    Scored,
    ScoredWord,
    read_references,
    recording_stem,
    speech_of_words,
)
from jobs.scoring import Scores, TokenErrors, normalise, overall, score
from pipeline.errors import OutputError, UsageError


def scored(*words: tuple[str, str, int, int], extent: Timeline | None = None) -> Scored:
    """Both speech and words, of words (speaker, text, start, end)."""
    said = tuple(ScoredWord(*word) for word in words)
    return Scored("meeting", speech_of_words("meeting", said), said, extent)


def value(rate: Any) -> float:
    assert rate is not None and rate.value is not None
    return float(rate.value)


DIALOGUE = (
    ("anna", "good", 0, 1000),
    ("anna", "morning", 1000, 2000),
    ("ben", "hello", 3000, 4000),
    ("ben", "everyone", 4000, 5000),
)


def speech_only(*stretches: tuple[str, int, int]) -> Scored:
    words = tuple(ScoredWord(who, "", start, end) for who, start, end in stretches)
    return Scored("meeting", speech_of_words("meeting", words))


def test_a_perfect_transcript_has_no_errors_whatever_its_speakers_are_called() -> None:
    names = {"anna": "S2", "ben": "S1"}
    renamed = [(names[who], text, start, end) for who, text, start, end in DIALOGUE]
    scores = score(scored(*DIALOGUE), scored(*renamed))
    rates = (*scores.der, scores.jer, scores.wer, scores.cer, scores.cpwer, scores.tcpwer)
    assert [value(rate) for rate in rates] == [0.0] * 9
    assert (scores.speakers.reference, scores.speakers.hypothesis) == (2, 2)


def test_der_names_missed_false_alarm_and_confused_seconds() -> None:
    truth = speech_only(("a", 0, 10_000), ("b", 20_000, 24_000), ("a", 29_000, 30_000))
    guess = speech_only(("x", 0, 8_000), ("x", 20_000, 22_000), ("y", 22_000, 27_000))
    der = score(truth, guess).der_at(0)
    assert (der.missed, der.false_alarm, der.confusion) == pytest.approx((3.0, 3.0, 2.0))
    assert der.total == pytest.approx(15.0)
    assert value(der) == pytest.approx(8 / 15)


@pytest.mark.parametrize(("off", "error"), [(200, 0.0), (250, 0.0), (300, 0.05)])
def test_collar_250_forgives_a_quarter_second_on_either_side(off: int, error: float) -> None:
    truth = speech_only(("a", 0, 1_000), ("b", 5_000, 6_500), ("a", 8_000, 9_000))
    late = speech_only(("x", 0, 1_000), ("y", 5_000, 6_500 + off), ("x", 8_000, 9_000))
    scores = score(truth, late)
    assert scores.der_at(0).false_alarm == pytest.approx(off / 1000)
    # half a second is left of each of a's stretches, a whole one of b's: 2 s in all, less the
    # collars inside; what lies past the first quarter second after b's end counts
    assert scores.der_at(250).false_alarm == pytest.approx(error)
    early = speech_only(("x", 0, 1_000), ("y", 5_000 - off, 6_500), ("x", 8_000, 9_000))
    assert score(truth, early).der_at(250).false_alarm == pytest.approx(error)


def test_two_people_at_once_count_twice_unless_overlap_is_left_out() -> None:
    truth = speech_only(("a", 0, 6_000), ("b", 4_000, 10_000))
    guess = speech_only(("x", 0, 5_000), ("y", 5_000, 10_000))
    scores = score(truth, guess)
    with_overlap, without = scores.der_at(0), scores.der_at(0, overlap=False)
    assert (with_overlap.missed, with_overlap.total) == pytest.approx((2.0, 12.0))
    assert value(without) == 0.0
    assert without.total == pytest.approx(8.0)


def test_stretches_of_one_person_that_overlap_are_no_overlap() -> None:
    truth = Scored("m", speech_only(("a", 0, 4_000)).speech)
    truth.speech[Segment(3, 8), "again"] = "a"
    der = score(truth, speech_only(("x", 0, 8_000))).der_at(0, overlap=False)
    assert der.total == pytest.approx(8.0)


def test_jer_weighs_every_speaker_the_same() -> None:
    truth = speech_only(("a", 0, 90_000), ("b", 90_000, 100_000))
    guess = speech_only(("x", 0, 100_000))
    scores = score(truth, guess)
    assert value(scores.der_at(0)) == pytest.approx(0.1)
    assert value(scores.jer) == pytest.approx((0.1 + 1.0) / 2)
    assert scores.speakers.error == 1


def test_word_errors_are_counted_by_kind() -> None:
    truth = scored(*(("a", w, i, i + 1) for i, w in enumerate(["one", "two", "three", "four"])))
    guess = scored(*(("a", w, i, i + 1) for i, w in enumerate(["one", "too", "four", "five"])))
    wer = score(truth, guess).wer
    assert wer is not None
    assert wer.deletions + wer.insertions + wer.substitutions == 3
    assert value(wer) == 3 / 4


def test_case_punctuation_and_typography_are_no_errors() -> None:
    truth = scored(("a", "Well \u2014 that\u2019s", 0, 2), ("a", "FORTY-TWO,", 2, 4))
    guess = scored(("a", "well", 0, 1), ("a", "that's", 1, 2), ("a", "forty two.", 2, 4))
    assert value(score(truth, guess).wer) == 0.0
    assert normalise("'Kay, the dogs' \uff21\uff22\uff23") == ["kay", "the", "dogs", "abc"]
    assert normalise("\u4f60\u597d") == ["\u4f60", "\u597d"]


def test_cpwer_charges_a_word_given_to_the_wrong_speaker_and_wer_does_not() -> None:
    wrong = list(DIALOGUE)
    wrong[2] = ("anna", "hello", 3000, 4000)
    scores = score(scored(*DIALOGUE), scored(*wrong))
    assert value(scores.wer) == 0.0
    assert value(scores.cpwer) == pytest.approx(2 / 4)  # inserted with anna, deleted with ben


def test_tcpwer_charges_a_word_at_the_wrong_time_and_cpwer_does_not() -> None:
    late = [(who, text, start + 60_000, end + 60_000) for who, text, start, end in DIALOGUE]
    scores = score(scored(*DIALOGUE), scored(*late))
    assert value(scores.cpwer) == 0.0
    assert value(scores.tcpwer) == pytest.approx(2.0)  # each one deleted and inserted
    near = [(who, text, start + 4_000, end + 4_000) for who, text, start, end in DIALOGUE]
    assert value(score(scored(*DIALOGUE), scored(*near)).tcpwer) == 0.0


def test_overlapping_words_are_compared_in_the_order_in_which_they_begin() -> None:
    truth = scored(("a", "one", 0, 5000), ("b", "two", 100, 300), ("a", "three", 5000, 6000))
    guess = scored(("x", "one", 0, 90), ("x", "two", 120, 300), ("x", "three", 5100, 6000))
    assert value(score(truth, guess).wer) == 0.0


def test_only_what_the_uem_names_is_scored() -> None:
    extent = Timeline([Segment(0, 2.5)])
    guess = scored(*DIALOGUE[:2], ("ben", "noise", 9_000, 9_900))
    scores = score(scored(*DIALOGUE, extent=extent), guess)
    assert value(scores.der_at(0)) == 0.0
    assert value(scores.wer) == 0.0


def test_nobody_speaks() -> None:
    silent = scored()
    assert score(silent, silent).wer == TokenErrors(0, 0, 0, 0)
    heard = score(silent, scored(("S1", "uh", 0, 10)))
    assert heard.wer == heard.cpwer == TokenErrors(1, 0, 0, 0)
    assert heard.wer is not None and heard.wer.value is None
    missed = score(scored(*DIALOGUE), silent)
    assert value(missed.wer) == value(missed.cpwer) == value(missed.tcpwer) == 1.0
    assert value(missed.der_at(0)) == 1.0
    assert value(overall([heard, missed]).wer) == pytest.approx(5 / 4)


def test_overall_weighs_recordings_by_their_size() -> None:
    short = score(scored(("a", "yes", 0, 10)), scored(("a", "no", 0, 10)))
    words = [("a", f"w{i}", i * 10, i * 10 + 10) for i in range(9)]
    both = overall([short, score(scored(*words), scored(*words))])
    assert value(both.wer) == pytest.approx(1 / 10)
    rttm_only = score(speech_only(("a", 0, 1000)), scored(("a", "x", 0, 1000)))
    assert rttm_only.wer is None
    assert overall([rttm_only, short]).wer == short.wer


WORDS = [{"speaker": who, "text": t, "start": s, "end": e} for who, t, s, e in DIALOGUE]
RTTM = "".join(
    f"SPEAKER meeting 1 {start} 2.000 <NA> <NA> {who} <NA> <NA>\n"
    for who, start in (("anna", "0.000"), ("ben", "3.000"))
)
STM = "meeting 1 anna 0 2 Good morning\n;; a comment\nmeeting 1 ben 3 5 Hello everyone\n"
SEGLST = [
    {"session_id": "meeting", "speaker": who, "start_time": start, "end_time": end, "words": text}
    for who, start, end, text in (
        ("anna", 0, 2, "Good morning"),
        ("ben", 3.0, 5.0, "Hello everyone"),
    )
]
TRANSCRIPT = {
    "schema": 1,
    "id": "meeting-1",
    "uri": "/archive/meeting.opus",
    "status": "done",
    "turns": [
        {"speaker": who, "words": [w for w in WORDS if w["speaker"] == who]}
        for who in ("anna", "ben")
    ],
    "timeline": [[0, 2000, "anna"], [3000, 5000, "ben"]],
}


def words_jsonl(words: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(word) + "\n" for word in words)


FORMATS = {
    "meeting.words.jsonl": words_jsonl(WORDS),
    "meeting.stm": STM,
    "meeting.json": json.dumps(SEGLST),
    "meeting-1.json": json.dumps(TRANSCRIPT),
}


def output_folder(folder: Path, *uris: str) -> Path:
    """An output folder with one transcript for each uri."""
    (folder / "transcripts").mkdir(parents=True)
    for number, uri in enumerate(uris):
        record = {**TRANSCRIPT, "uri": uri}
        (folder / "transcripts" / f"r-{number}.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_says_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMATS[name])
    out = output_folder(tmp_path / "out", "/a/meeting.wav")
    (scores,) = evaluate(tmp_path / name, out).recordings
    rates = (scores.der_at(0), scores.wer, scores.cpwer, scores.tcpwer)
    assert [value(rate) for rate in rates] == [0.0] * 4
    assert scores.wer is not None and scores.wer.total == 4


def test_rttm_alone_gives_no_word_scores(tmp_path: Path) -> None:
    (tmp_path / "meeting.rttm").write_text(RTTM)
    out = output_folder(tmp_path / "out", "/a/meeting.wav")
    evaluation = evaluate(tmp_path / "meeting.rttm", out)
    assert value(evaluation.overall.der_at(0)) == 0.0
    assert evaluation.overall.wer is evaluation.overall.cpwer is None


def test_rttm_with_other_lines_than_speakers(tmp_path: Path) -> None:
    others = ";; made by hand\nSPKR-INFO meeting 1 <NA> <NA> <NA> unknown anna <NA>\n"
    (tmp_path / "meeting.rttm").write_text(others + RTTM)
    (tmp_path / "silent.rttm").write_text("")
    references = read_references(tmp_path, wanted=("meeting", "silent"))
    assert references["meeting"].speech.labels() == ["anna", "ben"]
    assert not references["silent"].speech


def test_files_of_one_name_complement_each_other(tmp_path: Path) -> None:
    shifted = [
        {"speaker": who, "text": text, "start": start + 900, "end": end + 900}
        for who, text, start, end in DIALOGUE
    ]
    (tmp_path / "meeting.words.jsonl").write_text(words_jsonl(shifted))
    (tmp_path / "meeting.rttm").write_text(RTTM)
    (tmp_path / "meeting.uem").write_text("meeting 1 0 2.5\n")
    out = output_folder(tmp_path / "out", "/a/meeting.wav")
    for reference in (tmp_path, tmp_path / "meeting.rttm"):
        scores = evaluate(reference, out).overall
        assert value(scores.der_at(0)) == 0.0  # the RTTM's times, not those of the words
        assert scores.der_at(0).total == pytest.approx(2.0)
        assert scores.wer is not None and scores.wer.total == 2


def test_real_meetings_are_read_with_their_words(shared_data: Path) -> None:
    references = read_references(shared_data / "meetings-ami", wanted=())
    assert len(references) == 10
    dev = references["dev01"]
    assert dev.words is not None and dev.words[0] == ScoredWord("MEE012", "Just", 4350, 4560)
    assert not any(word.text in (".", ",") for word in dev.words)
    itself = score(dev, dev)
    assert value(itself.der_at(0)) == value(itself.cpwer) == value(itself.tcpwer) == 0.0


def test_one_file_for_many_recordings(tmp_path: Path) -> None:
    (tmp_path / "all.rttm").write_text(RTTM + RTTM.replace("meeting", "other"))
    out = output_folder(tmp_path / "out", "s3://bucket/meeting.wav", "https://x.org/other.mp3?v=1")
    evaluation = evaluate(tmp_path / "all.rttm", out)
    assert [scores.name for scores in evaluation.recordings] == ["meeting", "other"]


def test_a_reference_without_its_transcript_is_named_with_the_reason(tmp_path: Path) -> None:
    for name in ("meeting", "lost", "broken"):
        (tmp_path / f"{name}.rttm").write_text(RTTM.replace("meeting", name))
    out = output_folder(tmp_path / "out", "/a/meeting.wav")
    (out / "failures").mkdir()
    failure = {"status": "failed", "uri": "/a/broken.wav", "stage": "audio", "error": "empty file"}
    (out / "failures" / "b.json").write_text(json.dumps(failure))
    evaluation = evaluate(tmp_path, out)
    reasons = {unscored.name: unscored.reason for unscored in evaluation.unscored}
    assert reasons == {"broken": "failed in audio: empty file", "lost": "no transcript"}
    console = Console(width=80, record=True)
    console.print(evaluation.table())
    shown = console.export_text()
    wanted = ("meeting", "tcpWER", "m+f+c", "empty file", "0.0/0.0", "right for 1 of 1")
    assert all(text in " ".join(shown.split()) for text in wanted)
    assert json.loads(json.dumps(evaluation.as_dict()))["overall"]["der"][0]["value"] == 0.0


def test_scores_as_csv_and_the_confusion_of_speaker_counts(tmp_path: Path) -> None:
    (tmp_path / "all.rttm").write_text(RTTM + RTTM.splitlines()[0].replace("meeting", "other"))
    out = output_folder(tmp_path / "out", "/a/meeting.wav", "/a/other.wav")
    evaluation = evaluate(tmp_path / "all.rttm", out)
    evaluation.write_csv(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = {row["recording"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["meeting", "other", "overall"]
    assert rows["meeting"]["der_0"] == rows["meeting"]["der_250_without_overlap"] == "0.0"
    assert rows["meeting"]["wer"] == ""  # the RTTM has no words
    assert (rows["other"]["speakers_reference"], rows["other"]["speakers_hypothesis"]) == ("1", "2")
    counts = evaluation.as_dict()["speaker_counts"]
    assert (counts["exact"], counts["mean_error"]) == (0.5, 0.5)
    assert counts["confusion"] == [
        {"reference": 1, "hypothesis": 2, "recordings": 1},
        {"reference": 2, "hypothesis": 2, "recordings": 1},
    ]
    with pytest.raises(OutputError, match="nowhere"):
        evaluation.write_csv(tmp_path / "nowhere" / "scores.csv")


def check_error(line: str, *parts: str) -> None:
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_what_does_not_fit_is_said_in_one_line(tmp_path: Path) -> None:
    out = output_folder(tmp_path / "out", "/a/meeting.wav")
    references = tmp_path / "references"
    references.mkdir()

    def error(reference: Path, out: Path = out) -> str:
        with pytest.raises(UsageError) as caught:
            evaluate(reference, out)
        return str(caught.value)

    check_error(error(tmp_path / "nowhere"), "not found", "nowhere")
    check_error(error(references), "no reference", ".rttm", "references")
    (references / "else.rttm").write_text(RTTM.replace("meeting", "else"))
    check_error(error(references), "else", "meeting", "no reference")
    check_error(error(references, tmp_path), "no transcripts", "hansard transcribe")
    for name, text in {
        "meeting.rttm": "SPEAKER meeting\n",
        "meeting-4.rttm": "a shopping list\n",
        "meeting.stm": "meeting 1 a x y words\n",
        "meeting.words.jsonl": '{"speaker": "a"}\n',
        "meeting.json": '{"status": "failed"}',
        "meeting-2.json": "[{}]",
        "meeting-3.json": "{",
        "meeting.uem": "meeting 0\n",
    }.items():
        bad = tmp_path / "bad" / name
        bad.parent.mkdir(exist_ok=True)
        bad.write_text(text)
        check_error(error(bad), name)
        bad.unlink()
    (references / "meeting.stm").write_text(STM)
    (references / "meeting.words.jsonl").write_text(words_jsonl(WORDS))
    check_error(error(references), "two references", "meeting.stm", "meeting.words.jsonl")


def test_two_recordings_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    (tmp_path / "meeting.rttm").write_text(RTTM)
    out = output_folder(tmp_path / "out", "/a/meeting.wav", "/b/meeting.wav")
    with pytest.raises(UsageError, match="2 transcripts are of a recording called 'meeting'"):
        evaluate(tmp_path / "meeting.rttm", out)


def test_the_stem_of_a_uri() -> None:
    assert recording_stem("https://x.org/a%20b/talk.v1.mp3?sig=abc/def.g") == "talk.v1"
    assert recording_stem("/tmp/what? #1.wav") == "what? #1"


def test_scores_print_as_plain_data() -> None:
    scores: Scores = score(scored(*DIALOGUE), scored(*DIALOGUE[:3]))
    data = json.loads(json.dumps(scores.as_dict()))
    assert data["wer"] == {
        "value": 0.25,
        "insertions": 0,
        "deletions": 1,
        "substitutions": 0,
        "total": 4,
    }
