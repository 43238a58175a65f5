"""Hansard in Python: `from pipeline import transcribe` gives a `Transcript`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.records import Transcript

# Threads that wait for work sleep, before torch is loaded and reads this. By default they spin,
# and where another program wants the same cores, everybody waits for the spinning ones.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def transcribe(
    recording: str,
    *,
    profile: str = "default",
    settings: Iterable[str] = (),
    out: str | None = None,
) -> Transcript:
    """Transcribes one recording (a path or an address) in this process.

    `settings` are `stage.key=value`, as after `--set`. With `out`, artifacts are kept in that
    folder and a second call goes on from them. InputError where the recording cannot be read.

    >>> transcript = transcribe("meeting.mp3", settings=["clustering.speakers=4"])  # doctest: +SKIP
    >>> for turn in transcript.turns:  # doctest: +SKIP
    ...     print(turn.speaker, turn.span.start, " ".join(word.text for word in turn.words))
    """
    from tempfile import TemporaryDirectory

    from pipeline.errors import InputError
    from pipeline.executor import Executor
    from pipeline.job import job_at
    from pipeline.local import InProcess
    from pipeline.profile import load_profile
    from pipeline.records import Failure
    from pipeline.stage import no_hook
    from pipeline.storage import Folder

    graph = load_profile(profile, settings)
    with TemporaryDirectory() as temporary:
        executor = Executor(graph, Folder(out or temporary), no_hook, InProcess(graph))
        outcome = executor.run(job_at(recording))
    if isinstance(outcome, Failure):
        raise InputError(outcome.error)
    return outcome
