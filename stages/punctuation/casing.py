"""Written forms of words: the case that the network chose, put into letters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

POSSESSIVE = "'s"


def read_lexicon(path: Path) -> dict[str, str]:
    """`casing.json`: forms that no rule gives, by their lower case ({"mcdonald": "McDonald"}).
    Empty where the model has none."""
    if not path.is_file():
        return {}
    lexicon: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return lexicon


def written(word: str, case: str, lexicon: Mapping[str, str]) -> str:
    """`word` in the given case, "lower", "Capitalised" or "UPPER"; any other case leaves the
    word as it is. The pronoun I is always a capital.

    >>> written("mcdonald's", "Capitalised", {"mcdonald": "McDonald"})
    "McDonald's"
    >>> written("nasa's", "UPPER", {}), written("i'm", "lower", {}), written("you", "lower", {})
    ("NASA's", "I'm", 'you')
    """
    lower = word.lower()
    if lower == "i" or lower.startswith("i'"):
        return "I" + lower[1:]
    stem = lower.removesuffix(POSSESSIVE)
    if case == "Capitalised":
        return lexicon.get(stem, capitalised(stem)) + lower[len(stem) :]
    if case == "UPPER":
        return stem.upper() + lower[len(stem) :]
    return lower if case == "lower" else word


def capitalised(word: str) -> str:
    """The first letter raised, the others as they are."""
    return word[:1].upper() + word[1:]
