"""Trains the bundled CAM++ from shared/data and some synthetic voices: AAM-softmax over speakers
(Deng et al., ArcFace, 2019), and, where resemblyzer is installed, its embedding of the whole
utterance as a second target, which stands in for the many speakers that our data lack.

    python -m training.speakers --data ../shared/data --out DIR --hours 1.5 --processes 2

Run again with the same DIR to go on from the checkpoint (with more hours: to train longer). The
EER in the log is that of the held-out speakers in the "tuning" half (benchmarks/meetings.py).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.functional import cross_entropy, linear, normalize, one_hot
from torch.optim import AdamW, Muon
from torch.utils.data import DataLoader

from benchmarks.meetings import pool_of
from benchmarks.speakers import GROUPS, Embed, Trials, held_out_trials
from stages.models import ModelFolder, locate, save_model
from stages.speakers.campplus import CamPlusPlus, CamPlusPlusSizes
from stages.speakers.embedder import SpeakerEmbedder, load_embedder
from training.resemblyzer import installed_weights
from training.speakers_crops import Batch, Crops
from training.speakers_data import Corpus, gather, load_noise
from training.speakers_voices import ROWS, Voices, means_of, teacher_targets

SIZES = CamPlusPlusSizes(growth_rate=32, init_channels=96, head_channels=8, block_layers=(4, 8, 6))
BATCH = 64
LEARNING_RATES = (5e-3, 2e-3, 2e-4)  # matrices, vectors, classes
WEIGHT_DECAY = 0.05
SCALE, MARGIN = 30.0, 0.2
TEACHER_WEIGHT = 30.0
AVERAGED_OVER = 400
FRONT_EVERY = 4
SETTLED = 0.74
EVENING, CROPS_TO_EVEN = 0.3, 6400
SEED = 2
LOG_EVERY_S, SAVE_EVERY_S = 30, 300


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


PARTS = ("network", "average", "margin", "muon", "adam")


class Trainer:
    """Everything that a checkpoint holds, and one step. `average` follows the weights, as an
    exponential mean over AVERAGED_OVER steps; it is what is exported. `spent_s` is what the
    last step took, on this process; `elapsed_s` is the same for all."""

    def __init__(self, corpus: Corpus, targets: Tensor | None, hours: float) -> None:
        torch.manual_seed(SEED)
        self.network = CamPlusPlus(SIZES)
        self.average = deepcopy(self.network).requires_grad_(False)
        self.speakers = len(corpus.names)
        self.margin = AdditiveAngularMargin(SIZES.embedding_size, self.speakers * ROWS)
        self.targets = targets
        if targets is not None:  # each class begins where the teacher has it
            people = torch.from_numpy(corpus.speakers)
            rows = torch.arange(ROWS)[:, None] * self.speakers + people
            centres = means_of(targets.float().flatten(0, 1), rows.flatten())
            self.margin.weight.data[: len(centres)] = normalize(centres, dim=1)
        self.matrices = [p for p in self.network.parameters() if p.ndim > 1]
        # The same memory, as the matrices [out, in * kernel] that Muon knows how to turn.
        self.flat = [nn.Parameter(p.detach().flatten(1)) for p in self.matrices]
        self.muon = Muon(self.flat, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
        vectors = [p for p in self.network.parameters() if p.ndim == 1]
        groups = [{"params": vectors}, {"params": list(self.margin.parameters())}]
        self.adam = AdamW(groups, weight_decay=WEIGHT_DECAY)
        self.total_s = hours * 3600
        self.elapsed_s = self.spent_s = 0.0
        self.steps = 0

    @property
    def progress(self) -> float:
        return min(1.0, self.elapsed_s / self.total_s)

    def step(self, batch: Batch) -> dict[str, float]:
        """Learns from one batch, and returns its losses. The learning rate warms up over 2 % of
        the time, then falls as a cosine; the margin grows over the first 40 %."""
        warm = min(1.0, self.progress / 0.02)
        rate = max(0.02, warm) * (0.5 + 0.5 * math.cos(math.pi * self.progress))
        groups = (*self.muon.param_groups, *self.adam.param_groups)
        for group, largest in zip(groups, LEARNING_RATES, strict=True):
            group["lr"] = largest * rate
        # The front is half of the work and has few weights: it learns at every fourth step.
        self.network.head.requires_grad_(self.steps % FRONT_EVERY == 0)
        self.network.train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            raw = self.network(batch.features)
        embeddings = normalize(raw.float(), dim=1)
        people = batch.speakers + batch.rows * self.speakers
        loss = self.margin(embeddings, people, MARGIN * min(1.0, self.progress / 0.4))
        log = {"aam": loss.item()}
        if self.targets is not None:
            target = self.targets[batch.rows, batch.utterances].float()
            distance = 1 - (embeddings * target).sum(1).mean()
            log["teacher"] = distance.item()
            loss = loss + TEACHER_WEIGHT * distance
        self.muon.zero_grad()
        for parameter in self.parameters():
            parameter.grad = None
        loss.backward()
        self._agree()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        for flat, matrix in zip(self.flat, self.matrices, strict=True):
            flat.grad = None if matrix.grad is None else matrix.grad.flatten(1)
        self.muon.step()
        self.adam.step()
        self._follow()
        self.steps += 1
        return log

    def _agree(self) -> None:
        """Every process goes on with the mean gradient of all, and the time of the first."""
        slopes = [p.grad for p in self.parameters() if p.grad is not None]
        time_of_first = torch.tensor([(self.elapsed_s + self.spent_s) * is_first()])
        flat = torch.cat([*(slope.flatten() for slope in slopes), time_of_first])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        *parts, elapsed = flat.split([*(slope.numel() for slope in slopes), 1])
        for slope, part in zip(slopes, parts, strict=True):
            slope.copy_(part.view_as(slope))
        self.elapsed_s, self.spent_s = float(elapsed) * dist.get_world_size(), 0.0

    def parameters(self) -> Iterator[nn.Parameter]:
        yield from self.network.parameters()
        yield from self.margin.parameters()

    @torch.no_grad()
    def _follow(self) -> None:
        """Brings `average` (batch norm's statistics too) nearer to the weights."""
        share = 1 / min(AVERAGED_OVER, self.steps + 1)
        now = self.network.state_dict()
        for name, mean in self.average.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(now[name], share)

    def save(self, path: Path) -> None:
        parts = {part: getattr(self, part).state_dict() for part in PARTS}
        aside = path.with_suffix(".tmp")
        torch.save({**parts, "elapsed_s": self.elapsed_s, "steps": self.steps}, aside)
        aside.replace(path)

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        for part in PARTS:
            getattr(self, part).load_state_dict(state[part])
        self.elapsed_s, self.steps = state["elapsed_s"], state["steps"]


def begun_from(trainer: Trainer, model: str) -> None:
    """Begins with the weights of `model` ("bundled/NAME", or a folder); the last layer is new,
    because the directions of its embeddings are others."""
    given = load_embedder(locate(model, "stages.speakers")).network.state_dict()
    given = {name: weight for name, weight in given.items() if "xvector.dense" not in name}
    trainer.network.load_state_dict(given, strict=False)


def tuning_trials(data: Path) -> dict[str, Trials]:
    """The benchmark's trials, of the half of the held-out speakers that choices may be made on."""
    chosen = {}
    for name, folders in GROUPS.items():
        trials = held_out_trials(data, folders)
        keep = np.array([pool_of(speaker) == "tuning" for speaker in trials.speakers])
        windows = trials.windows[torch.from_numpy(keep)]
        chosen[name] = Trials(windows, trials.speakers[keep], trials.clips[keep])
    return chosen


@torch.inference_mode()
def held_out_scores(trials: dict[str, Trials], embed: Embed) -> dict[str, float]:
    """EER in per cent of each group."""
    return {name: round(group.equal_error_rate(embed), 2) for name, group in trials.items()}


def export(network: CamPlusPlus, folder: Path) -> None:
    """The bundled layout: float16 weights and a config.yaml in FunASR's keys."""
    sizes = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(network.sizes).items()}
    save_model(folder, network.state_dict(), {"model": "CAMPPlus", "model_conf": sizes})


@torch.no_grad()
def mean_of(folders: Sequence[Path]) -> CamPlusPlus:
    """A network with the mean weights of exported ones."""
    networks = [load_embedder(ModelFolder(folder)).network for folder in folders]
    states = [network.state_dict() for network in networks]
    mean = {
        name: sum(state[name] for state in states) / len(states)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
    networks[0].load_state_dict(mean)
    return networks[0]


@torch.no_grad()
def evened(network: CamPlusPlus, batches: Iterable[Batch]) -> CamPlusPlus:
    """The network with its embeddings' directions weighted by their variance (over crops as
    recorded) to the power of -EVENING: what it is unsure of, it makes small, and unseen voices
    differ there too. A matrix in the last layer."""
    network.eval()
    raw = [normalize(network(b.features[b.rows == 0]), dim=1) for b in batches]
    variances, axes = torch.linalg.eigh(torch.cat(raw).T.cov())
    turn = (axes * variances.clamp(min=1e-6) ** -EVENING).T
    last = network.xvector.dense
    norm = last.nonlinear.batchnorm
    scale = (norm.running_var + norm.eps).rsqrt()
    last.linear.weight.copy_((turn * scale @ last.linear.weight[..., 0])[..., None])
    norm.running_mean.copy_(turn @ (norm.running_mean * scale))
    norm.running_var.fill_(1 - norm.eps)
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=1, help="of one thread each")
    parser.add_argument("--teacher", type=Path, default=installed_weights(), help="pretrained.pt")
    parser.add_argument("--initial", help="bundled/NAME or a folder to begin from")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    kept = arguments.out / "corpus.npz"
    corpus = gather(arguments.data, kept)
    print(f"{len(corpus.names)} speakers, {len(corpus.samples) / 16000 / 3600:.1f} h", flush=True)
    voices = Voices.draw(len(corpus.names), SEED)
    targets = None
    if arguments.teacher is not None:
        made = arguments.out / "targets.pt"
        if not made.exists():
            size, count = SIZES.embedding_size, arguments.processes
            torch.save(teacher_targets(kept, arguments.teacher, voices, size, count), made)
        targets = torch.load(made, weights_only=True)
    # Forked, so that all share the corpus, and before this process has threads.
    shared = (arguments, corpus, voices, targets)
    start_processes(work, shared, arguments.processes, start_method="fork")


def work(
    rank: int,
    arguments: argparse.Namespace,
    corpus: Corpus,
    voices: Voices,
    targets: Tensor | None,
) -> None:
    """One of the processes, on one thread, with its part of each batch."""
    torch.set_num_threads(1)
    out, count = arguments.out, arguments.processes
    store = dist.FileStore(str(out / f"meeting-{os.getppid()}"), count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    trainer = Trainer(corpus, targets, arguments.hours)
    if (checkpoint := out / "checkpoint.pt").exists():
        trainer.resume(checkpoint)
    elif arguments.initial:
        begun_from(trainer, arguments.initial)
    noises = load_noise(arguments.data)
    crops = Crops(corpus, voices, noises, BATCH // count, [SEED, rank, trainer.steps])
    batches = iter(DataLoader(crops, batch_size=None, num_workers=1, prefetch_factor=8))
    trials = tuning_trials(arguments.data) if is_first() else {}
    with (out / "log.jsonl").open("a") as log:
        train(trainer, batches, trials, out, log)


def is_first() -> bool:
    """Whether this process is the one that keeps time, logs and saves."""
    return dist.get_rank() == 0


def train(
    trainer: Trainer,
    batches: Iterator[Batch],
    trials: dict[str, Trials],
    out: Path,
    log: TextIO,
) -> None:
    """Until the time is up, with a line in the log every LOG_EVERY_S and a checkpoint and the
    weights so far every SAVE_EVERY_S. What is exported in the last quarter is averaged: on
    unseen speakers that is better than where the training ends."""

    def note(row: dict[str, float]) -> None:
        row = {"steps": trainer.steps, "minutes": round(trainer.elapsed_s / 60, 1), **row}
        print(json.dumps(row), flush=True)
        print(json.dumps(row), file=log, flush=True)

    def save() -> None:
        trainer.save(out / "checkpoint.pt")
        network = trainer.average
        if trainer.progress > SETTLED:
            export(network, out / "settled" / f"{trainer.steps:06}")
            network = mean_of(sorted((out / "settled").iterdir()))
        export(network, out / "model")
        note(held_out_scores(trials, SpeakerEmbedder(network).eval()))

    logged = saved = trainer.elapsed_s
    losses: list[dict[str, float]] = []
    while trainer.progress < 1:
        begin = time.monotonic()
        losses.append(trainer.step(next(batches)))
        trainer.spent_s = time.monotonic() - begin
        if not is_first():
            continue
        if trainer.elapsed_s - logged > LOG_EVERY_S:
            logged = trainer.elapsed_s
            note({k: round(float(np.mean([row[k] for row in losses])), 4) for k in losses[0]})
            losses = []
        if trainer.elapsed_s - saved > SAVE_EVERY_S:
            saved = trainer.elapsed_s
            save()
    if is_first():
        save()
        network = mean_of(sorted((out / "settled").iterdir()))
        some = islice(batches, CROPS_TO_EVEN * dist.get_world_size() // BATCH)
        export(evened(network, some), out / "model")
        note(held_out_scores(trials, SpeakerEmbedder(network).eval()))


if __name__ == "__main__":
    main()
