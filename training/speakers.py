"""Trains the bundled CAM++ from shared/data and some synthetic voices: AAM-softmax over speakers
(Deng et al., ArcFace, 2019), and, where resemblyzer is installed, its embedding of the whole
utterance as a second target, which stands in for the many speakers that our data lack.

    python -m training.speakers --data ../shared/data --out DIR --hours 1.5 --workers 2

Interrupted, it goes on from DIR/checkpoint.pt (with more hours: to train longer); DIR/log.jsonl and
DIR/curves.png show how it went. The EER in the log is that of the held-out speakers in the "tuning"
half (benchmarks/meetings.py).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize, one_hot
from torch.optim import AdamW, Muon
from torch.utils.data import DataLoader

from benchmarks.meetings import pool_of
from benchmarks.speakers import GROUPS, Embed, Trials, held_out_trials
from stages.models import ModelFolder, locate, save_model
from stages.speakers.campplus import CamPlusPlus, CamPlusPlusSizes
from stages.speakers.embedder import SpeakerEmbedder, load_embedder
from training import distributed, precision
from training.resemblyzer import installed_weights
from training.run import Run
from training.speakers_crops import Batch, Crops
from training.speakers_data import Corpus, gather, load_corpus, load_noise
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
REPORT_STEPS = 50


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
    exponential mean over AVERAGED_OVER steps; it is what is exported."""

    def __init__(self, corpus: Corpus, targets: Tensor | None) -> None:
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

    def step(self, batch: Batch, step: int, done: float) -> dict[str, float]:
        """Learns from one batch, and returns its losses. `done`: the share of the training so far.
        The learning rate warms up over 2 % of it, then falls as a cosine; the margin grows over
        the first 40 %."""
        rate = max(0.02, min(1.0, done / 0.02)) * (0.5 + 0.5 * math.cos(math.pi * done))
        groups = (*self.muon.param_groups, *self.adam.param_groups)
        for group, largest in zip(groups, LEARNING_RATES, strict=True):
            group["lr"] = largest * rate
        # The front is half of the work and has few weights: it learns at every fourth step.
        self.network.head.requires_grad_(step % FRONT_EVERY == 0)
        self.network.train()
        with precision.fastest():
            raw = self.network(batch.features)
        embeddings = normalize(raw.float(), dim=1)
        people = batch.speakers + batch.rows * self.speakers
        loss = self.margin(embeddings, people, MARGIN * min(1.0, done / 0.4))
        log = {"aam": loss.item()}
        if self.targets is not None:
            target = self.targets[batch.rows, batch.utterances].float()
            distance = 1 - (embeddings * target).sum(1).mean()
            log["teacher"] = distance.item()
            loss = loss + TEACHER_WEIGHT * distance
        self.muon.zero_grad()
        self.network.zero_grad()
        self.margin.zero_grad()
        loss.backward()
        distributed.average_gradients(self.network)
        distributed.average_gradients(self.margin)
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        for flat, matrix in zip(self.flat, self.matrices, strict=True):
            flat.grad = None if matrix.grad is None else matrix.grad.flatten(1)
        self.muon.step()
        self.adam.step()
        self._follow(step)
        return log

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Brings `average` (batch norm's statistics too) nearer to the weights."""
        share = 1 / min(AVERAGED_OVER, step + 1)
        now = self.network.state_dict()
        for name, mean in self.average.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(now[name], share)


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


def targets_of(options: argparse.Namespace, voices: Voices) -> Tensor | None:
    """What the teacher makes of every utterance, made once; None without a teacher."""
    if options.teacher is None:
        return None
    made = options.out / "targets.pt"
    if not made.exists():
        kept, size = options.out / "corpus", SIZES.embedding_size
        torch.save(teacher_targets(kept, options.teacher, voices, size, options.workers), made)
    targets: Tensor = torch.load(made, weights_only=True)
    return targets


def train(options: argparse.Namespace) -> None:
    """Runs in every worker, on one thread, with its part of each batch. What is exported in the
    last quarter is averaged: on unseen speakers that is better than where the training ends."""
    torch.set_num_threads(1)
    corpus = load_corpus(options.out / "corpus")
    voices = Voices.draw(len(corpus.names), SEED)
    trainer = Trainer(corpus, targets_of(options, voices))
    if options.initial:
        begun_from(trainer, options.initial)
    trials = tuning_trials(options.data) if distributed.first() else {}
    settled, model = options.out / "settled", options.out / "model"

    def exported() -> dict[str, float]:
        network = trainer.average
        if run.seconds > SETTLED * budget:
            export(network, settled / f"{run.step:06}")
            network = mean_of(sorted(settled.iterdir()))
        export(network, model)
        return held_out_scores(trials, SpeakerEmbedder(network).eval())

    budget = options.hours * 3600
    parts = {part: getattr(trainer, part) for part in PARTS}
    run = Run(options.out, budget, parts, exported, REPORT_STEPS)
    size, seed = BATCH // options.workers, [SEED, distributed.rank(), run.step]
    crops = Crops(corpus, voices, load_noise(options.data), size, seed)
    batches = iter(DataLoader(crops, batch_size=None, num_workers=1, prefetch_factor=8))
    for done in run.steps():
        run.note(**trainer.step(next(batches), run.step, done))
    if distributed.first():
        network = mean_of(sorted(settled.iterdir()))
        export(evened(network, islice(batches, CROPS_TO_EVEN // size)), model)
        run.log(held_out_scores(trials, SpeakerEmbedder(network).eval()))


def main() -> None:
    parser = distributed.command_line(__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument(
        "--teacher", type=distributed.absolute, default=installed_weights(), help="pretrained.pt"
    )
    parser.add_argument("--initial", help="bundled/NAME or a folder to begin from")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    corpus = gather(options.data, options.out / "corpus")
    print(f"{len(corpus.names)} speakers, {len(corpus.samples) / 16000 / 3600:.1f} h", flush=True)
    targets_of(options, Voices.draw(len(corpus.names), SEED))  # which all workers read
    distributed.launch(train, options, options.workers, options.address, options.out)


if __name__ == "__main__":
    main()
