"""The output folder is the ledger: one record a recording, done or failed, and the exports.

OUT/transcripts/<id>.json       finished
OUT/failures/<id>.json          failed: why, how often, and what it takes to try again
OUT/corrections/<id>.json       what people put right: see corrections.py
OUT/sources/<id>.<state>.<ms>   empty: the state of the input (etag, size, time, its options)
                                that the transcript is of, and the recording's duration
OUT/claims/<id>.<n>             somebody works on it: see claims.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from jobs.corrections import Corrections, apply, encode_corrections, parse, with_note
from jobs.exports import EXPORTS
from pipeline.errors import InputError, printable, without_secrets
from pipeline.job import Job
from pipeline.records import Failure, Transcript
from pipeline.storage import Folder
from pipeline.transcript import encode, failure_to_json, from_json, to_json

UNLISTED = "unlisted"


@dataclass(frozen=True)
class Options:
    """How recordings are transcribed: profile, `stage.key=value` settings, export formats."""

    profile: str
    settings: tuple[str, ...]
    formats: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    """A failure with what it takes to try again."""

    failure: Failure
    job: Job
    options: Options


class Mark(NamedTuple):
    """What a name in OUT/sources says: the state of the input (UNLISTED: no listing told of one)
    and the duration in ms of a finished recording."""

    recording: str
    state: str
    duration: int

    @property
    def name(self) -> str:
        return f"sources/{self.recording}.{self.state}.{self.duration}"


class Ledger:
    """The records in an output folder."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def transcript(self, recording: str) -> Transcript | None:
        """The finished record as it was made; None where there is none."""
        record = self._read(f"transcripts/{recording}.json")
        return None if record is None else from_json(record)

    def corrected(self, recording: str) -> Transcript | None:
        """The finished record with what people put right; None where there is none."""
        transcript = self.transcript(recording)
        return None if transcript is None else self.correct(transcript)

    def transcripts(self) -> Iterable[Transcript]:
        """Every finished record, by id, with what people put right."""
        for name in self.folder.names("transcripts"):
            transcript = self.corrected(name.removesuffix(".json"))
            if name.endswith(".json") and transcript is not None:
                yield transcript

    def corrections(self, recording: str) -> Corrections | None:
        """What people put right; None where they did not. InputError where the file is broken."""
        name = f"corrections/{recording}.json"
        data = self.folder.read(name)
        return None if data is None else parse(data, self.folder.path(name))

    def keep_corrections(self, corrections: Corrections) -> None:
        """Writes the recording's correction file anew."""
        name = f"corrections/{corrections.id}.json"
        self.folder.write(name, encode_corrections(corrections))

    def correct(self, transcript: Transcript) -> Transcript:
        """A record as it was made, with its corrections. A correction file that is broken is
        left out, and a note says so: it must not stop a batch."""
        try:
            corrections = self.corrections(transcript.id)
        except InputError as error:
            return with_note(transcript, f"corrections left out: {error}")
        return transcript if corrections is None else apply(transcript, corrections)

    def failed(self, recording: str) -> Failed | None:
        """The recording's failure; None where there is none that can be read."""
        return _failed(self.folder.read(f"failures/{recording}.json"))

    def failures(self) -> Iterator[tuple[str, Failed | None]]:
        """Every failure with its id; None for one that cannot be read."""
        names = [f"failures/{name}" for name in self.folder.names("failures")]
        for name, data in self.folder.read_all(names):
            yield name.removeprefix("failures/").removesuffix(".json"), _failed(data)

    def ids(self, under: str) -> set[str]:
        """The recordings with a record in the folder "transcripts" or "failures"."""
        names = self.folder.names(under)
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}

    def marks(self) -> dict[str, list[Mark]]:
        """For each recording what is known of its input, the newest last. There are several where
        the input changed, or a run stopped in between: then no state counts."""
        found: dict[str, list[Mark]] = {}
        for entry in sorted(self.folder.listing("sources"), key=lambda entry: entry.modified):
            recording, state, duration = [*entry.name.split("."), "", ""][:3]
            if duration.isdecimal():
                found.setdefault(recording, []).append(Mark(recording, state, int(duration)))
        return found

    def keep(
        self, outcome: Transcript | Failure, job: Job, options: Options, *, same: bool = False
    ) -> None:
        """Writes the recording's one record: a success takes the place of an earlier failure,
        and a failure of what the same recording gave before its content changed. The `same`
        transcript as before is not written again, only what goes with it."""
        if isinstance(outcome, Failure):
            record = failure_to_json(outcome) | {
                "job": asdict(replace(job, location=without_secrets(job.location))),
                "options": asdict(options),
            }
            self.folder.write(f"failures/{outcome.id}.json", encode(record))
            self.folder.delete(f"transcripts/{outcome.id}.json")
        else:
            self.export(outcome, options.formats)
            if not same:
                self.folder.write(f"transcripts/{outcome.id}.json", encode(to_json(outcome)))
            self.folder.delete(f"failures/{outcome.id}.json")
            mark = Mark(job.id, state_of(job) or UNLISTED, outcome.duration)
            self.folder.write(mark.name, b"")

    def forget(self, job: Job, marks: Iterable[Mark]) -> None:
        """Deletes what was known of earlier states of the recording's input, once there is a
        record of this one."""
        for mark in marks:
            if mark.state != state_of(job):
                self.folder.delete(mark.name)

    def export(self, made: Transcript, formats: Iterable[str]) -> tuple[str, ...]:
        """Writes the exports of a record as it was made anew, with what people put right; notes
        say how much of that fits."""
        corrected = self.correct(made)
        for name in formats:
            wanted = EXPORTS[name]
            text = wanted.write(corrected) if wanted.write else self._page(made)
            data = text.encode("utf-8", "backslashreplace")
            self.folder.write(f"exports/{made.id}{wanted.suffix}", data)
        return corrected.provenance.notes[len(made.provenance.notes) :]

    def _page(self, made: Transcript) -> str:
        from jobs.view.disk import page_on_disk  # the page asks the ledger, too

        return page_on_disk(self, made)

    def _read(self, name: str) -> dict[str, Any] | None:
        data = self.folder.read(name)
        if data is None:
            return None
        record: dict[str, Any] = json.loads(data)
        return record


def state_of(job: Job) -> str:
    """Changes with the listed version of the recording's input, and with its own options; empty
    where no listing told of a version."""
    if not job.version:
        return ""
    parts = json.dumps([job.version, job.settings, job.language])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def reason_of(failure: Failure) -> str:
    """The error without the name of the recording, so that it compares."""
    return failure.error.removeprefix(f"{printable(failure.uri)}: ")


def _failed(data: bytes | None) -> Failed | None:
    try:
        record = json.loads(data or b"null")
        failure = Failure(**{field.name: record[field.name] for field in fields(Failure)})
        job, options = record["job"], record["options"]
        return Failed(
            failure,
            Job(**job | {"settings": tuple(job["settings"])}),
            Options(options["profile"], tuple(options["settings"]), tuple(options["formats"])),
        )
    except (ValueError, KeyError, TypeError):
        return None
