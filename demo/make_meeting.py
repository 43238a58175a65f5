"""Makes the demo meeting from `dialogue.txt`: synthetic voices around a table in a small
room, and the exact reference. `python -m demo.make_meeting [--out FOLDER]`

The same text, voices and seed give the same reference, word for word and ms for ms.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from training.rooms import Room, impulse_response, reverberate, room_noise
from training.voices import LEAD_MS, RATE, Voice, say

HERE = Path(__file__).parent
SEED = 20
LEVEL = 10 ** (-25 / 20)  # RMS of speech at gain 0 dB
SNR_DB = 27.0
BRIDGED_MS = 250  # shorter gaps in a speaker's words are no pause in the RTTM
FIRST_WORD_MS = 1200
LAST_MS = 1500


@dataclass(frozen=True)
class Speaker:
    """A voice at a place in the room (m), louder or quieter than the others by `gain` dB."""

    name: str
    voice: Voice
    place: tuple[float, float, float]
    gain: float


CAST = (
    Speaker("Amira", Voice("flite", "slt", True, speed=0.96), (2.2, 2.2, 1.2), 1.0),
    Speaker("Gordon", Voice("flite", "awb", speed=0.94), (3.2, 3.1, 1.2), -1.0),
    Speaker("Ines", Voice("espeak", "en-us+f2", True, speed=0.9, warp=1.05), (4.0, 2.5, 1.15), 0.0),
    Speaker("Marcus", Voice("flite", "rms", warp=0.95), (3.4, 1.2, 1.25), 2.0),
    Speaker(
        "Walter", Voice("festival", "kal_diphone", speed=0.85, warp=1.08), (2.3, 1.4, 1.2), -2.0
    ),
)


class Turn(NamedTuple):
    """A line of the dialogue. `entry`: "" after a pause, "over" before the one before has
    ended, "within" as a backchannel in its middle."""

    name: str
    entry: str
    text: str


class SpokenWord(NamedTuple):
    """A word of the reference, times in ms of the meeting."""

    start: int
    end: int
    speaker: str
    text: str


class Meeting(NamedTuple):
    """`samples` float32 [n] at 16 kHz; `words` sorted by start."""

    samples: NDArray[np.float32]
    words: list[SpokenWord]


def read_dialogue(path: Path) -> list[Turn]:
    """Lines of `Name: text` or `Name (entry): text`. ValueError quotes any other line."""
    turns = []
    for line in path.read_text().splitlines():
        match = re.fullmatch(r"(\w+)(?: \((over|within)\))?: (.+)", line)
        if not match:
            raise ValueError(f"{path}: not a line of dialogue: {line!r}")
        turns.append(Turn(match[1], match[2] or "", match[3]))
    return turns


def speak(speaker: Speaker, text: str, rng: np.random.Generator) -> Meeting:
    """One turn, its first word at 0 ms + LEAD_MS: sentence by sentence, with pauses."""
    tracks: list[NDArray[np.float32]] = []
    words: list[SpokenWord] = []
    offset = 0
    for sentence in re.split(r"(?<=[.?!]) ", text):
        speech = say(speaker.voice, sentence)
        words += [
            SpokenWord(offset + word.start, offset + word.end, speaker.name, word.text)
            for word in speech.words
        ]
        pause = np.zeros(int(rng.uniform(40, 450)) * RATE // 1000, np.float32)
        tracks += [speech.samples, pause]
        offset += (len(speech.samples) + len(pause)) * 1000 // RATE
    return Meeting(np.concatenate(tracks), words)


def schedule(entry: str, before: Sequence[SpokenWord], rng: np.random.Generator) -> int:
    """When (ms) a turn's first word starts, given the words of the turn before."""
    if not before:
        return FIRST_WORD_MS
    if entry == "over":
        return before[-1].end - int(rng.uniform(300, 600))
    if entry == "within":
        return before[int(len(before) * rng.uniform(0.4, 0.8))].start
    return before[-1].end + int(np.clip(rng.lognormal(np.log(420), 0.6), 120, 1800))


def make_meeting(turns: Sequence[Turn], cast: Sequence[Speaker], seed: int) -> Meeting:
    """The whole meeting: turns scheduled, spoken, reverberated, levelled, in room noise."""
    timing, acoustics = np.random.default_rng(seed).spawn(2)
    people = {speaker.name: speaker for speaker in cast}
    responses = {s.name: impulse_response(Room(), s.place, acoustics) for s in cast}
    tracks: list[tuple[int, NDArray[np.float32]]] = []
    words: list[SpokenWord] = []
    floor: list[SpokenWord] = []
    for turn in turns:
        speaker = people[turn.name]
        spoken = speak(speaker, turn.text, timing)
        start = schedule(turn.entry, floor, timing) - LEAD_MS
        placed = [w._replace(start=w.start + start, end=w.end + start) for w in spoken.words]
        heard = reverberate(spoken.samples, responses[turn.name])
        loud = heard[np.abs(heard) > 0.01 * np.abs(heard).max()]
        gain = LEVEL * 10 ** (speaker.gain / 20) / np.sqrt(np.square(loud).mean())
        tracks.append((start, heard * gain))
        words += placed
        floor = floor if turn.entry == "within" else placed
    words.sort()
    length = (max(word.end for word in words) + LAST_MS) * RATE // 1000
    samples = room_noise(length, acoustics) * LEVEL * 10 ** (-SNR_DB / 20)
    for start, track in tracks:
        first = start * RATE // 1000
        part = track[: length - first]
        samples[first : first + len(part)] += part
    return Meeting(samples.astype(np.float32), words)


def rttm(words: Sequence[SpokenWord], uri: str) -> str:
    """Who speaks when: each speaker's words, gaps shorter than BRIDGED_MS closed."""
    segments: list[tuple[int, int, str]] = []
    for name in sorted({word.speaker for word in words}):
        start, end = -1, -1
        for word in (w for w in words if w.speaker == name):
            if start >= 0 and word.start - end >= BRIDGED_MS:
                segments.append((start, end, name))
            if start < 0 or word.start - end >= BRIDGED_MS:
                start = word.start
            end = word.end
        segments.append((start, end, name))
    lines = (
        f"SPEAKER {uri} 1 {start / 1000:.3f} {(end - start) / 1000:.3f} <NA> <NA> {name} <NA> <NA>"
        for start, end, name in sorted(segments)
    )
    return "\n".join(lines) + "\n"


def write_opus(path: Path, samples: NDArray[np.float32], bit_rate: int) -> None:
    """Mono Opus in Ogg at 16 kHz; players skip the encoder's delay, so times are kept."""
    with av.open(str(path), "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono")
        stream.bit_rate = bit_rate
        pcm = (samples.clip(-1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def write_meeting(meeting: Meeting, folder: Path) -> None:
    """meeting.opus, meeting.rttm and meeting.words.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    write_opus(folder / "meeting.opus", meeting.samples, 24000)
    (folder / "meeting.rttm").write_text(rttm(meeting.words, "meeting"))
    rows = (
        {"speaker": w.speaker, "text": w.text, "start": w.start, "end": w.end}
        for w in meeting.words
    )
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "meeting.words.jsonl").write_text(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the demo meeting and its reference.")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    meeting = make_meeting(read_dialogue(HERE / "dialogue.txt"), CAST, SEED)
    write_meeting(meeting, arguments.out)
    seconds = len(meeting.samples) / RATE
    print(f"{arguments.out}/meeting.opus: {seconds:.1f} s, {len(meeting.words)} words")


if __name__ == "__main__":
    main()
