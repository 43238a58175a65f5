"""Trains the bundled CAM++ from shared/data and some synthetic voices: AAM-softmax over speakers
(Deng et al., ArcFace, 2019), and, where resemblyzer is installed, its embedding of the whole
utterance as a second target, which stands in for the many speakers that our data lack.

    python -m training.speakers --data ../shared/data --out DIR --hours 1

Run again with the same DIR to go on from the checkpoint (with more hours: to train longer).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize, one_hot

from benchmarks.speakers import GROUPS, Embed, Trials, held_out_trials
from stages.models import save_model
from stages.speakers.campplus import CamPlusPlus, CamPlusPlusSizes
from stages.speakers.embedder import SpeakerEmbedder
from training.resemblyzer import Resemblyzer, installed_weights
from training.speakers_data import SPEEDS, Augmenter, Corpus, Sampler, gather, load_noise, resampled

SIZES = CamPlusPlusSizes(growth_rate=32, init_channels=96, head_channels=8, block_layers=(4, 8, 6))
BATCH = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
SCALE, MARGIN = 30.0, 0.2
TEACHER_WEIGHT = 20.0
SEED = 2
LOG_EVERY_S, SAVE_EVERY_S = 30, 480
TEACHER_WINDOW = 25600


class AdditiveAngularMargin(nn.Module):
    """AAM-softmax: embeddings [B, D] of length 1 and classes [B] to a loss."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, dim) / math.sqrt(dim))

    def forward(self, embeddings: Tensor, classes: Tensor, margin: float) -> Tensor:
        cosine = linear(embeddings, normalize(self.weight, dim=1)).clamp(-0.9999, 0.9999)
        sine = (1 - cosine.square()).sqrt()
        # cos(angle + margin), and past the turning point a straight line that keeps falling
        widened = cosine * math.cos(margin) - sine * math.sin(margin)
        beyond = cosine <= -math.cos(margin)
        widened = torch.where(beyond, cosine - math.sin(margin) * margin, widened)
        own = one_hot(classes, len(self.weight)).bool()
        return cross_entropy(SCALE * torch.where(own, widened, cosine), classes)


@torch.inference_mode()
def teacher_targets(corpus: Corpus, weights: Path, dim: int) -> Tensor:
    """What the teacher makes of every utterance at every speed: float16 [speeds, U, dim] of
    length 1, the mean over (at most four) windows of 1.6 s, centred, in the `dim` directions that
    tell the training speakers apart best (linear discriminant analysis)."""
    teacher = Resemblyzer(weights)
    vectors = torch.zeros(len(SPEEDS), len(corpus.bounds), 256)
    for row, speed in enumerate(SPEEDS):
        length = round(TEACHER_WINDOW * speed)
        for first in range(0, len(corpus.bounds), 32):
            indices = range(first, min(first + 32, len(corpus.bounds)))
            parts = [evenly(corpus.utterance(index), length) for index in indices]
            owners = torch.tensor([i for i, p in zip(indices, parts, strict=True) for _ in p])
            windows = resampled(np.concatenate(parts), TEACHER_WINDOW)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                embedded = teacher(torch.from_numpy(windows)).float()
            vectors[row].index_add_(0, owners, embedded)
        print(f"teacher: speed {speed} done", flush=True)
    vectors = normalize(vectors, dim=-1)
    return discriminant(vectors, torch.from_numpy(corpus.speakers), dim).half()


def evenly(samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Two to four windows [W, length], spread over an utterance (repeated where it is shorter)."""
    samples = np.resize(samples, max(len(samples), length))
    count = min(4, max(2, round(len(samples) / length)))
    starts = np.linspace(0, len(samples) - length, count).astype(int)
    return np.stack([samples[at : at + length] for at in starts])


def discriminant(vectors: Tensor, speakers: Tensor, dim: int) -> Tensor:
    """[S, U, D] and speakers [U] to [S, U, dim] of length 1. Each speed makes a new speaker."""
    flat = vectors.flatten(0, 1)
    people = torch.cat([speakers + row * (int(speakers.max()) + 1) for row in range(len(vectors))])
    flat = flat - flat.mean(0)
    count = torch.bincount(people).clamp(min=1)[:, None]
    means = torch.zeros(len(count), flat.shape[1]).index_add_(0, people, flat) / count
    within = (flat - means[people]).T.cov()
    # Shrunk, so that directions with hardly any variance are not blown up.
    values, axes = torch.linalg.eigh(
        within + 0.5 * within.trace() / len(within) * torch.eye(len(within))
    )
    whiten = axes / values.sqrt()
    between = (means @ whiten)[count[:, 0] > 0]
    directions = torch.linalg.eigh(between.T @ between)[1][:, -dim:]
    return normalize(vectors.sub(vectors.mean((0, 1))) @ whiten @ directions, dim=-1)


class Trainer:
    """Everything that a checkpoint holds, and one step."""

    def __init__(self, corpus: Corpus, targets: Tensor | None, hours: float) -> None:
        torch.manual_seed(SEED)
        self.embedder = SpeakerEmbedder(CamPlusPlus(SIZES))
        classes = len(corpus.names) * len(SPEEDS)
        self.margin = AdditiveAngularMargin(SIZES.embedding_size, classes)
        self.targets = targets
        if targets is not None:
            self._place_classes(corpus, targets)
        parameters = [*self.embedder.parameters(), *self.margin.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.total_s = hours * 3600
        self.elapsed_s = 0.0
        self.steps = 0

    def _place_classes(self, corpus: Corpus, targets: Tensor) -> None:
        """Each class begins where the teacher has it, so that both losses pull one way."""
        centres = torch.zeros_like(self.margin.weight)
        people = torch.from_numpy(corpus.speakers)
        for row in range(len(SPEEDS)):
            centres.index_add_(0, people + row * len(corpus.names), targets[row].float())
        self.margin.weight.data = normalize(centres, dim=1)

    @property
    def progress(self) -> float:
        return min(1.0, self.elapsed_s / self.total_s)

    def step(self, sampler: Sampler, augmenter: Augmenter) -> dict[str, float]:
        """One batch. The learning rate warms up over 3 % of the time, then falls as a cosine;
        the margin grows over the first 40 %."""
        begin = time.monotonic()
        warm = min(1.0, self.progress / 0.03)
        rate = LEARNING_RATE * max(0.02, warm) * (0.5 + 0.5 * math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = sampler.draw(BATCH)
        with torch.no_grad():
            features = self.embedder.features(augmenter.waveforms(batch.waveforms))
            features = augmenter.masked(features)
        self.embedder.train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            raw = self.embedder.network(features)
        embeddings = normalize(raw.float(), dim=1)
        loss = self.margin(embeddings, batch.classes, MARGIN * min(1.0, self.progress / 0.4))
        log = {"aam": loss.item()}
        if self.targets is not None:
            target = self.targets[batch.speeds, batch.utterances].float()
            distance = 1 - (embeddings * target).sum(1).mean()
            log["teacher"] = distance.item()
            loss = loss + TEACHER_WEIGHT * distance
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.embedder.parameters(), 5.0)
        self.optimizer.step()
        self.steps += 1
        self.elapsed_s += time.monotonic() - begin
        return log

    def save(self, path: Path) -> None:
        parts = {k: getattr(self, k).state_dict() for k in ("embedder", "margin", "optimizer")}
        aside = path.with_suffix(".tmp")
        torch.save({**parts, "elapsed_s": self.elapsed_s, "steps": self.steps}, aside)
        aside.replace(path)

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        for part in ("embedder", "margin", "optimizer"):
            getattr(self, part).load_state_dict(state[part])
        self.elapsed_s, self.steps = state["elapsed_s"], state["steps"]


@torch.inference_mode()
def held_out_scores(trials: dict[str, Trials], embed: Embed) -> dict[str, float]:
    """EER in per cent of each group of the benchmark."""
    return {name: round(group.equal_error_rate(embed), 2) for name, group in trials.items()}


def export(network: CamPlusPlus, out: Path) -> None:
    """The bundled layout: float16 weights and a config.yaml in FunASR's keys."""
    sizes = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(network.sizes).items()}
    save_model(out / "model", network.state_dict(), {"model": "CAMPPlus", "model_conf": sizes})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--teacher", type=Path, default=installed_weights(), help="pretrained.pt")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)

    corpus = gather(arguments.data, arguments.out / "corpus.npz")
    print(f"{len(corpus.names)} speakers, {len(corpus.samples) / 16000 / 3600:.1f} h", flush=True)
    targets = None
    if arguments.teacher is not None:
        kept = arguments.out / "targets.pt"
        if not kept.exists():
            torch.save(teacher_targets(corpus, arguments.teacher, SIZES.embedding_size), kept)
        targets = torch.load(kept, weights_only=True)
    trainer = Trainer(corpus, targets, arguments.hours)
    checkpoint = arguments.out / "checkpoint.pt"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    rng = np.random.default_rng([SEED, trainer.steps])
    torch.manual_seed(SEED + trainer.steps)
    sampler, augmenter = Sampler(corpus, rng), Augmenter(load_noise(arguments.data), rng)

    trials = {name: held_out_trials(arguments.data, folders) for name, folders in GROUPS.items()}
    logged = saved = trainer.elapsed_s
    with (arguments.out / "log.jsonl").open("a") as log:

        def note(row: dict[str, float]) -> None:
            row = {"steps": trainer.steps, "minutes": round(trainer.elapsed_s / 60, 1), **row}
            print(json.dumps(row), flush=True)
            print(json.dumps(row), file=log, flush=True)

        while trainer.progress < 1:
            losses = trainer.step(sampler, augmenter)
            if trainer.elapsed_s - logged > LOG_EVERY_S:
                logged = trainer.elapsed_s
                note(losses)
            if trainer.elapsed_s - saved > SAVE_EVERY_S:
                saved = trainer.elapsed_s
                trainer.save(checkpoint)
                export(trainer.embedder.network, arguments.out)
                note(held_out_scores(trials, trainer.embedder.eval()))
        trainer.save(checkpoint)
        export(trainer.embedder.network, arguments.out)
        note(held_out_scores(trials, trainer.embedder.eval()))


if __name__ == "__main__":
    main()
