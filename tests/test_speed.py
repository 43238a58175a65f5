"""What makes it fast, by count: how much of a batch is padding, how full batches are, how often
the host would wait for a GPU; and that threads do not change a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.folders.paraformer import SMALL, make_folder
from benchmarks.speed_products import Products
from pipeline.lanes import one_thread
from pipeline.records import Embeddings, Span
from pipeline.stage import SAMPLE_RATE, Inputs
from stages.asr.paraformer_stage import ParaformerAsr, ParaformerParameters, ParaformerRecogniser
from stages.audio.cutting import Cut, bucketed
from stages.audio.decode import AudioSource
from stages.speakers.embedder import SpeakerEmbedder
from stages.speakers.stage import CamPlusPlusParameters, CamPlusPlusStage
from stages.vad.stage import FsmnVad, FsmnVadParameters
from tests.speech import batch, segments
from training.splits import read_manifest

BATCH_SECONDS = (30, 300)  # on a thread, on a GPU


def source(path: Path) -> AudioSource:
    return AudioSource(str(path), AudioSource.parameters_type())


def speech(audio: AudioSource) -> tuple[Span, ...]:
    stage = FsmnVad(FsmnVadParameters())
    stage.load()
    return stage.run(Inputs(audio, {}))


def shares(seconds: Sequence[float], budget: int) -> tuple[float, float]:
    """Of all batches: the share that is padding, and how full they are."""
    cuts: list[Cut] = [
        (at, np.empty(int(length * SAMPLE_RATE), np.float32)) for at, length in enumerate(seconds)
    ]
    rows = [[len(samples) for _, samples in one] for one in bucketed(cuts, budget * SAMPLE_RATE)]
    padded = sum(len(row) * max(row) for row in rows)
    heard = sum(map(sum, rows))
    return 1 - heard / padded, padded / len(rows) / (budget * SAMPLE_RATE)


@pytest.mark.parametrize("budget", BATCH_SECONDS)
def test_a_twentieth_of_a_batch_is_padding(shared_data: Path, budget: int) -> None:
    meetings = [
        span.duration / 1000
        for path in sorted((shared_data / "meetings-ami").glob("*.flac"))
        for span in speech(source(path))
    ]
    read = [one.seconds for one in read_manifest(shared_data / "asr-en-dev-clean")]
    assert len(meetings) > 30 and len(read) > 500
    for seconds in (meetings, read):
        assert shares(seconds, budget)[0] < 0.05
    assert shares(read, budget)[1] > 0.5  # of two hours


def test_windows_of_the_vad_repeat_little_of_each_other(meeting: Path) -> None:
    stage = FsmnVad(FsmnVadParameters())
    taken = sum(len(window.samples) for window in stage.batches(Inputs(source(meeting), {})))
    there = sum(len(block.samples) for block in source(meeting).blocks())
    assert taken < 1.05 * there


def test_batches_of_windows_of_speech_are_full(meeting: Path) -> None:
    stage = CamPlusPlusStage(CamPlusPlusParameters())
    inputs = Inputs(source(meeting), {"vad": speech(source(meeting))})
    sizes = [len(one.spans) for one in stage.batches(inputs)]
    assert len(sizes) > 2
    assert set(sizes[:-1]) == {stage.parameters.batch_size}


def waits(work: Callable[[], object]) -> int:
    with torch.inference_mode(), Products() as counted:
        work()
    return counted.waits


def test_the_host_waits_a_few_times_a_batch_however_large_it_is(tmp_path: Path) -> None:
    stage = ParaformerAsr(
        ParaformerParameters(model=str(make_folder(tmp_path, "BiCifParaformer", SMALL)))
    )
    stage.load()
    recogniser = stage._recogniser
    assert isinstance(recogniser, ParaformerRecogniser)
    speakers = CamPlusPlusStage(CamPlusPlusParameters())
    speakers.load()
    assert isinstance(speakers._embedder, SpeakerEmbedder)
    embedder = speakers._embedder

    def recognise(rows: int) -> None:
        features, frames = recogniser.features(*batch(*segments(5)[:rows]))
        recogniser.network(features, frames, recogniser.layout.frame_ms)

    assert waits(lambda: recognise(5)) == waits(lambda: recognise(1)) <= 3
    assert waits(lambda: embedder(torch.randn(20, 24_000))) <= 2


def test_threads_do_not_change_a_result(meeting: Path) -> None:
    def heard() -> tuple[tuple[Span, ...], Embeddings]:
        vad = FsmnVad(FsmnVadParameters(block_ms=9000))
        embedding = CamPlusPlusStage(CamPlusPlusParameters())
        vad.load()
        embedding.load()
        spans = vad.run(Inputs(source(meeting), {}))
        return spans, embedding.run(Inputs(source(meeting), {"vad": spans}))

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        spans, embeddings = heard()
        with one_thread():
            alone, embedded_alone = heard()
    finally:
        torch.set_num_threads(before)
    assert spans == alone
    assert np.array_equal(embeddings.vectors, embedded_alone.vectors)


def test_weights_are_mapped_from_their_file(tmp_path: Path) -> None:
    stage = ParaformerAsr(
        ParaformerParameters(model=str(make_folder(tmp_path, "Paraformer", SMALL)))
    )
    stage.load()
    assert isinstance(stage._recogniser, ParaformerRecogniser)
    at = stage._recogniser.network.encoder.encoders[0].feed_forward.w_1.weight.data_ptr()
    mapped = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith("model.pt")
    ]
    assert any(first <= at < last for first, last in mapped)
