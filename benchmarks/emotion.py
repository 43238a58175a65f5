"""Accuracy and calibration of the emotion head: leave-one-speaker-out on EmoDB, and how often
it finds a mood in read speech of people whom no model was trained on, where there is none.

    python -m benchmarks.emotion --data ../shared/data --work DIR
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stage import SAMPLE_RATE
from stages.emotion.features import functionals
from stages.emotion.head import EmotionHead, load_head
from stages.emotion.stage import EmotionParameters
from stages.models import locate
from training.emotion import (
    LABELS,
    Matrix,
    cross_validate,
    load_data,
    read_functionals,
    some_read_speech,
)

CONFIDENCES = (0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)
READ = ("asr-en-commonvoice", "asr-en-dev-clean", "asr-en-speechocean762", "asr-en-kathleen")


def confusion(probabilities: Matrix, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Clips by true class (rows) and likeliest class (columns)."""
    counts = np.zeros((len(LABELS), len(LABELS)), dtype=np.int64)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts


def unweighted_recall(counts: NDArray[np.int64]) -> float:
    """The mean over the classes of the share that was found (UAR)."""
    return float((counts.diagonal() / counts.sum(axis=1)).mean())


def calibration_error(probabilities: Matrix, labels: NDArray[np.int64], bins: int = 10) -> float:
    """ECE: how far confidence is from accuracy, over bins of equal width."""
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    slot = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(sure[slot == at].sum() - right[slot == at].sum()) for at in range(bins)]
    return float(sum(gaps) / len(labels))


def reliability(probabilities: Matrix, labels: NDArray[np.int64]) -> Iterator[str]:
    """For each range of the confidence: how many clips, how sure of them on average, how many of
    them right."""
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    for low, high in pairwise(CONFIDENCES):
        here = (sure >= low) & (sure < high)
        if here.any():
            mean, share = sure[here].mean(), right[here].mean()
            found = f"{here.sum():5} clips, {mean:.2f} sure, {share:.2f} right"
            yield f"{low:.2f} to {min(high, 1):.2f}: {found}"


def mood_shares(head: EmotionHead, vectors: NDArray[np.float32], confidence: float) -> Matrix:
    """How often each mood would be shown."""
    with torch.inference_mode():
        probabilities = head(torch.from_numpy(vectors)).numpy()
    mood = np.where(probabilities.max(axis=1) >= confidence, probabilities.argmax(axis=1), 0)
    shares: Matrix = np.bincount(mood, minlength=len(LABELS)) / len(mood)
    return shares


def show(title: str, probabilities: Matrix, labels: NDArray[np.int64]) -> None:
    counts = confusion(probabilities, labels)
    print(
        f"{title}: UAR {unweighted_recall(counts):.3f}, "
        f"accuracy {counts.diagonal().sum() / counts.sum():.3f}, "
        f"ECE {calibration_error(probabilities, labels):.3f}, {counts.sum()} clips"
    )
    for label, row in zip(LABELS, counts, strict=True):
        print(f"  {label:9}", *(f"{count:6}" for count in row))
    print("  confidence", *reliability(probabilities, labels), sep="\n    ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="keeps functionals")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    data = load_data(arguments.data, arguments.work / "functionals.npz")
    probabilities = cross_validate(data)
    show("EmoDB, speaker left out, as recorded", probabilities[:, 0], data.labels)
    copies = data.acted.shape[1] - 1
    distorted = probabilities[:, 1:].reshape(-1, len(LABELS))
    show("the same through other channels", distorted, np.repeat(data.labels, copies))

    parameters = EmotionParameters.model_validate({})
    head = load_head(locate(parameters.model, "stages.emotion"))
    print(f"moods shown for read speech of held-out speakers ({', '.join(LABELS)}):")
    for corpus in READ:
        rows = some_read_speech(arguments.data, corpus, 200, held_out=True)
        shares = mood_shares(head, read_functionals(rows, noises=()), parameters.confidence)
        print(f"  {corpus:22} {len(rows):4}", *(f"{share:6.3f}" for share in shares))

    speech = np.random.default_rng(0).normal(0, 0.1, 3 * SAMPLE_RATE).astype(np.float32)
    begun = time.perf_counter()
    for _ in range(20):
        functionals(speech)
    print(f"RTF {(time.perf_counter() - begun) / 60:.5f} on one thread")


if __name__ == "__main__":
    main()
