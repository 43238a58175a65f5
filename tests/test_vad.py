"""Voice activity detection: the published weights give the reference's numbers whatever the block
size, the vectorised decision equals FunASR's state machine, and long segments end in pauses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.records import Span
from pipeline.stage import Block, Inputs
from stages.audio.features import Fbank, stack_frames
from stages.models import ModelFolder, locate
from stages.vad.endpoint import EndpointOptions, segments
from stages.vad.fsmn import Fsmn, FsmnModel, FsmnOptions, load_fsmn
from stages.vad.posteriors import Frames, posteriors, windows
from stages.vad.splitting import split_long
from stages.vad.stage import FsmnVad, FsmnVadParameters
from training.splits import is_held_out, read_manifest

RATE = 16000
Samples = NDArray[np.float32]
BUNDLED = "bundled/fsmn-en"
PLAIN = {"faint_threshold": 0.6, "voiceless_threshold": -1}  # as FunASR decides
DEMO = Path(__file__).parents[1] / "demo"


@dataclass(frozen=True)
class Memory:
    """Samples as a recording, in pieces of `piece` samples."""

    samples: Samples
    piece: int = 60 * RATE

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.samples), self.piece):
            yield Block(start, self.samples[start : start + self.piece])


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Path:
    return shared_data / "fsmn-vad"


@pytest.fixture(scope="module")
def example(published: Path) -> Samples:
    samples: Samples = soundfile.read(published / "vad_example.wav", dtype="float32")[0]
    return samples


def detect(samples: Samples, piece: int = 60 * RATE, **parameters: object) -> list[Span]:
    stage = FsmnVad(FsmnVadParameters.model_validate(parameters))
    stage.load()
    return list(stage.run(Inputs(Memory(samples, piece), {})))


def frames_of(samples: Samples, model: FsmnModel, frames: int, piece: int) -> Frames:
    fbank = Fbank(model.config.fbank)
    cut = windows(Memory(samples, piece).blocks(), model.config, frames)
    parts = [posteriors(window, model, fbank) for window in cut]
    silence = np.concatenate([part.silence for part in parts])
    return Frames(0, silence, np.concatenate([part.decibel for part in parts]))


@pytest.mark.parametrize("frames", [1, 4, 60])
def test_memory_is_a_weighted_sum_over_past_and_future_frames(frames: int) -> None:
    options = FsmnOptions(5, 5, 1, 5, 3, 4, 3, 2, 5, 5, 5)  # every 2nd before, every 5th after
    memory = Fsmn(options).fsmn[0].fsmn_block
    assert memory.conv_right is not None
    x = torch.randn(2, frames, 3)
    past, future = (conv.weight[:, 0, :, 0] for conv in (memory.conv_left, memory.conv_right))
    wanted = x.clone()
    for at in range(frames):
        for tap in range(4):
            if (before := at - 2 * (3 - tap)) >= 0:
                wanted[:, at] += x[:, before] * past[:, tap]
        for tap in range(3):
            if (after := at + 5 * (1 + tap)) < frames:
                wanted[:, at] += x[:, after] * future[:, tap]
    torch.testing.assert_close(memory(x), wanted)


# the published weights --------------------------------------------------------------------


def test_features_and_posteriors_equal_the_reference(published: Path, example: Samples) -> None:
    reference = np.load(published / "vad_example.reference.npz")
    model = load_fsmn(ModelFolder(published))
    fbank = Fbank(model.config.fbank)
    features, counts = fbank(torch.from_numpy(example)[None], torch.tensor([len(example)]))
    stacked = model.cmvn(stack_frames(features, counts, model.config.lfr_m, 1)[0])[0]
    assert np.abs(stacked[:100].numpy() - reference["features_first_100"]).max() < 1e-3
    silence = frames_of(example, model, 3000, 60 * RATE).silence
    assert silence.shape == reference["silence_posterior"].shape
    assert np.abs(silence - reference["silence_posterior"]).max() < 1e-4


@pytest.mark.parametrize("block_ms", [1000, 7000, 60_000])
def test_the_reference_segments_whatever_the_block_size(
    published: Path, example: Samples, block_ms: int
) -> None:
    """The reference read the 6.6 kB of metadata that follow the samples in vad_example.wav as
    if they were sound: with them all twelve segments are its own, without them the last one ends
    with the recording."""
    reference = [
        Span(*pair) for pair in json.loads((published / "vad_example.segments.json").read_text())
    ]
    raw = np.frombuffer((published / "vad_example.wav").read_bytes()[44:], np.int16)
    parameters: dict[str, object] = {"model": str(published), "block_ms": block_ms} | PLAIN
    as_read = detect(raw.astype(np.float32) / 32768, max_single_segment_time=60_000, **parameters)
    assert as_read == reference
    last = Span(reference[-1].start, 70_450)
    assert detect(example, max_single_segment_time=60_000, **parameters) == [*reference[:-1], last]


@pytest.mark.parametrize("name", ["published", "bundled"])
def test_posteriors_do_not_depend_on_windows_or_blocks(
    name: str, published: Path, example: Samples
) -> None:
    folder = ModelFolder(published) if name == "published" else locate(BUNDLED, "stages.vad")
    model = load_fsmn(folder)
    samples = example[: 20 * RATE + 77]
    whole = frames_of(samples, model, 10**6, 10**8)
    assert len(whole.silence) == 1 + (len(samples) - 400) // 160
    for frames, piece in [(37, 801), (100, RATE), (700, 5000), (1996, 10**8)]:
        parts = frames_of(samples, model, frames, piece)
        assert np.abs(parts.silence - whole.silence).max() <= 1e-5, frames
        assert np.abs(parts.decibel - whole.decibel).max() <= 1e-4, frames


def test_the_audio_is_read_as_windows_are_asked_for(published: Path, example: Samples) -> None:
    model = load_fsmn(ModelFolder(published))
    asked: list[int] = []

    def blocks() -> Iterator[Block]:
        for block in Memory(example, RATE).blocks():
            asked.append(block.start)
            yield block

    cut = windows(blocks(), model.config, 500)
    for number in range(1, 6):
        assert len(next(cut).samples) <= 7 * RATE
        assert len(asked) <= 5 * number + 1


# the decision -----------------------------------------------------------------------------


def state_machine(speech: NDArray[np.bool_], options: EndpointOptions) -> list[Span]:
    """FunASR's decision frame by frame, as its source has it: slow, and easy to read."""
    window = [False] * (options.window_size // 10)
    latency = (options.window_size + options.lookback_time_start_point) // 10
    end_silence = options.max_end_silence_time - options.speech_to_sil_time
    talking, inside, quiet, start, earliest = False, False, 0, 0, 0
    found: list[Span] = []
    for now, is_speech in enumerate(speech):
        window = [*window[1:], bool(is_speech)]
        before = talking
        if not before and sum(window) >= options.sil_to_speech_time // 10:
            talking = True
        elif before and sum(window) <= options.speech_to_sil_time // 10:
            talking = False
        quiet = 0 if before or talking else quiet + 1
        end = None
        if not inside and talking and not before:
            inside, start = True, max(earliest, now - latency)
        elif inside and not before and not talking and quiet * 10 >= end_silence:
            back = int(end_silence / 10) - options.lookahead_time_end_point // 10 - 1
            end = now - max(0, back)
        elif inside and options.max_single_segment_time is not None:
            end = now if now - start + 1 > options.max_single_segment_time / 10 else None
        if end is None and inside and now == len(speech) - 1:
            end = now
        if end is not None:
            found.append(Span(start * 10, (end + 1) * 10))
            window, earliest = [False] * len(window), end + 1
            talking, inside, quiet = False, False, 0
    return found


def draw_silence(rng: np.random.Generator) -> Samples:
    """Stretches of one frame to some seconds, each with its own share of silence."""
    length = int(rng.integers(0, 800))
    parts: list[NDArray[np.bool_]] = [np.zeros(0, bool)]
    while sum(map(len, parts)) < length:
        frames = int(rng.geometric(1 / rng.choice([1, 3, 10, 40, 150])))
        parts.append(rng.random(frames) < rng.choice([0.02, 0.2, 0.25, 0.7, 0.75, 0.98]))
    likely = np.concatenate(parts)[:length]
    return np.where(likely, rng.uniform(0.21, 1, length), rng.uniform(0, 0.19, length)).astype("f4")


def test_the_decision_equals_the_state_machine() -> None:
    rng = np.random.default_rng(0)
    for trial in range(1000):
        silence = draw_silence(rng)
        options = EndpointOptions(max_single_segment_time=60_000)
        if trial % 2:
            options = EndpointOptions(
                window_size=int(rng.choice([200, 100, 300])),
                sil_to_speech_time=int(rng.choice([150, 100, 50])),
                speech_to_sil_time=int(rng.choice([150, 100, 50])),
                max_end_silence_time=int(rng.choice([100, 150, 160, 300, 800, 1205])),
                lookback_time_start_point=int(rng.choice([0, 100, 200])),
                lookahead_time_end_point=int(rng.choice([0, 100, 300])),
                max_single_segment_time=rng.choice([None, 1000, 3000, 5000]),
            )
        found = segments(silence, np.zeros_like(silence), options)
        assert list(found) == state_machine(silence < 0.2, options), (trial, options)


def test_frames_below_the_decibel_threshold_are_no_speech() -> None:
    silence = np.zeros(600, np.float32)
    decibel = np.where(np.arange(600) < 300, -50.0, -10.0).astype(np.float32)
    options = EndpointOptions(decibel_threshold=-30.0)
    assert segments(silence, decibel, options) == (Span(2740, 6000),)


@pytest.mark.parametrize(
    ("level", "silence", "counts"),
    [(-55.0, 0.05, False), (-55.0, 0.01, True), (-40.0, 0.05, True), (-55.0, 0.3, False)],
)
def test_what_is_as_quiet_as_the_room_has_to_be_surer(
    level: float, silence: float, counts: bool
) -> None:
    """Speech at -30 dB over a room of -70 dB, then something between them."""
    decibel = np.repeat([-30.0, -70.0, level, -70.0], 500).astype(np.float32)
    posterior = np.repeat([0.01, 0.99, silence, 0.99], 500).astype(np.float32)
    found = segments(posterior, decibel, EndpointOptions(faint_threshold=0.96))
    assert len(found) == 1 + counts
    assert found[0].start == 0


def test_where_everything_is_quiet_nothing_is_faint() -> None:
    decibel, posterior = np.full(600, -70.0, np.float32), np.full(600, 0.1, np.float32)
    found = segments(posterior, decibel, EndpointOptions(faint_threshold=0.96))
    assert found == (Span(0, 6000),)


def test_hours_are_decided_in_seconds() -> None:
    frames = 6 * 360_000  # a loop over frames takes some minutes on a busy machine
    periodic = (np.arange(frames) // 400 % 2).astype(np.float32)
    started = time.process_time()
    for silence in (periodic, np.zeros(frames, np.float32), np.ones(frames, np.float32)):
        segments(silence, silence, EndpointOptions(faint_threshold=0.96))
    assert time.process_time() - started < 5


# the edges --------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [0, 1, 160, 399, 400, 1000])
def test_recordings_too_short_for_speech_have_none(samples: int) -> None:
    rng = np.random.default_rng(0)
    assert detect(rng.uniform(-0.5, 0.5, samples).astype(np.float32)) == []


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_silence_has_no_segments(value: float) -> None:
    assert detect(np.full(30 * RATE, value, np.float32)) == []


def test_speech_to_both_edges_is_one_segment_to_the_last_frame(
    published: Path, example: Samples
) -> None:
    speech = example[10 * RATE : 12 * RATE]
    assert detect(speech, model=str(published)) == [Span(0, 1980)]


def test_a_folder_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: Paraformer\n")
    with pytest.raises(ModelError, match=str(tmp_path)):
        list(
            FsmnVad(FsmnVadParameters(model=str(tmp_path))).batches(
                Inputs(Memory(np.zeros(9, "f4")), {})
            )
        )


# the bundled weights ----------------------------------------------------------------------


def test_bundled_finds_held_out_speech_and_leaves_noise_alone(shared_data: Path) -> None:
    """Six speakers never trained on, two seconds apart, under noise 15 dB below them."""
    rng = np.random.default_rng(1)
    rows = [
        row
        for corpus in ("asr-en-dev-clean", "asr-en-commonvoice", "asr-en-kathleen")
        for row in read_manifest(shared_data / corpus)
        if is_held_out(row.speaker, row.split) and 3 < row.seconds < 10
    ]
    parts, spoken, at = [np.zeros(2 * RATE, np.float32)], [], 2 * RATE
    for index in rng.permutation(len(rows))[:12]:
        clip = soundfile.read(rows[index].audio, dtype="float32")[0]
        clip *= 0.05 / np.sqrt(np.square(clip).mean())
        parts += [clip, np.zeros(2 * RATE, np.float32)]
        spoken.append(Span(at * 1000 // RATE, (at + len(clip)) * 1000 // RATE))
        at += len(clip) + 2 * RATE
    mixed = np.concatenate(parts)
    rain = soundfile.read(
        sorted((shared_data / "noise-esc10/rain").glob("5-*"))[0], dtype="float32"
    )[0]
    rain = np.resize(rain, len(mixed))
    mixed += rain * np.float32(0.05 * 10 ** (-15 / 20) / np.sqrt(np.square(rain).mean()))

    found = detect(mixed)
    inside = [sum(speech.overlap(span) for span in found) / speech.duration for speech in spoken]
    assert np.mean(inside) > 0.85 and min(inside) > 0.4
    outside = sum(span.duration for span in found) - sum(
        speech.overlap(span) for speech in spoken for span in found
    )
    assert outside < 0.35 * 2000 * (len(spoken) + 1)


def test_bundled_takes_less_noise_for_speech_than_the_published(
    shared_data: Path, published: Path
) -> None:
    """Everyday noise that it was not trained on, babies and dogs among it."""
    files = sorted((shared_data / "noise-esc10").glob("*/5-*"))
    noise = np.concatenate([soundfile.read(file, dtype="float32")[0] for file in files])
    taken = [
        sum(span.duration for span in detect(noise, model=model)) / (len(noise) * 1000 / RATE)
        for model in (BUNDLED, str(published))
    ]
    assert taken[0] < taken[1]
    assert taken[0] < 0.12


# long segments ----------------------------------------------------------------------------


def test_long_segments_are_cut_in_pauses() -> None:
    """The demo meeting has a pause in every ten seconds; no cut may go through a word."""
    words = [json.loads(line) for line in (DEMO / "meeting.words.jsonl").read_text().splitlines()]
    samples = soundfile.read(DEMO / "meeting.opus", dtype="float32")[0]
    found = detect(samples, max_end_silence_time=10_000, max_single_segment_time=10_000)
    cuts = [left.end for left, right in pairwise(found) if left.end == right.start]
    through = [
        (word["text"], cut)
        for cut in cuts
        for word in words
        if word["start"] + 30 < cut < word["end"] - 30
    ]
    assert len(cuts) >= 20
    assert max(span.duration for span in found) <= 10_000
    assert through == []


def test_the_longest_pause_is_chosen() -> None:
    """Speech of 30 s with a short gap at 12 s and a long one at 17 s; cut at most at 20 s."""
    silence = np.zeros(3000, np.float32)
    decibel = np.full(3000, 10.0, np.float32)
    for first, frames in ((1200, 8), (1700, 30)):
        silence[first : first + frames] = 1.0
        decibel[first : first + frames] = -20.0
    pieces = split_long([Span(0, 30_000)], silence, decibel, 20_000)
    assert len(pieces) == 2 and 17_000 < pieces[0].end < 17_300
    assert pieces[0].start == 0 and pieces[0].end == pieces[1].start and pieces[1].end == 30_000


def test_cutting_changes_nothing_but_the_length() -> None:
    rng = np.random.default_rng(3)
    silence = rng.random(50_000).astype(np.float32)
    spans = [Span(0, 100_000), Span(100_000, 100_010), Span(200_000, 500_000)]
    pieces = split_long(spans, silence, silence, 7000)
    assert all(0 < piece.duration <= 7000 for piece in pieces)
    assert list(pieces) == sorted(pieces)
    assert sum(piece.duration for piece in pieces) == sum(span.duration for span in spans)
