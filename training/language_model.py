"""Recipe of the recogniser's language model: a word trigram from transcripts of court
arguments and meetings, and the transcripts of the training speech.

Source: Chen and Goodman, An empirical study of smoothing techniques (1999), section 3: modified
Kneser-Ney, interpolated. N-grams that the shorter history foretells nearly as well are dropped.

    python -m training.language_model --data ../shared/data --out DIR
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file

from stages.asr.ngram import BEGIN, END, UNKNOWN, NgramModel
from training.language_model_text import read_aloud, transcripts

SPECIAL = ("<unk>", "<s>", "</s>")
VOCABULARY = 40_000
SEEN = 3  # times in the transcripts to be a word; once in the training speech
MEETINGS = 3  # times that meetings count: what Hansard hears, and a tenth of the text
BIGRAM_GAIN, TRIGRAM_GAIN = 3.0, 5.0  # nats over all its occurrences that an n-gram must earn

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def vocabulary(pieces: Sequence[list[str]], aloud: Sequence[list[str]]) -> list[str]:
    """The most frequent words of a-z and apostrophe; single letters too, for initials."""
    counts = Counter(word for piece in pieces for word in piece)
    spoken = {word for piece in aloud for word in piece}
    letters = set("abcdefghijklmnopqrstuvwxyz'")
    known = [
        word
        for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if count >= SEEN and set(word) <= letters and word.strip("'")
    ]
    return [*SPECIAL, *sorted(set(known[:VOCABULARY]) | spoken)]


def encode(pieces: Sequence[list[str]], words: Sequence[str]) -> Ints:
    """All pieces as one row of ids, each between BEGIN and END."""
    ids = {word: index for index, word in enumerate(words)}
    row: list[int] = []
    for piece in filter(None, pieces):
        row += (BEGIN, *(ids.get(word, UNKNOWN) for word in piece), END)
    return np.array(row, np.int64)


def discounts(counts: Ints) -> Floats:
    """What is taken from each count: float64 like `counts` (Chen and Goodman's D1, D2, D3+)."""
    n = [max(1, int((counts == times).sum())) for times in (1, 2, 3, 4)]
    share = n[0] / (n[0] + 2 * n[1])
    # Bounded, for text that counts several times makes some counts rarer than their neighbours.
    by_count = [min(k - 0.05, max(0.3, k - (k + 1) * share * n[k] / n[k - 1])) for k in (1, 2, 3)]
    taken: Floats = np.array([0.0, *by_count])[np.minimum(counts, 3)]
    return taken


def interpolate(counts: Ints, history: Ints, lower: Floats) -> Floats:
    """Probabilities of n-grams from their counts, the number of their history and the
    probabilities of their shorter forms: each array [N]."""
    taken = discounts(counts)
    total = np.bincount(history, counts)
    freed = np.bincount(history, taken) / np.maximum(total, 1)
    probabilities: Floats = (counts - taken) / total[history] + freed[history] * lower
    return probabilities


def back_off(size: int, history: Ints, kept: Floats, lower: Floats) -> Floats:
    """log back-off weights [size]: what the kept n-grams of a history leave over, shared out
    among the words that they do not name."""
    left = 1 - np.bincount(history, kept, size)
    unnamed = 1 - np.bincount(history, lower, size)
    weights: Floats = np.log(np.maximum(left, 1e-9) / np.maximum(unnamed, 1e-9))
    return weights


def estimate(row: Ints, words: Sequence[str]) -> NgramModel:
    """The pruned trigram model of a row of ids."""
    size = len(words)
    first, second, third = row[:-2], row[1:-1], row[2:]
    pairs, pair_counts = np.unique(
        row[:-1][row[:-1] != END] * size + row[1:][row[:-1] != END], return_counts=True
    )
    inside = (first != END) & (second != END)
    pair = np.searchsorted(pairs, first[inside] * size + second[inside])
    triples, triple_counts = np.unique(pair * size + third[inside], return_counts=True)

    # Shorter n-grams count in how many contexts they stand, but for those at a beginning.
    tails = np.searchsorted(pairs, pairs[triples // size] % size * size + triples % size)
    contexts = np.bincount(tails, minlength=len(pairs))
    contexts = np.where(pairs // size == BEGIN, pair_counts, np.maximum(contexts, 1))
    singles = np.bincount(pairs % size, minlength=size)
    taken = discounts(singles)
    unigram = (singles - taken) / singles.sum()
    unigram += taken.sum() / singles.sum() / (size - 1)  # nothing is followed by BEGIN
    unigram[BEGIN] = 1e-10

    bigram = interpolate(contexts, pairs // size, unigram[pairs % size])
    trigram = interpolate(triple_counts, triples // size, bigram[tails])
    gain = triple_counts * (np.log(trigram) - np.log(bigram[tails]))
    chosen = gain > TRIGRAM_GAIN
    gain = pair_counts * (np.log(bigram) - np.log(unigram[pairs % size]))
    keep = gain > BIGRAM_GAIN
    keep[triples[chosen] // size] = True  # their histories
    keep[tails[chosen]] = True  # and what they back off to

    number = np.cumsum(keep) - 1
    pairs, bigram = pairs[keep], bigram[keep]
    histories = number[triples[chosen] // size]
    backed = number[tails[chosen]]
    after_word = back_off(size, pairs // size, bigram, unigram[pairs % size])
    after_pair = back_off(len(pairs), histories, trigram[chosen], bigram[backed])
    return NgramModel(
        tuple(words),
        np.log(unigram).astype(np.float32),
        pairs,
        np.log(bigram).astype(np.float32),
        histories * size + triples[chosen] % size,
        np.log(trigram[chosen]).astype(np.float32),
        np.concatenate([after_word, after_pair]).astype(np.float32),
    )


def perplexity(model: NgramModel, row: Ints) -> tuple[float, float]:
    """Of the known words and END in a row of pieces; and the share of unknown words."""
    history = np.array([BEGIN])
    scores: list[float] = []
    unknown = 0
    for word in row.tolist():
        if word == BEGIN:
            history = np.array([BEGIN])
            continue
        score, history = model.score(history, np.array([word]))
        unknown += word == UNKNOWN
        if word != UNKNOWN:
            scores.append(float(score[0]))
    return float(np.exp(-np.mean(scores))), unknown / (len(scores) + unknown)


def save(model: NgramModel, folder: Path) -> None:
    """The folder that `NgramModel.read` reads: successors as counts, scores as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    size = len(model.words)
    arrays = {
        "unigram_scores": model.unigram_scores.astype(np.float16),
        "bigram_counts": np.bincount(model.bigrams // size, minlength=size).astype(np.uint32),
        "bigram_words": (model.bigrams % size).astype(np.uint16),
        "bigram_scores": model.bigram_scores.astype(np.float16),
        "trigram_counts": np.bincount(model.trigrams // size, minlength=len(model.bigrams)).astype(
            np.uint16
        ),
        "trigram_words": (model.trigrams % size).astype(np.uint16),
        "trigram_scores": model.trigram_scores.astype(np.float16),
        "backoffs": model.backoffs.astype(np.float16),
    }
    save_file(arrays, folder / "model.safetensors")
    (folder / "words.json").write_text(json.dumps(model.words, separators=(",", ":")))
    config = {"model": "NgramModel", "language": "en", "order": 3}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def write_arpa(model: NgramModel, path: Path) -> None:
    """The same in the ARPA format, for other tools."""
    size, ten = len(model.words), np.log(10)
    pairs = [f"{model.words[p // size]} {model.words[p % size]}" for p in model.bigrams.tolist()]
    backoffs = (model.backoffs / ten).tolist()
    with path.open("w") as out:
        sizes = (size, len(pairs), len(model.trigrams))
        out.write("\\data\\\n" + "".join(f"ngram {n}={s}\n" for n, s in enumerate(sizes, 1)))
        out.write("\n\\1-grams:\n")
        scores = (model.unigram_scores / ten).tolist()
        for text, score, backoff in zip(model.words, scores, backoffs[:size], strict=True):
            out.write(f"{score:.4f}\t{text}\t{backoff:.4f}\n")
        out.write("\n\\2-grams:\n")
        scores = (model.bigram_scores / ten).tolist()
        for text, score, backoff in zip(pairs, scores, backoffs[size:], strict=True):
            out.write(f"{score:.4f}\t{text}\t{backoff:.4f}\n")
        out.write("\n\\3-grams:\n")
        scores = (model.trigram_scores / ten).tolist()
        for key, score in zip(model.trigrams.tolist(), scores, strict=True):
            out.write(f"{score:.4f}\t{pairs[key // size]} {model.words[key % size]}\n")
        out.write("\n\\end\\\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="shared/data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    corpora = ("meetings", "oral-arguments")
    meetings, court = (list(transcripts(options.data, c, "train", options.seed)) for c in corpora)
    aloud = list(read_aloud(options.data))
    words = vocabulary(meetings + court, aloud)
    row = encode([*(meetings * MEETINGS), *court, *aloud], words)
    print(f"{len(row)} words and ends, vocabulary {len(words)}")
    model = estimate(row, words)
    print(f"{len(model.bigrams)} bigrams, {len(model.trigrams)} trigrams")
    save(model, options.out / "model")
    write_arpa(model, options.out / "model.arpa")
    for corpus in corpora:
        held_out = list(transcripts(options.data, corpus, "held-out", options.seed))
        score, unknown = perplexity(model, encode(held_out, words)[:50_000])
        print(f"{corpus}, held out: perplexity {score:.1f}, unknown words {unknown:.2%}")


if __name__ == "__main__":
    main()
