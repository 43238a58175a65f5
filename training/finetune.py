"""Fine-tunes a recogniser on a manifest of one's own: the bundled CTC, GigaAM CTC or Paraformer,
from a model folder to a model folder in the same layout, which every profile can name.

    python -m training.finetune --model bundled/en-ctc --manifest mine.jsonl --out RUN
    python -m training.finetune --model ~/paraformer-zh --manifest mine.jsonl --out RUN --hours 5
    python -m training.finetune ... --workers 8 --address auto       # on a Ray cluster
    hansard transcribe talk.wav --out results --set asr.model=RUN/model

A manifest has a line for each utterance: {"audio": "clips/1.wav", "text": "what is said"}, paths
counted from its folder, any format that Hansard reads. Interrupted, the same command goes on from
RUN/checkpoint.pt. RUN/log.jsonl and RUN/curves.png show how it went.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import HansardError, UsageError
from stages.audio.decode import AudioSource
from stages.models import locate
from training import distributed
from training.learners import Learner, learner_for
from training.run import Run, set_rate

WARMUP = 0.1  # of the training
LONGEST_S = 30.0
REPORT_STEPS = 10


@dataclass(frozen=True)
class Options:
    """What was asked for; `steps` or `hours`, whichever ends first."""

    model: str
    manifest: Path
    out: Path
    steps: int
    hours: float
    rate: float
    batch_seconds: float
    device: str
    seed: int


@dataclass(frozen=True)
class Utterance:
    """`tokens` as the model spells what is said."""

    audio: Path
    tokens: list[int]


def read_utterances(manifest: Path, learner: Learner) -> list[Utterance]:
    """What the model can spell; how much it cannot is said. ValueError names a broken line, or
    tells that nothing is left."""
    found: list[Utterance] = []
    unspelt: list[str] = []
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            audio, text = manifest.parent / row["audio"], str(row["text"])
        except (ValueError, KeyError, TypeError):
            raise UsageError(
                f'{manifest}:{number}: not a line such as {{"audio": "1.wav", "text": "hello"}}'
            ) from None
        tokens = learner.spell(text)
        if tokens is None:
            unspelt.append(text)
        else:
            found.append(Utterance(audio, tokens))
    if unspelt:
        print(f"{len(unspelt)} utterances left out, the model cannot spell: {unspelt[0][:60]!r}")
    if not found:
        raise UsageError(f"{manifest}: no utterance that the model can spell")
    return found


def load_audio(path: Path) -> Tensor:
    """A whole file: float32 [T], 16 kHz."""
    source = AudioSource(str(path), AudioSource.parameters_type())
    return torch.from_numpy(np.concatenate([block.samples for block in source.blocks()]))


def batches(
    utterances: Sequence[Utterance], seconds: float, seed: int
) -> Iterator[tuple[Tensor, Tensor, list[list[int]]]]:
    """Endless: waveforms [B, T], lengths [B], tokens, at most `seconds` with padding, in random
    order. Utterances of over `LONGEST_S` are left out."""
    rng = random.Random(seed)
    waveforms: list[Tensor] = []
    targets: list[list[int]] = []
    while True:
        for utterance in rng.sample(utterances, len(utterances)):
            waveform = load_audio(utterance.audio)
            if len(waveform) > LONGEST_S * 16000:
                continue
            longest = max(len(w) for w in [*waveforms, waveform])
            if waveforms and (len(waveforms) + 1) * longest > seconds * 16000:
                yield _stacked(waveforms), torch.tensor([len(w) for w in waveforms]), targets
                waveforms, targets = [], []
            waveforms.append(waveform)
            targets.append(utterance.tokens)
        if not waveforms:
            raise UsageError(f"no utterance of at most {LONGEST_S:g} s")
        yield _stacked(waveforms), torch.tensor([len(w) for w in waveforms]), targets
        waveforms, targets = [], []


def _stacked(waveforms: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)


def rate_at(done: float, peak: float) -> float:
    """Linear warm-up, then a cosine to a hundredth."""
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return peak * min(1.0, (done + 0.01) / WARMUP) * max(fall, 0.01)


def train(options: Options) -> None:
    """Runs in every worker."""
    torch.manual_seed(options.seed + distributed.rank())
    learner = learner_for(locate(options.model, "stages.asr"))
    utterances = read_utterances(options.manifest, learner)
    learner.to(options.device)
    trained = [each for each in learner.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, betas=(0.9, 0.98), weight_decay=0.01)
    run = Run(
        options.out,
        options.hours * 3600,
        {"network": learner.network, "optimizer": optimizer},
        lambda: learner.write(options.out / "model"),
        REPORT_STEPS,
        options.steps,
    )
    seed = 1000 * (options.seed + run.step) + distributed.rank()  # resumed: new batches
    stream = batches(utterances, options.batch_seconds, seed)
    for done in run.steps():
        set_rate(optimizer, rate_at(done, options.rate))
        run.note(loss=update(learner, optimizer, next(stream)))


def update(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor, list[list[int]]],
) -> float:
    """One step with the mean gradient of all workers; their mean loss."""
    waveforms, lengths, targets = batch
    device = next(learner.parameters()).device
    loss = learner(waveforms.to(device), lengths.to(device), targets)
    optimizer.zero_grad()
    loss.backward()
    distributed.average_gradients(learner)
    norm = torch.nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
    if torch.isfinite(norm):
        optimizer.step()
    shared = loss.detach()[None].clone()
    distributed.average([shared])
    return float(shared)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="bundled/NAME, hub:..., or a folder")
    parser.add_argument("--manifest", type=distributed.absolute, required=True)
    parser.add_argument("--out", type=distributed.absolute, required=True)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--rate", type=float, default=5e-5, help="the highest learning rate")
    parser.add_argument("--batch-seconds", type=float, default=120.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    distributed.add_arguments(parser)
    asked = vars(parser.parse_args())
    workers, address = asked.pop("workers"), asked.pop("address")
    options = Options(**asked)
    try:
        distributed.launch(train, options, workers, address, options.out)
    except (HansardError, OSError) as error:
        parser.exit(2, f"training.finetune: {error}\n")


if __name__ == "__main__":
    main()
