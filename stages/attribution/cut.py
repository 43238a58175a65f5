"""Parts of a sentence in which the speaker changes, written as sentences of their own."""

from __future__ import annotations

from dataclasses import replace

from pipeline.records import Sentence
from pipeline.transcript import CLAUSE_ENDS, SENTENCE_ENDS, is_wide
from stages.punctuation.casing import capitalised


def cut(sentence: Sentence, start: int, end: int) -> Sentence:
    """The words from `start` to `end`. What begins with a capital, or ends with a mark, does so in
    its parts, too; what a recogniser left without them stays so. A part ends with a full stop: a
    question's own mark is its last word's."""
    words = list(sentence.words[start:end])
    if start > 0 and sentence.words[0].text[:1].isupper():
        words[0] = replace(words[0], text=capitalised(words[0].text))
    mark = sentence.words[-1].text[-1:]
    if end < len(sentence.words) and mark in SENTENCE_ENDS:
        text = words[-1].text.rstrip("".join(CLAUSE_ENDS)) or words[-1].text
        stop = "\u3002" if is_wide(mark) else "."
        words[-1] = replace(words[-1], text=text + stop * (text[-1:] not in SENTENCE_ENDS))
    return Sentence(tuple(words))
