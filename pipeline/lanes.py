"""Batches side by side, a thread each. Threads that share one batch meet after every layer of the
network, and wait for each other there; with a batch of their own they never do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_AHEAD = 2  # batches a lane: the one that it works on, and the next


def side_by_side(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], lanes: int
) -> Iterator[ResultT]:
    """`map(work, items)` on `lanes` threads, the results in the order of the items. `items` is
    read in the calling thread, no more than two a lane ahead. An exception of `work` is raised
    here, after the results before it; left early, it waits for what the lanes are at."""
    if lanes == 1:
        yield from map(work, items)
        return
    running: deque[Future[ResultT]] = deque()
    with ThreadPoolExecutor(lanes, "lane", initializer=_work_alone) as pool:
        try:
            for item in items:
                running.append(pool.submit(work, item))
                if len(running) == _AHEAD * lanes:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def cores() -> int:
    """The threads that torch computes on: OMP_NUM_THREADS, or what the machine lends us."""
    import torch

    return torch.get_num_threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """In which torch computes on the calling thread alone: for small networks, which take less time
    than threads need to meet."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _work_alone() -> None:
    import torch

    torch.set_num_threads(1)  # of this thread alone
