"""The columns of the result tables: the one place that says their names, types and units. The
Parquet files carry the same descriptions, and docs/tables.md is printed from here:
`python -m jobs.tables.schema > docs/tables.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

# Raised whenever a column or its meaning changes: tables are then built anew.
SCHEMA = 1

# What the emotion models of GigaAM, emotion2vec and Hansard tell apart; any other class is `other`.
EMOTIONS = (
    "neutral",
    "positive",
    "happy",
    "angry",
    "sad",
    "fearful",
    "disgusted",
    "surprised",
    "other",
)

TEXT, COUNT, NUMBER, TIME = pa.string(), pa.int64(), pa.float64(), pa.timestamp("ms")


@dataclass(frozen=True, slots=True)
class Column:
    """`null` says when the column has no value; "" where it always has one. A `category` has
    few values, which come back many times."""

    name: str
    type: pa.DataType
    unit: str
    about: str
    null: str = ""
    category: bool = False


RECORDING = Column("recording", TEXT, "", "The recording's id, as in `transcripts/<id>.json`.")
SPEAKER = Column("speaker", TEXT, "", "The speaker's label: S1, S2, ..., or the corrected name.")
TURN = Column("turn", COUNT, "", "The turn's number in the recording, from 0.")
NO_WORDS, NO_EMOTION = "no words", "no emotion scores"


def _speech(of: str) -> tuple[Column, ...]:
    return (
        Column("speaking_ms", COUNT, "ms", f"Time {of}, pauses inside sentences included."),
        Column("words", COUNT, "", f"Words {of}."),
        Column("words_per_minute", NUMBER, "1/min", "`words` a minute of `speaking_ms`.", NO_WORDS),
        Column("confidence", NUMBER, "0 to 1", f"Mean confidence of the words {of}.", NO_WORDS),
    )


def _moods(of: str) -> Iterator[Column]:
    for name in EMOTIONS:
        about = f"Share of the time {of} whose mood is {name}; the `mood_` columns add up to 1."
        yield Column(f"mood_{name}", NUMBER, "0 to 1", about, "no turn has a mood")


TABLES: Mapping[str, tuple[Column, ...]] = {
    "recordings": (
        RECORDING,
        Column("uri", TEXT, "", "Where the recording lies: an absolute path or an address."),
        Column(
            "recorded_at",
            TIME,
            "local time",
            "The last date in the uri (2024-03-17, 20240317, 2024/03/17), with the time of day "
            "that follows it, if any (T0930, _09-30-00).",
            "no date in the uri",
        ),
        Column("language", TEXT, "", "The language of the profile.", category=True),
        Column("duration_ms", COUNT, "ms", "Length of the recording."),
        Column("speech_ms", COUNT, "ms", "Time in which anybody is heard."),
        Column("overlap_ms", COUNT, "ms", "Time in which two people or more are heard at once."),
        *_speech("spoken in turns"),
        Column("speakers", COUNT, "", "People who speak at least one turn."),
        Column("turns", COUNT, "", "Turns."),
        Column("interruptions", COUNT, "", "Turns that interrupt another speaker."),
        *_moods("spoken in turns"),
        Column("profile", TEXT, "", "The profile that made the transcript.", category=True),
        Column("version", TEXT, "", "The version of Hansard that did.", category=True),
        Column("source", TEXT, "", "Version of the files this row was made from, for `hansard`."),
    ),
    "speakers": (
        RECORDING,
        SPEAKER,
        Column("share", NUMBER, "0 to 1", "`speaking_ms` of all that speakers have together."),
        *_speech("spoken by this speaker"),
        Column("turns", COUNT, "", "Turns of this speaker."),
        Column("interruptions_made", COUNT, "", "Turns with which this speaker interrupts."),
        Column("interruptions_suffered", COUNT, "", "Turns that interrupt this speaker."),
        *_moods("spoken by this speaker"),
    ),
    "turns": (
        RECORDING,
        TURN,
        SPEAKER,
        Column("start_ms", COUNT, "ms", "Start of the first word."),
        Column("end_ms", COUNT, "ms", "End of the last word."),
        Column("text", TEXT, "", "What is said, as it is written."),
        *_speech("spoken in this turn"),
        Column(
            "interrupts",
            TEXT,
            "",
            "The speaker whom this turn interrupts; see below.",
            "it interrupts nobody",
            category=True,
        ),
        Column(
            "mood",
            TEXT,
            "",
            "The turn's emotion; neutral where the model is not sure.",
            "the profile has no emotion stage",
            category=True,
        ),
        *(
            Column(f"emotion_{name}", NUMBER, "0 to 1", f"Probability of {name}.", NO_EMOTION)
            for name in EMOTIONS
        ),
    ),
    "words": (
        RECORDING,
        TURN,
        SPEAKER,
        Column("position", COUNT, "", "The word's number in the recording, from 0."),
        Column("text", TEXT, "", "The word as it is written, with the mark that follows it."),
        Column("start_ms", COUNT, "ms", "Start."),
        Column("end_ms", COUNT, "ms", "End."),
        Column("confidence", NUMBER, "0 to 1", "How sure the recogniser is."),
    ),
}

CATEGORIES = frozenset(
    {column.name for columns in TABLES.values() for column in columns if column.category}
    | {RECORDING.name, SPEAKER.name}
)


def _arrow(columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema(
        [
            pa.field(
                column.name,
                column.type,
                nullable=bool(column.null),
                metadata={"description": column.about, "unit": column.unit},
            )
            for column in columns
        ]
    )


ARROW: Mapping[str, pa.Schema] = {name: _arrow(columns) for name, columns in TABLES.items()}

_INTRODUCTION = f"""# Tables

`hansard tables OUT` writes these; `load_tables` of `jobs` reads them. Every time is in ms from the
start of the recording. `recording` joins the tables; a turn is (`recording`, `turn`), a speaker
(`recording`, `speaker`), a word (`recording`, `position`). Only recordings whose transcript is
finished are here: `failures/` has the others. Rows are as people corrected them.

A turn **interrupts** the speaker who has the floor, if it ends after the floor-holder's turn does
(so "mhm" interrupts nobody), is another speaker's, and either starts at least 250 ms before that
turn ends, or starts within 200 ms after it while its last sentence has no mark at its end (only in
recordings that have such marks at all). These are Beattie's interruptions with and without
simultaneous speech (Semiotica 39, 1982); where the timeline knows no simultaneous speech, only the
second kind is found. It is an estimate, as good as the turns' ends and the punctuation are.

Classes of emotion differ between models. A model's class has the column of its name; classes that
have none are added up in `other`. A class that the model does not know has the share 0 and no
probability.

A table is the files `OUT/tables/<table>/*.parquet`, merged as they become many. DuckDB, Polars and
other tools may read such a folder as a whole; do so while no `hansard tables` is running on OUT, or
read the files that the last of `OUT/tables/manifests` names, as `load_tables` does at any time.

The schema's number is {SCHEMA}; it is raised when a column or its meaning changes, and the next
`hansard tables` then builds the tables anew.
"""


def markdown() -> str:
    """docs/tables.md."""
    lines = [_INTRODUCTION]
    for name, columns in TABLES.items():
        lines += [
            f"## {name}",
            "",
            "| column | type | unit | what | empty where |",
            "|" + " --- |" * 5,
        ]
        lines += [
            f"| `{c.name}` | {_TYPES[c.type]} | {c.unit} | {c.about} | {c.null} |" for c in columns
        ]
        lines.append("")
    return "\n".join(lines)


_TYPES = {TEXT: "text", COUNT: "integer", NUMBER: "number", TIME: "date and time"}

if __name__ == "__main__":
    print(markdown(), end="")
