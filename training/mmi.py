"""Maximum mutual information over the CTC topology: what a network's posteriors say of all phone
sequences, weighed by a phone trigram. A transcript's likelihood less this is the MMI criterion.

Source: Xiang and Ou, CRF-based single-stage acoustic modeling with CTC topology (2019), section
3; the lattice-free idea is Povey et al.'s (2016). The sums run over a dense phone trigram, so
that a frame is one batched matrix product and no graph has to be compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLANK = 0
_SMOOTHING = 10.0  # occurrences that the shorter history counts for


def phone_trigram(sequences: Iterable[Sequence[int]], size: int) -> Tensor:
    """P(third | first, second): float32 [size, size, size]. Ids are of the network's tokens;
    the blank, id 0, stands for what is before the first phone. No phone is ever id 0."""
    counts = np.zeros((size, size, size))
    for ids in sequences:
        padded = np.concatenate([[BLANK, BLANK], np.asarray(ids, np.int64)])
        np.add.at(counts, (padded[:-2], padded[1:-1], padded[2:]), 1)
    single = counts.sum((0, 1)) + 1.0
    single[BLANK] = 0
    single /= single.sum()
    double = _smoothed(counts.sum(0), single)
    return torch.from_numpy(_smoothed(counts, double)).float()


def _smoothed(counts: NDArray[np.float64], lower: NDArray[np.float64]) -> NDArray[np.float64]:
    total = counts.sum(-1, keepdims=True)
    mixed: NDArray[np.float64] = (counts + _SMOOTHING * lower) / (total + _SMOOTHING)
    return mixed


class Denominator(torch.autograd.Function):
    """log of the sum, over all phone sequences, of P(sequence) times its CTC likelihood.

    The states are the last two phones and whether the frame is blank; arrays are laid out
    [last phone, utterance, phone before it]. Every frame is scaled to a sum of one.
    """

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, lengths: Tensor, trigram: Tensor) -> Tensor:
        """log_probs float32 [B, T, V], lengths [B], trigram from `phone_trigram`, to [B]."""
        batch, frames, size = log_probs.shape
        probs = log_probs.exp()
        step = trigram.transpose(0, 1).contiguous()  # [b, a, c]: from (a, b) to c
        repeat = torch.diagonal(trigram, dim1=1, dim2=2).T[:, None, :].contiguous()  # [b, 1, a]
        blank = torch.zeros(size, batch, size)
        token = torch.zeros(size, batch, size)
        blank[BLANK, :, BLANK] = 1.0
        blanks = torch.empty(frames, size, batch, size)
        tokens = torch.empty(frames, size, batch, size)
        total = torch.zeros(batch)
        alive = torch.arange(frames)[:, None] < lengths[None, :]
        for t in range(frames):
            both = blank + token
            entering = torch.bmm(both, step)  # [b, B, c]
            diagonal = torch.diagonal(entering, dim1=0, dim2=2)  # [B, b]: the same phone again
            diagonal -= (token * repeat).sum(-1).T
            y = probs[:, t]
            new_token = entering.permute(2, 1, 0) + token
            new_token *= y.T[:, :, None]
            new_blank = both * y[:, BLANK][None, :, None]
            scale = new_token.sum((0, 2)) + new_blank.sum((0, 2))
            new_token /= scale[None, :, None]
            new_blank /= scale[None, :, None]
            blank, token = new_blank, new_token
            blanks[t], tokens[t] = blank, token
            total += torch.where(alive[t], scale.log(), 0.0)
        ctx.save_for_backward(probs, lengths, step, repeat, blanks, tokens)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient by log_probs is each token's posterior at each frame."""
        probs, lengths, step, repeat, blanks, tokens = ctx.saved_tensors
        batch, frames, size = probs.shape
        back = step.transpose(1, 2).contiguous()  # [b, c, a]
        occupied = torch.zeros(frames, batch, size)
        blank = torch.zeros(size, batch, size)
        token = torch.zeros(size, batch, size)
        for t in reversed(range(frames)):
            last = (lengths == t + 1)[None, :, None]
            blank.masked_fill_(last, 1.0)
            token.masked_fill_(last, 1.0)
            there = blanks[t] * blank
            here = (tokens[t] * token).sum(-1).T  # [B, c]
            here[:, BLANK] = there.sum((0, 2))
            mass = here.sum(-1, keepdim=True).clamp(min=1e-30)
            occupied[t] = here / mass
            # Scaled by the posterior mass, so that neither array leaves float32's range.
            blank = blank / mass.T[:, :, None]
            token = token / mass.T[:, :, None]
            y = probs[:, t]
            weighted = token * y.T[:, :, None]  # [c, B, b]
            onward = torch.bmm(weighted.permute(2, 1, 0), back)  # [b, B, a]
            again = torch.diagonal(weighted, dim1=0, dim2=2).T[:, :, None]  # [b, B, 1]
            stay = blank * y[:, BLANK][None, :, None]
            blank = stay + onward
            token = stay + onward - again * repeat + weighted
        gradient = occupied.transpose(0, 1) * gradients[0][:, None, None]
        keep = torch.arange(frames)[None, :] < lengths[:, None]
        return gradient * keep[:, :, None], None, None


def log_denominator(log_probs: Tensor, lengths: Tensor, trigram: Tensor) -> Tensor:
    """`Denominator`, differentiable by log_probs: [B]."""
    result: Tensor = Denominator.apply(log_probs, lengths, trigram)  # type: ignore[no-untyped-call]
    return result
