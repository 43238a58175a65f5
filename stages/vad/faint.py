"""Frames that the room's own noise would be as loud as: rustling clothes, paper, a chair.

A network that was trained to hear people far off takes some of these for speech. Where a recording
is loud when somebody speaks, they are faint, and have to be surer than the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOISE_PERCENTILE, SPEECH_PERCENTILE = 5, 90
ABOVE_NOISE_DB, BELOW_SPEECH_DB = 20.0, 15.0
AROUND = 20  # frames on either side: a faint one has nothing louder near it
LEAST_SPEECH = 50  # frames from which the level of a recording's speech is known


def faint(decibel: NDArray[np.float32], speech: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the energies of a recording's frames in dB, and whether each may be speech, both [F]:
    whether a frame and all around it are within ABOVE_NOISE_DB of the noise, and BELOW_SPEECH_DB
    or more below its louder speech. The noise is what the quietest frames have; in a recording
    with digital silence that is nothing, and no frame is faint."""
    if speech.sum() < LEAST_SPEECH:
        return np.zeros(len(speech), bool)
    noise = np.percentile(decibel, NOISE_PERCENTILE) + ABOVE_NOISE_DB
    loud = np.percentile(decibel[speech], SPEECH_PERCENTILE) - BELOW_SPEECH_DB
    padded = np.pad(decibel, AROUND, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1).max(axis=1)
    quiet: NDArray[np.bool_] = around < min(noise, loud)
    return quiet
