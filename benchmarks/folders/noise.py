"""Weights drawn once: networks of hundreds of millions of them are filled in a second."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_DRAWN = 2_000_003  # a prime: no two rows of a matrix begin at the same place


@lru_cache
def _drawn(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(_DRAWN, dtype=np.float32)


def noise(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Normally distributed values of a parameter: by its name, whatever others there are. Larger
    parameters repeat themselves after two million values."""
    size = int(np.prod(shape))
    first = zlib.crc32(name.encode()) % _DRAWN
    once = np.roll(_drawn(seed), -first)[:size] if size <= _DRAWN else _drawn(seed)
    return np.resize(once, size).reshape(shape)
