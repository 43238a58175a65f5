"""The words that the language model is estimated from, as a recogniser would hear them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from training.asr_data import RECORDED, held_in, spoken
from training.punctuation_text import PERIOD, QUESTION, Labelled, Part, add_turn, documents, part
from training.splits import is_held_out, read_manifest
from training.synthesis import SPELLED

_PHRASE = 7  # words in a row, and how many such rows betray a meeting of the test set
_PHRASES_SHARED = 3


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


def read_aloud(data: Path) -> Iterator[list[str]]:
    """Transcripts of the speech that the acoustic model is trained on, but no sentence that a
    held-out speaker reads too."""
    held_out = {
        spoken(utterance.text)
        for folder in (*RECORDED, "asr-en-kathleen")
        for utterance in read_manifest(data / folder)
        if is_held_out(utterance.speaker, utterance.split)
    }
    for utterance in held_in(data):
        if spoken(utterance.text) not in held_out:
            yield spoken(utterance.text).split()


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
