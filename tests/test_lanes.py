"""Batches side by side: the same results in the same order, whatever happens in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from pipeline.lanes import cores, one_thread, side_by_side


@pytest.mark.parametrize("lanes", [1, 3])
def test_results_come_in_the_order_of_the_items(lanes: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.01 * (number % 3))
        return number * number

    assert list(side_by_side(work, range(20), lanes)) == [n * n for n in range(20)]


def test_items_are_worked_on_at_once_and_read_little_ahead() -> None:
    together = threading.Barrier(3, timeout=10)  # broken unless three lanes meet
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for number in range(30):
            read += 1
            yield number

    def work(number: int) -> int:
        together.wait()
        return number

    results = side_by_side(work, items(), 3)
    for number in range(30):
        assert next(results) == number
        assert read <= number + 6


def test_an_error_is_raised_where_the_results_are_read() -> None:
    def work(number: int) -> int:
        if number == 4:
            raise ValueError("broken")
        return number

    results = side_by_side(work, iter(range(100)), 3)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="broken"):
        next(results)


def test_each_lane_computes_on_one_thread_and_others_as_before() -> None:
    before = torch.get_num_threads()
    assert set(side_by_side(lambda _: cores(), range(8), 2)) == {1}
    with one_thread():
        assert cores() == 1
    assert cores() == before
