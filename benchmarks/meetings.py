"""Simulated meetings of people whom no model has heard: held-out utterances of shared/data, said
in the turn-taking of real meetings (benchmarks/turn_taking.py), in a room with a noise.

    python -m benchmarks.meetings --speakers 4 --minutes 60 --out x.flac

Writes the audio (WAV or FLAC, streamed) and beside it x.rttm; with --whole also x.stm. The same
options give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment

from benchmarks.turn_taking import Spurt, real_meetings, turn_taking
from stages.audio.decode import AudioParameters, AudioSource
from training.rooms import Room, impulse_response, reverberate, room_noise
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
FRAME = FRAME_MS * RATE // 1000
BRIDGED_MS = 250  # shorter pauses inside a turn count as speech
MARGIN_MS = 30
EDGE_MS = 350
NOISE_SECONDS = 30
FADE = 5 * RATE // 1000

Samples = NDArray[np.int16]
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Options:
    """`snr`: room noise below the speech in dB, None for none. `rt60`: reverberation time in s,
    0 for none. `spread`: standard deviation of the speakers' levels in dB. `material`: seconds
    of each speaker to choose from; who talks longer says them again. A speaker with less than
    `least` seconds is not invited, nor one outside `pool`: held-out speakers are "test" or
    "tuning", by a hash of their name. `whole`: only whole utterances with a text, so that the
    words are known; short answers are missing then."""

    speakers: int = 4
    minutes: float = 10.0
    snr: float | None = 25.0
    rt60: float = 0.3
    spread: float = 2.5
    material: float = 1200.0
    least: float = 20.0
    pool: str = ""
    whole: bool = False
    seed: int = 0


class Clip(NamedTuple):
    """Something said: int16 samples, its spans of speech in ms from their beginning, and its
    text, empty where it is not known."""

    samples: Samples
    speech: Spans
    text: str = ""

    @property
    def duration(self) -> int:
        return len(self.samples) * 1000 // RATE


class Turn(NamedTuple):
    """`clip` said by `speaker` from `start`, in ms."""

    start: int
    speaker: str
    clip: Clip

    @property
    def end(self) -> int:
        return self.start + self.clip.duration


@dataclass(frozen=True)
class Meeting:
    """`turns` sorted by start; `duration` in ms; `responses` float32: what becomes of each
    speaker's voice on its way to the microphone."""

    turns: tuple[Turn, ...]
    duration: int
    options: Options
    responses: Mapping[str, NDArray[np.float32]]

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
        for turn in (*self.turns, None):
            start = self.duration if turn is None else turn.start
            first = start * RATE // 1000 - written
            heard = np.zeros(0, np.float32) if turn is None else self._heard(turn)
            ahead = np.pad(ahead, (0, max(0, first + len(heard) - len(ahead))))
            index = np.arange(written, written + first) % len(noise)
            yield ahead[:first] + noise[index]
            written, ahead = written + first, ahead[first:]
            ahead[: len(heard)] += heard

    def _heard(self, turn: Turn) -> NDArray[np.float32]:
        said = turn.clip.samples / np.float32(32768)
        return reverberate(said, self.responses[turn.speaker])

    def audio(self) -> NDArray[np.float32]:
        """All of it at once, float32 [duration]: for short meetings."""
        return np.concatenate(list(self.blocks()))


def simulate(data: Path, options: Options) -> Meeting:
    """A meeting of held-out speakers drawn from `data` (shared/data). The same options give
    the same meeting. ValueError where there are not enough speakers."""
    rng = np.random.default_rng(options.seed)
    people = _speakers(data, options)
    if len(people) < options.speakers:
        raise ValueError(f"{data}: {len(people)} held-out speakers, {options.speakers} wanted")
    invited = rng.choice(sorted(people), options.speakers, replace=False).tolist()
    responses = _responses(invited, options.rt60, rng)
    voices = {name: _voice(people[name], options, rng) for name in invited}
    duration = round(options.minutes * 60_000)
    spurts = turn_taking(real_meetings(data), invited, duration, rng)
    turns = sorted(spoken(spurts, voices), key=lambda turn: (turn.start, turn.speaker))
    return Meeting(tuple(turns), duration, options, responses)


def _speakers(data: Path, options: Options) -> dict[str, list[Utterance]]:
    """Held-out speakers of the pool with enough material, and their utterances."""
    people: dict[str, list[Utterance]] = {}
    for folder in FOLDERS:
        for utterance in read_manifest(data / folder):
            if is_held_out(utterance.speaker, utterance.split):
                people.setdefault(utterance.speaker, []).append(utterance)
    return {
        name: said
        for name, said in people.items()
        if options.pool in ("", pool_of(name))
        and sum(u.seconds for u in said) >= options.least
        and (all(u.text for u in said) or not options.whole)
    }


def pool_of(speaker: str) -> str:
    """Parameters are chosen on one half of the held-out speakers and scored on the other."""
    return ("test", "tuning")[hashlib.sha256(speaker.encode()).digest()[0] % 2]


def _responses(
    people: Sequence[str], rt60: float, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Everybody at a place of their own in one room, around one microphone."""
    if not rt60:
        return {name: np.ones(1, np.float32) for name in people}
    width, depth, height = (float(rng.uniform(*b)) for b in ((4, 8), (3.5, 6), (2.5, 3.2)))
    microphone = (width * rng.uniform(0.4, 0.6), depth * rng.uniform(0.4, 0.6), 0.8)
    room = Room((width, depth, height), microphone, rt60)
    return {
        name: impulse_response(
            room,
            (rng.uniform(0.5, width - 0.5), rng.uniform(0.5, depth - 0.5), rng.uniform(1.1, 1.6)),
            rng,
        )
        for name in people
    }


class Voice:
    """What one speaker has to say, at one level: utterance after utterance, in a random order,
    everything once before anything again."""

    def __init__(self, clips: Sequence[Clip], whole: bool) -> None:
        self._clips = clips
        self._whole = whole
        self._left = list(clips)

    def say(self, duration: int) -> Clip | None:
        """Some `duration` ms of it; None where there is nothing of this length."""
        if not self._left:
            self._left = list(self._clips)
        if self._whole:
            return self._utterance(duration)
        said: list[Clip] = []
        while duration - sum(clip.duration for clip in said) > MARGIN_MS:
            if not self._left:
                self._left = list(self._clips)
            piece, rest = _cut(self._left.pop(), duration - sum(clip.duration for clip in said))
            said.append(piece)
            if rest is not None:
                self._left.append(rest)
        return _joined(said)

    def _utterance(self, duration: int) -> Clip | None:
        lengths = [clip.duration for clip in self._left]
        at = min(range(len(lengths)), key=lambda i: abs(lengths[i] - duration))
        if not 0.5 < lengths[at] / duration < 2:
            return None
        return self._left.pop(at)


def _cut(clip: Clip, duration: int) -> tuple[Clip, Clip | None]:
    """About the first `duration` ms of `clip`, to where it is quietest, and what is left of it:
    what would be left of under half a second is left out."""
    if clip.duration <= duration * 1.25:
        return clip, None
    frames = clip.samples[: len(clip.samples) // FRAME * FRAME].reshape(-1, FRAME)
    energy = np.square(frames, dtype=np.float64).mean(1)
    energy = np.convolve(energy, np.ones(3), "same")
    low, high = int(0.75 * duration / FRAME_MS), int(1.25 * duration / FRAME_MS)
    at = (low + int(np.argmin(energy[low : high + 1]))) * FRAME_MS
    left = [(max(at, a), b) for a, b in clip.speech if b > at + EDGE_MS]
    return _part(clip, 0, at), _part(clip, left[0][0], clip.duration) if left else None


def _part(clip: Clip, start: int, end: int) -> Clip:
    speech = ((max(a, start) - start, min(b, end) - start) for a, b in clip.speech)
    samples = clip.samples[start * RATE // 1000 : end * RATE // 1000].copy()
    samples[:FADE] = samples[:FADE] * np.linspace(0, 1, min(FADE, len(samples)))
    samples[-FADE:] = samples[-FADE:] * np.linspace(1, 0, min(FADE, len(samples)))
    return Clip(samples, tuple((a, b) for a, b in speech if b > a))


def _joined(clips: Sequence[Clip]) -> Clip:
    if len(clips) == 1:
        return clips[0]
    begins = np.cumsum([0, *(clip.duration for clip in clips)]).tolist()
    speech = [
        (at + a, at + b) for at, clip in zip(begins, clips, strict=False) for a, b in clip.speech
    ]
    # Cut to whole ms, so that the spans hold.
    whole = [clip.samples[: clip.duration * RATE // 1000] for clip in clips]
    return Clip(np.concatenate(whole), _bridged(speech))


def _voice(said: Sequence[Utterance], options: Options, rng: np.random.Generator) -> Voice:
    """Up to `material` seconds of one speaker's utterances, at one gain for them all."""
    chosen: list[Utterance] = []
    for index in rng.permutation(len(said)):
        if sum(u.seconds for u in chosen) < options.material:
            chosen.append(said[index])
    gain = 10 ** (np.clip(rng.normal(0, options.spread), -8, 8) / 20)
    return Voice([c for c in (clip_of(u, gain) for u in chosen) if c.speech], options.whole)


def clip_of(utterance: Utterance, gain: float) -> Clip:
    """Decoded, cut to where speech is by its energy, and levelled."""
    source = AudioSource(str(utterance.audio), AudioParameters.model_validate({}))
    samples = np.concatenate([block.samples for block in source.blocks()])
    framed = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
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


def _spans(loud: NDArray[np.intp]) -> Spans:
    """Loud frames as spans in ms, margins added, short pauses bridged; at either end, what is
    shorter than EDGE_MS is taken for a click or a breath and left out."""
    edges = [(at * FRAME_MS, (at + 1) * FRAME_MS) for at in loud.tolist()]
    spans = [(start - MARGIN_MS, end + MARGIN_MS) for start, end in _bridged(edges)]
    long = [i for i, (start, end) in enumerate(spans) if end - start >= EDGE_MS]
    return tuple(spans[long[0] : long[-1] + 1]) if long else ()


def _bridged(spans: Sequence[tuple[int, int]]) -> Spans:
    """Spans, by start, with no pause up to BRIDGED_MS between them."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start - joined[-1][1] <= BRIDGED_MS:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)


def spoken(spurts: Iterator[Spurt], voices: Mapping[str, Voice]) -> Iterator[Turn]:
    """A clip for each spurt, of about its length; nobody talks into their own words."""
    free: dict[str, int] = {}
    for start, end, who in spurts:
        start = max(start, free.get(who, 0))
        clip = voices[who].say(end - start) if end - start > MARGIN_MS else None
        if clip is not None:
            yield (turn := Turn(start, who, clip))
            free[who] = turn.end


def _noise(options: Options) -> NDArray[np.float32]:
    """A loop of room noise: made in the frequency domain, it repeats without a seam."""
    length = NOISE_SECONDS * RATE
    if options.snr is None:
        return np.zeros(length, np.float32)
    noise = room_noise(length, np.random.default_rng(options.seed))
    return noise * np.float32(LEVEL * 10 ** (-options.snr / 20))


def write(meeting: Meeting, path: Path) -> None:
    """Audio to `path`, the reference beside it; memory does not grow with the length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as sink:
        for block in meeting.blocks():
            sink.write(block.clip(-1, 1))
    with path.with_suffix(".rttm").open("w") as lines:
        meeting.annotation(path.stem).write_rttm(lines)
    if meeting.options.whole:
        stm = (
            f"{path.stem} 1 {t.speaker} {t.start / 1000:.3f} {t.end / 1000:.3f} {t.clip.text}\n"
            for t in meeting.turns
        )
        path.with_suffix(".stm").write_text("".join(stm))


def main() -> None:
    default = Options()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--speakers", type=int, default=default.speakers)
    parser.add_argument("--minutes", type=float, default=default.minutes)
    parser.add_argument("--snr", type=float, default=default.snr, help="dB")
    parser.add_argument("--rt60", type=float, default=default.rt60, help="s")
    parser.add_argument("--least", type=float, default=default.least, help="seconds of a speaker")
    parser.add_argument("--pool", choices=["", "test", "tuning"], default=default.pool)
    parser.add_argument("--whole", action="store_true", help="whole utterances, and their words")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--out", type=Path, required=True, help=".wav or .flac")
    given = vars(parser.parse_args())
    data, out = given.pop("data"), given.pop("out")
    meeting = simulate(data, Options(**given))
    write(meeting, out)
    print(f"{out}: {meeting.duration / 1000:.0f} s, {len(meeting.turns)} turns")


if __name__ == "__main__":
    main()
