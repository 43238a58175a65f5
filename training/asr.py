"""Trains the bundled English recogniser on a CPU, from manifests to a model folder: phones, CTC
first, then maximum mutual information.

Sources: Graves et al., CTC (2006); Xiang and Ou, CTC-CRF (2019); Lee and Watanabe, Intermediate
loss regularization for CTC (2021); Yao et al., CR-CTC: consistency regularization on CTC (2025),
section 3; Jordan et al., Muon (2024).

    python -m training.synthesis --data ../shared/data --out RUN/synthetic --hours 20
    python -m training.asr --data ../shared/data --synthetic RUN/synthetic --out RUN --hours 2

Interrupted, the second command goes on from RUN/checkpoint.pt. RUN/model is usable at any time;
RUN/log.jsonl and RUN/curves.png show how it went.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict
from pathlib import Path

import jiwer
import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from stages.asr.ctc_network import CtcNetwork, NetworkOptions, masked
from stages.audio.features import Fbank, FbankOptions
from stages.models import save_model
from training import distributed, precision, spec_augment
from training.asr_data import RECORDED, Batches, cache_recorded, load_audio, read_items, spoken
from training.mmi import log_denominator, phone_trigram
from training.pronunciations import PHONES, pronounce
from training.run import Run, set_rate, warm_cosine
from training.splits import is_held_out, read_manifest

TOKENS = ("<blank>", *PHONES)
PEAK_RATE = 2e-3
WARMUP_STEPS = 300
CTC_WEIGHT = 0.1  # of CTC beside MMI
USUAL = 0.7  # of the time a word is taken to be pronounced in the usual way
INTERMEDIATE_WEIGHT = 0.3
CONSISTENCY_WEIGHT = 0.2
AVERAGE_DECAY = 0.998
REPORT_STEPS = 50
# Measured by benchmarks.asr against the synthesisers' own word times.
ONSET_MS = -65
TAIL_FRAMES = 2


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

    def __init__(self, network: CtcNetwork, targets: Targets, strength: float = 1.0) -> None:
        self.network = network
        self.targets = targets
        self.strength = strength  # of what is done to features
        self.average = AveragedModel(network, avg_fn=_follow, use_buffers=True)
        self.fbank = Fbank(FbankOptions())
        # Muon turns the large matrices; everything else is left to AdamW.
        matrices, rest = [], []
        for name, parameter in self.network.named_parameters():
            large = name.endswith(("expand.weight", "contract.weight"))
            (matrices if large else rest).append(parameter)
        self.muon = torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01)

    def fit_normalisation(self, batches: list[tuple[Tensor, Tensor, list[str]]]) -> None:
        """Sets the corpus mean and scale of each mel bin from some batches of all workers."""
        rows = []
        for features, counts, _ in batches:
            rows += [f[:n] for f, n in zip(features, counts, strict=True)]
        frames = torch.cat(rows)
        within = torch.cat([row - row.mean(dim=0) for row in rows])
        self.network.mean.copy_(frames.mean(dim=0))
        self.network.scale.copy_(1 / within.std(dim=0))
        distributed.average([self.network.mean, self.network.scale])

    def views(self, features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Two of every utterance, each stretched and masked in its own way: [2 B, F, M], [2 B]."""
        features, counts = spec_augment.hurry(features, counts, self.strength)
        features, counts = features.repeat(2, 1, 1), counts.repeat(2)
        factors = spec_augment.factors(len(features), self.strength)
        stretched = spec_augment.stretch(features, factors, self.fbank.options)
        normal = self.network.normalise(stretched, counts)
        return spec_augment.mask(normal, counts, self.strength), counts

    def step(
        self, features: Tensor, counts: Tensor, texts: list[str], mmi: bool
    ) -> dict[str, float]:
        """One update; returns the losses per phone."""
        with torch.no_grad():
            normal, counts = self.views(features, counts)
        targets, sizes = self.targets.encode(2 * texts)
        with precision.fastest():
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
        by_row = scores.transpose(0, 1)
        if mmi:
            report["all"] = every = log_denominator(by_row, counts, self.targets.trigram).sum()
            criterion = (1 + CTC_WEIGHT) * ctc + every
        report["apart"] = apart = disagreement(by_row, counts)
        criterion = criterion + CONSISTENCY_WEIGHT * apart
        loss = torch.lerp(criterion, middle, INTERMEDIATE_WEIGHT) / sizes.sum()
        self.muon.zero_grad()
        self.adamw.zero_grad()
        loss.backward()
        distributed.average_gradients(self.network)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if torch.isfinite(norm):
            self.muon.step()
            self.adamw.step()
        self.average.update_parameters(self.network)
        return {name: float(value.detach() / sizes.sum()) for name, value in report.items()}

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
        save_model(folder, self.average.module.state_dict(), config)
        (folder / "tokens.json").write_text(json.dumps(TOKENS))


def disagreement(log_probs: Tensor, counts: Tensor) -> Tensor:
    """How far the views, the first and the second half of [2 B, T, V], are apart: the divergence
    of each from the other, which is held still, summed over frames."""
    other = log_probs.detach().roll(len(log_probs) // 2, dims=0)
    return masked(other.exp() * (other - log_probs), counts).sum()


def _follow(average: Tensor, now: Tensor, steps: Tensor) -> Tensor:
    decay = min(AVERAGE_DECAY, float(steps) / (float(steps) + 10))
    return torch.lerp(average, now, 1 - decay)


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
    network = trainer.average.module.eval()
    heard = []
    for waveform, _ in sample:
        features, counts = trainer.fbank(waveform[None], torch.tensor([len(waveform)]))
        best = network(features, counts)[0][0].argmax(dim=-1).unique_consecutive()
        heard.append(" ".join(TOKENS[token] for token in best.tolist() if token))
    return float(jiwer.wer([said for _, said in sample], heard))


def initial(options: argparse.Namespace) -> CtcNetwork:
    """With the weights that `--initial` names (the last layer only if it is of these tokens); else
    from nothing."""
    network = CtcNetwork(
        NetworkOptions(len(TOKENS), blocks=options.blocks, dropout=options.dropout)
    )
    if options.initial:
        weights = safetensors.torch.load_file(options.initial / "model.safetensors")
        fits = weights["head.bias"].shape == network.head.bias.shape
        kept = {k: v.float() for k, v in weights.items() if fits or not k.startswith("head.")}
        network.load_state_dict(kept, strict=False)
    return network


def train(options: argparse.Namespace) -> None:
    """Runs in every worker."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    files = sorted(options.synthetic.glob("*.pcm"))
    files += [folder / "recorded.pcm" for folder in (options.out / "cache", *options.more)]
    sample = held_out_sample(options.data, 25) if distributed.first() else []
    targets = Targets([item.text for item in read_items(files)], options.seed)
    trainer = Trainer(initial(options), targets, options.strength)

    def export() -> dict[str, float]:
        trainer.export(options.out / "model")
        return {"held_out_per": phone_error_rate(trainer, sample)}

    parts = {name: getattr(trainer, name) for name in ("network", "average", "muon", "adamw")}
    run = Run(options.out, options.hours * 3600, parts, export, REPORT_STEPS)
    seed = 1000 * (options.seed + run.step) + distributed.rank()  # resumed: new batches
    torch.manual_seed(seed)
    noise = options.data / "noise-esc10"
    batches = Batches(files, noise, options.batch_seconds / 2, options.synthetic_share, seed)
    stream = iter(DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=16))
    if run.step == 0 and not options.initial:
        trainer.fit_normalisation([next(stream) for _ in range(10)])
    for done in run.steps():
        rate = options.rate * warm_cosine(run.step, done, WARMUP_STEPS)
        set_rate(trainer.muon, rate)
        set_rate(trainer.adamw, rate)
        features, counts, texts = next(stream)
        run.note(**trainer.step(features, counts, texts, done >= options.ctc_share), rate=rate)
        run.note(audio_seconds=float(counts.sum()) / 100)


def main() -> None:
    parser = distributed.command_line(__doc__.splitlines()[0] if __doc__ else "")
    path = distributed.absolute
    parser.add_argument("--synthetic", type=path, required=True, help="from training.synthesis")
    parser.add_argument(
        "--more", type=path, nargs="*", default=[], help="from training.pseudo_labels"
    )
    parser.add_argument("--initial", type=path, help="a model folder to begin with")
    parser.add_argument("--hours", type=float, default=2.0, help="wall clock of the training")
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help="the highest learning rate")
    parser.add_argument(
        "--ctc-share", type=float, default=0.12, help="of the training, before MMI takes over"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--dropout", type=float, default=0.0, help="0 suits under ten epochs")
    parser.add_argument(
        "--strength", type=float, default=1.0, help="of masks and stretches; 0: none"
    )
    parser.add_argument("--batch-seconds", type=float, default=150.0, help="of both views")
    parser.add_argument("--synthetic-share", type=float, default=0.7, help="hours per real hour")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cache_recorded(options.data, options.out / "cache")  # which all workers read
    distributed.launch(train, options, options.workers, options.address, options.out)


if __name__ == "__main__":
    main()
