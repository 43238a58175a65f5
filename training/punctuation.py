"""Trains the bundled CT-Transformer: marks and case of English words, from transcripts.

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

from stages.models import save_model
from stages.punctuation.ct_transformer import CtTransformer, CtTransformerConfig
from stages.punctuation.vocabulary import Vocabulary, shape
from training import distributed
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
from training.run import Run, set_rate, warm_cosine

WINDOW = 128  # words
BATCH = 32
VOCABULARY = 16000
SUFFIX_BUCKETS = 1024
PEAK_RATE = 1.2e-3
WARM_UP_STEPS = 200
CASE_WEIGHT = 0.5
MEETING_SHARE = 0.25  # of the samples; meetings are an eighth of the words
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
)


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


def batch(streams: dict[str, Stream], seed: Sequence[int]) -> tuple[Tensor, ...]:
    """The batch of a step: the same whether or not the training was interrupted before it."""
    rng = np.random.default_rng(seed)
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


def train(options: argparse.Namespace) -> None:
    """Runs in every worker."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    texts = {name: documents(options.data, name) for name in CORPORA}
    labelled = {name: label(part(text, "train")) for name, text in texts.items()}
    vocabulary = build_vocabulary(list(labelled.values()))
    casing = casing_lexicon(list(labelled.values()))
    streams = {name: stream(text, vocabulary) for name, text in labelled.items()}
    tuning = {
        name: stream(label(part(text, "development")), vocabulary) for name, text in texts.items()
    }
    network = CtTransformer(replace(SIZES, vocab_size=len(vocabulary)))
    torch.nn.init.normal_(network.embed.weight, std=1 / network.encoder.scale)
    optimizer = torch.optim.AdamW(
        network.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )

    def export() -> dict[str, float]:
        write(options.out / "model", network, vocabulary, casing)
        return evaluate(network, tuning)

    parts = {"network": network, "optimizer": optimizer}
    run = Run(options.out, options.hours * 3600, parts, export)
    for done in run.steps():
        set_rate(optimizer, PEAK_RATE * warm_cosine(run.step, done, WARM_UP_STEPS))
        seed = (options.seed, distributed.rank(), run.step)
        loss = loss_of(network, batch(streams, seed))
        optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(network)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.note(loss=loss.item())
    if distributed.first():
        balance(network, list(tuning.values()))
        run.log({"balanced": 1} | export())


def write(folder: Path, network: CtTransformer, vocabulary: Vocabulary, casing: dict) -> None:
    """The model folder: config.yaml, model.safetensors, tokens.json, casing.json."""
    config = network.config.to_yaml()
    config["model_conf"] |= {"suffix_buckets": SUFFIX_BUCKETS, "window": WINDOW}
    save_model(folder, network.state_dict(), config)
    for name, content in (("tokens.json", list(vocabulary.tokens)), ("casing.json", casing)):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    path = distributed.absolute
    parser.add_argument("--data", type=path, required=True, help="the folder shared/data")
    parser.add_argument("--out", type=path, required=True)
    parser.add_argument("--hours", type=float, default=0.6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    distributed.add_arguments(parser)
    options = parser.parse_args()
    distributed.launch(train, options, options.workers, options.address, options.out)


if __name__ == "__main__":
    main()
