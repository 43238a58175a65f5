"""Tokens to words: Chinese characters are words each, pieces of words (`hel@@ lo`) are joined,
letters that are spelt become an abbreviation. As FunASR's `sentence_postprocess`, but that every
token keeps its own time and that none is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ModelError, printable
from pipeline.records import Word

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

_UNWRITTEN = frozenset({"<s>", "</s>", "<unk>", "<OOV>"})
_JOINED = "@@"


def read_pieces(path: Path) -> SentencePieceProcessor:
    """SentencePiece's pieces of words. ModelError where the file holds none."""
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError):
        raise ModelError(f"{printable(str(path))}: not a SentencePiece model") from None


def join_tokens(tokens: Iterable[Word]) -> list[Word]:
    """Words, of tokens with times and posteriors.

    A word lasts from its first token to its last; its confidence is the geometric mean of
    theirs. A piece that nothing follows, or a Chinese character, is a word by itself.

    >>> said = ["你", "hel@@", "lo", "u", "s", "a"]
    >>> [word.text for word in join_tokens(Word(text, 0, 1, 1.0) for text in said)]
    ['你', 'hello', 'USA']
    """
    words: list[Word] = []
    for spelt, group in groupby(_whole_words(tokens), key=_is_letter):
        run = list(group)
        if spelt and len(run) > 1:
            run = [_merged("".join(word.text.upper() for word in run), run)]
        words += run
    return words


def _whole_words(tokens: Iterable[Word]) -> Iterator[Word]:
    begun: list[Word] = []
    for token in tokens:
        if token.text in _UNWRITTEN:
            continue
        if begun and _is_chinese(token.text):
            yield _of_pieces(begun)
            begun = []
        begun.append(token)
        if _JOINED not in token.text:
            yield _of_pieces(begun)
            begun = []
    if begun:
        yield _of_pieces(begun)


def _of_pieces(pieces: Sequence[Word]) -> Word:
    if len(pieces) == 1 and _JOINED not in pieces[0].text:
        return pieces[0]
    return _merged("".join(piece.text.replace(_JOINED, "") for piece in pieces), pieces)


def _merged(text: str, parts: Sequence[Word]) -> Word:
    confidence = math.exp(sum(math.log(part.confidence) for part in parts) / len(parts))
    return Word(text, parts[0].start, parts[-1].end, round(confidence, 4))


def _is_letter(word: Word) -> bool:
    return len(word.text) == 1 and word.text.isascii() and word.text.isalpha()


def _is_chinese(text: str) -> bool:
    return "一" <= text[:1] <= "鿿"
