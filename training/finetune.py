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
import time
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
from training.curves import plot, read_log
from training.learners import Learner, learner_for

WARMUP = 0.1  # of the training
LONGEST_S = 30.0
SAVE_SECONDS = 300.0
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


@dataclass
class Run:
    """A training under way; `seconds` over all its starts."""

    learner: Learner
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def done(self, options: Options) -> float:
        """The share of the training that is over."""
        return max(self.step / options.steps, self.seconds / (options.hours * 3600))

    def update(self, batch: tuple[Tensor, Tensor, list[list[int]]], rate: float) -> float:
        """One step with the mean gradient of all workers; the loss."""
        waveforms, lengths, targets = batch
        device = next(self.learner.parameters()).device
        loss = self.learner(waveforms.to(device), lengths.to(device), targets)
        self.optimiser.zero_grad()
        loss.backward()
        distributed.average_gradients(self.learner)
        norm = torch.nn.utils.clip_grad_norm_(self.learner.parameters(), 5.0)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if torch.isfinite(norm):
            self.optimiser.step()
        self.step += 1
        shared = loss.detach()[None].clone()
        distributed.average([shared])
        return float(shared)

    def save(self, out: Path) -> None:
        """The checkpoint and the model folder, by the first worker."""
        state = {
            "network": self.learner.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, out / "checkpoint.new")
        (out / "checkpoint.new").replace(out / "checkpoint.pt")
        self.learner.write(out / "model")

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.learner.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]


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
    run = Run(learner, torch.optim.AdamW(trained, betas=(0.9, 0.98), weight_decay=0.01))
    checkpoint = options.out / "checkpoint.pt"
    if checkpoint.is_file():
        run.restore(checkpoint)
    seed = 1000 * (options.seed + run.step) + distributed.rank()  # resumed: new batches
    stream = batches(utterances, options.batch_seconds, seed)
    saved = last = time.monotonic()
    losses: list[float] = []
    while (done := distributed.agree(run.done(options))) < 1:
        losses.append(run.update(next(stream), rate_at(done, options.rate)))
        now = time.monotonic()
        run.seconds += now - last
        last = now
        if not distributed.first():
            continue
        if run.step % REPORT_STEPS == 0 or run.done(options) >= 1:
            report(options.out, run.step, sum(losses) / len(losses))
            losses = []
        if now - saved > SAVE_SECONDS:
            run.save(options.out)
            saved = now
    if distributed.first():
        run.save(options.out)
        plot(read_log(options.out / "log.jsonl"), options.out / "curves.png")


def report(out: Path, step: int, loss: float) -> None:
    """A line to standard output and to log.jsonl."""
    row = json.dumps({"step": step, "loss": round(loss, 4)})
    print(row, flush=True)
    with (out / "log.jsonl").open("a") as log:
        log.write(row + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="bundled/NAME, hub:..., or a folder")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--rate", type=float, default=5e-5, help="the highest learning rate")
    parser.add_argument("--batch-seconds", type=float, default=120.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="of a Ray cluster")
    parser.add_argument("--address", default="", help="of the Ray cluster; default: start one")
    asked = vars(parser.parse_args())
    workers, address = asked.pop("workers"), asked.pop("address")
    asked |= {key: asked[key].resolve() for key in ("manifest", "out")}
    asked["out"].mkdir(parents=True, exist_ok=True)
    options = Options(**asked)
    try:
        distributed.launch(train, options, workers, address, options.out)
    except (HansardError, OSError) as error:
        parser.exit(2, f"training.finetune: {error}\n")


if __name__ == "__main__":
    main()
