"""Trains the bundled CT-Transformer: marks and case of English words, from transcripts.

    python -m training.punctuation --data ../shared/data --out DIR [--hours 0.6]

Resumes from DIR/checkpoint.pt; writes the model folder to DIR/model, a log to DIR/log.jsonl.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from stages.models import save_model
from stages.punctuation.ct_transformer import CtTransformer, CtTransformerConfig
from stages.punctuation.vocabulary import Vocabulary, shape
from training.punctuation_text import (
    CASES,
    CORPORA,
    MARKS,
    UNLABELLED,
    Labelled,
    documents,
    label,
    misrecognise,
    part,
)

WINDOW = 128  # words
BATCH = 32
VOCABULARY = 16000
SUFFIX_BUCKETS = 1024
PEAK_RATE = 1.5e-3
WARM_UP_STEPS = 200
CASE_WEIGHT = 0.5
MEETING_SHARE = 0.25  # of the samples; meetings are an eighth of the words
FORGOTTEN = 0.03  # known words shown as unknown ones, so that the shared rows are trained
NOISY_SHARE = 0.5  # of the samples get recognition errors:
SUBSTITUTED, DELETED = 0.08, 0.04
SECONDS_A_REPORT = 300


@dataclass(frozen=True)
class Stream:
    """A corpus as arrays of equal length: rows and unknown-word rows of the vocabulary
    int64 [N], marks and cases int8 [N]."""

    rows: NDArray[np.int64]
    fallbacks: NDArray[np.int64]
    marks: NDArray[np.int8]
    cases: NDArray[np.int8]


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


def stream(labelled: Labelled, vocabulary: Vocabulary) -> Stream:
    fallback = {word: vocabulary.fallback(word) for word in set(labelled.words)}
    return Stream(
        rows=vocabulary.rows(labelled.words),
        fallbacks=np.array([fallback[word] for word in labelled.words], np.int64),
        marks=np.array(labelled.marks, np.int8),
        cases=labelled.case_targets(),
    )


def sample(source: Stream, rng: np.random.Generator) -> tuple[NDArray[np.int64], ...]:
    """WINDOW words from a random place: rows, marks, cases."""
    span = WINDOW + WINDOW // 4  # what deletions may take
    at = int(rng.integers(len(source.rows) - span))
    here = slice(at, at + span)
    forgotten = rng.random(span) < FORGOTTEN
    rows = np.where(forgotten, source.fallbacks[here], source.rows[here])
    marks, cases = source.marks[here].astype(np.int64), source.cases[here].astype(np.int64)
    if rng.random() < NOISY_SHARE:
        heard = misrecognise(marks, SUBSTITUTED, DELETED, rng)
        others = source.rows[rng.integers(len(source.rows), size=len(heard.kept))]
        rows = np.where(heard.replaced, others, rows[heard.kept])
        cases = np.where(heard.replaced, UNLABELLED, cases[heard.kept])
        marks = heard.marks
    return rows[:WINDOW], marks[:WINDOW], cases[:WINDOW]


def batch(streams: dict[str, Stream], seed: int, step: int) -> tuple[Tensor, ...]:
    """The batch of a step: the same whether or not the training was interrupted before it."""
    rng = np.random.default_rng([seed, step])
    names = ["meetings" if rng.random() < MEETING_SHARE else "oral-arguments" for _ in range(BATCH)]
    parts = zip(*(sample(streams[name], rng) for name in names), strict=True)
    return tuple(torch.from_numpy(np.stack(rows)) for rows in parts)


def loss_of(network: CtTransformer, examples: tuple[Tensor, ...]) -> Tensor:
    rows, marks, cases = examples
    # The math kernel's backward pass is three times as fast in bfloat16 on a CPU.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        mark_logits, case_logits = network(rows, torch.full((len(rows),), rows.shape[1]))
    assert case_logits is not None
    mark_loss, case_loss = (
        F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED)
        for logits, labels in ((mark_logits, marks), (case_logits, cases))
    )
    return mark_loss + CASE_WEIGHT * case_loss


def predict(network: CtTransformer, source: Stream) -> tuple[Tensor, Tensor]:
    """Logits of the marks and cases of a whole stream [N, ...], windows without overlap."""
    network.eval()
    count = len(source.rows) // WINDOW
    windows = torch.from_numpy(source.rows[: count * WINDOW]).view(count, WINDOW)
    with torch.inference_mode():
        pairs = [network(rows, torch.full((len(rows),), WINDOW)) for rows in windows.split(BATCH)]
    network.train()
    return tuple(torch.cat(logits).flatten(0, 1) for logits in zip(*pairs, strict=True))


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
        known = source.cases[: len(cases)] != UNLABELLED
        right = cases[known] == source.cases[: len(cases)][known]
        rows = {**f1_scores(marks, source.marks[: len(marks)]), "case": float(right.mean())}
        scores |= {f"{name} {score}": value for score, value in rows.items()}
    return scores


def report(row: dict[str, float], log: TextIO) -> None:
    """One row to the log and to standard output."""
    print(json.dumps(row), file=log, flush=True)
    print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def balance(network: CtTransformer, sources: Sequence[Stream]) -> None:
    """Moves the biases of the marks to where their F1 on unseen text is highest: the likeliest
    mark is not the one with the best F1 where a mark is rare. Every source counts the same,
    however long it is; a period counts double, because it also makes the sentences."""
    logits = [predict(network, source)[0].numpy() for source in sources]
    pairs = [(one, source.marks[: len(one)]) for one, source in zip(logits, sources, strict=True)]

    def worth(shift: NDArray[np.float32]) -> float:
        scores = [f1_scores((one + shift).argmax(-1), true) for one, true in pairs]
        return sum(sum(score.values()) + score["."] for score in scores)

    shift = np.zeros(len(MARKS), np.float32)
    for _ in range(2):
        for index in range(1, len(MARKS)):
            trials = np.repeat(shift[None], 21, axis=0)
            trials[:, index] = np.linspace(-1, 1, 21)
            shift = max(trials, key=worth)
    with torch.no_grad():
        network.decoder.bias += torch.from_numpy(shift)


@dataclass
class Progress:
    """What a run has done; `seconds` counts over interruptions."""

    step: int = 0
    seconds: float = 0.0


def train(
    network: CtTransformer, streams: dict[str, Stream], out: Path, hours: float, seed: int
) -> Iterator[dict[str, float]]:
    """Trains for `hours` of wall time, rate by the share of it that has gone; every few minutes
    it leaves a checkpoint and yields a row for the log."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    progress, checkpoint = Progress(), out / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        progress = Progress(state["step"], state["seconds"])
    budget, losses = hours * 3600, []
    while progress.seconds < budget:
        began = time.monotonic()
        reported = progress.seconds
        while progress.seconds < min(budget, reported + SECONDS_A_REPORT):
            gone = progress.seconds / budget
            rate = PEAK_RATE * 0.5 * (1 + math.cos(math.pi * gone))
            optimizer.param_groups[0]["lr"] = rate * min(1, (progress.step + 1) / WARM_UP_STEPS)
            loss = loss_of(network, batch(streams, seed, progress.step))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            progress.step += 1
            progress.seconds = reported + time.monotonic() - began
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, **vars(progress)}, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").replace(checkpoint)
        yield {**vars(progress), "loss": sum(losses) / len(losses)}
        losses = []


def write(folder: Path, network: CtTransformer, vocabulary: Vocabulary, casing: dict) -> None:
    """The model folder: config.yaml, model.safetensors, tokens.json, casing.json."""
    config = network.config.to_yaml()
    config["model_conf"] |= {"suffix_buckets": SUFFIX_BUCKETS, "window": WINDOW}
    save_model(folder, network.state_dict(), config)
    for name, content in (("tokens.json", list(vocabulary.tokens)), ("casing.json", casing)):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder shared/data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=0.6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    texts = {name: documents(arguments.data, name) for name in CORPORA}
    labelled = {name: label(part(text, "train")) for name, text in texts.items()}
    vocabulary = build_vocabulary(list(labelled.values()))
    casing = casing_lexicon(list(labelled.values()))
    streams = {name: stream(text, vocabulary) for name, text in labelled.items()}
    tuning = {
        name: stream(label(part(text, "development")), vocabulary) for name, text in texts.items()
    }
    network = CtTransformer(
        CtTransformerConfig(
            vocab_size=len(vocabulary),
            punc_list=MARKS,
            case_list=CASES,
            embed_unit=128,
            output_size=192,
            attention_heads=3,
            linear_units=512,
            num_blocks=4,
        )
    )
    torch.nn.init.normal_(network.embed.weight, std=1 / network.encoder.scale)
    with (arguments.out / "log.jsonl").open("a") as log:
        for row in train(network, streams, arguments.out, arguments.hours, arguments.seed):
            report(row | evaluate(network, tuning), log)
        balance(network, list(tuning.values()))
        report({"balanced": 1} | evaluate(network, tuning), log)
    write(arguments.out / "model", network, vocabulary, casing)


if __name__ == "__main__":
    main()
