"""silero-vad as it comes: its own thresholds, pauses and margins. Needs `silero-vad`, see
benchmarks/requirements-peers.txt.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.records import Span
from pipeline.stage import SAMPLE_RATE

CHUNK = 512  # samples that it judges at once
THRESHOLD = 0.5  # its default
FRAME = SAMPLE_RATE // 100
PER_MS = SAMPLE_RATE // 1000


def installed() -> bool:
    return importlib.util.find_spec("silero_vad") is not None


class Silero:
    """Speech by silero-vad."""

    name = "silero-vad"

    def __init__(self) -> None:
        from silero_vad import load_silero_vad

        threads = torch.get_num_threads()
        self._model = load_silero_vad()
        torch.set_num_threads(threads)  # importing it leaves one

    def segments(self, samples: NDArray[np.float32]) -> tuple[Span, ...]:
        """float32 [N] at 16 kHz -> segments in ms."""
        from silero_vad import get_speech_timestamps

        heard = torch.from_numpy(samples)
        found = get_speech_timestamps(heard, self._model, sampling_rate=SAMPLE_RATE)
        return tuple(Span(s["start"] // PER_MS, s["end"] // PER_MS) for s in found)

    @torch.inference_mode()
    def frames(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        """float32 [N] -> whether each 10 ms are speech, bool [N // 160]."""
        self._model.reset_states()
        chunks = torch.from_numpy(np.pad(samples, (0, -len(samples) % CHUNK))).split(CHUNK)
        spoken = np.array([self._model(c, SAMPLE_RATE).item() > THRESHOLD for c in chunks])
        middles = np.arange(len(samples) // FRAME) * FRAME + FRAME // 2
        found: NDArray[np.bool_] = spoken[middles // CHUNK]
        return found
