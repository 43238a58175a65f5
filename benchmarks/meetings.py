"""Simulated meetings of people whom no model has heard: held-out utterances of shared/data,
taking turns. For memory, speed and the number of speakers, at any length.

    python -m benchmarks.meetings --speakers 4 --minutes 60 --out x.flac

Writes the audio (WAV or FLAC, streamed) and beside it x.rttm and x.turns.jsonl. Turn-taking
after Park et al., Property-aware multi-speaker data simulation (2023), simplified.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment

from stages.audio.decode import AudioParameters, AudioSource
from training.rooms import room_noise
from training.splits import Utterance, is_held_out, read_manifest

RATE = 16000
FOLDERS = (
    "asr-en-dev-clean",
    "asr-en-speechocean762",
    "asr-en-commonvoice",
    "asr-en-kathleen",
    "speakers-librispeech",  # without texts
)
LEVEL = 10 ** (-26 / 20)
FRAME_MS = 10
BRIDGED_MS = 250  # shorter pauses inside a turn count as speech
MARGIN_MS = 30
EDGE_MS = 350
NOISE_SECONDS = 30


@dataclass(frozen=True)
class Options:
    """`overlap`: the share of turns that start before the one before has ended. `pause`: the
    median of the others' pauses in ms. `snr`: room noise below the speech in dB, None for
    none. `material`: seconds of each speaker to choose from and to keep in memory; a longer
    meeting says them again. A speaker with less than `least` seconds is not invited."""

    speakers: int = 4
    minutes: float = 10.0
    overlap: float = 0.15
    pause: float = 500.0
    snr: float | None = 25.0
    material: float = 240.0
    least: float = 20.0
    seed: int = 0


class Clip(NamedTuple):
    """An utterance without the silence around it: int16 samples, and its spans of speech in
    ms from their beginning."""

    samples: NDArray[np.int16]
    speech: tuple[tuple[int, int], ...]
    text: str


class Turn(NamedTuple):
    """`clip` said by `speaker` from `start`, in ms."""

    start: int
    speaker: str
    clip: Clip

    @property
    def end(self) -> int:
        return self.start + len(self.clip.samples) * 1000 // RATE


@dataclass(frozen=True)
class Meeting:
    """`turns` sorted by start; `duration` in ms."""

    turns: tuple[Turn, ...]
    duration: int
    options: Options

    def annotation(self, uri: str) -> Annotation:
        """Who speaks when: pyannote's, in seconds."""
        annotation = Annotation(uri=uri)
        for track, turn in enumerate(self.turns):
            for start, end in turn.clip.speech:
                span = Segment((turn.start + start) / 1000, (turn.start + end) / 1000)
                annotation[span, track] = turn.speaker
        return annotation.support()

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The audio from its beginning, float32, 16 kHz, a piece a turn: no more is held than
        what still sounds."""
        noise = _noise(self.options)
        written, ahead = 0, np.zeros(0, np.float32)
        last = Turn(self.duration, "", Clip(np.zeros(0, np.int16), (), ""))
        for turn in (*self.turns, last):
            first = turn.start * RATE // 1000 - written
            ahead = np.pad(ahead, (0, max(0, first + len(turn.clip.samples) - len(ahead))))
            index = np.arange(written, written + first) % len(noise)
            yield ahead[:first] + noise[index]
            written, ahead = written + first, ahead[first:]
            ahead[: len(turn.clip.samples)] += turn.clip.samples / np.float32(32768)

    def audio(self) -> NDArray[np.float32]:
        """All of it at once, float32 [duration]: for short meetings."""
        return np.concatenate(list(self.blocks()))


def simulate(data: Path, options: Options) -> Meeting:
    """A meeting of held-out speakers drawn from `data` (shared/data). The same options give
    the same meeting. ValueError where there are not enough speakers."""
    rng = np.random.default_rng(options.seed)
    people = _speakers(data, options.least)
    if len(people) < options.speakers:
        raise ValueError(f"{data}: {len(people)} held-out speakers, {options.speakers} wanted")
    invited = rng.choice(sorted(people), options.speakers, replace=False).tolist()
    clips = {name: _clips(people[name], options.material, rng) for name in invited}
    duration = round(options.minutes * 60_000)
    return Meeting(tuple(_turns(clips, duration, options, rng)), duration, options)


def _speakers(data: Path, least: float) -> dict[str, list[Utterance]]:
    """Held-out speakers with at least `least` seconds, and their utterances."""
    people: dict[str, list[Utterance]] = {}
    for folder in FOLDERS:
        for utterance in read_manifest(data / folder):
            if is_held_out(utterance.speaker, utterance.split):
                people.setdefault(utterance.speaker, []).append(utterance)
    return {name: said for name, said in people.items() if sum(u.seconds for u in said) >= least}


def _clips(said: Sequence[Utterance], material: float, rng: np.random.Generator) -> list[Clip]:
    """Up to `material` seconds of one speaker's utterances, at one gain for them all."""
    chosen: list[Utterance] = []
    for index in rng.permutation(len(said)):
        if sum(u.seconds for u in chosen) < material:
            chosen.append(said[index])
    gain = 10 ** (rng.uniform(-3, 3) / 20)
    return [clip for clip in (_clip(u, gain) for u in chosen) if clip.speech]


def _clip(utterance: Utterance, gain: float) -> Clip:
    """Decoded, cut to where speech is by its energy, and levelled."""
    source = AudioSource(str(utterance.audio), AudioParameters.model_validate({}))
    samples = np.concatenate([block.samples for block in source.blocks()])
    frame = FRAME_MS * RATE // 1000
    framed = samples[: len(samples) // frame * frame].reshape(-1, frame)
    energy = np.square(framed, dtype=np.float64).mean(1)
    decibels = 10 * np.log10(energy + 1e-10)
    background, loudest = np.percentile(decibels, [5, 95])
    loud = np.flatnonzero(decibels > max(loudest - 30, min(background + 12, loudest - 12)))
    spans = _spans(loud)
    if not spans:
        return Clip(np.zeros(0, np.int16), (), utterance.text)
    origin = max(0, spans[0][0])
    kept = samples[origin * RATE // 1000 : spans[-1][1] * RATE // 1000]
    length = len(kept) * 1000 // RATE
    speech = tuple((max(0, a - origin), min(b - origin, length)) for a, b in spans)
    scale = gain * LEVEL / np.sqrt(energy[loud].mean())
    pcm = (kept * scale).clip(-1, 1) * 32767
    return Clip(pcm.astype(np.int16), speech, utterance.text)


def _spans(loud: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Loud frames as spans in ms, margins added, short pauses bridged; at either end, what is
    shorter than EDGE_MS is taken for a click or a breath and left out."""
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) * FRAME_MS > BRIDGED_MS)
    firsts, lasts = loud[[0, *(breaks + 1)]], loud[[*breaks, len(loud) - 1]]
    edges = zip(firsts.tolist(), lasts.tolist(), strict=True)
    spans = [(a * FRAME_MS - MARGIN_MS, (b + 1) * FRAME_MS + MARGIN_MS) for a, b in edges]
    long = [i for i, (start, end) in enumerate(spans) if end - start >= EDGE_MS]
    return spans[long[0] : long[-1] + 1] if long else []


def _turns(
    clips: dict[str, list[Clip]], duration: int, options: Options, rng: np.random.Generator
) -> Iterator[Turn]:
    """Turns until `duration`: some people talk more than others (the k-th in proportion to
    1 / sqrt k), each says everything once before saying it again."""
    names = list(clips)
    talk = 1 / np.sqrt(np.arange(1, len(names) + 1))
    left: dict[str, list[int]] = {name: [] for name in names}
    speaker, begun, floor = "", 0, 0
    while True:
        weights = talk * [name != speaker or len(names) == 1 for name in names]
        speaker = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        left[speaker] = left[speaker] or rng.permutation(len(clips[speaker])).tolist()
        pause = int(np.clip(rng.lognormal(np.log(options.pause), 0.7), 50, 6000))
        early = rng.random() < options.overlap
        start = floor - int(rng.uniform(200, 900)) if early else floor + pause
        turn = Turn(max(start, begun), speaker, clips[speaker][left[speaker].pop()])
        if turn.end > duration:
            return
        yield turn
        begun, floor = turn.start, max(floor, turn.end)


def _noise(options: Options) -> NDArray[np.float32]:
    """A loop of room noise: made in the frequency domain, it repeats without a seam."""
    length = NOISE_SECONDS * RATE
    if options.snr is None:
        return np.zeros(length, np.float32)
    noise = room_noise(length, np.random.default_rng(options.seed))
    return noise * np.float32(LEVEL * 10 ** (-options.snr / 20))


def write(meeting: Meeting, path: Path) -> None:
    """Audio to `path`, the reference beside it; memory does not grow with the length."""
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as sink:
        for block in meeting.blocks():
            sink.write(block.clip(-1, 1))
    with path.with_suffix(".rttm").open("w") as lines:
        meeting.annotation(path.stem).write_rttm(lines)
    rows = (
        {"speaker": turn.speaker, "text": turn.clip.text, "start": turn.start, "end": turn.end}
        for turn in meeting.turns
    )
    path.with_suffix(".turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    default = Options()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--speakers", type=int, default=default.speakers)
    parser.add_argument("--minutes", type=float, default=default.minutes)
    parser.add_argument("--overlap", type=float, default=default.overlap)
    parser.add_argument("--pause", type=float, default=default.pause, help="median, ms")
    parser.add_argument("--snr", type=float, default=default.snr, help="dB")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--out", type=Path, required=True, help=".wav or .flac")
    arguments = parser.parse_args()
    options = Options(
        speakers=arguments.speakers,
        minutes=arguments.minutes,
        overlap=arguments.overlap,
        pause=arguments.pause,
        snr=arguments.snr,
        seed=arguments.seed,
    )
    meeting = simulate(arguments.data, options)
    write(meeting, arguments.out)
    print(f"{arguments.out}: {meeting.duration / 1000:.0f} s, {len(meeting.turns)} turns")


if __name__ == "__main__":
    main()
