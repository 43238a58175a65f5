"""Parts of a sentence in which the speaker changes, written as sentences of their own."""

from __future__ import annotations

from dataclasses import replace

from pipeline.records import Sentence

ENDS = ".?!\u3002\uff1f\uff01"
INNER = ",;:\u3001\uff0c\uff1b\uff1a"


def cut(sentence: Sentence, start: int, end: int) -> Sentence:
    """The words from `start` to `end`. What begins with a capital, or ends with a mark, does so in
    its parts, too; what a recogniser left without them stays so. A part ends with a full stop: a
    question's own mark is its last word's."""
    words = list(sentence.words[start:end])
    if start > 0 and sentence.words[0].text[:1].isupper():
        words[0] = replace(words[0], text=words[0].text[:1].upper() + words[0].text[1:])
    last_mark = sentence.words[-1].text[-1:]
    if end < len(sentence.words) and last_mark and last_mark in ENDS:
        text = words[-1].text.rstrip(INNER) or words[-1].text
        stop = "." if last_mark.isascii() else "\u3002"
        words[-1] = replace(words[-1], text=text + stop * (text[-1:] not in ENDS))
    return Sentence(tuple(words))
