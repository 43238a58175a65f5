"""From a stream of blocks to padded batches: cut spans out of it, group the cuts by length under
a budget, and let decoding run ahead of the network. Every step streams, in bounded memory.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.records import Span
from pipeline.stage import SAMPLE_RATE, Audio, Block

Cut: TypeAlias = tuple[int, NDArray[np.float32]]
"""The index of a span, and its samples: float32 [n], 16 kHz."""

ItemT = TypeVar("ItemT")

SAMPLES_PER_MS = SAMPLE_RATE // 1000
_GROWTH = 1.12
_SHORTEST_BUCKET = 100 * SAMPLES_PER_MS
_HELD_BUDGETS = 16
_BATCH_COST = SAMPLE_RATE  # a second of audio: what reading the weights once more takes at least


def cut(audio: Audio, spans: Sequence[Span]) -> Iterator[Cut]:
    """Yields (index in `spans`, samples float32 [n]) as soon as each span has passed, by span
    end. Spans may overlap; one that reaches past the end of the audio gets what there is, down
    to no samples at all. What is yielded is a copy, so that keeping it keeps no block alive.

    Holds the audio from the earliest open span on, and reads no further than the last span.
    """
    if not spans:
        return
    limits = np.asarray(spans, dtype=np.int64).clip(min=0) * SAMPLES_PER_MS
    order = np.argsort(limits[:, 1], kind="stable")
    starts, ends = limits[order].T
    # Before the n-th yield (by end), nothing older than needed[n] will be asked for again.
    needed = np.minimum.accumulate(starts[::-1])[::-1]
    held = _Held()
    done = 0
    for block in audio.blocks():
        held.append(block)
        passed = int(np.searchsorted(ends, held.end, side="right"))
        for at in range(done, passed):
            yield int(order[at]), held.between(int(starts[at]), int(ends[at]))
        done = passed
        if done == len(order):
            return
        held.drop_before(int(needed[done]))
    for at in range(done, len(order)):
        yield int(order[at]), held.between(int(starts[at]), int(ends[at]))


class _Held:
    """The blocks that a span may still need, in order."""

    def __init__(self) -> None:
        self.end = 0
        self._blocks: list[NDArray[np.float32]] = []
        self._starts: list[int] = []

    def append(self, block: Block) -> None:
        self._starts.append(block.start)
        self._blocks.append(block.samples)
        self.end = block.start + len(block.samples)

    def between(self, start: int, end: int) -> NDArray[np.float32]:
        """A copy of the samples [start, end), as far as they are there."""
        parts = [np.empty(0, dtype=np.float32)]
        for at in range(max(0, bisect_right(self._starts, start) - 1), len(self._blocks)):
            offset = self._starts[at]
            if offset >= end:
                break
            parts.append(self._blocks[at][max(0, start - offset) : max(0, end - offset)])
        return np.concatenate(parts)

    def drop_before(self, sample: int) -> None:
        """Forgets the blocks that end at or before `sample`."""
        gone = 0
        while gone < len(self._blocks):
            if self._starts[gone] + len(self._blocks[gone]) > sample:
                break
            gone += 1
        del self._blocks[:gone], self._starts[:gone]


def bucketed(
    cuts: Iterable[Cut], budget_samples: int, alone_samples: float = math.inf
) -> Iterator[list[Cut]]:
    """Groups cuts of similar length: longest x count of a batch stays within the budget, and the
    cuts of a full batch differ in length by at most 12 % (those under 0.1 s aside); the padding
    is 2 to 5 %. What is left at the end is grouped at the least cost. A cut longer than the
    budget, or of `alone_samples` and more, goes alone. The same cuts give the same batches.

    Holds at most 16 budgets of samples (then the fullest bucket goes early) plus one cut.
    """
    buckets: defaultdict[int, _Bucket] = defaultdict(_Bucket)
    held = 0
    for item in cuts:
        length = len(item[1])
        if length >= alone_samples:
            yield [item]
            continue
        key = int(math.log(max(length, _SHORTEST_BUCKET), _GROWTH))
        if not buckets[key].fits(length, budget_samples):
            held -= buckets[key].samples
            yield buckets.pop(key).items
        buckets[key].add(item)
        held += length
        if held > _HELD_BUDGETS * budget_samples:
            fullest = max(buckets, key=lambda at: (buckets[at].samples, at))
            held -= buckets[fullest].samples
            yield buckets.pop(fullest).items
    yield from _joined([buckets[key] for key in sorted(buckets)], budget_samples)


def _joined(buckets: Sequence[_Bucket], budget: int) -> Iterator[list[Cut]]:
    """What is left in `buckets`, the one of the shortest cuts first: neighbours together where that
    costs less. A batch costs what it is padded to, and `_BATCH_COST`. By dynamic programming over
    the bucket with which the last batch begins."""
    costs, begins = [0], [0]  # of the first n buckets
    for end, last in enumerate(buckets, 1):
        rows, found = 0, []
        for begin in reversed(range(end)):
            rows += len(buckets[begin].items)
            padded = rows * last.longest
            if begin == end - 1 or padded <= budget:
                found.append((costs[begin] + padded + _BATCH_COST, begin))
        cost, begin = min(found)
        costs.append(cost)
        begins.append(begin)
    batches, end = [], len(buckets)
    while end:
        batches.append([item for bucket in buckets[begins[end] : end] for item in bucket.items])
        end = begins[end]
    # The largest first: threads end together.
    yield from sorted(batches, key=lambda batch: -sum(len(samples) for _, samples in batch))


class _Bucket:
    """Cuts of about one length that wait for company."""

    def __init__(self) -> None:
        self.items: list[Cut] = []
        self.samples = 0
        self.longest = 0

    def fits(self, length: int, budget: int) -> bool:
        """Whether one more cut stays within the budget; an empty bucket takes any."""
        return not self.items or (len(self.items) + 1) * max(self.longest, length) <= budget

    def add(self, item: Cut) -> None:
        self.items.append(item)
        self.samples += len(item[1])
        self.longest = max(self.longest, len(item[1]))


def pad(batch: Sequence[Cut]) -> tuple[Tensor, Tensor]:
    """A batch of cuts as waveforms float32 [B, T], zero-padded, and lengths int64 [B]."""
    lengths = torch.tensor([len(samples) for _, samples in batch], dtype=torch.int64)
    waveforms = torch.zeros(len(batch), max((len(s) for _, s in batch), default=0))
    for row, (_, samples) in enumerate(batch):
        waveforms[row, : len(samples)] = torch.from_numpy(samples)
    return waveforms, lengths


@dataclass(frozen=True)
class _End:
    """The source is exhausted, or has failed with `error`."""

    error: BaseException | None = None


def prefetch(source: Iterable[ItemT], depth: int) -> Iterator[ItemT]:
    """Runs `source` in a background thread, at most `depth` items ahead. An exception of the
    source is raised here, after the items before it; leaving the loop early stops the thread
    (it ends its current item) and closes the source."""
    ready: SimpleQueue[ItemT | _End] = SimpleQueue()
    slots = threading.Semaphore(depth)
    stop = threading.Event()

    def produce() -> None:
        end = _End()
        try:
            iterator = iter(source)
            while slots.acquire() and not stop.is_set():
                ready.put(next(iterator))
        except StopIteration:
            pass
        except BaseException as error:
            end = _End(error)
        finally:
            if isinstance(source, Iterator) and hasattr(source, "close"):
                source.close()
            ready.put(end)

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            slots.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        slots.release()
        thread.join()


def at_least(samples: int, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Waveforms [B, T] and lengths [B] whose shorter rows are as if silence followed: a row of
    fewer samples than one window of the features would give no frame."""
    missing = max(0, samples - waveforms.shape[1])
    return torch.nn.functional.pad(waveforms, (0, missing)), lengths.clamp(min=samples)
