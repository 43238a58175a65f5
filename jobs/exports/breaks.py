"""Where a subtitle's text may be broken, and how bad each place is.

The rules are those of subtitling guides (Netflix's Timed Text Style Guide, "Line Treatment";
BBC Subtitle Guidelines, "Break at natural points"): after a mark, before a conjunction or a
preposition, never between an article, a preposition, a subject pronoun or an auxiliary and what
follows. English and Russian words are known; other languages are broken at marks and pauses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise

from rich.cells import cell_len

from pipeline.records import Word
from pipeline.transcript import CLAUSE_ENDS, SENTENCE_ENDS, is_wide, join_words

PAUSE_MS = 500

SENTENCE, CLAUSE, BEFORE_OPENER, ANYWHERE, TORN = 0, 3, 8, 15, 30
"""What a break costs, from the end of a sentence to one that tears apart what belongs together."""

_OPENERS = """
    a about after although an and as at because before but by during for from how if in into of on
    or since so than that the though through to until what when where whether which while who why
    with without
    а без в во где до для если за и из или как когда который к на но о об от перед по под потому при
    с со то у что чтобы
"""
_CLINGING = """
    i he she we they my your his her our their its this these those no not very am is are was were
    be been have has had do does did will would shall should can could may might must i'm i'll i've
    i'd he's she's it's we're we'll we've we'd they're they'll they've they'd you're you'll you've
    don't doesn't didn't won't wouldn't can't couldn't isn't aren't wasn't weren't mister mrs mr dr
    я ты он она мы вы они не ни мой твой его её наш ваш их этот эта это эти был была были будет
"""
_BEGIN_A_LINE = frozenset(_OPENERS.split())
_END_NO_LINE = _BEGIN_A_LINE | frozenset(_CLINGING.split())
_CLOSING = "\"'”’»)]」』》）"
_TRAILING = _CLOSING + "".join(SENTENCE_ENDS | CLAUSE_ENDS)
_MARKS = _TRAILING + "“‘«([「『《（-–¿¡"


def width(text: str) -> int:
    """Columns: a Chinese, Japanese or Korean character takes two, an accent of its own none."""
    return cell_len(text)


def ends_sentence(word: Word) -> bool:
    """Whether a full stop or the like follows the word, inside quotes or not."""
    return word.text.rstrip(_CLOSING)[-1:] in SENTENCE_ENDS


def break_cost(before: Word, after: Word) -> int:
    """How bad it is to break between two words of a speaker."""
    if ends_sentence(before):
        return SENTENCE
    if before.text.rstrip(_CLOSING)[-1:] in CLAUSE_ENDS or after.start - before.end >= PAUSE_MS:
        return CLAUSE
    if _bare(before) in _END_NO_LINE:
        return TORN
    return BEFORE_OPENER if _bare(after) in _BEGIN_A_LINE else ANYWHERE


def _bare(word: Word) -> str:
    return word.text.strip(_MARKS).replace("’", "'").lower()


class Measured:
    """Words with the columns that they take when they stand in one line."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = words
        widths = [width(word.text) for word in words]
        pairs = [width(join_words(pair)) for pair in pairwise(words)]
        steps = [pair - last for pair, last in zip(pairs, widths[1:], strict=True)]
        self._begins = list(accumulate(steps, initial=0))
        self._ends = [begin + own for begin, own in zip(self._begins, widths, strict=True)]

    def width(self, first: int, end: int) -> int:
        """Columns of words [first, end) on a line of their own."""
        return self._ends[end - 1] - self._begins[first] if end > first else 0


def breakable(words: Iterable[Word], limit: int) -> Iterator[Word]:
    """The words, those wider than `limit` cut between Chinese or Japanese characters, where any
    place will do; each piece has its share of the word's time."""
    for word in words:
        if width(word.text) <= limit:
            yield word
            continue
        before, whole = 0, len(word.text)
        for piece in _pieces(word.text):
            start, before = word.start + word.span.duration * before // whole, before + len(piece)
            end = word.start + word.span.duration * before // whole
            yield Word(piece, start, end, word.confidence)


def _pieces(text: str) -> list[str]:
    pieces = [text[0]]
    for before, after in pairwise(text):
        if is_wide(before) and is_wide(after) and after not in _TRAILING:
            pieces.append(after)
        else:
            pieces[-1] += after
    return pieces
