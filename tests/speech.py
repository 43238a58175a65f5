"""What the recognisers hear in tests."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stages.audio.decode import AudioSource

MEETING = Path(__file__).parents[1] / "demo" / "meeting.opus"

# Where the segments of the demo meeting lie that are read: start and length in ms.
SEGMENTS = [(1000, 4100), (6200, 6400), (13_000, 2222), (16_300, 700), (21_000, 8050)]
FEW_HOTWORDS = "banter kur 一並 tas"
MANY_HOTWORDS = " ".join(
    [a + b + c for a in "btk" for b in "aeiou" for c in "nrs"]
    + [chr(0x4E00 + 2 * at) + chr(0x4E00 + 2 * at + 6) for at in range(30)]
)


@lru_cache
def segments(count: int) -> list[NDArray[np.float32]]:
    """The first of SEGMENTS, as samples."""
    source = AudioSource(str(MEETING), AudioSource.parameters_type())
    samples = next(source.blocks()).samples  # the first minute
    return [samples[start * 16 : (start + length) * 16] for start, length in SEGMENTS[:count]]


def batch(*rows: NDArray[np.float32]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as one padded batch [B, T], and their lengths [B]."""
    tensors = [torch.from_numpy(row) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
    return padded, torch.tensor([len(row) for row in rows])


def spoken(count: int, seed: int = 1) -> list[str]:
    """Words as recognised, English and Chinese, for the folders of `ct_transformer`."""
    drawn = random.Random(seed)
    words = ["the", "and", "so", "meeting", "unheard", "USA", "it's"]
    some = [drawn.choice(words) if drawn.random() < 0.2 else None for _ in range(count)]
    return [word or chr(0x4E00 + drawn.randrange(0x1300)) for word in some]
