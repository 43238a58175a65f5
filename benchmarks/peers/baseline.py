"""What people build themselves: silero-vad finds speech, resemblyzer embeds windows of 1.5 s,
dense spectral clustering groups them. Needs `silero-vad` and `resemblyzer`, see
benchmarks/requirements-peers.txt.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.rules import Labels, Spectral, Vectors
from benchmarks.peers.silero import PER_MS, Silero
from pipeline.records import Embeddings, Span
from stages.audio.decode import AudioParameters, AudioSource
from stages.speakers.stage import windows
from training.resemblyzer import Resemblyzer, installed_weights


def missing() -> str:
    """Why the baseline cannot run here; empty where it can."""
    packages = ("silero_vad", "resemblyzer")
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


@torch.inference_mode()
def heard(audio: Path) -> tuple[NDArray[np.int32], Vectors]:
    """Windows int32 [N, 2] in ms and their embeddings float32 [N, 256]."""
    weights = installed_weights()
    assert weights is not None
    source = AudioSource(str(audio), AudioParameters.model_validate({}))
    samples = np.concatenate([block.samples for block in source.blocks()])
    spans = windows(Silero().segments(samples), 1500, 750)
    embed = Resemblyzer(weights)
    vectors = np.zeros((len(spans), 256), np.float32)
    for at in range(0, len(spans), 64):
        cuts = [samples[a * PER_MS : b * PER_MS] for a, b in spans[at : at + 64]]
        filled = np.stack([np.resize(cut, 1500 * PER_MS) for cut in cuts])
        vectors[at : at + 64] = embed(torch.from_numpy(filled)).numpy()
    return np.array(spans, np.int32).reshape(-1, 2), vectors


def kept(audio: Path, cache: Path) -> tuple[tuple[Span, ...], Embeddings]:
    """Speech and embeddings, made once for each recording."""
    file = cache / f"{audio.parent.name}-{audio.stem}.npz"
    if not file.exists():
        spans, vectors = heard(audio)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, spans=spans, vectors=vectors)
    with np.load(file) as arrays:
        spans, vectors = arrays["spans"], arrays["vectors"]
    speech: list[Span] = []
    for start, end in spans.tolist():
        if speech and start <= speech[-1].end:
            speech[-1] = Span(speech[-1].start, max(end, speech[-1].end))
        else:
            speech.append(Span(start, end))
    return tuple(speech), Embeddings(spans, vectors)


def labels_of(vectors: Vectors) -> Labels:
    """int64 [N]; too few windows for an eigengap are one speaker."""
    return Spectral(0.02)(vectors) if len(vectors) > 6 else np.zeros(len(vectors), np.int64)
