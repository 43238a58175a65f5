"""Spans cut out of a stream, batches under a budget, decoding ahead of the network."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.records import Span
from pipeline.stage import Block
from stages.audio.cutting import Cut, bucketed, cut, pad, prefetch


@dataclass
class Samples:
    """Audio that is at hand already; counts the blocks that were asked for."""

    samples: NDArray[np.float32]
    block: int
    notes: list[str] = field(default_factory=list)
    given: int = 0

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.samples), self.block):
            self.given += 1
            yield Block(start, self.samples[start : start + self.block])


RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal(16000 * 60 + 77).astype(np.float32)


def random_spans(count: int) -> list[Span]:
    starts = RNG.integers(0, 60_000, count)
    ends = starts + RNG.exponential(3000, count).astype(np.int64)
    return sorted(Span(int(start), int(end)) for start, end in zip(starts, ends, strict=True))


@pytest.mark.parametrize("block", [77, 16_000, 160_000, 10**7])
def test_each_span_gets_its_samples(block: int) -> None:
    spans = [*random_spans(300), Span(59_000, 90_000), Span(70_000, 80_000)]
    cuts = list(cut(Samples(NOISE, block), spans))
    assert sorted(index for index, _ in cuts) == list(range(len(spans)))
    ends = [spans[index].end for index, _ in cuts]
    assert ends == sorted(ends)
    for index, samples in cuts:
        assert np.array_equal(samples, NOISE[spans[index].start * 16 : spans[index].end * 16])
    assert len(dict(cuts)[len(spans) - 1]) == 0


def test_spans_come_as_soon_as_they_have_passed() -> None:
    audio = Samples(NOISE, 16_000)
    cuts = cut(audio, [Span(0, 500), Span(200, 3000), Span(2500, 2600)])
    assert (next(cuts)[0], audio.given) == (0, 1)
    assert (next(cuts)[0], audio.given) == (2, 3)
    assert (next(cuts)[0], audio.given) == (1, 3)
    assert list(cuts) == []
    assert audio.given == 3
    assert list(cut(audio, [])) == []
    assert audio.given == 3


def test_kept_cuts_keep_no_block_alive() -> None:
    _, samples = next(cut(Samples(NOISE, 960_000), [Span(100, 200)]))
    assert not np.shares_memory(samples, NOISE)
    assert samples.base is None


def test_windows_over_ten_hours_are_quick() -> None:
    hour = np.zeros(16000 * 3600, dtype=np.float32)

    class TenHours(Samples):
        def blocks(self) -> Iterator[Block]:
            for minute in range(600):
                yield Block(minute * 960_000, self.samples[:960_000])

    windows = [Span(at, at + 1500) for at in range(0, 36_000_000 - 1500, 750)]
    began = time.thread_time()
    count = sum(len(samples) == 24_000 for _, samples in cut(TenHours(hour, 0), windows))
    assert count == len(windows)
    assert time.thread_time() - began < 5


def lengths(kind: str, count: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(1)
    seconds = {
        "segments": np.clip(rng.lognormal(1.2, 0.8, count), 0.3, 30),
        "uniform": rng.uniform(0.2, 30, count),
        "windows": np.full(count, 1.5),
    }[kind]
    return (seconds * 16000).astype(np.int64)


@pytest.mark.parametrize("kind", ["segments", "uniform", "windows"])
@pytest.mark.parametrize("budget", [60 * 16000, 300 * 16000])
def test_batches_stay_in_budget_with_little_padding(kind: str, budget: int) -> None:
    cuts: list[Cut] = [
        (i, np.empty(n, dtype=np.float32)) for i, n in enumerate(lengths(kind, 4000))
    ]
    batches = list(bucketed(cuts, budget))
    assert sorted(index for batch in batches for index, _ in batch) == list(range(len(cuts)))
    padded = [len(batch) * max(len(samples) for _, samples in batch) for batch in batches]
    assert max(padded) <= budget
    needed = sum(len(samples) for _, samples in cuts)
    assert 1 - needed / sum(padded) < 0.055
    assert sum(padded) / len(padded) > 0.7 * budget
    again = list(bucketed(cuts, budget))
    assert [[i for i, _ in batch] for batch in again] == [
        [i for i, _ in batch] for batch in batches
    ]


def test_batches_hold_little_back() -> None:
    budget = 60 * 16000
    taken = given = most = 0

    def counted() -> Iterator[Cut]:
        nonlocal taken
        for index, length in enumerate(lengths("uniform", 3000)):
            taken += int(length)
            yield index, np.empty(length, dtype=np.float32)

    for batch in bucketed(counted(), budget):
        most = max(most, taken - given)
        given += sum(len(samples) for _, samples in batch)
    assert most <= 17 * budget


def test_a_cut_above_the_budget_goes_alone() -> None:
    sizes = [100, 5000, 5000, 0, 0, 100]
    cuts: list[Cut] = [(i, np.zeros(n, dtype=np.float32)) for i, n in enumerate(sizes)]
    batches = [sorted(index for index, _ in batch) for batch in bucketed(cuts, 1000)]
    assert sorted(batches) == [[0, 3, 4, 5], [1], [2]]


def test_what_is_left_shares_a_batch_where_little_is_padded() -> None:
    seconds = [0.6, 0.8, 1.0, 1.3, 9.0, 14.0]
    cuts: list[Cut] = [(i, np.zeros(int(s * 16000), np.float32)) for i, s in enumerate(seconds)]
    batches = [sorted(index for index, _ in batch) for batch in bucketed(cuts, 30 * 16000)]
    assert batches == [[5], [4], [0, 1, 2, 3]]


def test_pad() -> None:
    waveforms, sizes = pad([(7, np.ones(3, dtype=np.float32)), (2, np.ones(5, dtype=np.float32))])
    assert waveforms.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert sizes.tolist() == [3, 5]
    assert pad([])[0].shape == (0, 0)


def test_prefetch_gives_the_same_items_ahead_of_time() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    items = prefetch(source(), 3)
    assert next(items) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 4  # the one that was taken, and three ahead of it
    assert list(items) == list(range(1, 10))


def test_prefetch_raises_what_the_source_raises() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    items = prefetch(source(), 4)
    assert next(items) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)


def test_prefetch_left_early_stops_and_closes_the_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    before = threading.active_count()
    items = prefetch(source(), 2)
    next(items)
    del items
    assert closed.wait(5)
    assert threading.active_count() == before
