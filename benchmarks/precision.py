"""What lower precision changes, and what it saves: encoder output and text (character by character)
of real speech beside those of float32, for Paraformer-large and GigaAM-v3 of full size.

    python -m benchmarks.precision --data ../shared/data --seconds 60

The weights are random (`benchmarks.folders`), which decide much of the text narrowly: trained ones
change less. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import jiwer
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.published import make_models, spoken
from stages.asr.gigaam import GigaAmParameters, GigaAmRecogniser
from stages.asr.paraformer_stage import ParaformerRecogniser
from stages.compute import Precision
from stages.models import ModelFolder

RATE = 16_000


@dataclass(frozen=True)
class Heard:
    """Encoder output of each utterance, [frames, width], its words, and seconds of CPU."""

    encoded: list[Tensor]
    words: list[str]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder shared/data")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--work", type=Path, default=Path("/tmp/hansard-published"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    utterances = excerpt(arguments.data, arguments.seconds)
    table = Table("model", "precision", "encoder deviates by", "text differs", "CPU beside float32")
    for profile, read in (("paraformer-zh", paraformer), ("gigaam-ru", gigaam)):
        folder = ModelFolder(make_models(profile, arguments.work, arguments.data)["asr"])
        whole = hear(*read(folder, "float32"), utterances)
        for precision in get_args(Precision)[1:]:
            lower = hear(*read(folder, precision), utterances)
            table.add_row(
                profile,
                precision,
                f"{deviation(whole.encoded, lower.encoded):.2%}",
                f"{jiwer.cer(whole.words, lower.words):.1%}",
                f"{lower.seconds / whole.seconds:.2f}",
            )
    Console().print(table)


def excerpt(data: Path, seconds: float) -> list[Tensor]:
    """The first utterances of `spoken`."""
    found: list[Tensor] = []
    for samples in spoken(data):
        found.append(torch.from_numpy(samples))
        if sum(map(len, found)) >= seconds * RATE:
            break
    return found


Encode = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def paraformer(folder: ModelFolder, precision: Precision) -> tuple[Any, Encode]:
    """The recogniser, and its encoder."""
    recogniser = ParaformerRecogniser.read(folder, [], precision=precision)

    def encode(waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features, frames = recogniser.features(waveforms, lengths)
        network = recogniser.network
        return network.encoder(features.to(network.dtype), frames), frames

    return recogniser, encode


def gigaam(folder: ModelFolder, precision: Precision) -> tuple[Any, Encode]:
    """The recogniser, and its encoder."""
    recogniser = GigaAmRecogniser.read(folder, GigaAmParameters(precision=precision))
    return recogniser, recogniser.network


@torch.inference_mode()
def hear(recogniser: Any, encode: Encode, utterances: Sequence[Tensor]) -> Heard:
    """Each utterance by itself."""
    encoded, words = [], []
    spent = 0.0
    for samples in utterances:
        row = samples[None], torch.tensor([len(samples)])
        output, frames = encode(*row)
        encoded.append(output[0, : int(frames[0])].float())
        began = time.process_time()
        (found,) = recogniser.recognise(*row)
        spent += time.process_time() - began
        words.append(" ".join(word.text for word in found) or "-")
    return Heard(encoded, words, spent)


def deviation(whole: Sequence[Tensor], lower: Sequence[Tensor]) -> float:
    """The length of the difference beside that of the output, over all frames."""
    ours = torch.cat(list(lower)) - torch.cat(list(whole))
    return float(np.linalg.norm(ours.numpy()) / np.linalg.norm(torch.cat(list(whole)).numpy()))


if __name__ == "__main__":
    main()
