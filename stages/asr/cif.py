"""Continuous integrate-and-fire: how many tokens are spoken, from which frames each is made, and
when. Weights of the frames are summed up, and every whole number that the sum passes is a token.

Source: Dong and Xu, CIF (ICASSP 2020), section 2; times: FunASR's `timestamp_tools.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ALMOST_ONE = 1.0 - 1e-4
"""A threshold that scaled weights pass even where rounding takes a little from the last token."""

# FunASR's constants, in frames of the weights.
_SHIFT = -1.5  # a token is heard before the frame in which its sum is complete
_EDGE = 5  # silence after the last token, if it is longer than this, is shared with it
_LONGEST = 12  # what a token lasts at most: the rest of a gap is silence


def integrate(hidden: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """The acoustic embeddings of the tokens, and how many each row has.

    `hidden` [B, T, D] and `alphas` [B, T] in [0, 1], both 0 past a row's end. Token k is the sum
    of the frames, each weighted with what it adds to the running sum between k and k + 1:
    [B, K, D] in the type of `hidden` (zeros past a row's last token; K >= 1), and int64 [B].
    """
    # Summed as FunASR does: in double, then rounded, so that 4.99999999 is five tokens.
    sums = alphas.double().cumsum(dim=1)
    counts = sums[:, -1].float().floor().long()
    tokens = torch.arange(max(1, int(counts.max())), device=hidden.device)[None, :, None]
    before = (sums - alphas.double())[:, None, :]
    weights = torch.minimum(sums[:, None, :], tokens + 1) - torch.maximum(before, tokens)
    kept = weights.clamp(min=0) * (tokens < counts[:, None, None])
    return kept.to(hidden) @ hidden, counts


def fire_frames(alphas: Tensor, tokens: Tensor, threshold: float) -> Tensor:
    """The frame in which each row's running sum completes its first token, its second and so on
    up to one more than it has: int64 [B, max(tokens) + 1], T where it never does. The first of
    them opens the first token.

    `alphas` [B, T], 0 past a row's end; `tokens` int64 [B]. Every multiple of `threshold` that
    the sum passes completes one. A row that does not give as many by itself is scaled.
    """
    wanted = tokens + 1
    fired = _fired(alphas, threshold)
    scale = wanted / alphas.double().sum(dim=1).clamp(min=1e-12)
    fits = fired[:, -1:] == wanted[:, None]
    fired = torch.where(fits, fired, _fired(alphas * scale[:, None], ALMOST_ONE))
    nth = torch.arange(1, int(wanted.max()) + 1, device=alphas.device)
    return torch.searchsorted(fired, nth.expand(len(fired), -1).contiguous())


def _fired(alphas: Tensor, threshold: float) -> Tensor:
    """How many times each row has fired by each frame, at most once a frame: int64 [B, T]."""
    passed = (alphas.double().cumsum(dim=1) / threshold).floor().long()
    # What does not fit into its frame fires in the next: a running minimum of what is open.
    frames = torch.arange(alphas.shape[1], device=alphas.device)
    return torch.minimum((passed - frames).cummin(dim=1).values, torch.ones_like(passed)) + frames


def token_times(places: NDArray[np.int64], frames: int, frame_ms: float) -> NDArray[np.int64]:
    """Start and end of each token in ms, int64 [N, 2], of the N + 1 frames that `fire_frames`
    found in a row of `frames` frames of `frame_ms`. The first start may lie before 0."""
    seconds = frame_ms / 1000
    at = places + _SHIFT
    starts, ends = at[:-1], at[1:].copy()
    if len(starts):
        ends[-1] = (frames + at[-1]) / 2 if frames - at[-1] > _EDGE else frames
    long = np.diff(at) > _LONGEST
    ends[long] = starts[long] + _LONGEST
    return np.trunc(np.stack([starts, ends], axis=1) * seconds * 1000).astype(np.int64)
