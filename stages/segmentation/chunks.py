"""Chunks of a recording, and what the network says of them put together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Segmentation
from pipeline.stage import Block

Chances = NDArray[np.float32]

_EDGE = 0.1  # the weight of a chunk's first and last frames, beside 1 for its middle


def chunks(blocks: Iterable[Block], length: int, step: int) -> Iterator[Block]:
    """Stretches of `length` samples, one every `step`, the last one ending with the audio; all of
    it where there is less. What is yielded does not depend on the blocks, and is a copy. Holds
    `length` + `step` samples and a block."""
    held = np.zeros(0, np.float32)
    begin = following = end = 0  # of what is held, of the next chunk, of the last one: samples
    for block in blocks:
        held = np.concatenate([held, block.samples])
        while begin + len(held) >= following + length:
            end = following + length
            yield Block(following, held[following - begin : end - begin].copy())
            following += step
            drop = max(0, end - length - begin)
            held, begin = held[drop:], begin + drop
    if begin + len(held) > end:
        start = max(0, begin + len(held) - length)
        yield Block(start, held[start - begin :].copy())


def over_time(found: Segmentation, step_ms: int) -> tuple[Chances, Chances]:
    """How likely somebody speaks, and two at once, in each `step_ms` from the beginning: float32
    [n] both. The mean of the chunks that cover a moment, their middles counting more."""
    if not len(found.starts):
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    # At most two speak at once, so what the speakers' chances add up to counts an overlap twice.
    two = found.overlap / np.float32(255)
    one = found.active.sum(axis=2) / np.float32(255) - two
    count = int(found.starts[-1] + _length(found.centres)) // step_ms + 1
    total, speech, overlap = np.zeros((3, count), np.float32)
    for start, some, several in zip(found.starts.tolist(), one, two, strict=True):
        steps, frames, weight = placed(found.centres, start, step_ms)
        total[steps] += weight
        speech[steps] += weight * some[frames]
        overlap[steps] += weight * several[frames]
    covered = np.maximum(total, 1e-6)
    return (speech / covered).clip(0, 1), (overlap / covered).clip(0, 1)


def placed(
    centres: Chances, start: int, step_ms: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Chances]:
    """The steps that a chunk from `start` (ms) covers, the frame that is nearest to the middle of
    each, and how near it is to the middle of the chunk: 1 there, little at its edges."""
    first, last = float(centres[0]), float(centres[-1])
    frame_ms = (last - first) / max(1, len(centres) - 1)
    length = _length(centres)
    steps = np.arange(-(-start // step_ms), int(start + length) // step_ms)
    local = (steps + 0.5) * step_ms - start
    frames = np.rint((local - first) / max(frame_ms, 1.0)).astype(np.int64)
    weight = np.sin(np.pi * local / length).clip(_EDGE).astype(np.float32)
    return steps, frames.clip(0, len(centres) - 1), weight


def _length(centres: Chances) -> float:
    """Of a chunk, in ms."""
    return float(centres[0] + centres[-1])
