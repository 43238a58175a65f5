"""Speech segments from frame posteriors: the endpoint decision of FunASR's FSMN-VAD, vectorised.

Source: the state machine of `funasr/models/fsmn_vad_streaming/model.py` with fixed thresholds.
Its SNR threshold is left out: at the published -100 dB no frame between -60 and 26 dB meets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Span
from stages.vad.faint import faint

FRAME_MS = 10
_SEARCH = 1024  # frames looked through at first for a segment; doubled until it has ended


@dataclass(frozen=True)
class EndpointOptions:
    """Times in ms, named as in FunASR's `model_conf`; the defaults are its published ones.

    A frame is speech where its posterior of speech exceeds that of silence by
    `speech_noise_threshold` and its energy reaches `decibel_threshold`; a faint one (`faint.py`,
    not FunASR's) by `faint_threshold`, where that is more. The sliding window
    turns to speech, and back, at so many ms of speech frames in it. `max_single_segment_time`
    ends a segment wherever that finds it; None: a segment lasts as long as the speech.
    """

    speech_noise_threshold: float = 0.6
    faint_threshold: float = 0.6
    decibel_threshold: float = -100.0
    window_size: int = 200
    sil_to_speech_time: int = 150
    speech_to_sil_time: int = 150
    max_end_silence_time: int = 800
    lookback_time_start_point: int = 200
    lookahead_time_end_point: int = 100
    max_single_segment_time: int | None = None

    @property
    def end_silence_frames(self) -> int:
        """Frames after the window's turn to silence at which a segment ends."""
        return max(1, -((self.speech_to_sil_time - self.max_end_silence_time) // FRAME_MS))

    @property
    def dropped_frames(self) -> int:
        """How many of them the segment does not keep."""
        silence = self.max_end_silence_time - self.speech_to_sil_time
        return max(0, silence // FRAME_MS - self.lookahead_time_end_point // FRAME_MS - 1)


class _Segment(NamedTuple):
    """Frames [start, end), and the frame at which the search for the next one begins."""

    start: int
    end: int
    resume: int


def speech_frames(
    silence: NDArray[np.float32], decibel: NDArray[np.float32], options: EndpointOptions
) -> NDArray[np.bool_]:
    """Which frames count as speech; [F]."""
    posterior = silence.astype(np.float64)
    likely: NDArray[np.bool_] = 1.0 - posterior >= posterior + options.speech_noise_threshold
    likely &= decibel >= options.decibel_threshold
    if options.faint_threshold > options.speech_noise_threshold:
        sure = 1.0 - posterior >= posterior + options.faint_threshold
        likely &= sure | ~faint(decibel, likely)
    return likely


def segments(
    silence: NDArray[np.float32], decibel: NDArray[np.float32], options: EndpointOptions
) -> tuple[Span, ...]:
    """Posterior of silence and energy in dB, both [F], to speech segments in ms, sorted and
    disjoint. The work is array operations over the stretch of each segment."""
    speech = speech_frames(silence, decibel, options)
    found: list[Span] = []
    end = resume = 0
    while (segment := _next_segment(speech, resume, end, options)) is not None:
        start, end, resume = segment
        found.append(Span(start * FRAME_MS, end * FRAME_MS))
    return tuple(found)


def _next_segment(
    speech: NDArray[np.bool_], at: int, earliest: int, options: EndpointOptions
) -> _Segment | None:
    """The first segment that frame `at` or a later one reveals; it begins at `earliest` or
    later. None where there is none."""
    latency = (options.window_size + options.lookback_time_start_point) // FRAME_MS
    longest = options.max_single_segment_time
    reach = _SEARCH
    while True:
        talking = _window_state(speech[at : at + reach], options)
        if talking.any():
            turn = int(talking.argmax())
            start = max(earliest, at + turn - latency)
            quiet = at + _silence_after(talking, turn, options.end_silence_frames)
            cut = (
                len(speech) if longest is None else max(at + turn + 1, start + longest // FRAME_MS)
            )
            if min(quiet, cut) < at + len(talking):
                dropped = options.dropped_frames if quiet <= cut else 0
                return _Segment(start, min(quiet, cut) + 1 - dropped, min(quiet, cut) + 1)
            if at + reach >= len(speech):
                return _Segment(start, len(speech), len(speech))
        elif at + reach >= len(speech):
            return None
        reach *= 2


def _silence_after(talking: NDArray[np.bool_], turn: int, frames: int) -> int:
    """The frame at which silence has lasted `frames` frames after the one in which it set in,
    the first time after `turn`; len(talking) or more where it has not."""
    edges = turn + 1 + np.flatnonzero(talking[turn + 1 :] != talking[turn:-1])
    falls, rises = edges[::2], edges[1::2]
    lasted = np.append(rises, len(talking))[: len(falls)] - falls > frames
    return int(falls[lasted.argmax()]) + frames if lasted.any() else len(talking)


def _window_state(speech: NDArray[np.bool_], options: EndpointOptions) -> NDArray[np.bool_]:
    """The sliding window's state after each frame, [n], beginning empty and in silence.

    With the published thresholds, which are equal, a window that holds just so many speech
    frames turns with every frame; so a state is the last frame that fixed it, and the parity
    of the turns since."""
    size = options.window_size // FRAME_MS
    total = np.concatenate([np.zeros(size, np.int64), np.cumsum(speech)])
    count = total[size:] - total[: len(speech)]
    to_speech = count >= options.sil_to_speech_time // FRAME_MS
    to_silence = count <= options.speech_to_sil_time // FRAME_MS
    fixed = to_speech != to_silence
    index = np.arange(len(speech))
    last = np.maximum.accumulate(np.where(fixed, index, -1))
    turns = np.cumsum(to_speech & to_silence)
    known = last >= 0
    since = turns - np.where(known, turns[last], 0)
    begun: NDArray[np.bool_] = known & to_speech[last]
    state: NDArray[np.bool_] = begun ^ (since % 2 == 1)
    return state
