"""How well embeddings tell voices apart: equal error rate on pairs of 1.5 s windows of held-out
speakers, by group, next to resemblyzer on the same pairs where it is installed; and the speed.

    python -m benchmarks.speakers --data ../shared/data
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.models import locate
from stages.speakers.embedder import load_embedder
from training.resemblyzer import Resemblyzer, installed_weights
from training.speakers_data import HELD_OUT_VOICES
from training.splits import is_held_out, read_manifest
from training.voices import missing, say

WINDOW = 24000
CLIPS_A_SPEAKER = 10
GROUPS = {
    "native (LibriSpeech dev-clean, test-other)": ("asr-en-dev-clean", "speakers-librispeech"),
    "non-native (speechocean762)": ("asr-en-speechocean762",),
    "accents and microphones (Common Voice)": ("asr-en-commonvoice",),
}
SYNTHETIC = "synthetic voices"
SENTENCES = (
    "the committee will now hear the second report on the budget",
    "we should have the results of the survey before the end of march",
    "nobody told me that the meeting had been moved to another room",
    "let us go through the open questions one after the other",
    "I think that our customers would rather wait than pay twice",
    "could you send the minutes to everyone who was here today",
)

Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Trials:
    """Windows float32 [N, WINDOW] with the speaker and the clip of each; a trial is every pair
    of windows from two different clips."""

    windows: Tensor
    speakers: NDArray[np.str_]
    clips: NDArray[np.str_]

    def equal_error_rate(self, embed: Embed) -> float:
        """In per cent, by cosine."""
        vectors = torch.cat([embed(part) for part in torch.split(self.windows, 64)]).numpy()
        first, second = np.triu_indices(len(vectors), 1)
        apart = self.clips[first] != self.clips[second]
        first, second = first[apart], second[apart]
        scores = (vectors @ vectors.T)[first, second]
        return equal_error_rate(scores, self.speakers[first] == self.speakers[second])


def equal_error_rate(scores: NDArray[np.float32], same: NDArray[np.bool_]) -> float:
    """The error in per cent at the threshold where as many same-speaker pairs are rejected as
    different-speaker pairs are accepted."""
    accepted_last = same[np.argsort(-scores, kind="stable")]
    misses = 1 - np.cumsum(accepted_last) / same.sum()
    false_alarms = np.cumsum(~accepted_last) / (~same).sum()
    at = int(np.argmin(np.abs(misses - false_alarms)))
    return float(50 * (misses[at] + false_alarms[at]))


def held_out_trials(data: Path, folders: Iterable[str]) -> Trials:
    """The middle 1.5 s of clips, evenly drawn, of each held-out speaker with two clips or more."""
    clips: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        for utterance in read_manifest(data / folder):
            held_out = is_held_out(utterance.speaker, utterance.split)
            if held_out and utterance.seconds * 16000 > WINDOW + 1600:
                clips[utterance.speaker].append(utterance.audio)
    chosen = [
        (speaker, paths[at])
        for speaker, paths in sorted(clips.items())
        if len(paths) > 1
        for at in np.linspace(0, len(paths) - 1, min(len(paths), CLIPS_A_SPEAKER)).astype(int)
    ]
    return Trials(
        windows=torch.stack(
            [middle(soundfile.read(path, dtype="float32")[0]) for _, path in chosen]
        ),
        speakers=np.array([speaker for speaker, _ in chosen]),
        clips=np.array([str(path) for _, path in chosen]),
    )


def synthetic_trials() -> Trials:
    """The same of synthetic voices that were not trained on, as far as they are installed.
    (A held-out voice is another accent, variant or pitch of an engine that was.)"""
    voices = [voice for voice in HELD_OUT_VOICES[::4] if not missing(voice)]
    spoken = [(voice.label, text) for voice in voices for text in SENTENCES]
    return Trials(
        windows=torch.stack(
            [middle(say(voice, text).samples) for voice in voices for text in SENTENCES]
        ),
        speakers=np.array([label for label, _ in spoken]),
        clips=np.array([f"{label} {text}" for label, text in spoken]),
    )


def middle(samples: NDArray[np.float32]) -> Tensor:
    """The middle 1.5 s: float32 [WINDOW]."""
    start = (len(samples) - WINDOW) // 2
    return torch.from_numpy(samples[start : start + WINDOW].copy())


def milliseconds_a_window(embed: Embed) -> float:
    """Wall time on all threads, in batches of 64, best of three."""
    windows = torch.randn(64, WINDOW, generator=torch.Generator().manual_seed(0)) * 0.05
    embed(windows)
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        embed(windows)
        best = min(best, time.perf_counter() - begin)
    return best / len(windows) * 1000


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="bundled/campplus-en")
    arguments = parser.parse_args()

    embedders: dict[str, Embed] = {
        arguments.model: load_embedder(locate(arguments.model, "stages.speakers"))
    }
    if weights := installed_weights():
        embedders["resemblyzer"] = Resemblyzer(weights)
    for group in (*GROUPS, SYNTHETIC):
        trials = (
            synthetic_trials()
            if group == SYNTHETIC
            else held_out_trials(arguments.data, GROUPS[group])
        )
        print(
            f"{group}: {len(set(trials.speakers))} speakers, {len(trials.windows)} windows",
            flush=True,
        )
        for name, embed in embedders.items():
            print(f"  EER {trials.equal_error_rate(embed):5.2f} %  {name}")
    for name, embed in embedders.items():
        cost = milliseconds_a_window(embed)
        # Windows of 1.5 s every 0.75 s: four windows for three seconds.
        print(f"{name}: {cost:.2f} ms a window, {cost / 750:.4f} s of work per second of speech")


if __name__ == "__main__":
    main()
