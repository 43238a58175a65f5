"""Reading as FunASR's offline punctuation does: twenty tokens at a time, each time from behind the
last full stop that was certain enough. How a sentence goes on may still change its marks.

Source: FunASR, `ct_transformer/model.py`; marks equal to its are what this is for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

STEP = 20  # tokens that are read on
_LONG = 200  # a sentence of more tokens ends at its last comma
_UNCERTAIN = 2  # tokens at both ends of what is read, behind which no sentence ends


def read_on(
    marks_of: Callable[[NDArray[np.int64]], NDArray[np.intp]],
    rows: NDArray[np.int64],
    ends: NDArray[np.bool_],
    commas: NDArray[np.bool_],
    full_stop: int,
) -> NDArray[np.intp]:
    """The class of mark after each token, int [N]; the last one ends a sentence.

    `marks_of` gives the likeliest class after each token of a text by itself; `rows` int64 [N]
    are the tokens' rows in the vocabulary, N >= 1; `ends` and `commas` bool [P] tell classes.
    """
    decided: list[NDArray[np.intp]] = []
    start = 0
    for stop in range(STEP, len(rows), STEP):
        marks = marks_of(rows[start:stop])
        inner = slice(_UNCERTAIN, len(marks) - 1)
        found = np.flatnonzero(ends[marks[inner]])
        if not len(found) and len(marks) > _LONG:
            found = np.flatnonzero(commas[marks[inner]])
            if len(found):
                marks[_UNCERTAIN + found[-1]] = full_stop
        if len(found):
            after = _UNCERTAIN + int(found[-1]) + 1
            decided.append(marks[:after])
            start += after
    marks = marks_of(rows[start:])
    if not ends[marks[-1]]:
        marks[-1] = full_stop
    return np.concatenate([*decided, marks])
