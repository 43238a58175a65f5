"""Transcripts of shared/data/text-en to words with labels, as a recogniser would have heard
them: lower case, numbers spelled, no marks. Cases and meetings are held out whole.

Marks: colon counts as comma; semicolon and exclamation mark as period; a dash inside a turn as
comma; a turn or phrase that was broken off has no label (its true mark was never spoken).
"""

from __future__ import annotations

import lzma
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MARKS = ("_", ",", ".", "?")
CASES = ("lower", "Capitalised", "UPPER")
NONE, COMMA, PERIOD, QUESTION = range(4)
LOWER, CAPITALISED, UPPER = range(3)
UNLABELLED = -1
CORPORA = {"oral-arguments": "oral-arguments.txt.xz", "meetings": "qmsum-train.txt.xz"}
Part = Literal["train", "development", "held-out"]

_QUOTES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": " ", "\u201d": " ", '"': " "})
_BROKEN_OFF = re.compile(
    r"\{(?:disfmarker|gap)\}|[(\[](?:inaudible|voice overlap)[^)\]]*[)\]]", re.IGNORECASE
)
_NOISE = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\((?:laughter|laughs|ph|\.)[^)]*\)", re.I)
_DASHES = re.compile(r"-{2,}|[\u2013\u2014\u2026]|\.{3,}")
_CLITIC = re.compile(r"(?<=\w) ('(?:s|re|ve|ll|m|d|t)|n't)\b")
_TOKEN = re.compile(
    r"(?P<number>\$?\d+(?:,\d{3})*(?:\.\d+)?(?:st|nd|rd|th|d|%)?(?![A-Za-z\d]))"
    r"|(?P<initials>(?:[A-Za-z]\.){2,})"
    r"|(?P<word>[A-Za-z0-9]+(?:['&][A-Za-z0-9]+)*)"
    r"|(?P<mark>--|~|[,.?!;:](?!\d))"
)
_ABBREVIATIONS = frozenset("mr mrs ms dr v vs inc co corp jr sr al st messrs".split())  # noqa: SIM905
_SPOKEN = {"mr": "mister", "dr": "doctor", "v": "versus", "vs": "versus"}
_ONES = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth"}
_ORDINALS |= {"eight": "eighth", "nine": "ninth", "twelve": "twelfth"}


@dataclass
class Labelled:
    """Words in lower case with the mark that follows each and the case it was written in:
    indices into MARKS and CASES, or UNLABELLED. `written` counts forms such as McDonald."""

    words: list[str] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    cases: list[int] = field(default_factory=list)
    written: Counter[str] = field(default_factory=Counter)

    def add(self, text: str, case: int) -> None:
        self.words.append(text)
        self.marks.append(NONE)
        self.cases.append(case)

    def case_targets(self) -> NDArray[np.int8]:
        """`cases` without the capitals that a sentence's beginning explains: int8 [N]."""
        cases, marks = np.array(self.cases, np.int8), np.array(self.marks, np.int8)
        first = np.ones(len(cases), bool)
        first[1:] = (marks[:-1] != NONE) & (marks[:-1] != COMMA)
        first &= ~np.array([is_i(word) for word in self.words], bool)
        cases[first & (cases == CAPITALISED)] = UNLABELLED
        return cases


def documents(data: Path, corpus: str) -> list[list[str]]:
    """Every case or meeting of a corpus as its turns, speakers' names left out."""
    with lzma.open(data / "text-en" / CORPORA[corpus], "rt", encoding="utf-8") as stream:
        blocks = stream.read().split("\n\n")
    cut = [[line.partition("\t")[2] for line in block.splitlines()] for block in blocks]
    return [turns for turns in cut if turns]


def part(documents: Sequence[list[str]], name: Part) -> Sequence[list[str]]:
    """The last 5 % of the documents are held out, the 1 % before them is for tuning."""
    tuning, test = int(len(documents) * 0.94), int(len(documents) * 0.95)
    bounds = {"train": (0, tuning), "development": (tuning, test), "held-out": (test, None)}
    return documents[slice(*bounds[name])]


def label(documents: Sequence[list[str]]) -> Labelled:
    """All turns one after the other."""
    labelled = Labelled()
    for turns in documents:
        for turn in turns:
            add_turn(labelled, turn)
    return labelled


def add_turn(labelled: Labelled, turn: str) -> None:
    """Appends one turn; what follows its last word is unlabelled unless a mark ended it."""
    start = len(labelled.words)
    for match in _TOKEN.finditer(_clean(turn)):
        kind, text = match.lastgroup, match.group()
        if kind == "mark":
            if len(labelled.words) > start:
                _mark(labelled, text, match.string[match.end() :].lstrip()[:1])
        elif kind == "number":
            for word in spell(text):
                labelled.add(word, LOWER)
        elif kind == "initials":
            for letter in text.replace(".", ""):
                labelled.add(letter.lower(), CAPITALISED if letter.isupper() else LOWER)
            labelled.marks[-1] = UNLABELLED  # its last point may also end the sentence
        else:
            _word(labelled, text, abbreviated=match.string[match.end() :].startswith("."))
    if len(labelled.words) > start and _ends_broken(labelled, turn):
        labelled.marks[-1] = UNLABELLED


def _clean(turn: str) -> str:
    turn = _BROKEN_OFF.sub(" ~ ", turn.translate(_QUOTES))
    turn = _DASHES.sub(" -- ", _NOISE.sub(" ", turn))
    return _CLITIC.sub(r"\1", turn)


def _ends_broken(labelled: Labelled, turn: str) -> bool:
    """Nothing, or only a dash, at the end of the turn."""
    ended_by_dash = _clean(turn).rstrip().endswith(("--", "~"))
    return labelled.marks[-1] in (NONE, UNLABELLED) or ended_by_dash


def _mark(labelled: Labelled, mark: str, following: str) -> None:
    """Puts `mark` after the last word; the strongest of several marks counts."""
    word, old = labelled.words[-1], labelled.marks[-1]
    if mark == "." and word in (*_ABBREVIATIONS, *_SPOKEN.values()) and following:
        return
    if mark == "." and word == "no" and following.isdigit():
        return
    if mark == "." and len(word) == 1 and word != "i" and labelled.cases[-1] == CAPITALISED:
        new = UNLABELLED  # an initial, or the end of "Section B."
    elif mark == "~":
        new = UNLABELLED if old == NONE else old
    else:
        new = {",": COMMA, ":": COMMA, "--": COMMA, "?": QUESTION}.get(mark, PERIOD)
    labelled.marks[-1] = max(old, new) if old > NONE else new


def _word(labelled: Labelled, text: str, abbreviated: bool) -> None:
    lower = text.lower()
    case = case_of(text)
    # "mr" is heard as "mister": both spellings are shown to the network, in turn.
    spoken = _SPOKEN.get(lower, lower) if abbreviated and len(labelled.words) % 2 else lower
    if case == CAPITALISED and text != text.capitalize() and not is_i(lower):
        labelled.written[text] += 1
    labelled.add(spoken, case)


def case_of(text: str) -> int:
    """The case that a word is written in; McDonald and single letters count as capitalised."""
    letters = "".join(filter(str.isalpha, text.removesuffix("'s")))
    if len(letters) > 1 and letters.isupper():
        return UPPER
    return LOWER if letters == letters.lower() else CAPITALISED


@dataclass(frozen=True)
class Misrecognised:
    """What a recogniser's errors leave: `kept` the indices of the words that came through
    int [K], `replaced` whether another word stands there bool [K], `marks` their marks [K]."""

    kept: NDArray[np.intp]
    replaced: NDArray[np.bool_]
    marks: NDArray[np.int64]

    def merged(self, intervals: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ms from each word's beginning to the next one's, of all words, as those from each
        kept word's to the next kept one's, [K]."""
        begins = np.append(0, np.cumsum(intervals))
        return np.diff(begins[np.append(self.kept, len(intervals))])


def misrecognise(
    marks: NDArray[np.int64], substituted: float, deleted: float, rng: np.random.Generator
) -> Misrecognised:
    """Replaces and drops words at random with the given probabilities; the mark of a dropped
    word goes to the word before, if that has none."""
    replaced = rng.random(len(marks)) < substituted
    dropped = rng.random(len(marks)) < deleted
    dropped[0] = False
    inherits = np.flatnonzero(dropped[1:] & (marks[:-1] == NONE))
    moved = marks.copy()
    moved[inherits] = marks[inherits + 1]
    kept = np.flatnonzero(~dropped)
    return Misrecognised(kept, replaced[kept], moved[kept])


def is_i(word: str) -> bool:
    """i, i'm, i've ..."""
    return word == "i" or word.startswith("i'")


def spell(number: str) -> list[str]:
    """A number as it is roughly said.

    >>> spell("$1,500"), spell("1956"), spell("14th"), spell("3.5%")
    (['one', 'thousand', 'five', 'hundred', 'dollars'], ['nineteen', 'fifty', 'six'], \
['fourteenth'], ['three', 'point', 'five', 'percent'])
    """
    digits = re.sub(r"[^\d.]", "", number)
    whole, _, fraction = digits.partition(".")
    year = len(whole) == 4 and "1100" <= whole < "2000" and number.isdigit() and whole[2] != "0"
    words = list(_cardinal(int(whole[:2]) if year else int(whole[:12])))
    words += _cardinal(int(whole[2:])) if year else []
    if fraction:
        words += ["point", *(_ONES[int(digit)] for digit in fraction)]
    if number.endswith(("st", "nd", "rd", "th", "d")):
        words[-1] = _ordinal(words[-1])
    return words + ["dollars"] * number.startswith("$") + ["percent"] * number.endswith("%")


def _cardinal(value: int) -> Iterator[str]:
    for scale, name in _SCALES:
        if value >= scale:
            yield from (*_cardinal(value // scale), name)
            value %= scale
            if not value:
                return
    if value < 20:
        yield _ONES[value]
    else:
        yield _TENS[value // 10]
        if value % 10:
            yield _ONES[value % 10]


def _ordinal(word: str) -> str:
    if word.endswith("y"):
        return word[:-1] + "ieth"
    return _ORDINALS.get(word, word + "th")
