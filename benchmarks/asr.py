"""Word error rate by group of held-out speakers, word times and speed of the recognition stage.

    python -m benchmarks.asr --data ../shared/data [--model bundled/en-ctc] [--each 200]

The whole stage runs, one segment an utterance. AMI's excerpts are cut at the pauses of their RTTM,
the demo meeting at those of its words; its engines' own word times are the reference for the starts
and ends of recognised words.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.vad import read, span
from jobs.references import Scored, read_references
from pipeline.records import Span, Word
from pipeline.stage import Audio, Block, Inputs
from stages.asr.stage import CtcAsr, CtcParameters
from stages.audio.decode import AudioSource
from training.asr_data import Memory, load_audio, spoken
from training.splits import Utterance, is_held_out, read_manifest

GROUPS = {
    "LibriSpeech dev-clean": "asr-en-dev-clean",
    "Common Voice": "asr-en-commonvoice",
    "speechocean762": "asr-en-speechocean762",
    "kathleen": "asr-en-kathleen",
}
DEMO = Path(__file__).resolve().parents[1] / "demo"
GAP_MS = 1000  # between the utterances of a group, joined to one recording
PAUSE_MS, EDGE_MS = 400, 150  # at which the demo's reference is cut, what is left around it
EXCERPT_PAUSE_MS, EXCERPT_EDGE_MS = 300, 100  # the same of AMI's


class Joined:
    """Utterances one after the other, as one recording; decoded as they are asked for."""

    def __init__(self, utterances: list[Utterance]) -> None:
        self.utterances = utterances
        self.segments: list[Span] = []

    def blocks(self) -> Iterator[Block]:
        start = 0
        for samples in map(_audio, self.utterances):
            yield Block(start, np.append(samples, np.zeros(GAP_MS * 16, np.float32)))
            start += len(samples) + GAP_MS * 16

    def spans(self) -> tuple[Span, ...]:
        """Where each utterance lies; every one is a whole number of ms long."""
        starts = np.cumsum([0] + [len(_audio(u)) + GAP_MS * 16 for u in self.utterances]) // 16
        return tuple(Span(int(a), int(b) - GAP_MS) for a, b in pairwise(starts))


def _audio(utterance: Utterance) -> NDArray[np.float32]:
    samples = load_audio(utterance.audio)
    return samples[: len(samples) // 16 * 16]


@dataclass(frozen=True)
class Result:
    """Reference and recognised text of each segment, audio and work in seconds."""

    reference: list[str]
    heard: list[str]
    audio: float
    work: float


def held_out(data: Path, folder: str, each: int) -> list[Utterance]:
    """At most `each` utterances of held-out speakers, spread over the manifest."""
    rows = [
        row
        for row in read_manifest(data / folder)
        if is_held_out(row.speaker, row.split) and spoken(row.text) and row.seconds < 30
    ]
    return rows[:: max(1, len(rows) // each)][:each]


def recognise(stage: CtcAsr, audio: Audio, segments: tuple[Span, ...]) -> tuple[Word, ...]:
    return stage.run(Inputs(audio, {"vad": segments}))


def score(stage: CtcAsr, utterances: list[Utterance]) -> Result:
    """WER material of a group; the time counts decoding the audio too."""
    joined = Joined(utterances)
    segments = joined.spans()
    began = time.perf_counter()
    words = recognise(stage, joined, segments)
    work = time.perf_counter() - began
    heard = [
        " ".join(word.text for word in words if segment.start <= word.start < segment.end)
        for segment in segments
    ]
    audio = sum(segment.duration for segment in segments) / 1000
    return Result([spoken(row.text) for row in utterances], heard, audio, work)


def excerpts(stage: CtcAsr, folder: Path, references: Mapping[str, Scored]) -> Result:
    """Of meetings: the words of all speakers by start, the speech of any of them as segments."""
    reference, heard, audio, work = [], [], 0.0, 0.0
    for name, scored in sorted(references.items()):
        samples = read(folder / f"{name}.flac")
        speech = [span(part.start, part.end) for part in scored.speech.get_timeline()]
        segments = stretches(speech, EXCERPT_PAUSE_MS, EXCERPT_EDGE_MS)
        began = time.perf_counter()
        found = recognise(stage, Memory(samples), segments)
        work += time.perf_counter() - began
        said = sorted(scored.words or (), key=lambda word: word.start)
        reference.append(" ".join(filter(None, (spoken(word.text) for word in said))))
        heard.append(" ".join(word.text for word in found))
        audio += len(samples) / 16000
    return Result(reference, heard, audio, work)


def demo_reference() -> list[Word]:
    """The demo's words by start, as `spoken` writes them."""
    rows = map(json.loads, (DEMO / "meeting.words.jsonl").read_text().splitlines())
    words = [Word(spoken(row["text"]), row["start"], row["end"], 1.0) for row in rows]
    return sorted(words, key=lambda word: word.start)


def stretches(spans: Iterable[Span | Word], pause: int, edge: int) -> tuple[Span, ...]:
    """What lies between pauses of `pause` ms, with `edge` ms on either side; `spans` by start."""
    segments: list[Span] = []
    for each in spans:
        if segments and each.start - segments[-1].end < pause:
            segments[-1] = Span(segments[-1].start, max(segments[-1].end, each.end))
        else:
            segments.append(Span(each.start, each.end))
    return tuple(Span(max(0, s.start - edge), s.end + edge) for s in segments)


def deviations(reference: list[Word], words: tuple[Word, ...]) -> NDArray[np.int64]:
    """Recognised minus reference start and end, in ms, of the words that are right: [N, 2]."""
    aligned = jiwer.process_words(
        " ".join(word.text for word in reference), " ".join(word.text for word in words)
    ).alignments[0]
    return np.array(
        [
            (words[h].start - reference[r].start, words[h].end - reference[r].end)
            for chunk in aligned
            if chunk.type == "equal"
            for r, h in zip(
                range(chunk.ref_start_idx, chunk.ref_end_idx),
                range(chunk.hyp_start_idx, chunk.hyp_end_idx),
                strict=True,
            )
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder shared/data")
    parser.add_argument("--model", default="bundled/en-ctc")
    parser.add_argument("--rescoring", default="auto", help="as asr.rescoring in a profile: none")
    parser.add_argument("--each", type=int, default=200, help="utterances a group, at most")
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stage = CtcAsr(CtcParameters(model=arguments.model, rescoring=arguments.rescoring))
    stage.load()
    print(f"{arguments.model} {stage.weights_digest()[:19]}, {arguments.threads} threads")
    print(f"{'group':24}{'speakers':>9}{'words':>8}{'WER %':>8}{'CER %':>8}{'RTF':>9}")
    for name, folder in GROUPS.items():
        utterances = held_out(arguments.data, folder, arguments.each)
        speakers = len({row.speaker for row in utterances})
        show(name, speakers, score(stage, utterances))
    folder = arguments.data / "meetings-ami"
    references = read_references(folder, ())
    speakers = len({label for each in references.values() for label in each.speech.labels()})
    show("AMI excerpts", speakers, excerpts(stage, folder, references))
    demo(stage)


def show(name: str, speakers: int, result: Result) -> None:
    words = sum(len(text.split()) for text in result.reference)
    wer, cer = (100 * f(result.reference, result.heard) for f in (jiwer.wer, jiwer.cer))
    speed = result.work / result.audio
    print(f"{name:24}{speakers:9}{words:8}{wer:8.1f}{cer:8.1f}{speed:9.4f}")


def demo(stage: CtcAsr) -> None:
    """WER and word times on the demo meeting."""
    reference = demo_reference()
    audio = AudioSource(str(DEMO / "meeting.opus"), AudioSource.parameters_type())
    segments = stretches(reference, PAUSE_MS, EDGE_MS)
    words = recognise(stage, audio, segments)
    texts = [" ".join(word.text for word in found) for found in (reference, words)]
    wer, cer = 100 * jiwer.wer(*texts), 100 * jiwer.cer(*texts)
    print(f"{'demo meeting':24}{5:9}{len(reference):8}{wer:8.1f}{cer:8.1f}")
    off = deviations(reference, words)
    for name, column in (("starts", off[:, 0]), ("ends", off[:, 1])):
        print(
            f"word {name}, {len(off)} words: mean absolute deviation {np.abs(column).mean():.0f} "
            f"ms, median {np.median(column):+.0f} ms, 95 % within "
            f"{np.percentile(np.abs(column), 95):.0f} ms"
        )


if __name__ == "__main__":
    main()
