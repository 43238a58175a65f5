"""The recordings that diarization is measured on: AMI's excerpts, and simulated meetings of
three lengths; with what the default profile hears in them, which is made once and kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.meetings import Options, simulate, write
from jobs.references import Scored, read_references
from pipeline.artifacts import ArtifactStore, Made
from pipeline.graph import AUDIO, Graph
from pipeline.records import Embeddings, Segmentation, Span, StageRun
from pipeline.stage import Inputs
from pipeline.storage import Folder

Case = tuple[int, float]
"""Speakers and minutes of a simulated meeting."""

SIMULATED: dict[str, tuple[Case, ...]] = {
    "short": (
        (2, 5), (2, 8), (2, 10), (3, 5), (3, 8), (3, 10), (4, 5), (4, 8), (4, 10), (5, 10),
        (6, 10), (8, 10),
    ),
    "medium": ((3, 30), (5, 30), (8, 30), (12, 30)),
    "long": ((8, 180),),
    "worded": ((2, 10), (3, 10), (4, 10), (5, 10), (6, 10), (8, 10)),
}  # fmt: skip
WORDED = "worded"
"""Of whole utterances, so that their words are known; without short answers."""
SETS = ("ami", "short", "medium", "long")
HEARD = ("vad", "embedding", "segmentation")
"""The stages that hear the audio; those after them take moments and are run anew."""


@dataclass(frozen=True)
class Recording:
    """What every system is given; `audio` for those that bring their own ears. `seconds`: CPU time
    of the stage `segmentation`, decoding included."""

    audio: Path
    reference: Scored
    speech: tuple[Span, ...]
    embeddings: Embeddings
    segmentation: Segmentation
    seconds: float


@dataclass(frozen=True)
class Sets:
    """The sets as `graph` hears them. What is not in the folder `work` yet is made: meetings of
    held-out speakers from `data` (shared/data), of one `pool` (see `benchmarks.meetings.Options`),
    and artifacts, by their keys, as in an output folder. `quick`: few recordings."""

    data: Path
    work: Path
    graph: Graph
    pool: str = "test"
    quick: bool = False

    def audio(self, name: str) -> dict[Path, Options | None]:
        """The files of one of SETS, and what those that are simulated are made from."""
        if name == "ami":
            excerpts = sorted((self.data / "meetings-ami").glob("*.flac"))
            return dict.fromkeys(excerpts[: 3 if self.quick else None])
        folder = self.work / f"{name}-{self.pool}"
        first = 100 * (1 + list(SIMULATED).index(name)) + 1000 * (self.pool == "tuning")
        cases = list(enumerate(SIMULATED[name], start=first))[:: 4 if self.quick else 1]
        return {
            folder / f"{speakers:02}-speakers-{minutes:03.0f}-minutes.flac": self._options(
                speakers, minutes, seed, whole=name == WORDED
            )
            for seed, (speakers, minutes) in cases
        }

    def recordings(self, name: str) -> Iterator[Recording]:
        """Those of `audio`, one after the other as they are made."""
        for path, options in self.audio(name).items():
            if options is not None and not path.with_suffix(".rttm").exists():
                write(simulate(self.data, options), path)
            yield self._recording(path)

    def _options(self, speakers: int, minutes: float, seed: int, whole: bool) -> Options:
        room = np.random.default_rng(seed)
        return Options(
            speakers=speakers,
            minutes=minutes,
            snr=round(float(room.uniform(15, 30)), 1),
            rt60=round(float(room.uniform(0.15, 0.5)), 2),
            least=60.0,
            pool=self.pool,
            whole=whole,
            seed=seed,
        )

    def _recording(self, audio: Path) -> Recording:
        """With the artifacts of HEARD: found, or made and kept with the CPU time that they took."""
        source = self.graph.source(str(audio), self.graph.source_parameters)
        keys = self.graph.keys(source.fingerprint())
        store = ArtifactStore(Folder(str(self.work)), audio.stem)
        made: dict[str, Made] = {}
        for name, stage in ((node.name, node.stage) for node in self.graph.nodes):
            if name not in HEARD:
                continue
            found = store.load(name, keys[name], stage.artifact_type)
            if found is None:
                stage.load()
                given = {need: made[need].artifact for need in stage.needs if need != AUDIO}
                began = time.process_time()
                artifact = stage.run(Inputs(source, given))
                seconds = time.process_time() - began
                run = StageRun(name, stage.model, stage.weights_digest(), {}, seconds)
                found = Made(artifact, run)
                store.save(name, keys[name], stage.artifact_type, found)
            made[name] = found
        return Recording(
            audio,
            read_references(audio.with_suffix(".rttm"), [audio.stem])[audio.stem],
            made["vad"].artifact,
            made["embedding"].artifact,
            made["segmentation"].artifact,
            made["segmentation"].run.seconds,
        )
