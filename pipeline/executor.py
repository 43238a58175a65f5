"""The executor: a recording through the graph, artifacts found or made, to its one record. Where
the stages are computed (in this process, by the workers of a cluster) is not its business."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from pipeline import interrupt
from pipeline.artifacts import ArtifactStore, Made
from pipeline.errors import HansardError, printable, without_secrets
from pipeline.graph import AUDIO, Graph, Node
from pipeline.job import Job
from pipeline.kept_audio import KeptAudio
from pipeline.memory import release
from pipeline.profile import graph_for
from pipeline.records import AudioFacts, Failure, Provenance, Recording, StageRun, Transcript
from pipeline.stage import SAMPLE_RATE, Audio, AudioInfo, Block, Hook, Inputs
from pipeline.storage import Folder
from pipeline.time_limit import OutOfTimeError, time_limit
from pipeline.transcript import assemble, hansard_version

_RELEASE_MS = 10 * 60_000  # of audio, between two calls of `release`


class Compute(Protocol):
    """Where stages are computed."""

    def run(self, recording: str, node: Node, inputs: Inputs) -> tuple[Any, float]:
        """The node's artifact and the seconds of work that it took."""
        ...


class Executor:
    """Runs recordings through a graph, one at a time, artifacts kept in `folder`, each for
    `seconds` at most (see `time_limit` for what that takes)."""

    def __init__(
        self,
        graph: Graph,
        folder: Folder,
        hook: Hook,
        compute: Compute,
        seconds: float | None = None,
    ) -> None:
        self._graph = graph
        self._folder = folder
        self._hook = hook
        self._compute = compute
        self._seconds = seconds

    def run(
        self, job: Job, *, done: Transcript | None = None, attempt: int = 1
    ) -> Transcript | Failure:
        """The recording's one record: `done` itself where it is what this graph would give.
        Whatever goes wrong ends here, as a Failure; artifacts that were made before stay, so
        that the next attempt goes on from them."""
        at = Place()
        try:
            with time_limit(self._seconds):
                return self._run(job, at, done)
        except OutOfTimeError:
            error = HansardError(
                f"{printable(job.uri)}: stopped in stage {at.stage}: it took longer than the "
                f"time limit of {self._seconds:g} s"
            )
            return failure(job, at.stage, error, attempt)
        except Exception as error:  # one bad recording never stops a batch
            interrupt.check()
            return failure(job, at.stage, error, attempt)

    def _run(self, job: Job, at: Place, done: Transcript | None) -> Transcript:
        graph = graph_for(self._graph, job)
        source = graph.source(job.location, graph.source_parameters)
        info = source.probe()
        fingerprint = source.fingerprint()
        keys = graph.keys(fingerprint)
        if done is not None and done.provenance.key == graph.transcript_key(keys):
            return done
        store = ArtifactStore(self._folder, job.id)
        audio = MeteredAudio(
            KeptAudio(source),
            info.duration_ms,
            partial(_keep, store, keys[AUDIO]),
            heard=store.load(AUDIO, keys[AUDIO], AudioFacts) is not None,
        )
        made: dict[str, Made] = {}
        for node in graph.nodes:
            interrupt.check()
            at.stage = node.name
            audio.report = partial(self._hook, job.id, node.name)
            made[node.name] = self._make(job, node, keys[node.name], store, audio, made)
        facts = store.load(AUDIO, keys[AUDIO], AudioFacts)
        return assemble(
            _recording(job, fingerprint, info, facts),
            graph.language,
            made[graph.turns].artifact,
            made[graph.timeline].artifact,
            Provenance(
                profile=graph.profile,
                version=hansard_version(),
                key=graph.transcript_key(keys),
                stages=tuple(made[node.name].run for node in graph.nodes),
                notes=facts.artifact.notes if facts else (),
            ),
            exclusive=made[graph.exclusive].artifact if graph.overlapping else (),
        )

    def _make(
        self,
        job: Job,
        node: Node,
        key: str,
        store: ArtifactStore,
        audio: MeteredAudio,
        made: Mapping[str, Made],
    ) -> Made:
        """The node's artifact: found, or made and kept."""
        stage = node.stage
        found = store.load(node.name, key, stage.artifact_type)
        if found is not None:
            audio.report(1, 1)
            return found
        audio.report(0, 1)
        inputs = Inputs(audio, {need: made[need].artifact for need in node.needs if need != AUDIO})
        artifact, seconds = self._compute.run(job.id, node, inputs)
        run = StageRun(
            stage=node.name,
            model=stage.model,
            weights=stage.weights_digest(),
            parameters=stage.parameters.model_dump(mode="json"),
            seconds=round(seconds, 3),
            notes=tuple(inputs.notes),
        )
        store.save(node.name, key, stage.artifact_type, Made(artifact, run))
        audio.report(1, 1)
        return Made(artifact, run)


@dataclass
class Place:
    """Where in the graph a recording is."""

    stage: str = AUDIO


@dataclass
class MeteredAudio:
    """A source whose passes are reported, in ms of audio; the first pass that reaches the end
    tells `keep` the recording's true duration and what was noted on the way."""

    source: Audio
    duration_ms: int
    keep: Callable[[AudioFacts], None]
    report: Callable[[int, int], None] = field(default=lambda completed, total: None)
    heard: bool = False

    @property
    def notes(self) -> list[str]:
        return self.source.notes

    @notes.setter
    def notes(self, notes: list[str]) -> None:
        self.source.notes = notes

    def blocks(self) -> Iterator[Block]:
        end_ms = released_ms = 0
        for block in self.source.blocks():
            yield block
            end_ms = (block.start + len(block.samples)) * 1000 // SAMPLE_RATE
            if end_ms - released_ms >= _RELEASE_MS:
                released_ms = end_ms
                release()
            self.report(end_ms, max(self.duration_ms, end_ms + 1))
        if not self.heard:
            self.heard = True
            self.keep(AudioFacts(end_ms, tuple(self.source.notes)))


def _keep(store: ArtifactStore, key: str, facts: AudioFacts) -> None:
    run = StageRun(stage=AUDIO, model="", weights="", parameters={}, seconds=0.0)
    store.save(AUDIO, key, AudioFacts, Made(facts, run))


def _recording(job: Job, fingerprint: str, info: AudioInfo, facts: Made | None) -> Recording:
    duration = facts.artifact.duration if facts else info.duration_ms
    return Recording(job.id, job.uri, fingerprint, duration, info.channels, info.sample_rate)


def failure(job: Job, stage: str, error: Exception, attempt: int) -> Failure:
    """What is kept of a recording that could not be finished. A reason of the user's making
    is told in its own words; anything else keeps its traceback for a report."""
    trace = without_secrets("".join(traceback.format_exception(error)))
    if isinstance(error, HansardError):
        reason, trace = str(error), ""
    elif isinstance(error, MemoryError):
        reason = f"{printable(job.uri)}: out of memory in stage {stage}"
    else:
        cause = printable(" ".join(f"{type(error).__name__}: {error}".split()))
        reason = f"{printable(job.uri)}: stage {stage} failed: {cause}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Failure(job.id, job.uri, stage, reason, attempt, trace, worker(), now)


def worker() -> str:
    """This process, as records name it: host:pid."""
    return f"{socket.gethostname()}:{os.getpid()}"
