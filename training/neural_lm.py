"""Recipe of the recogniser's neural language model: pieces of words, of the texts that its
trigram is estimated from, and a recurrent network over them.

    python -m training.books --out BOOKS
    python -m training.neural_lm --data ../shared/data --books BOOKS --out DIR --hours 1.1

Interrupted, it goes on from DIR/checkpoint.pt; DIR/log.jsonl and DIR/curves.png show how it went:
the perplexity is that of a word, on what development speakers read and on meetings set aside.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from stages.asr.neural_lm import PIECES, SENTENCE, NeuralLm, NeuralLmSizes
from stages.models import save_model
from training import distributed, precision
from training.language_model import GROUPS, Pieces, pieces_of, without_development, written
from training.language_model_text import read_aloud
from training.run import Run, set_rate, warm_cosine

SIZES = NeuralLmSizes(pieces=4096, width=256, hidden=512, units=768, layers=4)
LENGTH, BATCH = 96, 64  # pieces, rows
RATE = 4e-3  # of matrices (Muon) and of the rest (AdamW)
WARM_UP = 200  # steps
DROPOUT = 0.1
REPORT_STEPS = 100
EVERY_ARGUMENT = 6  # line of oral arguments that pieces are chosen by: they are half of the text
LONGEST = 3000  # characters at once that pieces are chosen by
SHARES = {  # of what a batch is drawn from
    "oral-arguments": 0.24,
    "meetings": 0.17,
    "holmes-war-and-peace": 0.12,
    "austen": 0.08,
    "nine-books": 0.08,
    "spurgeon": 0.06,
    "aloud": 0.05,
    "bible": 0.04,
    "moby-dick": 0.04,
    "state-of-the-union": 0.04,
    "wordnet": 0.04,
    "american-history": 0.03,
    "war-of-the-worlds": 0.01,
}

Row = NDArray[np.uint16]


def gather(data: Path, folder: Path, seed: int) -> tuple[dict[str, Pieces], dict[str, Pieces]]:
    """What is trained on, by text, and what is set aside, by group."""
    aloud = list(read_aloud(data))
    texts = written(data, folder, seed) | {"aloud": without_development(aloud)}
    return texts, {group: pieces_of(group, data, aloud, seed) for group in GROUPS}


def choose_pieces(texts: Mapping[str, Pieces], path: Path) -> SentencePieceProcessor:
    """Byte-pair encoding: Sennrich et al. (2016)."""

    def lines() -> Iterator[str]:
        for name, said in texts.items():
            for words in said[:: EVERY_ARGUMENT if name == "oral-arguments" else 1]:
                line = " ".join(words)
                yield from (line[at : at + LONGEST] for at in range(0, len(line), LONGEST))

    SentencePieceTrainer.train(
        sentence_iterator=lines(),
        model_prefix=str(path.with_suffix("")),
        vocab_size=SIZES.pieces,
        model_type="bpe",
        character_coverage=1.0,
        unk_id=0,
        bos_id=SENTENCE,
        eos_id=-1,
        pad_id=-1,
        max_sentence_length=LONGEST + 1000,
        minloglevel=2,
    )
    path.with_suffix(".vocab").unlink()  # the same, to read
    return SentencePieceProcessor(model_file=str(path))


def rows_of(texts: Mapping[str, Pieces], pieces: SentencePieceProcessor) -> dict[str, Row]:
    """Each text as one row of pieces, SENTENCE before each of its parts."""
    rows = {}
    for name, said in texts.items():
        parts = pieces.encode([" ".join(words) for words in said])
        rows[name] = np.array([p for part in parts for p in (SENTENCE, *part)], np.uint16)
    return rows


class Batches:
    """Rows that begin with a sentence, of texts drawn by SHARES."""

    def __init__(self, rows: Mapping[str, Row], seed: Sequence[int]) -> None:
        self._rng = np.random.default_rng(seed)
        self._rows = rows
        self._starts = {
            name: np.flatnonzero(row[: -LENGTH - 1] == SENTENCE) for name, row in rows.items()
        }
        shares = np.array([SHARES[name] for name in rows])
        self._shares = shares / shares.sum()

    def draw(self) -> Tensor:
        """Pieces int64 [BATCH, LENGTH + 1]."""
        names = self._rng.choice(list(self._rows), BATCH, p=self._shares)
        starts = [self._rng.choice(self._starts[name]) for name in names]
        drawn = [
            self._rows[name][at : at + LENGTH + 1] for name, at in zip(names, starts, strict=True)
        ]
        return torch.from_numpy(np.stack(drawn).astype(np.int64))


@torch.inference_mode()
def perplexity(network: NeuralLm, pieces: SentencePieceProcessor, said: Pieces) -> float:
    """Of a word, or the end of a sentence, in each of the sentences by itself."""
    lost, words = 0.0, 0
    for first in range(0, len(said), BATCH):
        part = said[first : first + BATCH]
        rows = [[SENTENCE, *row, SENTENCE] for row in pieces.encode([" ".join(s) for s in part])]
        padded = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, -100)
        known = padded[:, :-1].clamp(min=0)
        logits, _ = network(known, network.nothing(len(rows)))
        lost += float(cross_entropy(logits.flatten(0, 1), padded[:, 1:].flatten(), reduction="sum"))
        words += sum(len(s) + 1 for s in part)
    return math.exp(lost / words)


def begin() -> NeuralLm:
    """Random weights; what layers add is small at first (Radford et al., GPT-2, 2019)."""
    network = NeuralLm(SIZES, DROPOUT)
    nn.init.normal_(network.embedding.weight, std=0.02)
    for layer in network.layers:
        nn.init.zeros_(layer.taps)
        nn.init.ones_(layer.taps[-1])  # the piece itself
        # From a memory of many pieces to one of a single piece.
        layer.forget.data = torch.linspace(-3, 2, SIZES.hidden)
        for added in (layer.back, layer.down):
            added.weight.data /= math.sqrt(2 * SIZES.layers)
    return network


def train(options: argparse.Namespace) -> None:
    """Runs in every worker."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    texts, unseen = gather(options.data, options.books, options.seed)
    model = options.out / "model"
    if distributed.first() and not (model / PIECES).exists():
        model.mkdir(parents=True, exist_ok=True)
        choose_pieces(texts, model / PIECES)
    distributed.agree(0)  # nobody reads them before they are written
    pieces = SentencePieceProcessor(model_file=str(model / PIECES))
    rows = rows_of(texts, pieces)
    del texts
    network = begin()
    matrices = [part.weight for part in network.modules() if isinstance(part, nn.Linear)]
    chosen = {id(matrix) for matrix in matrices}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01)

    def export() -> dict[str, float]:
        save_model(model, network.state_dict(), {"model": "NeuralLm", "sizes": asdict(SIZES)})
        network.eval()
        scores = {group: perplexity(network, pieces, said) for group, said in unseen.items()}
        network.train()
        return scores

    parts = {"network": network, "muon": muon, "adam": adam}
    run = Run(options.out, options.hours * 3600, parts, export, REPORT_STEPS)
    batches = Batches(rows, (options.seed, distributed.rank(), run.step))
    for done in run.steps():
        for optimizer in (muon, adam):
            set_rate(optimizer, RATE * warm_cosine(run.step, done, WARM_UP))
            optimizer.zero_grad()
        drawn = batches.draw()
        with precision.fastest():
            logits, _ = network(drawn[:, :-1], network.nothing(len(drawn)))
        loss = cross_entropy(logits.float().flatten(0, 1), drawn[:, 1:].flatten())
        loss.backward()
        distributed.average_gradients(network)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        muon.step()
        adam.step()
        run.note(loss=loss.item())


def main() -> None:
    parser = distributed.command_line(__doc__)
    parser.add_argument(
        "--books", type=distributed.absolute, required=True, help="what training.books wrote"
    )
    parser.add_argument("--hours", type=float, default=1.1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    distributed.launch(train, options, options.workers, options.address, options.out)


if __name__ == "__main__":
    main()
