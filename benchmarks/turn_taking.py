"""Who speaks when in real meetings: the talk spurts of AMI's words (shared/data/text-en), and
turn-taking of any length for any number of people, put together from minutes of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jobs.references import BRIDGED_PAUSE
from training.ami_words import Token, ami_words

SCENE_MS = 60_000
SHORTEST_MS = 200


class Spurt(NamedTuple):
    """A stretch of talk of one person without a long pause; ms."""

    start: int
    end: int
    who: str


@cache
def real_meetings(data: Path) -> list[list[Spurt]]:
    """The spurts of each of AMI's 167 meetings, by start."""
    return [
        sorted(
            Spurt(start, end, who)
            for who, tokens in people.items()
            for start, end in _spurts(tokens)
        )
        for people in ami_words(data).values()
    ]


def _spurts(tokens: Sequence[Token]) -> list[list[int]]:
    """Start and end of one person's."""
    own: list[list[int]] = []
    for token in tokens:
        if own and token.start - own[-1][1] <= BRIDGED_PAUSE:
            own[-1][1] = max(own[-1][1], token.end)
        else:
            own.append([token.start, token.end])
    return own


def turn_taking(
    meetings: Sequence[Sequence[Spurt]],
    people: Sequence[str],
    duration: int,
    rng: np.random.Generator,
) -> Iterator[Spurt]:
    """Spurts of `people` for `duration` ms, by start: minutes drawn from real meetings, one
    after the other, with their pauses and overlaps. In each minute the people of the real one
    are played by some of ours, the k-th of `people` being chosen in proportion to 1 / sqrt k.
    Where there are fewer of ours, those who said least in that minute stay silent."""
    share = 1 / np.sqrt(np.arange(1, len(people) + 1))
    for begin in range(0, duration, SCENE_MS):
        scene = _scene(meetings, rng)
        said: defaultdict[str, int] = defaultdict(int)
        for spurt in scene:
            said[spurt.who] += spurt.end - spurt.start
        roles = sorted(said, key=lambda who: -said[who])[: len(people)]
        cast = rng.choice(people, len(roles), replace=False, p=share / share.sum()).tolist()
        names = dict(zip(roles, cast, strict=True))
        for start, end, who in scene:
            end = min(begin + end, duration)
            if who in names and end - (begin + start) >= SHORTEST_MS:
                yield Spurt(begin + start, end, names[who])


def _scene(meetings: Sequence[Sequence[Spurt]], rng: np.random.Generator) -> list[Spurt]:
    """A minute of one of the meetings, from its beginning, spurts cut at its edges."""
    meeting = meetings[int(rng.integers(len(meetings)))]
    first = int(rng.integers(0, max(1, meeting[-1].end - SCENE_MS)))
    return [
        Spurt(max(0, start - first), min(SCENE_MS, end - first), who)
        for start, end, who in meeting
        if end > first and start < first + SCENE_MS
    ]
