"""Trains the bundled English recogniser on a CPU, from manifests to a model folder: phones, CTC
first, then maximum mutual information.

Sources: Graves et al., CTC (2006); Xiang and Ou, CTC-CRF (2019); Lee and Watanabe, Intermediate
loss regularization for CTC (2021); Park et al., SpecAugment (2019); Jordan et al., Muon (2024).

    python -m training.synthesis --data ../shared/data --out RUN/synthetic --hours 20
    python -m training.asr --data ../shared/data --synthetic RUN/synthetic --out RUN --hours 2

Interrupted, the second command goes on from RUN/checkpoint.pt. RUN/model is usable at any time.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jiwer
import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss
from torch.utils.data import DataLoader

from stages.asr.ctc_network import CtcNetwork, NetworkOptions, masked
from stages.audio.features import Fbank, FbankOptions
from stages.models import save_model
from training.asr_data import RECORDED, Batches, cache_recorded, load_audio, read_items, spoken
from training.mmi import log_denominator, phone_trigram
from training.pronunciations import PHONES, pronounce
from training.splits import is_held_out, read_manifest

TOKENS = ("<blank>", *PHONES)
PEAK_RATE = 2e-3
WARMUP_STEPS = 300
CTC_SHARE = 0.12  # of the training, before MMI takes over
CTC_WEIGHT = 0.1  # of CTC beside MMI
USUAL = 0.7  # of the time a word is taken to be pronounced in the usual way
INTERMEDIATE_WEIGHT = 0.3
AVERAGE_DECAY = 0.998
SAVE_SECONDS = 300.0
# Measured by benchmarks.asr against the synthesisers' own word times.
ONSET_MS = -65
TAIL_FRAMES = 2


@dataclass
class Progress:
    """Where a run stands; `seconds` of training so far, over all its starts."""

    step: int = 0
    seconds: float = 0.0


class Targets:
    """Transcripts as phones."""

    def __init__(self, texts: list[str], seed: int) -> None:
        words = {word for text in texts for word in text.split()}
        ids = {phone: index for index, phone in enumerate(TOKENS)}
        self.known: dict[str, list[list[int]]] = {
            word: [[ids[phone] for phone in phones] for phones in ways]
            for word, ways in pronounce(words).items()
        }
        self.rng = random.Random(seed)
        self.trigram = phone_trigram((self.phones(text) for text in texts), len(TOKENS))

    def phones(self, text: str) -> list[int]:
        """In drawn pronunciations."""
        said = []
        for word in text.split():
            ways = self.known[word]
            said += ways[0] if self.rng.random() < USUAL else self.rng.choice(ways)
        return said

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Phones of all texts in one row, and how many are each text's."""
        said = [self.phones(text) for text in texts]
        return torch.tensor([p for row in said for p in row]), torch.tensor([*map(len, said)])


class Trainer:
    """The network, its running average, two optimisers, the frontend and the targets."""

    def __init__(self, options: NetworkOptions, targets: Targets) -> None:
        self.network = CtcNetwork(options)
        self.targets = targets
        self.average = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.fbank = Fbank(FbankOptions())
        # Muon turns the large matrices; everything else is left to AdamW.
        matrices, rest = [], []
        for name, parameter in self.network.named_parameters():
            large = name.endswith(("expand.weight", "contract.weight"))
            (matrices if large else rest).append(parameter)
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01),
        ]
        self.progress = Progress()

    def fit_normalisation(self, batches: list[tuple[Tensor, Tensor, list[str]]]) -> None:
        """Sets the corpus mean and scale of each mel bin from some batches."""
        rows = []
        for features, counts, _ in batches:
            rows += [f[:n] for f, n in zip(features, counts, strict=True)]
        frames = torch.cat(rows)
        within = torch.cat([row - row.mean(dim=0) for row in rows])
        self.network.mean.copy_(frames.mean(dim=0))
        self.network.scale.copy_(1 / within.std(dim=0))

    def set_rate(self, done: float, peak: float = PEAK_RATE) -> float:
        """Warm-up in steps, then a cosine over the share of the time budget that is used."""
        rise = min(1.0, (self.progress.step + 1) / WARMUP_STEPS)
        fall = 0.5 * (1 + torch.cos(torch.tensor(min(1.0, done)) * torch.pi).item())
        rate = peak * rise * max(fall, 0.005)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
        return rate

    def step(
        self, features: Tensor, counts: Tensor, texts: list[str], done: float
    ) -> dict[str, float]:
        """One update; returns the losses per phone. `done`: the share of the training so far."""
        with torch.no_grad():
            normal = spec_augment(self.network.normalise(features, counts), counts)
        targets, sizes = self.targets.encode(texts)
        with torch.autocast("cpu", torch.bfloat16):
            x, counts = self.network.first(normal, counts)
            x, counts = self.network.second(x, counts)
            losses = []
            for n, block in enumerate(self.network.blocks, start=1):
                x = block(x, counts)
                if n == len(self.network.blocks) // 2 or n == len(self.network.blocks):
                    scores = self.network.posteriors(x).transpose(0, 1)
                    losses.append(
                        ctc_loss(
                            scores, targets, counts, sizes, reduction="sum", zero_infinity=True
                        )
                    )
        middle, ctc = losses
        criterion, report = ctc, {"ctc": ctc}
        if done > CTC_SHARE:
            every = log_denominator(scores.transpose(0, 1), counts, self.targets.trigram).sum()
            report["all"] = every
            criterion = (1 + CTC_WEIGHT) * ctc + every
        loss = torch.lerp(criterion, middle, INTERMEDIATE_WEIGHT) / sizes.sum()
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if torch.isfinite(norm):
            for optimiser in self.optimisers:
                optimiser.step()
        self.progress.step += 1
        self._update_average()
        return {name: float(value.detach() / sizes.sum()) for name, value in report.items()}

    def _update_average(self) -> None:
        decay = min(AVERAGE_DECAY, self.progress.step / (self.progress.step + 10))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def save(self, path: Path) -> None:
        state: dict[str, Any] = {"network": self.network.state_dict(), "average": self.average}
        state |= {"optimisers": [o.state_dict() for o in self.optimisers]}
        torch.save(state | {"progress": asdict(self.progress)}, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.progress = Progress(**state["progress"])

    def export(self, folder: Path) -> None:
        """Writes the averaged weights as a model folder that `CtcAsr` reads."""
        config = {
            "model": "CtcNetwork",
            "language": "en",
            "network": asdict(self.network.options),
            "frontend": asdict(self.fbank.options),
            "onset_ms": ONSET_MS,
            "tail": TAIL_FRAMES,
        }
        save_model(folder, self.average, config)
        (folder / "tokens.json").write_text(json.dumps(TOKENS))


def spec_augment(features: Tensor, lengths: Tensor) -> Tensor:
    """Two bands of up to 14 bins and, every 2 s, up to 0.2 s are set to zero, the mean."""
    batch, frames, bins = features.shape
    keep = torch.ones(batch, frames, bins, dtype=torch.bool)
    for _ in range(2):
        width = torch.randint(0, 15, (batch, 1))
        start = (torch.rand(batch, 1) * (bins - width)).long()
        band = torch.arange(bins)[None, :]
        keep &= ~((band >= start) & (band < start + width))[:, None, :]
    for _ in range(max(1, frames // 200)):
        width = torch.randint(0, 21, (batch, 1))
        start = (torch.rand(batch, 1) * lengths[:, None]).long()
        time_axis = torch.arange(frames)[None, :]
        keep &= ~((time_axis >= start) & (time_axis < start + width))[:, :, None]
    return masked(features * keep, lengths)


def held_out_sample(data: Path, each: int) -> list[tuple[Tensor, str]]:
    """The first `each` held-out utterances of every recorded corpus, and their phones as the
    words are usually pronounced."""
    sample: list[tuple[Tensor, str]] = []
    for folder in RECORDED:
        rows = [u for u in read_manifest(data / folder) if is_held_out(u.speaker, u.split)]
        rows = [u for u in rows if spoken(u.text)][:each]
        sample += [(torch.from_numpy(load_audio(u.audio)), spoken(u.text)) for u in rows]
    usual = pronounce(word for _, text in sample for word in text.split())
    return [
        (waveform, " ".join(phone for word in text.split() for phone in usual[word][0]))
        for waveform, text in sample
    ]


@torch.inference_mode()
def phone_error_rate(trainer: Trainer, sample: list[tuple[Tensor, str]]) -> float:
    """PER of the averaged weights, best path, one utterance at a time."""
    network = CtcNetwork(trainer.network.options).eval()
    network.load_state_dict(trainer.average)
    heard = []
    for waveform, _ in sample:
        features, counts = trainer.fbank(waveform[None], torch.tensor([len(waveform)]))
        best = network(features, counts)[0][0].argmax(dim=-1).unique_consecutive()
        heard.append(" ".join(TOKENS[token] for token in best.tolist() if token))
    return float(jiwer.wer([said for _, said in sample], heard))


def start(options: argparse.Namespace, targets: Targets) -> Trainer:
    """From the checkpoint; else from the weights that `--initial` names, but for their last
    layer; else from nothing."""
    network = NetworkOptions(len(TOKENS), blocks=options.blocks, dropout=options.dropout)
    trainer = Trainer(network, targets)
    if (options.out / "checkpoint.pt").exists():
        trainer.restore(options.out / "checkpoint.pt")
    elif options.initial:
        weights = safetensors.torch.load_file(options.initial / "model.safetensors")
        kept = {k: v.float() for k, v in weights.items() if not k.startswith("head.")}
        trainer.network.load_state_dict(kept, strict=False)
        trainer.network.head.reset_parameters()
        trainer.average = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    return trainer


def train(options: argparse.Namespace) -> None:
    files = [*sorted(options.synthetic.glob("*.pcm")), options.out / "cache" / "recorded.pcm"]
    cache_recorded(options.data, options.out / "cache")
    sample = held_out_sample(options.data, 25)
    trainer = start(options, Targets([item.text for item in read_items(files)], options.seed))
    seed = options.seed + trainer.progress.step  # a resumed run draws new batches
    noise = options.data / "noise-esc10"
    batches = Batches(files, noise, options.batch_seconds, options.synthetic_share, seed)
    stream = iter(DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=16))
    if trainer.progress.step == 0 and not options.initial:
        trainer.fit_normalisation([next(stream) for _ in range(10)])
    budget = options.hours * 3600
    saved = last = time.monotonic()
    heard = 0.0
    losses: dict[str, float] = {}
    while trainer.progress.seconds < budget:
        batch = next(stream)
        done = trainer.progress.seconds / budget
        rate = trainer.set_rate(done, options.rate)
        for name, loss in trainer.step(*batch, done).items():
            losses[name] = losses.get(name, 0.0) + loss / 50
        heard += float(batch[1].sum()) / 100  # frames a second
        now = time.monotonic()
        trainer.progress.seconds += now - last
        last = now
        if trainer.progress.step % 50 == 0:
            row = {"step": trainer.progress.step, "seconds": round(trainer.progress.seconds)}
            row |= losses | {"rate": rate, "audio_hours": heard / 3600}
            losses = {}
            report(options.out, {k: round(v, 5) for k, v in row.items()})
        if now - saved > SAVE_SECONDS or trainer.progress.seconds >= budget:
            trainer.save(options.out / "checkpoint.pt")
            trainer.export(options.out / "model")
            per = phone_error_rate(trainer, sample)
            report(options.out, {"step": trainer.progress.step, "held_out_per": round(per, 4)})
            saved = time.monotonic()


def report(folder: Path, row: dict[str, Any]) -> None:
    """A line to standard output and to log.jsonl."""
    print(json.dumps(row), flush=True)
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="shared/data")
    parser.add_argument("--synthetic", type=Path, required=True, help="from training.synthesis")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--initial", type=Path, help="a model folder to begin with")
    parser.add_argument("--hours", type=float, default=2.0, help="wall clock of the training")
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help="the highest learning rate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--dropout", type=float, default=0.0, help="0 suits under ten epochs")
    parser.add_argument("--batch-seconds", type=float, default=150.0)
    parser.add_argument("--synthetic-share", type=float, default=0.7, help="hours per real hour")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    train(options)


if __name__ == "__main__":
    main()
