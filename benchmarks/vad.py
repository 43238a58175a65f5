"""Voice activity detection scored and timed: the bundled weights, the published ones and, where it
is installed, silero-vad, on clips with boundaries by hand, on meetings, on noisy speech of held-out
speakers, and on words lost.

    python -m benchmarks.vad --data ../shared/data
    python -m benchmarks.vad --data ../shared/data --model DIR
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.detection import DetectionCostFunction

from benchmarks.meetings import Options, simulate
from benchmarks.peers import silero
from pipeline.records import Span
from pipeline.stage import Inputs
from stages.audio.features import Fbank
from stages.models import ModelFolder, locate
from stages.vad.endpoint import speech_frames
from stages.vad.fsmn import load_fsmn
from stages.vad.posteriors import Window, posteriors
from stages.vad.stage import FsmnVad, FsmnVadParameters
from training.asr_data import Memory
from training.splits import is_held_out, read_manifest
from training.vad_scenes import Scenes, label, noises

RATE = 16000
MISS_WEIGHT = 0.75  # as NIST's OpenSAT weighs them: a lost word cannot be had back
WORD_COVER = 0.8  # a word is lost where less of it lies inside a segment
SNRS = (0, 5, 10, 15, 25)
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """A recording and when somebody speaks in it; `words` where they are known, all in ms."""

    samples: Samples
    speech: tuple[Span, ...]
    words: tuple[Span, ...] = ()


def read(path: Path) -> Samples:
    samples: Samples = soundfile.read(path, dtype="float32")[0]
    return samples


def hand_labelled(data: Path) -> Iterator[Example]:
    """vad-test: `.scv` holds name, then start, end (s) and 0 or 1 over and over."""
    for path in sorted((data / "vad-test").glob("*.scv")):
        fields = path.read_text().strip().split(",")[1:]
        rows = [fields[n : n + 3] for n in range(0, len(fields) - 2, 3)]
        speech = tuple(span(a, b) for a, b, kind in rows if kind.strip() == "1")
        yield Example(read(path.with_suffix(".flac")), speech)


def meetings(data: Path) -> Iterator[Example]:
    """meetings-ami: speech of any speaker, by the RTTM."""
    for path in sorted((data / "meetings-ami").glob("*.rttm")):
        rows = [line.split() for line in path.read_text().splitlines()]
        speech = tuple(span(row[3], float(row[3]) + float(row[4])) for row in rows)
        words = map(json.loads, path.with_suffix(".words.jsonl").read_text().splitlines())
        spoken = tuple(span(w["start"], w["end"]) for w in words if not w["punctuation"])
        yield Example(read(path.with_suffix(".flac")), speech, spoken)


def simulated(data: Path) -> Iterator[Example]:
    """Meetings in rooms, with overlaps and far-off people, of the held-out speakers on whom choices
    may be made: what a detector costs that has learnt to leave the quiet ones out."""
    for seed, rt60 in enumerate((0.2, 0.35, 0.5, 0.65)):
        meeting = simulate(data, Options(minutes=5, rt60=rt60, pool="tuning", seed=seed))
        speech = meeting.annotation("simulated").get_timeline().support()
        yield Example(meeting.audio(), tuple(span(s.start, s.end) for s in speech))


def demo(folder: Path) -> Iterator[Example]:
    """The demo meeting: synthetic, its word times are exact."""
    rows = map(json.loads, (folder / "meeting.words.jsonl").read_text().splitlines())
    words = tuple(Span(row["start"], row["end"]) for row in rows)
    yield Example(read(folder / "meeting.opus"), words, words)


def span(start: str | float, end: str | float) -> Span:
    return Span(round(1000 * float(start)), round(1000 * float(end)))


def held_out_scenes(data: Path) -> Scenes:
    """Scenes as in training, of speakers and noises that were not in it."""
    teacher = load_fsmn(ModelFolder(data / "fsmn-vad"))
    fbank, rng = Fbank(teacher.config.fbank), np.random.default_rng(5)
    corpora = ("asr-en-dev-clean", "asr-en-commonvoice", "asr-en-speechocean762", "asr-en-kathleen")
    clips = []
    for corpus in corpora:
        utterances = [u for u in read_manifest(data / corpus) if is_held_out(u.speaker, u.split)]
        clips += [label(read(u.audio), teacher, fbank, rng) for u in utterances[::4][:40]]
    return Scenes(clips, noises(data, held_out=True), seconds=15, seed=6)


class Detector(Protocol):
    """Something that finds speech in samples at 16 kHz, float32 [N]."""

    name: str

    def segments(self, samples: Samples) -> Sequence[Span]: ...

    def frames(self, samples: Samples) -> NDArray[np.bool_]:
        """Whether each 10 ms are speech, before segments are made of them: bool [F]."""


class Stage:
    """The stage with a model of ours or a published one."""

    def __init__(self, parameters: FsmnVadParameters) -> None:
        self.name = parameters.model
        self._stage = FsmnVad(parameters)
        self._stage.load()
        self._network = load_fsmn(locate(parameters.model, "stages.vad"))
        self._fbank = Fbank(self._network.config.fbank)

    def segments(self, samples: Samples) -> Sequence[Span]:
        return self._stage.run(Inputs(Memory(samples), {}))

    def frames(self, samples: Samples) -> NDArray[np.bool_]:
        heard = posteriors(Window(0, 0, None, samples), self._network, self._fbank)
        return speech_frames(heard.silence, heard.decibel, self._stage.parameters.endpoint)


def annotation(spans: Iterable[Span]) -> Annotation:
    merged = Timeline([Segment(s.start / 1000, s.end / 1000) for s in spans]).support()
    return merged.to_annotation(generator=iter(lambda: "speech", None))


def score_segments(detector: Detector, examples: Iterable[Example]) -> dict[str, float]:
    """Misses and false alarms in percent of speech and of the rest, and their weighed sum;
    words of which less than WORD_COVER lies inside the segments, in percent."""
    cost = DetectionCostFunction(fa_weight=1 - MISS_WEIGHT, miss_weight=MISS_WEIGHT)
    miss = speech = alarm = rest = lost = words = 0.0
    for example in examples:
        found = detector.segments(example.samples)
        scored = Timeline([Segment(0, len(example.samples) / RATE)])
        parts = cost(annotation(example.speech), annotation(found), uem=scored, detailed=True)
        miss, alarm = miss + parts["miss"], alarm + parts["false alarm"]
        speech, rest = speech + parts["positive class total"], rest + parts["negative class total"]
        covered = [sum(word.overlap(s) for s in found) for word in example.words]
        lost += sum(
            c < WORD_COVER * w.duration for c, w in zip(covered, example.words, strict=True)
        )
        words += len(example.words)
    row = {
        "miss %": 100 * miss / speech,
        "false alarm %": 100 * alarm / rest,
        "DCF %": 100 * abs(cost),
    }
    return row | ({"words lost %": 100 * lost / words} if words else {})


def score_frames(detector: Detector, scenes: Scenes, snr: float, count: int) -> dict[str, float]:
    """Frames that are taken for what they are not, against the labels, and their weighed sum."""
    wrong = np.zeros(2)
    total = np.zeros(2)
    for _ in range(count):
        samples, silence = scenes.draw(snr)
        found = detector.frames(samples)[: len(silence)]
        for kind, there in enumerate((silence < 0.5, silence >= 0.5)):
            wrong[kind] += (found[there] != (kind == 0)).sum()
            total[kind] += there.sum()
    miss, alarm = 100 * wrong / total
    cost = MISS_WEIGHT * miss + (1 - MISS_WEIGHT) * alarm
    return {"miss %": miss, "false alarm %": alarm, "DCF %": cost}


def speed(detector: Detector, samples: Samples) -> float:
    """Seconds of work per second of audio, over ten minutes."""
    recording = np.resize(samples, 600 * RATE)
    started = time.perf_counter()
    detector.segments(recording)
    return (time.perf_counter() - started) / 600


def show(name: str, row: dict[str, float]) -> None:
    print(
        f"  {name:24}" + "   ".join(f"{key} {value:6.2f}" for key, value in row.items()), flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="shared/data")
    parser.add_argument("--model", action="append", help="default: the bundled and the published")
    parser.add_argument("--scenes", type=int, default=40, help="noisy scenes of 15 s at each SNR")
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sets = {
        "vad-test": list(hand_labelled(options.data)),
        "meetings-ami": list(meetings(options.data)),
        "simulated meetings": list(simulated(options.data)),
        "demo meeting": list(demo(Path(__file__).parents[1] / "demo")),
    }
    published = FsmnVadParameters(
        model=str(options.data / "fsmn-vad"),
        faint_threshold=0.6,  # as FunASR decides
        voiceless_threshold=-1,
    )
    asked = [FsmnVadParameters(model=model) for model in options.model or ()]
    detectors: list[Detector] = [
        Stage(parameters) for parameters in asked or (FsmnVadParameters(), published)
    ]
    if silero.installed():
        detectors.append(silero.Silero())
    for detector in detectors:
        print(detector.name)
        for name, examples in sets.items():
            show(name, score_segments(detector, examples))
        scenes = held_out_scenes(options.data)
        for snr in SNRS:
            show(f"held-out, frames, {snr} dB", score_frames(detector, scenes, snr, options.scenes))
        print(f"  {speed(detector, sets['demo meeting'][0].samples):.5f} s of work per s of audio")


if __name__ == "__main__":
    main()
