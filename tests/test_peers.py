"""The rules of other toolkits, which benchmarks compare with, do what their sources say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.clustering import meeting
from benchmarks.peers.rules import funasr, merged, stretches, three_d_speaker_spectral


@pytest.mark.parametrize("rules", [funasr, three_d_speaker_spectral])
def test_clear_speakers_are_found(rules: object) -> None:
    made = meeting(300, 3, seed=2)
    assert callable(rules)
    labels = rules(made.embeddings.vectors)
    assert len(set(labels.tolist())) == len(set(made.speakers.tolist()))
    assert set(rules(made.embeddings.vectors[:9]).tolist()) == {0}


def test_speakers_merge_at_the_threshold() -> None:
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], np.float32)
    labels = np.array([0, 1, 2])
    assert len(set(merged(vectors, labels, 0.79).tolist())) == 2
    assert len(set(merged(vectors, labels, 0.81).tolist())) == 3


def test_overlapping_windows_are_split_in_the_middle_and_short_stretches_given_away() -> None:
    spans = np.array([(0, 1500), (750, 2250), (1500, 3000), (9000, 9500)], np.int32)
    labels = np.array([0, 0, 1, 1])
    assert stretches(spans, labels, 0.0) == [(0.0, 1.875, 0), (1.875, 3.0, 1), (9.0, 9.5, 1)]
    flip = np.array([0, 1, 0, 0])
    assert stretches(spans, flip, 0.8) == [(0.0, 3.0, 0), (9.0, 9.5, 0)]
