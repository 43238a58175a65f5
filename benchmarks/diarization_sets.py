"""The recordings that diarization is measured on: AMI's excerpts, and simulated meetings of
three lengths; with their speech segments and embeddings, which are made once and kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.meetings import Options, simulate, write
from jobs.references import Scored, read_references
from pipeline.records import Embeddings, Span
from pipeline.stage import Inputs
from stages.audio.decode import AudioParameters, AudioSource
from stages.speakers.stage import CamPlusPlusParameters, CamPlusPlusStage
from stages.vad.stage import FsmnVad

Case = tuple[int, float]
"""Speakers and minutes of a simulated meeting."""

SIMULATED: dict[str, tuple[Case, ...]] = {
    "short": (
        (2, 5), (2, 8), (2, 10), (3, 5), (3, 8), (3, 10), (4, 5), (4, 8), (4, 10), (5, 10),
        (6, 10), (8, 10),
    ),
    "medium": ((3, 30), (5, 30), (8, 30), (12, 30)),
    "long": ((8, 180),),
}  # fmt: skip
SETS = ("ami", *SIMULATED)


@dataclass(frozen=True)
class Recording:
    """What every system is given; `audio` for those that bring their own ears."""

    set: str
    audio: Path
    reference: Scored
    speech: tuple[Span, ...]
    embeddings: Embeddings


def recordings(
    name: str, data: Path, work: Path, pool: str = "test", quick: bool = False
) -> Iterator[Recording]:
    """The recordings of one of SETS; what is not in `work` yet is made. `pool`: see
    `benchmarks.meetings.Options`."""
    if name == "ami":
        folder = data / "meetings-ami"
        audio = sorted(folder.glob("*.flac"))[: 3 if quick else None]
    else:
        folder = work / f"{name}-{pool}"
        first = 100 * SETS.index(name) + 1000 * (pool == "tuning")
        cases = list(enumerate(SIMULATED[name], start=first))[:: 4 if quick else 1]
        audio = [_meeting(case, seed, data, folder, pool) for seed, case in cases]
    references = read_references(folder, ())
    for path in audio:
        speech, embeddings = _heard(path, work / "embeddings")
        yield Recording(name, path, references[path.stem], speech, embeddings)


def _meeting(case: Case, seed: int, data: Path, folder: Path, pool: str) -> Path:
    speakers, minutes = case
    path = folder / f"{speakers:02}-speakers-{minutes:03.0f}-minutes.flac"
    if not path.with_suffix(".rttm").exists():
        room = np.random.default_rng(seed)
        options = Options(
            speakers=speakers,
            minutes=minutes,
            snr=round(float(room.uniform(15, 30)), 1),
            rt60=round(float(room.uniform(0.15, 0.5)), 2),
            least=60.0,
            pool=pool,
            seed=seed,
        )
        write(simulate(data, options), path)
    return path


def _heard(audio: Path, cache: Path) -> tuple[tuple[Span, ...], Embeddings]:
    """Speech and embeddings as the default profile makes them."""
    vad = FsmnVad(FsmnVad.parameters_type())
    embedding = CamPlusPlusStage(CamPlusPlusParameters.model_validate({}))
    weights = "-".join(stage.weights_digest()[-8:] for stage in (vad, embedding))
    kept = cache / f"{audio.parent.name}-{audio.stem}-{weights}.npz"
    if not kept.exists():
        source = AudioSource(str(audio), AudioParameters.model_validate({}))
        vad.load()
        embedding.load()
        speech = vad.run(Inputs(source, {}))
        found = embedding.run(Inputs(source, {"vad": speech}))
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(
            kept,
            speech=np.array(speech, np.int32).reshape(-1, 2),
            spans=found.spans,
            vectors=found.vectors,
        )
    with np.load(kept) as arrays:
        speech = tuple(Span(*span) for span in arrays["speech"].tolist())
        return speech, Embeddings(arrays["spans"], arrays["vectors"])
