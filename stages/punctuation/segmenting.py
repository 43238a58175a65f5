"""Words of a transcript to the tokens that a published CT-Transformer reads: single Chinese
characters, or, for the model that comes with a `jieba_usr_dict`, the words that jieba finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError, printable

Segment: TypeAlias = Callable[[str], Iterator[str]]
"""Chinese text without spaces to its words."""

_DICTIONARY = "jieba_usr_dict"
_UNITS = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")
_ENGLISH = re.compile(r"[a-zA-Z']+")


def tokenise(words: Sequence[str], segment: Segment | None) -> tuple[list[str], NDArray[np.int64]]:
    """The tokens, and for each the number of the word in which it ends: a mark after the token
    is one after that word.

    >>> tokenise(["hello", "你", "A股"], None)[0]
    ['hello', '你', 'A', '股']
    """
    if segment is None:
        tokens = [unit for word in words for unit in _UNITS.findall(word)]
    else:
        tokens = []
        for english, group in groupby(words, key=lambda w: bool(_ENGLISH.fullmatch(w))):
            run = list(group)
            tokens += run if english else segment("".join(run))
    word_ends = np.cumsum([len(word) for word in words])
    token_ends = np.cumsum([len(token) for token in tokens])
    return tokens, np.searchsorted(word_ends, token_ends)


def check_segmenter(folder: Path) -> None:
    """ModelError where the folder's model needs jieba, and there is none."""
    if (folder / _DICTIONARY).is_file() and find_spec("jieba") is None:
        raise ModelError(
            f"{printable(str(folder))}: this model reads the words that jieba finds in Chinese: "
            "pip install 'hansard[zh]', or, where no Chinese is spoken, set "
            "punctuation.chinese_words=false"
        )


def read_segmenter(folder: Path) -> Segment | None:
    """jieba with the model's own dictionary, where it has one."""
    if not (folder / _DICTIONARY).is_file():
        return None
    check_segmenter(folder)
    import jieba

    tokenizer = jieba.Tokenizer()
    # As its `initialize` does, but for the cache: that one is read from a folder for everyone.
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    with (folder / _DICTIONARY).open("rb") as stream:
        tokenizer.load_userdict(stream)

    def segment(text: str) -> Iterator[str]:
        found: Iterator[str] = tokenizer.cut(text, HMM=False)
        return found

    return segment
