"""Trains the bundled CT-Transformer: marks and case of English words, from transcripts, and from
the pauses of those that have times. Words without times get pauses drawn as those of AMI's meetings
are before the same mark, or none.

    python -m training.punctuation --data ../shared/data --out DIR [--hours 0.6]

Interrupted, it goes on from DIR/checkpoint.pt; DIR/model is the model folder, DIR/log.jsonl and
DIR/curves.png show how it went.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from stages.models import locate, save_model
from stages.punctuation.ct_transformer import CtTransformer, CtTransformerConfig
from stages.punctuation.pauses import CLASSES, pause_classes, usual_ms
from stages.punctuation.vocabulary import Vocabulary, shape
from stages.punctuation.windows import read_windows
from training import distributed, precision
from training.punctuation_text import (
    CASES,
    CORPORA,
    MARKS,
    UNLABELLED,
    Labelled,
    misrecognise,
)
from training.punctuation_timed import Timed, transcripts
from training.run import Run, set_rate, warm_cosine

WINDOW = 128  # words
READINGS = 4  # of each word, in windows that overlap
BATCH = 32
VOCABULARY = 16000
SUFFIX_BUCKETS = 1024
PEAK_RATE = 1.2e-3
WARM_UP_STEPS = 200
CASE_WEIGHT = 0.5
SHARES = {"oral-arguments": 0.65, "meetings": 0.22, "AMI": 0.13}  # of the samples
UNTOLD_SHARE = 0.4  # of the samples have no times
DRAWN = 4096  # pauses of each mark
FORGOTTEN = 0.03  # known words shown as unknown ones, so that the shared rows are trained
NOISY_SHARE = 0.5  # of the samples get recognition errors:
SUBSTITUTED, DELETED = 0.08, 0.04
SIZES = CtTransformerConfig(
    vocab_size=0,
    punc_list=MARKS,
    case_list=CASES,
    embed_unit=128,
    output_size=256,
    attention_heads=4,
    linear_units=768,
    num_blocks=4,
    pause_classes=CLASSES,
)


@dataclass(frozen=True)
class Stream:
    """A corpus as arrays of equal length: rows and unknown-word rows of the vocabulary
    int64 [N], marks and cases int8 [N]; what each word usually takes, and the ms until the next
    one begins, int64 [N] (all 0: not known)."""

    rows: NDArray[np.int64]
    fallbacks: NDArray[np.int64]
    marks: NDArray[np.int8]
    cases: NDArray[np.int8]
    usual: NDArray[np.int64]
    intervals: NDArray[np.int64]

    @property
    def pauses(self) -> NDArray[np.int64]:
        """Classes of the pauses as they were, int64 [N]."""
        return pause_classes(self.intervals, self.usual)


def build_vocabulary(corpora: list[Labelled]) -> Vocabulary:
    """The most frequent words, digits as one; a tie goes to the alphabet."""
    counts = Counter(shape(word) for corpus in corpora for word in corpus.words)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return Vocabulary(ranked[:VOCABULARY], SUFFIX_BUCKETS)


def casing_lexicon(corpora: list[Labelled]) -> dict[str, str]:
    """Lower-case form to the usual written form of words with capitals inside:
    {"mcdonald": "McDonald"}. Once seen is too little."""
    counts = sum((corpus.written for corpus in corpora), Counter())
    best: dict[str, str] = {}
    for written, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        if count > 1:
            best[written.lower()] = written
    return dict(sorted(best.items()))


def stream(timed: Timed, vocabulary: Vocabulary) -> Stream:
    labelled = timed.text
    fallback = {word: vocabulary.fallback(word) for word in set(labelled.words)}
    return Stream(
        rows=vocabulary.rows(labelled.words),
        fallbacks=np.array([fallback[word] for word in labelled.words], np.int64),
        marks=np.array(labelled.marks, np.int8),
        cases=labelled.case_targets(),
        usual=usual_ms(labelled.words),
        intervals=np.array(timed.intervals, np.int64),
    )


def pauses_by_mark(timed: Stream, rng: np.random.Generator) -> NDArray[np.int64]:
    """ms that a word took longer than usual, before each mark, as it was in `timed`: int64
    [marks + 1, DRAWN]; the last row is for UNLABELLED."""
    longer = (timed.intervals - timed.usual)[timed.intervals > 0]
    marks = timed.marks[timed.intervals > 0]
    labels = (*range(len(MARKS)), UNLABELLED)
    return np.stack([rng.choice(longer[marks == label], DRAWN) for label in labels])


def sample(
    source: Stream, drawn: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], ...]:
    """WINDOW words from a random place: rows, classes of pauses, marks, cases. `drawn` are pauses
    by mark, for words that have no times."""
    span = WINDOW + WINDOW // 4  # what deletions may take
    at = int(rng.integers(len(source.rows) - span))
    here = slice(at, at + span)
    forgotten = rng.random(span) < FORGOTTEN
    rows = np.where(forgotten, source.fallbacks[here], source.rows[here])
    marks, cases = source.marks[here].astype(np.int64), source.cases[here].astype(np.int64)
    usual, intervals = source.usual[here], source.intervals[here]
    if rng.random() < UNTOLD_SHARE:
        intervals = np.zeros(span, np.int64)
    elif not intervals.any():
        intervals = (usual + drawn[marks, rng.integers(DRAWN, size=span)]).clip(min=1)
    if rng.random() < NOISY_SHARE:
        heard = misrecognise(marks, SUBSTITUTED, DELETED, rng)
        others = source.rows[rng.integers(len(source.rows), size=len(heard.kept))]
        rows = np.where(heard.replaced, others, rows[heard.kept])
        cases = np.where(heard.replaced, UNLABELLED, cases[heard.kept])
        marks = heard.marks
        usual, intervals = usual[heard.kept], heard.merged(intervals)
    pauses = pause_classes(intervals, usual)
    return rows[:WINDOW], pauses[:WINDOW], marks[:WINDOW], cases[:WINDOW]


def batch(
    streams: dict[str, Stream], drawn: NDArray[np.int64], seed: Sequence[int]
) -> tuple[Tensor, ...]:
    """The batch of a step: the same whether or not the training was interrupted before it."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(SHARES), BATCH, p=list(SHARES.values()))
    parts = zip(*(sample(streams[name], drawn, rng) for name in names), strict=True)
    return tuple(torch.from_numpy(np.stack(rows)) for rows in parts)


def loss_of(network: CtTransformer, examples: tuple[Tensor, ...]) -> Tensor:
    rows, pauses, marks, cases = examples
    # The math kernel's backward pass is three times as fast in bfloat16 on a CPU.
    with precision.fastest(), sdpa_kernel(SDPBackend.MATH):
        mark_logits, case_logits = network(rows, torch.full((len(rows),), rows.shape[1]), pauses)
    assert case_logits is not None
    mark_loss, case_loss = (
        F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED)
        for logits, labels in ((mark_logits, marks), (case_logits, cases))
    )
    return mark_loss + CASE_WEIGHT * case_loss


def predict(network: CtTransformer, source: Stream, readings: int = 1) -> tuple[Tensor, Tensor]:
    """Mean log-probabilities of the marks and cases of a whole stream [N, ...], each word read in
    so many windows."""
    network.eval()
    words = torch.from_numpy(np.stack([source.rows, source.pauses]))
    marks, cases = read_windows(network, words, WINDOW, readings, BATCH)
    network.train()
    assert cases is not None
    return marks, cases


def f1_scores(predicted: NDArray[np.int64], true: NDArray[np.int8]) -> dict[str, float]:
    """F1 of each mark, over the words that have a label."""
    predicted, true = predicted[true != UNLABELLED], true[true != UNLABELLED]
    scores = {}
    for index, mark in enumerate(MARKS[1:], start=1):
        hits = int(((predicted == index) & (true == index)).sum())
        scores[mark] = 2 * hits / max(1, int((predicted == index).sum() + (true == index).sum()))
    return scores


def evaluate(network: CtTransformer, sources: dict[str, Stream]) -> dict[str, float]:
    """F1 of each mark and accuracy of the case, by corpus."""
    scores = {}
    for name, source in sources.items():
        marks, cases = (logits.argmax(-1).numpy() for logits in predict(network, source))
        known = source.cases != UNLABELLED
        right = cases[known] == source.cases[known]
        rows = {**f1_scores(marks, source.marks), "case": float(right.mean())}
        scores |= {f"{name} {score}": value for score, value in rows.items()}
    return scores


def balance(network: CtTransformer, sources: Sequence[Stream]) -> None:
    """Moves the biases of the marks to where their F1 on unseen text is highest: the likeliest
    mark is not the one with the best F1 where a mark is rare. Every source counts the same,
    however long it is; a period counts double, because it also makes the sentences."""
    scores = [predict(network, source, READINGS)[0].numpy() for source in sources]
    pairs = [(one, source.marks) for one, source in zip(scores, sources, strict=True)]

    def worth(shift: NDArray[np.float32]) -> float:
        found = [f1_scores((one + shift).argmax(-1), true) for one, true in pairs]
        return sum(sum(score.values()) + score["."] for score in found)

    shift = np.zeros(len(MARKS), np.float32)
    for _ in range(2):
        for index in range(1, len(MARKS)):
            trials = np.repeat(shift[None], 21, axis=0)
            trials[:, index] = np.linspace(-1, 1, 21)
            shift = max(trials, key=worth)
    with torch.no_grad():
        network.decoder.bias += torch.from_numpy(shift)


def begin(initial: str | None, vocabulary: Vocabulary) -> CtTransformer:
    """A new network, or one with the weights of `initial` ("bundled/NAME", or a folder), which may
    not have read pauses yet. ValueError where that one has other words."""
    network = CtTransformer(replace(SIZES, vocab_size=len(vocabulary)))
    assert network.pause_embed is not None
    torch.nn.init.normal_(network.embed.weight, std=1 / network.encoder.scale)
    torch.nn.init.zeros_(network.pause_embed.weight)
    if initial is not None:
        folder = locate(initial, "stages.punctuation")
        if json.loads(folder.file("tokens.json").read_text()) != list(vocabulary.tokens):
            raise ValueError(f"{initial} was trained on other words")
        state = {name: value.float() for name, value in folder.state_dict().items()}
        network.load_state_dict(network.state_dict() | state)
    return network


def train(options: argparse.Namespace) -> None:
    """Runs in every worker."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    trained, tuning = (transcripts(options.data, name) for name in ("train", "development"))
    untimed = [trained[name].text for name in CORPORA]
    vocabulary = build_vocabulary(untimed)
    casing = casing_lexicon(untimed)
    streams = {name: stream(timed, vocabulary) for name, timed in trained.items()}
    unseen = {name: stream(timed, vocabulary) for name, timed in tuning.items()}
    drawn = pauses_by_mark(streams["AMI"], np.random.default_rng(options.seed))
    network = begin(options.initial, vocabulary)
    optimizer = torch.optim.AdamW(
        network.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )

    def export() -> dict[str, float]:
        write(options.out / "model", network, vocabulary, casing)
        return evaluate(network, unseen)

    parts = {"network": network, "optimizer": optimizer}
    run = Run(options.out, options.hours * 3600, parts, export)
    for done in run.steps():
        set_rate(optimizer, options.rate * warm_cosine(run.step, done, WARM_UP_STEPS))
        seed = (options.seed, distributed.rank(), run.step)
        loss = loss_of(network, batch(streams, drawn, seed))
        optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(network)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.note(loss=loss.item())
    if distributed.first():
        balance(network, list(unseen.values()))
        run.log({"balanced": 1} | export())


def write(folder: Path, network: CtTransformer, vocabulary: Vocabulary, casing: dict) -> None:
    """The model folder: config.yaml, model.safetensors, tokens.json, casing.json."""
    config = network.config.to_yaml()
    config["model_conf"] |= {
        "suffix_buckets": SUFFIX_BUCKETS,
        "window": WINDOW,
        "readings": READINGS,
    }
    save_model(folder, network.state_dict(), config)
    for name, content in (("tokens.json", list(vocabulary.tokens)), ("casing.json", casing)):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n")


def main() -> None:
    parser = distributed.command_line(__doc__)
    parser.add_argument("--hours", type=float, default=0.6)
    parser.add_argument("--initial", help="bundled/NAME or a folder to begin from")
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help="the highest")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    distributed.launch(train, options, options.workers, options.address, options.out)


if __name__ == "__main__":
    main()
