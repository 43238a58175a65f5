"""The demo meeting's reference holds against its audio, voices know their word times, and
simulated meetings are what they claim."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.meetings import Options, pool_of, simulate, write
from benchmarks.turn_taking import Spurt, real_meetings, turn_taking
from demo.make_meeting import CAST, HERE, read_dialogue, write_opus
from jobs.references import read_references
from training.rooms import Room, impulse_response
from training.splits import LIBRISPEECH_HELD_OUT
from training.voices import LEAD_MS, RATE, TAIL_MS, VOICES, Voice, VoiceError, missing, say

TEXT = "Well, the first twenty-one of the samples aren't ready, I'm told. We'll see."
ENGINES = [
    Voice("flite", "slt", True),
    Voice("flite", "awb", speed=1.2, warp=0.9),
    Voice("festival", "kal_diphone"),
    Voice("festival", "kal_diphone", warp=1.1),
    Voice("espeak", "en-us+f4", True),
    Voice("espeak", "en-gb-scotland+m3", speed=0.8, warp=1.1),
]


def read_audio(path: Path) -> NDArray[np.float32]:
    resampler = av.AudioResampler("flt", "mono", RATE)
    with av.open(str(path)) as container:
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    return np.concatenate([f.to_ndarray()[0] for f in [*frames, *resampler.resample(None)]])


@pytest.fixture(scope="module")
def audio() -> NDArray[np.float32]:
    return read_audio(HERE / "meeting.opus")


@pytest.fixture(scope="module")
def words() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / "meeting.words.jsonl").open()]


@pytest.fixture(scope="module")
def segments() -> list[tuple[int, int, str]]:
    """Start and end in ms, and speaker, as the RTTM has them."""
    found = []
    for line in (HERE / "meeting.rttm").read_text().splitlines():
        kind, uri, _, start, duration, _, _, name, *_ = line.split()
        assert (kind, uri) == ("SPEAKER", "meeting")
        begin = round(float(start) * 1000)
        found.append((begin, begin + round(float(duration) * 1000), name))
    return found


def speech_mask(spans: list[tuple[int, int]], length: int) -> NDArray[np.bool_]:
    mask = np.zeros(length, bool)
    for start, end in spans:
        mask[start * RATE // 1000 : end * RATE // 1000] = True
    return mask


def level(samples: NDArray[np.float32]) -> float:
    """RMS in dB of full scale."""
    return float(10 * np.log10(np.square(samples, dtype=np.float64).mean() + 1e-12))


def test_the_meeting_is_long_and_shared_by_five(
    audio: NDArray[np.float32], words: list[dict[str, Any]]
) -> None:
    assert 4 * 60 <= len(audio) / RATE <= 6 * 60
    assert (HERE / "meeting.opus").stat().st_size < 1.5e6
    spoken = {name: sum(w["speaker"] == name for w in words) for name in (s.name for s in CAST)}
    assert sum(spoken.values()) == len(words)
    assert min(spoken.values()) > 100


def test_words_are_sorted_and_inside_the_recording(
    audio: NDArray[np.float32], words: list[dict[str, Any]]
) -> None:
    assert all(a["start"] <= b["start"] for a, b in pairwise(words))
    assert all(0 <= w["start"] < w["end"] <= len(audio) * 1000 // RATE for w in words)
    for name in {w["speaker"] for w in words}:
        own = [w for w in words if w["speaker"] == name]
        assert all(a["end"] <= b["start"] for a, b in pairwise(own))


def test_the_words_are_the_dialogue(words: list[dict[str, Any]]) -> None:
    for name in {w["speaker"] for w in words}:
        turns = (t.text for t in read_dialogue(HERE / "dialogue.txt") if t.name == name)
        assert [w["text"] for w in words if w["speaker"] == name] == " ".join(turns).split()


def test_rttm_and_words_agree(
    words: list[dict[str, Any]], segments: list[tuple[int, int, str]]
) -> None:
    for word in words:
        assert any(
            name == word["speaker"] and start <= word["start"] and word["end"] <= end
            for start, end, name in segments
        )
    edges = {(w["start"], w["speaker"]) for w in words}, {(w["end"], w["speaker"]) for w in words}
    assert all((s, name) in edges[0] and (e, name) in edges[1] for s, e, name in segments)
    assert segments == sorted(segments)


def test_people_interrupt_each_other_a_little(segments: list[tuple[int, int, str]]) -> None:
    voices = np.zeros(max(end for _, end, _ in segments), int)
    for start, end, _ in segments:
        voices[start:end] += 1
    assert 0.01 < (voices > 1).sum() / (voices > 0).sum() < 0.1


def test_the_audio_is_loud_where_the_reference_has_words(
    audio: NDArray[np.float32], words: list[dict[str, Any]], segments: list[tuple[int, int, str]]
) -> None:
    quiet = ~speech_mask([(start - 20, end + 250) for start, end, _ in segments], len(audio))
    assert quiet.sum() > 5 * RATE
    levels = [level(audio[w["start"] * 16 : w["end"] * 16]) for w in words]
    assert np.median(levels) > level(audio[quiet]) + 20
    assert np.mean(np.array(levels) > level(audio[quiet]) + 8) > 0.99


def test_speech_sets_in_when_the_reference_says(
    audio: NDArray[np.float32], segments: list[tuple[int, int, str]]
) -> None:
    """Whatever delay the codec has, players take it out again."""
    starts = [b for (_, a, _), (b, _, _) in pairwise(segments) if b - a > 400]
    before = np.mean([level(audio[(t - 60) * 16 : (t - 10) * 16]) for t in starts])
    after = np.mean([level(audio[(t + 10) * 16 : (t + 60) * 16]) for t in starts])
    assert len(starts) > 10
    assert after > before + 10


def test_opus_keeps_the_time(tmp_path: Path) -> None:
    clicks = np.zeros(3 * RATE, np.float32)
    places = [1000, 17000, 40000]
    for place in places:
        clicks[place : place + 80] = np.hanning(80)
    write_opus(tmp_path / "clicks.opus", clicks, 24000)
    heard = np.abs(read_audio(tmp_path / "clicks.opus"))
    assert abs(len(heard) - len(clicks)) <= RATE // 100
    for place in places:
        near = heard[place - 800 : place + 880]
        assert abs(int(near.argmax()) - 840) <= RATE // 100


def test_the_meeting_can_be_made_again(words: list[dict[str, Any]], tmp_path: Path) -> None:
    reasons = {missing(speaker.voice) for speaker in CAST} - {""}
    if reasons:
        pytest.skip("; ".join(sorted(reasons)))
    command = [sys.executable, "-m", "demo.make_meeting", "--out", str(tmp_path)]
    subprocess.run(command, cwd=HERE.parent, check=True, capture_output=True)
    made = [json.loads(line) for line in (tmp_path / "meeting.words.jsonl").open()]
    assert Counter(w["text"] for w in made) == Counter(w["text"] for w in words)
    # Other versions of the engines may speak a little faster or slower.
    for new, shipped in zip(made, words, strict=True):
        assert abs(new["end"] - shipped["end"]) <= 20 + 0.03 * shipped["end"]


@pytest.mark.parametrize("voice", ENGINES, ids=lambda voice: voice.label)
def test_voices_know_when_each_word_is_spoken(voice: Voice) -> None:
    if reason := missing(voice):
        pytest.skip(reason)
    speech = say(voice, TEXT)
    assert [word.text for word in speech.words] == TEXT.split()
    assert all(a.end <= b.start for a, b in pairwise(speech.words))
    assert speech.words[0].start == LEAD_MS
    assert abs(speech.words[-1].end + TAIL_MS - len(speech.samples) * 1000 / RATE) <= 1
    inside = speech_mask([(w.start, w.end) for w in speech.words], len(speech.samples))
    assert level(speech.samples[inside]) > level(speech.samples[~inside]) + 18
    levels = [level(speech.samples[w.start * 16 : w.end * 16]) for w in speech.words]
    assert min(levels) > level(speech.samples[inside]) - 15


def test_a_voice_says_the_same_twice() -> None:
    voice = ENGINES[0]
    if reason := missing(voice):
        pytest.skip(reason)
    first = say(voice, TEXT)
    say(Voice(voice.engine, voice.name, speed=1.3), "something else")
    again = say(voice, TEXT)
    assert np.array_equal(first.samples, again.samples)
    assert first.words == again.words


def test_voices_are_many_and_told_apart_by_their_labels() -> None:
    assert len({voice.label for voice in VOICES}) == len(VOICES) >= 40
    assert any(v.female for v in VOICES)
    assert not all(v.female for v in VOICES)


def test_what_cannot_be_said_is_refused() -> None:
    with pytest.raises(ValueError, match="not plain words"):
        say(ENGINES[0], "one - two")
    with pytest.raises(ValueError, match="not plain words"):
        say(ENGINES[0], " ")
    with pytest.raises(VoiceError):
        say(Voice("espeak", "nowhere+nobody"), "hello")


def test_a_room_keeps_the_time_of_what_is_said_in_it() -> None:
    response = impulse_response(Room(), (2.0, 3.0, 1.2), np.random.default_rng(0))
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    decay = 10 * np.log10(energy / energy[0])
    assert int(np.abs(response).argmax()) == 0
    assert 0.15 < 2 * float(np.argmax(decay < -30)) / RATE < 0.45


def test_simulated_meetings_are_held_out_people_taking_turns(
    shared_data: Path, tmp_path: Path
) -> None:
    options = Options(speakers=3, minutes=1.5, material=30, seed=7)
    meeting = simulate(shared_data, options)
    audio, annotation = meeting.audio(), meeting.annotation("simulated")
    assert len(audio) == 90 * RATE
    assert len(annotation.labels()) == 3
    for label in annotation.labels():
        assert label in LIBRISPEECH_HELD_OUT or label.startswith(("so-", "cv-", "lb-", "ka"))
    spans = [(round(s.start * 1000), round(s.end * 1000)) for s in annotation.get_timeline()]
    inside = speech_mask(spans, len(audio))
    assert level(audio[inside]) > level(audio[~inside]) + 8  # a room, and its noise
    for one, other in pairwise(meeting.turns):
        assert one.start <= other.start
        assert one.speaker != other.speaker or one.end <= other.start
    write(meeting, tmp_path / "simulated.flac")
    assert level(read_audio(tmp_path / "simulated.flac") - audio) < -80
    write(simulate(shared_data, options), tmp_path / "again" / "simulated.flac")
    for name in ("simulated.flac", "simulated.rttm"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_simulated_meetings_of_whole_utterances_know_their_words(
    shared_data: Path, tmp_path: Path
) -> None:
    options = Options(speakers=2, minutes=2, material=60, pool="tuning", whole=True, seed=1)
    write(simulate(shared_data, options), tmp_path / "simulated.wav")
    (reference,) = read_references(tmp_path, ()).values()
    assert reference.words is not None and len(reference.words) > 20
    assert {word.speaker for word in reference.words} == set(reference.speech.labels())
    assert {pool_of(label) for label in reference.speech.labels()} == {"tuning"}


def test_simulated_turn_taking_is_that_of_real_meetings(shared_data: Path) -> None:
    real = real_meetings(shared_data)
    people = [f"p{number}" for number in range(8)]
    spurts = list(turn_taking(real, people, 30 * 60_000, np.random.default_rng(0)))
    assert {spurt.who for spurt in spurts} == set(people)
    ours, theirs = talk(spurts), talk(real[0])
    assert ours == pytest.approx(theirs, abs=0.12)


def talk(spurts: list[Spurt]) -> tuple[float, float]:
    """The share of the time in which somebody speaks, and of that in which several do."""
    voices = np.zeros(max(spurt.end for spurt in spurts) // 10 + 1, int)
    for spurt in spurts:
        voices[spurt.start // 10 : spurt.end // 10] += 1
    return float((voices > 0).mean()), float((voices > 1).sum() / (voices > 0).sum())
