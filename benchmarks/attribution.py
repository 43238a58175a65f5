"""Who said which word: the share of words under a wrong speaker, by the rules of the stage
`attribution`. The words are those of the reference, so that recognition errs in none of them;
punctuation, speech and speakers are the default profile's.

    python -m benchmarks.attribution --data ../shared/data --work DIR [--pool tuning]

On AMI's excerpts, and on simulated meetings of whole utterances, whose words are known. Prints a
table and writes DIR/attribution.json.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.clustering import NoAudio, matched
from benchmarks.diarization_sets import WORDED, Recording, Sets
from jobs.references import ScoredWord
from pipeline.graph import Graph
from pipeline.profile import load_profile
from pipeline.records import Sentence, SpeakerSegment, Turn, Word
from pipeline.stage import Inputs
from stages.attribution.stage import AttributionParameters, WordAttribution

SETS = ("ami", WORDED)
RULES: dict[str, dict[str, int]] = {
    "largest overlap alone": {"snap_ms": 0, "flip_words": 0},
    "and changes at ends of sentences": {"flip_words": 0},
    "and flips of a word smoothed: the defaults": {},
    "flips of two words, 600 ms": {"flip_words": 2, "flip_ms": 600},
    "flips of three words, 1000 ms": {"flip_words": 3, "flip_ms": 1000},
}
"""What each way changes in the stage's parameters."""


@dataclass(frozen=True)
class Row:
    """`wrong` of `words` are under a wrong speaker, in `turns` turns."""

    set: str
    rules: str
    words: int
    wrong: int
    turns: int


class Ways:
    """A recording's words through punctuation, clustering and attribution by each of RULES."""

    def __init__(self, graph: Graph) -> None:
        self._stages = {node.name: node.stage for node in graph.nodes}
        self._stages["punctuation"].load()

    def turns(self, recording: Recording) -> dict[str, tuple[Turn, ...]]:
        """By the names of RULES."""
        heard = {"vad": recording.speech, "embedding": recording.embeddings}
        segments: tuple[SpeakerSegment, ...] = self._stages["clustering"].run(
            Inputs(NoAudio(), heard)
        )
        said = {"asr": tuple(Word(w.text, w.start, w.end, 1.0) for w in spoken(recording))}
        sentences: tuple[Sentence, ...] = self._stages["punctuation"].run(Inputs(NoAudio(), said))
        given = Inputs(NoAudio(), {"punctuation": sentences, "clustering": segments})
        return {
            name: WordAttribution(AttributionParameters.model_validate(changed)).run(given)
            for name, changed in RULES.items()
        }


def spoken(recording: Recording) -> list[ScoredWord]:
    """The reference's words by start, as a recogniser writes them."""
    plain = (
        word._replace(text=re.sub(r"[^\w']", "", word.text.lower()))
        for word in recording.reference.words or ()
    )
    return sorted((word for word in plain if word.text), key=lambda word: (word.start, word.end))


def wrong_words(truth: Sequence[ScoredWord], turns: Sequence[Turn]) -> int:
    """Those under another speaker than the one whom the best mapping gives to theirs. ValueError
    where a word has none: turns have all words, in the order in which they were given."""
    labels = [turn.speaker for turn in turns for said in turn.sentences for _ in said.words]
    names, people = sorted(set(labels)), sorted({word.speaker for word in truth})
    joint = np.zeros((len(names), len(people)))
    for word, label in zip(truth, labels, strict=True):
        joint[names.index(label), people.index(word.speaker)] += 1
    return round((1 - matched(joint)) * len(truth))


def measure(sets: Sets, name: str, ways: Ways) -> list[Row]:
    rows = {rules: Row(name, rules, 0, 0, 0) for rules in RULES}
    for recording in sets.recordings(name):
        truth = spoken(recording)
        for rules, turns in ways.turns(recording).items():
            row = rows[rules]
            rows[rules] = Row(
                name,
                rules,
                row.words + len(truth),
                row.wrong + wrong_words(truth, turns),
                row.turns + len(turns),
            )
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--pool", choices=["test", "tuning"], default="test")
    arguments = parser.parse_args()
    graph = load_profile("default")
    sets, ways = Sets(arguments.data, arguments.work, graph, arguments.pool), Ways(graph)
    rows = [row for name in arguments.sets for row in measure(sets, name, ways)]
    table = Table("set", "rules", box=MARKDOWN)
    for column in ("words", "under a wrong speaker", "turns"):
        table.add_column(column, justify="right")
    for row in rows:
        wrong = f"{row.wrong} = {100 * row.wrong / row.words:.2f} %"
        table.add_row(row.set, row.rules, f"{row.words:,}", wrong, f"{row.turns}")
    Console(width=130).print(table)
    report = [asdict(row) for row in rows]
    (arguments.work / "attribution.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
