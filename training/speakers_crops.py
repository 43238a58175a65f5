"""An endless stream of batches to train the speaker network on: crops of 1.5 s, drawn evenly over
speakers, in one of their voices, augmented; made beside the training, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from stages.speakers.campplus import CamPlusPlus
from stages.speakers.embedder import SpeakerEmbedder
from training.speakers_data import RATE, WINDOW, Augmenter, Corpus, Samples, resampled
from training.speakers_voices import ROWS, Voices, warped

AS_RECORDED = 0.4
SHORT = 0.12


class Batch(NamedTuple):
    """`features` float32 [B, F, M]; `rows`, `speakers`, `utterances` int64 [B]."""

    features: Tensor
    rows: Tensor
    speakers: Tensor
    utterances: Tensor


class Crops(IterableDataset[Batch]):
    """Speakers in proportion to the root of their speech (up to a minute), their utterances
    evenly, AS_RECORDED of them as recorded and the others in one of the other rows of voices."""

    def __init__(
        self, corpus: Corpus, voices: Voices, noises: list[Samples], size: int, seed: list[int]
    ) -> None:
        self.corpus, self.voices, self.size, self.seed = corpus, voices, size, seed
        self.augmenter = Augmenter(noises, np.random.default_rng(seed))
        lengths = np.diff(corpus.bounds, axis=1)[:, 0] / RATE
        seconds = np.bincount(corpus.speakers, weights=lengths)
        weights = np.sqrt(np.minimum(seconds, 60))
        self.shares = weights / weights.sum()
        order = np.argsort(corpus.speakers, kind="stable")
        splits = np.searchsorted(corpus.speakers[order], np.arange(1, len(corpus.names)))
        self.of_speaker = np.split(order, splits)

    @torch.inference_mode()
    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        torch.manual_seed(sum(self.seed))
        rng = self.augmenter.rng
        front = SpeakerEmbedder(CamPlusPlus()).features
        shares = np.full(ROWS, (1 - AS_RECORDED) / (ROWS - 1))
        shares[0] = AS_RECORDED
        while True:
            speakers = rng.choice(len(self.shares), self.size, p=self.shares)
            rows = rng.choice(ROWS, self.size, p=shares)
            utterances = np.array([rng.choice(self.of_speaker[s]) for s in speakers])
            clean = self._voiced(rows, speakers, utterances)
            features = self.augmenter.masked(front(self.augmenter.waveforms(clean)))
            yield Batch(features, *map(torch.from_numpy, (rows, speakers, utterances)))

    def _voiced(
        self,
        rows: np.ndarray[tuple[int], np.dtype[np.int64]],
        speakers: np.ndarray[tuple[int], np.dtype[np.int64]],
        utterances: np.ndarray[tuple[int], np.dtype[np.int64]],
    ) -> Tensor:
        """[B, WINDOW]; SHORT of them are a shorter segment repeated, as the stage does it."""
        rng = self.augmenter.rng
        speeds, warps = self.voices.speeds[rows, speakers], self.voices.warps[rows, speakers]
        parts = np.where(rng.random(len(rows)) < SHORT, rng.uniform(0.3, 0.8, len(rows)), 1.0)
        waveforms = torch.zeros(len(rows), WINDOW)
        for at, (part, speed) in enumerate(zip(parts, speeds, strict=True)):
            length = int(WINDOW * part)
            crop = self._crop(int(utterances[at]), round(length * speed))
            waveforms[at] = torch.from_numpy(np.resize(resampled(crop, length), WINDOW))
        changed = np.flatnonzero(rows)
        waveforms[changed] = warped(waveforms[changed], torch.from_numpy(warps[changed]))
        return waveforms

    def _crop(self, index: int, length: int) -> Samples:
        """A random stretch of an utterance, preferring the louder of two (clips have silent
        edges, which the stage never sees); a shorter utterance is repeated."""
        samples = self.corpus.utterance(index)
        if len(samples) <= length:
            return np.resize(samples, length)
        starts = self.augmenter.rng.integers(0, len(samples) - length, 2)
        crops = [samples[at : at + length] for at in starts]
        return max(crops, key=lambda crop: float(np.square(crop).sum()))
