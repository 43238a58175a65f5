"""The words that the language model is estimated from, as a recogniser would hear them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from training.asr_data import RECORDED, held_in, spoken
from training.punctuation_text import PERIOD, QUESTION, Labelled, Part, add_turn, documents, part
from training.splits import Utterance, is_held_out, read_manifest
from training.synthesis import SPELLED

_PHRASE = 7  # words in a row, and how many such rows betray a meeting of the test set
_PHRASES_SHARED = 3

Phrase = tuple[str, ...]


def transcripts(data: Path, corpus: str, which: Part, seed: int) -> Iterator[list[str]]:
    """Pieces of "oral-arguments" or "meetings". Half of the sentence ends are not cut at, for
    a voice segment goes on over them too. Meetings of shared/data/meetings-ami are left out."""
    rng = random.Random(seed)
    tested = _tested_phrases(data)
    for document in part(documents(data, corpus), which):
        labelled = Labelled()
        turn_ends: set[int] = set()
        for turn in document:
            add_turn(labelled, turn)
            turn_ends.add(len(labelled.words))
        if len(_phrases(labelled.words) & tested) >= _PHRASES_SHARED:
            print(f"left out, is in meetings-ami: {' '.join(labelled.words[:12])} ...")
            continue
        piece: list[str] = []
        for index, word in enumerate(labelled.words, 1):
            piece += SPELLED.get(word, word).split()
            ended = labelled.marks[index - 1] in (PERIOD, QUESTION) and rng.random() < 0.5
            if ended or index in turn_ends:
                yield piece
                piece = []


def read_aloud(data: Path) -> Iterator[tuple[Utterance, list[str]]]:
    """Transcripts of the speech that the acoustic model is trained on, but nothing that a
    held-out speaker reads too."""
    tested = [*_held_out(data)]
    whole = {" ".join(words) for words in tested}
    phrases = set[Phrase]().union(*map(_phrases, tested))
    for utterance in held_in(data):
        words = spoken(utterance.text).split()
        if " ".join(words) not in whole and not phrases & _phrases(words):
            yield utterance, words


def books(folder: Path, data: Path) -> dict[str, list[list[str]]]:
    """The sentences of each file that `training.books` wrote, but none that shares a phrase
    with what a held-out speaker reads or the demo's people say."""
    demo = [words.split() for words in map(spoken, _demo_sentences()) if words]
    tested = set[Phrase]().union(*map(_phrases, [*_held_out(data), *demo]))
    found: dict[str, list[list[str]]] = {}
    for path in sorted(folder.glob("*.txt")):
        lines = [line.split() for line in path.read_text().splitlines()]
        found[path.stem] = [words for words in lines if not tested & _phrases(words)]
        print(f"{path.stem}: {len(lines) - len(found[path.stem])} sentences share a tested phrase")
    return found


def listed_counts(path: Path) -> dict[Phrase, int]:
    """How often a list of `training.books` has each word, or pair of words."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {tuple(words): int(count) for *words, count in rows}


def _held_out(data: Path) -> Iterator[list[str]]:
    for folder in (*RECORDED, "asr-en-kathleen"):
        for utterance in read_manifest(data / folder):
            if is_held_out(utterance.speaker, utterance.split):
                yield spoken(utterance.text).split()


def _demo_sentences() -> list[str]:
    return (Path(__file__).parents[1] / "demo" / "dialogue.txt").read_text().splitlines()


def _tested_phrases(data: Path) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for path in sorted((data / "meetings-ami").glob("*.words.jsonl")):
        said: dict[str, list[str]] = {}
        for row in map(json.loads, path.read_text().splitlines()):
            if not row["punctuation"]:
                said.setdefault(row["speaker"], []).append(row["word"].lower())
        for words in said.values():
            found |= _phrases(words)
    return found


def _phrases(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[n : n + _PHRASE]) for n in range(len(words) - _PHRASE + 1)}
