"""Speaker clustering: who speaks when, on embeddings of known speakers."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.clustering import Meeting, meeting
from pipeline.records import Embeddings, Span, SpeakerSegment
from pipeline.stage import Block, Inputs
from stages.clustering.groups import Closeness, Counts, blended, merge_close, normalised
from stages.clustering.spectral import Cut, decisive
from stages.clustering.stage import ClusteringParameters, SpeakerClustering
from stages.clustering.timeline import timeline, to_annotation

Segments = tuple[SpeakerSegment, ...]


class Silence:
    """The clustering never listens."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def blocks(self) -> Iterator[Block]:
        return iter(())


def inputs(speech: tuple[Span, ...], embeddings: Embeddings) -> Inputs:
    return Inputs(Silence(), {"embedding": embeddings, "vad": speech})


def cluster(made: Meeting, **parameters: object) -> Segments:
    stage = SpeakerClustering(ClusteringParameters.model_validate(parameters))
    return stage.run(inputs(made.speech, made.embeddings))


def labels_of(segments: Segments) -> set[str]:
    return {segment.label for segment in segments}


def agreement(made: Meeting, segments: Segments) -> float:
    """The share of windows whose middle is under the label that its speaker mostly has."""
    starts = [segment.start for segment in segments]
    middles = made.embeddings.spans.mean(axis=1)
    found = [segments[at].label for at in np.searchsorted(starts, middles, side="right") - 1]
    right = 0
    for speaker in set(made.speakers.tolist()):
        mine = [label for label, who in zip(found, made.speakers, strict=True) if who == speaker]
        right += max(mine.count(label) for label in set(mine))
    return right / len(found)


def scene(pattern: list[tuple[int, int, int]], seed: int = 0) -> Meeting:
    """Speech segments (start, end, voice), windowed as the embedding stage does it."""
    random = np.random.default_rng(seed)
    voices = random.normal(size=(1 + max(voice for *_, voice in pattern), 64))
    spans, who = [], []
    for start, end, voice in pattern:
        last = max(start, end - 1500)
        for at in [*range(start, last, 750), last]:
            spans.append((at, min(at + 1500, end)))
            who.append(voice)
    vectors = voices[who] + 0.5 * random.normal(size=(len(who), 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    speech = tuple(Span(start, end) for start, end, _ in pattern)
    embeddings = Embeddings(np.array(spans, np.int32), vectors.astype(np.float32))
    return Meeting(speech, embeddings, np.array(who))


@pytest.mark.parametrize(
    ("gaps", "groups"),
    [
        (((0.8, 11), (1.2, 4), (1.1, 2)), 2),  # who knows: fewer
        (((1.2, 14), (3.1, 3), (1.9, 2)), 3),  # clear enough
        (((3.6, 5), (3.5, 5), (0.7, 1)), 5),
        (((0.0, 3), (-1e-17, 1)), 3),
    ],
)
def test_in_doubt_there_are_fewer_speakers(
    gaps: tuple[tuple[float, int], ...], groups: int
) -> None:
    cuts = [Cut(gap, number, np.zeros((1, number))) for gap, number in gaps]
    assert decisive(cuts).groups == groups


@pytest.mark.parametrize(
    ("windows", "speakers"), [(200, 1), (200, 2), (400, 4), (3000, 1), (3000, 8)]
)
def test_finds_the_speakers(windows: int, speakers: int) -> None:
    made = meeting(windows, speakers, seed=speakers)
    segments = cluster(made)
    assert len(labels_of(segments)) == speakers
    assert agreement(made, segments) > 0.95


@pytest.mark.parametrize("speakers", [1, 3])
def test_finds_the_speakers_with_umap_hdbscan(speakers: int) -> None:
    made = meeting(600, speakers, seed=speakers)
    segments = cluster(made, method="umap-hdbscan")
    assert len(labels_of(segments)) == speakers
    assert agreement(made, segments) > 0.95


def test_two_minutes_with_three_speakers_give_three() -> None:
    for seed in range(5):
        made = meeting(160, 3, seed=seed)
        assert len(labels_of(cluster(made))) == len(set(made.speakers.tolist()))


def noisier(made: Meeting, noise: float) -> Meeting:
    """The same with embeddings as of a weak model: cosines of about 0.35 within a speaker."""
    random = np.random.default_rng(1)
    vectors = made.embeddings.vectors
    count, dim = vectors.shape
    steps = random.normal(size=(count + 1, dim)).astype(np.float32) / np.sqrt(dim)
    vectors = normalised(vectors + noise * (steps[:-1] + steps[1:]) / np.sqrt(2))
    return made._replace(embeddings=Embeddings(made.embeddings.spans, vectors))


@pytest.mark.parametrize(("windows", "speakers"), [(40, 1), (40, 2), (160, 3), (600, 4)])
def test_weak_embeddings_still_give_the_speakers(windows: int, speakers: int) -> None:
    for seed in range(3):
        made = noisier(meeting(windows, speakers, seed=seed), 0.8)
        segments = cluster(made)
        assert len(labels_of(segments)) == len(set(made.speakers.tolist()))
        assert agreement(made, segments) > 0.95


def test_the_fewer_windows_the_less_a_difference_counts() -> None:
    """Two groups with a cosine of 0.8: of 5 windows each they are one, of 200 each two."""
    pair = np.array([[1.0, 0.0], [0.8, 0.6]], np.float32)
    closeness = Closeness(threshold=0.9, doubt=1.0)
    for members, groups in ((5, 1), (200, 2)):
        labels = np.repeat([0, 1], members)
        merged = merge_close(pair[labels], labels, closeness, Counts(1, 15))
        assert len(set(merged.tolist())) == groups
    kept = merge_close(pair, np.array([0, 1]), closeness, Counts(2, 2))
    assert kept.tolist() == [0, 1]


def test_windows_are_blended_with_those_that_overlap_them() -> None:
    spans = np.array([(0, 1500), (750, 2250), (5000, 6500)], np.int32)
    vectors = np.eye(3, dtype=np.float32)
    blend = blended(spans, vectors, 1.0)
    assert np.allclose(blend[0], blend[1])
    assert np.array_equal(blend[2], vectors[2])


def test_every_moment_of_speech_and_no_other_has_a_speaker() -> None:
    pattern = [(0, 900, 0), (1000, 9000, 1), (9500, 9800, 0), (12000, 26010, 0), (30000, 30040, 1)]
    segments = cluster(scene(pattern), smallest_ms=0)
    assert list(segments) == sorted(segments)
    assert all(one.end <= other.start for one, other in pairwise(segments))
    for start, end, _ in pattern:
        inside = [s for s in segments if start <= s.start and s.end <= end]
        assert inside[0].start == start
        assert inside[-1].end == end
        assert sum(s.end - s.start for s in inside) == end - start
    assert sum(s.end - s.start for s in segments) == sum(end - start for start, end, _ in pattern)


def test_labels_follow_the_order_of_first_speech() -> None:
    made = scene([(0, 9000, 2), (10000, 30000, 0), (31000, 50000, 1), (51000, 60000, 2)])
    segments = cluster(made)
    assert [segment.label for segment in segments] == ["S1", "S2", "S3", "S1"]


def test_a_change_of_speaker_is_placed_to_half_a_second() -> None:
    random = np.random.default_rng(0)
    voices = random.normal(size=(2, 64))
    starts = np.arange(0, 40_000, 750)
    spans = np.stack([starts, starts + 1500], axis=1).astype(np.int32)
    change = 20_400
    share = np.clip((change - starts) / 1500, 0, 1)[:, None]  # of the window, before the change
    vectors = (
        share * voices[0] + (1 - share) * voices[1] + 0.3 * random.normal(size=(len(spans), 64))
    )
    embeddings = Embeddings(spans, vectors.astype(np.float32))
    speech = (Span(0, int(spans[-1, 1])),)
    segments = SpeakerClustering(ClusteringParameters()).run(inputs(speech, embeddings))
    assert [segment.label for segment in segments] == ["S1", "S2"]
    assert abs(segments[0].end - change) < 500


def test_no_speech_gives_nothing() -> None:
    nobody = Embeddings(np.empty((0, 2), np.int32), np.empty((0, 192), np.float32))
    assert SpeakerClustering(ClusteringParameters()).run(inputs((), nobody)) == ()


def test_speech_without_embeddings_is_one_speaker_and_noted() -> None:
    nobody = Embeddings(np.empty((0, 2), np.int32), np.empty((0, 192), np.float32))
    given = inputs((Span(0, 100), Span(500, 800)), nobody)
    found = SpeakerClustering(ClusteringParameters()).run(given)
    assert found == (SpeakerSegment(0, 100, "S1"), SpeakerSegment(500, 800, "S1"))
    assert "no embeddings" in given.notes[0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("method", ["spectral", "umap-hdbscan"])
@pytest.mark.parametrize("speakers", [None, 3])
def test_few_windows(count: int, method: str, speakers: int | None) -> None:
    made = scene([(at * 2000, at * 2000 + 1500, at % 2) for at in range(count)])
    segments = cluster(made, method=method, speakers=speakers)
    assert sum(s.end - s.start for s in segments) == 1500 * count
    if speakers is not None:
        assert len(labels_of(segments)) == min(speakers, count)


def test_equal_embeddings_are_one_speaker() -> None:
    spans = np.array([(at * 750, at * 750 + 1500) for at in range(100)], np.int32)
    same = Embeddings(spans, np.tile(np.eye(1, 32, dtype=np.float32), (100, 1)))
    made = Meeting((Span(0, 76_000),), same, np.zeros(100, np.int64))
    assert labels_of(cluster(made)) == {"S1"}


@pytest.mark.parametrize("method", ["spectral", "umap-hdbscan"])
@pytest.mark.parametrize("asked", [2, 4, 6])
def test_the_exact_number_of_speakers_is_kept(method: str, asked: int) -> None:
    made = meeting(500, 4, seed=7)
    assert len(labels_of(cluster(made, method=method, speakers=asked))) == asked


def test_the_bounds_on_the_number_of_speakers_are_kept() -> None:
    made = meeting(500, 4, seed=7)
    assert len(labels_of(cluster(made, max_speakers=2))) == 2
    assert len(labels_of(cluster(made, min_speakers=6))) >= 6
    assert len(labels_of(cluster(made, min_speakers=2, max_speakers=8))) == 4


def test_asking_for_more_speakers_than_windows_is_noted() -> None:
    made = scene([(0, 1500, 0), (2000, 3500, 1)])
    given = inputs(made.speech, made.embeddings)
    found = SpeakerClustering(ClusteringParameters(speakers=5)).run(given)
    assert len(labels_of(found)) == 2
    assert "5" in given.notes[0]


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"min_speakers": 5, "max_speakers": 2}, "min_speakers"),
        ({"speakers": 0}, "speakers"),
        ({"method": "kmeans"}, "method"),
        ({"pruning": []}, "pruning"),
        ({"pruning": [0.0]}, "pruning"),
        ({"max_speaker": 3}, "max_speaker"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ClusteringParameters.model_validate(parameters)


@pytest.mark.parametrize("method", ["spectral", "umap-hdbscan"])
def test_the_same_input_gives_the_same_output_in_any_order(method: str) -> None:
    made = meeting(500, 3, seed=3)
    first = cluster(made, method=method)
    assert cluster(made, method=method) == first
    order = np.random.default_rng(0).permutation(len(made.embeddings.spans))
    shuffled = Embeddings(made.embeddings.spans[order], made.embeddings.vectors[order])
    assert cluster(made._replace(embeddings=shuffled), method=method) == first


def test_a_voice_heard_for_a_moment_is_absorbed() -> None:
    made = scene([(0, 20000, 0), (21000, 41000, 1), (42000, 43400, 2), (44000, 60000, 0)])
    assert len(labels_of(cluster(made))) == 2


def test_short_flips_are_smoothed() -> None:
    spans = np.array([(at, at + 200) for at in range(0, 4000, 200)], np.int32)
    scores = np.tile(np.array([1.0, 0.0], np.float32), (len(spans), 1))
    scores[9] = (0.0, 1.0)
    speech = (Span(0, 4000),)
    assert len(timeline(speech, spans, scores, step_ms=10, shortest_ms=0)) == 3
    assert timeline(speech, spans, scores, step_ms=10, shortest_ms=400) == ((0, 4000, "S1"),)


def test_the_timeline_becomes_an_annotation() -> None:
    segments = (SpeakerSegment(0, 1500, "S1"), SpeakerSegment(1500, 2000, "S2"))
    annotation = to_annotation(segments, "a.wav")
    assert annotation.uri == "a.wav"
    assert annotation.label_duration("S1") == 1.5
    assert annotation.labels() == ["S1", "S2"]


def test_hours_of_speech_take_bounded_time_and_memory() -> None:
    """20,000 windows: more than four hours without a pause."""
    made = meeting(20_000, 6, seed=1)
    cluster(meeting(100, 2, seed=1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    segments = cluster(made)
    assert time.process_time() - started < 40
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 600
    assert len(labels_of(segments)) == 6
    assert agreement(made, segments) > 0.95
