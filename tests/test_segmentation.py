"""Overlapped speech: the loss of its training, chunks, second speakers, and both timelines of a
made meeting in which people talk at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from numpy.typing import NDArray

from benchmarks.meetings import Options, simulate
from jobs.exports.annotations import to_rttm
from jobs.references import Scored, read_transcript
from jobs.scoring import score
from pipeline import transcribe
from pipeline.records import Segmentation, Span, SpeakerSegment
from pipeline.stage import Block, Inputs
from pipeline.transcript import encode, to_json
from stages.audio.decode import AudioSource
from stages.clustering.stage import ClusteringParameters, SpeakerClustering
from stages.clustering.timeline import to_annotation
from stages.segmentation.chunks import chunks, over_time
from stages.segmentation.overlap import OverlapParameters, OverlappedSpeech
from stages.segmentation.pyannet import PyanNet, PyanNetSizes
from stages.segmentation.stage import PyanNetSegmentation, SegmentationParameters
from stages.speakers.stage import CamPlusPlusParameters, CamPlusPlusStage
from stages.vad.stage import FsmnVad, FsmnVadParameters
from tests.conftest import ROOT
from training.segmentation import by_appearance, loss_of, permuted_classes, powerset_classes

RATE = 16000
Samples = NDArray[np.float32]


@dataclass
class Memory:
    """Samples as a recording, in pieces of `piece` samples."""

    samples: Samples
    piece: int = 60 * RATE
    notes: Sequence[str] = ()

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.samples), self.piece):
            yield Block(start, self.samples[start : start + self.piece])


# training ---------------------------------------------------------------------------------


def test_the_loss_does_not_depend_on_the_names_of_local_speakers() -> None:
    network = PyanNet(PyanNetSizes(lstm_hidden=8, lstm_layers=1, log_mel=8))
    renamed = permuted_classes(network.powerset)
    heard = torch.zeros(1, 3, 5)
    heard[0, 0, :3] = heard[0, 2, 2:4] = 1  # the last frame is silent, the third an overlap
    other = heard[:, [2, 0, 1]]
    likely = torch.log_softmax(torch.randn(1, 5, 7, generator=torch.Generator().manual_seed(0)), -1)
    one, two = (powerset_classes(network.powerset, h) for h in (heard, other))
    assert one.tolist() == [[1, 1, 5, 3, 0]] and two.tolist() == [[2, 2, 4, 1, 0]]
    assert loss_of(likely, one, renamed).item() == pytest.approx(
        loss_of(likely, two, renamed).item()
    )
    certain = torch.nn.functional.one_hot(two, 7).float().add(1e-9).log()
    assert loss_of(certain, one, renamed).item() == pytest.approx(0, abs=1e-6)
    assert torch.equal(by_appearance(heard), by_appearance(other))
    assert torch.equal(by_appearance(other)[0, :2], heard[0, [0, 2]])


# chunks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 999, 1000, 1001, 1400, 1401, 5003])
@pytest.mark.parametrize("piece", [7, 400, 100_000])
def test_chunks_cover_the_audio_whatever_the_blocks(length: int, piece: int) -> None:
    samples = np.arange(length, dtype=np.float32)
    found = list(chunks(Memory(samples, piece).blocks(), 1000, 400))
    starts = [chunk.start for chunk in found]
    if length <= 1000:
        assert starts == [0] * min(1, length)
    else:
        regular = list(range(0, length - 999, 400))
        assert starts == regular + [length - 1000] * (regular[-1] < length - 1000)
    for chunk in found:
        assert len(chunk.samples) == min(1000, length)
        assert np.array_equal(chunk.samples, samples[chunk.start : chunk.start + 1000])


def heard(samples: Samples, piece: int = 60 * RATE, **parameters: object) -> Segmentation:
    stage = PyanNetSegmentation(SegmentationParameters.model_validate(parameters))
    stage.load()
    return stage.run(Inputs(Memory(samples, piece), {}))


def test_the_result_does_not_depend_on_blocks_and_batches(crossing: Crossing) -> None:
    one = heard(crossing.samples)
    other = heard(crossing.samples, piece=12_345, batch_size=1)
    assert np.array_equal(one.starts, other.starts)
    assert one.starts.tolist() == [0, 5000, 10_000, 15_000, 16_500]
    # Float rounding may move a probability by one step.
    assert np.abs(one.active.astype(int) - other.active).max() <= 1
    assert np.abs(one.overlap.astype(int) - other.overlap).max() <= 1


@pytest.mark.parametrize("seconds", [0.0, 0.01, 3.0])
def test_recordings_shorter_than_a_chunk(seconds: float) -> None:
    found = heard(np.zeros(round(seconds * RATE), np.float32))
    assert len(found.starts) == bool(seconds)
    speech, overlap = over_time(found, 20)
    assert len(speech) == len(overlap)
    assert not (overlap > 0.5).any()


# second speakers --------------------------------------------------------------------------

S1, S2, S3 = "S1", "S2", "S3"
FRAME_MS = 100


def made(*speakers: tuple[float, float, int], chunk: tuple[int, int]) -> Segmentation:
    """What a perfect network would say of one chunk, from and to (s), of local speakers talking
    from and to (s)."""
    start, end = chunk
    centres = np.arange(FRAME_MS / 2, 1000 * (end - start), FRAME_MS, dtype=np.float32)
    active = np.zeros((1, len(centres), 3), np.uint8)
    for begin, until, who in speakers:
        times = centres / 1000 + start
        active[0, (times >= begin) & (times < until), who] = 255
    overlap = np.where((active > 0).sum(axis=2) > 1, 255, 0).astype(np.uint8)
    return Segmentation(np.array([1000 * start], np.int32), centres, active, overlap)


def both(
    timeline: Sequence[tuple[int, int, str]], found: Segmentation, **parameters: object
) -> list[tuple[int, int, str]]:
    stage = OverlappedSpeech(OverlapParameters.model_validate(parameters))
    segments = tuple(SpeakerSegment(*segment) for segment in timeline)
    inputs = Inputs(
        Memory(np.zeros(0, np.float32)), {"clustering": segments, "segmentation": found}
    )
    return [tuple(segment) for segment in stage.run(inputs)]


def test_around_a_change_of_speaker_both_are_heard() -> None:
    found = made((0, 5.5, 0), (4.5, 10, 1), chunk=(0, 10))
    timeline = [(0, 5000, S1), (5000, 10_000, S2)]
    assert both(timeline, found) == [(0, 5500, S1), (4500, 10_000, S2)]


def test_the_network_knows_better_than_the_nearest_speaker() -> None:
    # The third local speaker is the one who talks alone at the end; the second is nearer.
    found = made((0, 6, 0), (6, 7, 1), (7, 10, 2), (3, 4, 2), chunk=(0, 10))
    timeline = [(0, 6000, S1), (6000, 7000, S2), (7000, 10_000, S3)]
    assert (3000, 4000, S3) in both(timeline, found)


def test_whoever_is_heard_only_over_others_is_the_nearest_speaker() -> None:
    found = made((0, 10, 0), (6, 7, 1), chunk=(0, 10))
    timeline = [(0, 9000, S1), (9000, 10_000, S2), (20_000, 21_000, S3)]
    assert both(timeline, found)[:2] == [(0, 9000, S1), (6000, 7000, S2)]


def test_pauses_are_no_speech_and_a_single_speaker_has_no_second() -> None:
    found = made((0, 4, 0), (4.2, 7, 0), (8, 10, 0), (1, 2, 1), chunk=(0, 10))
    cut = [(0, 4000, S1), (4200, 7000, S1), (8000, 9500, S1)]
    assert both([(0, 9500, S1)], found, pause_ms=200) == cut
    assert both([(0, 9500, S1)], found, pause_ms=300) == [(0, 7000, S1), (8000, 9500, S1)]
    assert both([], found) == []


# a made meeting ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Crossing:
    """Four turns of the demo meeting, two of which begin before the one before has ended."""

    samples: Samples
    turns: tuple[SpeakerSegment, ...]

    @property
    def overlaps(self) -> NDArray[np.bool_]:
        """Where two talk; a value every 20 ms."""
        depth = np.zeros(len(self.samples) // 320, int)
        for start, end, _ in self.turns:
            depth[start // 20 : end // 20] += 1
        return depth > 1

    @property
    def exclusive(self) -> tuple[SpeakerSegment, ...]:
        """As a perfect clustering has it: the one who began has the floor."""
        floor, found = 0, []
        for start, end, label in self.turns:
            found.append(SpeakerSegment(max(floor, start), end, label))
            floor = end
        return tuple(found)


@pytest.fixture(scope="module")
def crossing() -> Crossing:
    source = AudioSource(str(ROOT / "demo" / "meeting.opus"), AudioSource.parameters_type())
    demo = np.concatenate([block.samples for block in source.blocks()])
    samples = np.zeros(round(26.5 * RATE), np.float32)
    turns = []
    # Where it begins in the demo and here, how long it is (ms), and who says it.
    for begin, start, length, label in (
        (11_270, 1000, 6400, S1),
        (29_000, 5400, 8900, S2),
        (62_830, 15_000, 4800, S1),
        (142_400, 17_800, 7600, S3),
    ):
        said = demo[begin * 16 : (begin + length) * 16]
        samples[start * 16 : start * 16 + len(said)] += said
        turns.append(SpeakerSegment(start, start + length, label))
    return Crossing(samples, tuple(turns))


def test_overlaps_are_found_and_both_timelines_hold(crossing: Crossing) -> None:
    found = heard(crossing.samples)
    claimed = over_time(found, 20)[1][: len(crossing.overlaps)] > 0.5
    right = np.count_nonzero(claimed & crossing.overlaps[: len(claimed)])
    assert right >= 0.5 * crossing.overlaps.sum()
    assert right >= 0.7 * claimed.sum()

    given = {"clustering": crossing.exclusive, "segmentation": found}
    stage = OverlappedSpeech(OverlapParameters())
    timeline = stage.run(Inputs(Memory(crossing.samples), given))
    truth = Scored("crossing", to_annotation(crossing.turns, "crossing"))
    before = score(truth, Scored("crossing", to_annotation(crossing.exclusive, "crossing")))
    after = score(truth, Scored("crossing", to_annotation(timeline, "crossing")))
    assert after.der_at(0).missed < 0.7 * before.der_at(0).missed
    assert after.der_at(0).value < before.der_at(0).value


def test_held_out_speakers_have_a_lower_error_with_their_overlaps(shared_data: Path) -> None:
    meeting = simulate(shared_data, Options(speakers=3, minutes=2, least=60, pool="test", seed=7))
    audio = Memory(meeting.audio())
    vad = FsmnVad(FsmnVadParameters())
    vad.load()
    speech = vad.run(Inputs(audio, {}))
    embedding = CamPlusPlusStage(CamPlusPlusParameters())
    embedding.load()
    given: dict[str, Any] = {"vad": speech}
    given["embedding"] = embedding.run(Inputs(audio, given))
    clustering = SpeakerClustering(ClusteringParameters(speakers=3))
    given["clustering"] = clustering.run(Inputs(audio, given))
    given["segmentation"] = heard(audio.samples)
    timeline = OverlappedSpeech(OverlapParameters()).run(Inputs(audio, given))
    truth = replace(Scored("made", meeting.annotation("made")), words=None)
    before = score(truth, Scored("made", to_annotation(given["clustering"], "made"))).der_at(0)
    after = score(truth, Scored("made", to_annotation(timeline, "made"))).der_at(0)
    assert after.missed < before.missed
    assert after.value < before.value


# the whole graph --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(crossing: Crossing, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made meeting as a file, and room for artifacts."""
    path = tmp_path_factory.mktemp("crossing")
    soundfile.write(path / "crossing.wav", crossing.samples.clip(-1, 1), RATE, subtype="PCM_16")
    return path


def test_a_transcript_has_both_timelines(folder: Path, crossing: Crossing) -> None:
    transcript = transcribe(str(folder / "crossing.wav"), out=str(folder / "out"))
    single = transcript.exclusive
    assert single and all(one.end <= other.start for one, other in pairwise(single))
    doubled = to_annotation(transcript.timeline, "").get_overlap().duration()
    assert doubled > 1.0
    # Scores and exports have the overlaps.
    (folder / "crossing.json").write_bytes(encode(to_json(transcript)))
    scored = read_transcript(folder / "crossing.json")
    assert scored.speech.get_overlap().duration() == pytest.approx(doubled)
    assert len(to_rttm(transcript).splitlines()) == len(transcript.timeline)
    # Words are by the exclusive timeline: most of each turn lies in its speaker's segments.
    for turn in transcript.turns:
        own = [Span(s, e) for s, e, label in single if label == turn.speaker]
        inside = sum(word.span.overlap(span) for word in turn.words for span in own)
        assert inside > 0.5 * sum(word.end - word.start for word in turn.words)


def test_a_profile_without_the_two_stages_has_one_speaker_at_a_time(
    folder: Path, tmp_path: Path
) -> None:
    profile = yaml.safe_load((ROOT / "configs" / "default.yaml").read_text())
    del profile["segmentation"], profile["overlap"]
    (tmp_path / "single.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    audio, out = str(folder / "crossing.wav"), str(folder / "out")
    with_overlaps = transcribe(audio, out=out)
    transcript = transcribe(audio, profile=str(tmp_path / "single.yaml"), out=out)
    assert transcript.exclusive == ()
    assert transcript.timeline == with_overlaps.exclusive
    assert transcript.turns == with_overlaps.turns
    assert transcript.provenance.key != with_overlaps.provenance.key
