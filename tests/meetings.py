"""Records that need no model: the demo meeting as it was spoken, and one of hours, made up."""

from __future__ import annotations

import json
import random
from itertools import groupby
from pathlib import Path

from pipeline.records import Failure, Provenance, Sentence, SpeakerSegment, Transcript, Turn, Word
from pipeline.transcript import SENTENCE_ENDS, encode, failure_to_json, speakers_of, to_json
from tests.conftest import ROOT

_WORDS = (
    "the council has heard every question about budget road school river and motion carried "
    "chair minutes agreed report quarter figures because nobody really knows tomorrow"
)
VOCABULARY = tuple(_WORDS.split())


def spoken_meeting(audio: Path, end: int) -> Transcript:
    """The demo meeting's reference up to `end` ms, as the record of `audio`; every tenth word is
    unsure."""
    lines = (ROOT / "demo" / "meeting.words.jsonl").read_text().splitlines()
    spoken = [word for word in map(json.loads, lines) if word["end"] < end]
    turns = []
    labels: dict[str, str] = {}
    for speaker, said in groupby(spoken, key=lambda word: word["speaker"]):
        label = labels.setdefault(speaker, f"S{len(labels) + 1}")
        words = [
            Word(word["text"], word["start"], word["end"], 0.3 if i % 10 == 9 else 0.9)
            for i, word in enumerate(said)
        ]
        turns.append(Turn(label, _cut(words), {"neutral": 1.0}, "neutral"))
    return Transcript(
        id="meeting-0123456789ab",
        uri=str(audio),
        fingerprint="f",
        duration=end,
        language="en",
        speakers=speakers_of(turns),
        turns=tuple(turns),
        timeline=tuple(SpeakerSegment(*turn.span, turn.speaker) for turn in turns),
        provenance=Provenance("default", "0", "key"),
    )


def _cut(words: list[Word]) -> tuple[Sentence, ...]:
    sentences: list[Sentence] = []
    begin = 0
    for at, word in enumerate(words, start=1):
        if word.text[-1] in SENTENCE_ENDS or at == len(words):
            sentences.append(Sentence(tuple(words[begin:at])))
            begin = at
    return tuple(sentences)


def long_meeting(hours: float = 3, people: int = 12, seed: int = 1) -> Transcript:
    """Some 500 turns and 10,000 words an hour; people fall into each other's words."""
    chance = random.Random(seed)
    turns: list[Turn] = []
    begin = 1000
    duration = round(hours * 3_600_000)
    while begin < duration - 60_000:
        # Whoever speaks first is S1, then S2, and so on, as in any transcript.
        speaker = min(chance.randrange(people), len({turn.speaker for turn in turns}))
        turn = Turn(f"S{speaker + 1}", _sentences(chance, begin), {}, _mood(chance))
        turns.append(turn)
        begin = max(begin + 1, turn.span.end + chance.randint(-600, 1200))
    return Transcript(
        id="three-hours-0123456789ab",
        uri="/nowhere/three-hours.wav",
        fingerprint="f",
        duration=duration,
        language="en",
        speakers=speakers_of(turns),
        turns=tuple(turns),
        timeline=tuple(SpeakerSegment(*turn.span, turn.speaker) for turn in turns),
        provenance=Provenance("default", "0", "key"),
    )


def keep(out: Path, *records: Transcript | Failure) -> None:
    """Writes the records as a run would."""
    for record in records:
        if isinstance(record, Failure):
            place, data = out / "failures", failure_to_json(record)
        else:
            place, data = out / "transcripts", to_json(record)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{record.id}.json").write_bytes(encode(data))


def _sentences(chance: random.Random, begin: int) -> tuple[Sentence, ...]:
    sentences = []
    for _ in range(chance.randint(1, 4)):
        words = []
        for _ in range(chance.randint(2, 15)):
            end = begin + chance.randint(150, 450)
            words.append(Word(chance.choice(VOCABULARY), begin, end, chance.random() ** 0.2))
            begin = end
        words[-1] = Word(words[-1].text + ".", words[-1].start, words[-1].end, 0.9)
        sentences.append(Sentence(tuple(words)))
        begin += 300
    return tuple(sentences)


def _mood(chance: random.Random) -> str:
    return chance.choices(("neutral", "positive", "angry", "sad"), (85, 8, 3, 4))[0]
