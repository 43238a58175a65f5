"""Posteriors of silence, window by window: every window carries the audio that its first and
last frames depend on, so that the result is the same whatever the window's length.

What is kept of a recording is eight bytes a frame; its audio passes by once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stage import Block
from stages.audio.features import Fbank, stack_frames
from stages.vad.fsmn import FsmnConfig, FsmnModel

ENERGY_FLOOR = 1e-6  # FunASR's, on samples of full scale 1.0: digital silence is -60 dB


class Window(NamedTuple):
    """Audio of frames [context, ...): `samples` float32 begin with frame `context`, and give
    the frames [start, end) together with all that these depend on; `end` is None where the
    recording ends with the window."""

    context: int
    start: int
    end: int | None
    samples: NDArray[np.float32]


class Frames(NamedTuple):
    """One value a frame of 10 ms from frame `start` on: `silence`, the posterior of silence in
    [0, 1], and `decibel`, the energy of the frame (full scale 1.0); both float32 [n]."""

    start: int
    silence: NDArray[np.float32]
    decibel: NDArray[np.float32]


def windows(blocks: Iterable[Block], config: FsmnConfig, frames: int) -> Iterator[Window]:
    """Cuts the stream into windows of `frames` frames and their context; holds one window and
    one block. The last window may have no frames at all."""
    length, shift = config.fbank.frame_length, config.fbank.frame_shift
    context = start = 0
    held = np.zeros(0, np.float32)  # from the first sample of frame `context` on
    for block in blocks:
        held = np.concatenate([held, block.samples])
        while len(held) >= (start + frames + config.right_context - 1 - context) * shift + length:
            end = start + frames
            last = end + config.right_context - 1
            yield Window(context, start, end, held[: (last - context) * shift + length])
            first = max(0, end - config.left_context)
            held = held[(first - context) * shift :]
            context, start = first, end
    yield Window(context, start, None, held)


@torch.inference_mode()
def posteriors(window: Window, model: FsmnModel, fbank: Fbank) -> Frames:
    """Runs the network over one window; no frames where the audio is shorter than one."""
    config = model.config
    samples = torch.from_numpy(window.samples.copy())
    features, counts = fbank(samples[None], torch.tensor([len(samples)]))
    total = int(counts[0])
    if total == 0:
        return Frames(window.start, np.zeros(0, np.float32), np.zeros(0, np.float32))
    first = window.start - window.context
    last = total if window.end is None else window.end - window.context
    stacked, _ = stack_frames(features, counts, config.lfr_m, 1)
    # The first stacked frames lack their left neighbours unless the recording starts there.
    lacking = config.lfr_left if window.context > 0 else 0
    silence = model.network.silence(model.cmvn(stacked[:, lacking:]))[0]
    power = samples.square().unfold(0, config.fbank.frame_length, config.fbank.frame_shift)
    decibel = 10 * torch.log10(power[first:last].sum(-1) + ENERGY_FLOOR)
    # A copy, or the scores of every class would be kept with the silence.
    kept = silence[first - lacking : last - lacking].clone()
    return Frames(window.start, kept.numpy(), decibel.numpy())
