"""Transcribes speech that nobody has transcribed, for the recogniser's next training to learn from:
what it and the language model hear together is better than what it hears alone, and the voices
are new to it.

Source: Xu et al., Iterative pseudo-labeling for speech recognition (2020), section 2.

    python -m training.pseudo_labels --data ../shared/data --model bundled/en-ctc --out DIR

DIR is for `training.asr --more DIR`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from pipeline.records import Span
from pipeline.stage import Inputs
from stages.asr.stage import CtcAsr, CtcParameters
from training.asr_data import Memory, Samples, load_audio, write_items
from training.splits import is_held_out, read_manifest

UNTRANSCRIBED = "speakers-librispeech"
LEAST_CONFIDENCE = 0.65  # the mean over an utterance's words; few fall below


def transcribed(stage: CtcAsr, data: Path) -> Iterator[tuple[Samples, str]]:
    """The utterances that are not held out and that the recogniser is sure enough of."""
    rows = [u for u in read_manifest(data / UNTRANSCRIBED) if not is_held_out(u.speaker, u.split)]
    console = Console(stderr=True)
    for row in track(
        rows, "listening", console=console, transient=True, disable=not console.is_terminal
    ):
        samples = load_audio(row.audio)
        samples = samples[: len(samples) // 16 * 16]  # whole ms
        segments = (Span(0, len(samples) // 16),)
        words = stage.run(Inputs(Memory(samples), {"vad": segments}))
        if words and np.mean([word.confidence for word in words]) >= LEAST_CONFIDENCE:
            yield samples, " ".join(word.text for word in words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="shared/data")
    parser.add_argument("--model", default="bundled/en-ctc", help="the recogniser of today")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    stage = CtcAsr(CtcParameters(model=options.model))
    stage.load()
    write_items(transcribed(stage, options.data), options.out)


if __name__ == "__main__":
    main()
