"""Each kind of bad input ends as one clear line that names the file; the others finish."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tests.conftest import Call, hansard

SPEECH_SECONDS = 20


@dataclass(frozen=True)
class Batch:
    """One call over all the odd files, and where it wrote."""

    folder: Path
    out: Path
    call: Call

    def line(self, name: str) -> str:
        """The one line that says how `name` ended."""
        lines = [
            line
            for line in self.call.stderr.splitlines()
            if line.startswith(("done", "FAILED")) and f"/{name}" in line
        ]
        assert len(lines) == 1, (name, self.call.stderr)
        return lines[0]

    def notes(self, name: str) -> str:
        lines = self.call.stderr.splitlines()
        return "\n".join(line for line in lines if line.startswith("note") and f"/{name}" in line)

    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.call.stdout.splitlines()]


def encode(path: Path, samples: np.ndarray, rate: int, codec: str) -> None:
    """Writes mono int16 `samples` through PyAV."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        fifo = av.AudioFifo()
        for part in resampler.resample(frame):
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        while chunk := fifo.read(size) or fifo.read():
            for packet in stream.encode(chunk):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture(scope="module")
def batch(meeting: Path, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    folder = tmp_path_factory.mktemp("odd")
    speech, rate = soundfile.read(meeting, frames=SPEECH_SECONDS * 16000, dtype="float32")
    rng = np.random.default_rng(0)

    def write(name: str, samples: np.ndarray, rate: int = rate, subtype: str = "PCM_16") -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, samples, rate, subtype=subtype, format="WAV")

    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("This is not audio.\n" * 50)
    encode(folder / "whole.mp3", (speech * 32000).astype(np.int16), rate, "mp3")
    data = (folder / "whole.mp3").read_bytes()
    (folder / "truncated.mp3").write_bytes(data[: len(data) * 6 // 10 + 7])
    write("lying.wav", speech)
    data = (folder / "lying.wav").read_bytes()
    (folder / "lying.wav").write_bytes(data[: len(data) // 2])
    with_nan = speech.copy()
    with_nan[5000:9000] = np.nan
    write("nan.wav", with_nan, subtype="FLOAT")
    write("silence.wav", np.zeros(10 * rate, np.float32))
    write("dc.wav", speech * 0.5 + 0.4)
    write("one.wav", speech[:1])
    write("six.wav", np.stack([speech, *(rng.normal(0, 1e-4, (5, len(speech))))], axis=1))
    write("a/meeting.wav", speech)
    write("b/meeting.wav", speech[: 8 * rate])
    write('it\'s "odd"\nПротокол.wav', speech)
    repeated = np.repeat(speech, 6)
    write("hifi.wav", repeated, 96000, "PCM_24")
    write("phone.wav", speech[::2], 8000, "ULAW")
    out = folder.parent / "odd-out"
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    call = hansard("transcribe", folder / "missing.wav", *names, "--out", out, "--json")
    return Batch(folder, out, call)


def test_every_recording_has_exactly_one_record(batch: Batch) -> None:
    records = batch.records()
    submitted = 1 + sum(path.is_file() for path in batch.folder.rglob("*"))
    assert len(records) == len({record["id"] for record in records}) == submitted
    done = {path.stem for path in batch.out.glob("transcripts/*.json")}
    failed = {path.stem for path in batch.out.glob("failures/*.json")}
    assert not done & failed
    assert done | failed == {record["id"] for record in records}
    assert batch.call.code == 1
    assert "Traceback" not in batch.call.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.wav", "no such file"),
        ("empty.wav", "empty"),
        ("text.wav", "not audio"),
    ],
)
def test_what_cannot_be_read_fails_with_its_reason(batch: Batch, name: str, reason: str) -> None:
    line = batch.line(name)
    assert line.startswith("FAILED")
    assert reason in line.lower()


@pytest.mark.parametrize(
    ("name", "note"),
    [("truncated.mp3", "truncated"), ("lying.wav", "header"), ("nan.wav", "nan")],
)
def test_what_is_damaged_is_transcribed_as_far_as_it_goes_with_a_note(
    batch: Batch, name: str, note: str
) -> None:
    assert batch.line(name).startswith("done")
    assert note in batch.notes(name).lower()


@pytest.mark.parametrize("name", ["silence.wav", "one.wav"])
def test_a_recording_without_speech_is_done_and_has_no_turns(batch: Batch, name: str) -> None:
    line = batch.line(name)
    assert line.startswith("done") and "no speech found" in line
    assert any(r["status"] == "done" and r["turns"] == [] for r in batch.records())


@pytest.mark.parametrize("name", ["dc.wav", "phone.wav", "hifi.wav", "six.wav", "whole.mp3"])
def test_odd_signals_give_about_the_words_of_the_plain_one(batch: Batch, name: str) -> None:
    def words(suffix: str) -> list[str]:
        (found,) = [r for r in batch.records() if str(r["uri"]).endswith(suffix)]
        turns: list[dict[str, str]] = found["turns"]  # type: ignore[assignment]
        text = " ".join(turn["text"] for turn in turns).lower()
        return [word.strip(".,?") for word in text.split()]

    plain, odd = words("a/meeting.wav"), words(f"/{name}")
    shared = sum(min(plain.count(word), odd.count(word)) for word in set(plain))
    # Telephone speech has lost the upper half of what the models were trained on, and MP3 some.
    least = {"phone.wav": 0.4, "whole.mp3": 0.75}.get(name, 0.75)
    assert shared >= least * len(plain)


def test_one_base_name_in_two_folders_is_two_recordings(batch: Batch) -> None:
    found = [r for r in batch.records() if str(r["uri"]).endswith("/meeting.wav")]
    assert len({record["id"] for record in found}) == 2
    assert {record["duration"] for record in found} == {20_000, 8_000}


def test_an_odd_file_name_stays_on_one_line(batch: Batch) -> None:
    line = batch.line('it\'s "odd"\\nПротокол.wav')
    assert line.startswith("done")


def test_a_folder_without_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("x")
    call = hansard("transcribe", tmp_path / "in", "--out", tmp_path / "out")
    assert call.code == 2
    assert call.stderr.count("\n") == 1
    assert str(tmp_path / "in") in call.stderr and "without audio" in call.stderr


def test_an_output_folder_that_cannot_be_written_is_named(meeting: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    call = hansard("transcribe", meeting, "--out", tmp_path / "file" / "out")
    assert call.code == 2
    assert call.stderr.count("\n") == 1
    assert str(tmp_path / "file" / "out") in call.stderr


def test_a_full_disk_ends_that_recording_and_keeps_what_was_made(
    meeting: Path, tmp_path: Path
) -> None:
    """On a real file system of 64 KiB: some artifacts fit, the rest do not."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk cannot be mounted here: needs root")
    try:
        call = hansard("transcribe", meeting, "--out", disk / "out")
        assert call.code == 1
        assert "Traceback" not in call.stderr
        assert "no space left on the disk" in call.stderr
        assert str(meeting) in call.stderr
        made = [path.name for path in disk.rglob("artifacts/*/*")]
        assert any(name.startswith("vad-") for name in made)
        assert not any(name.endswith(".tmp") for name in made)
        roomy = tmp_path / "roomy"
        shutil.copytree(disk / "out", roomy)
        assert hansard("transcribe", meeting, "--out", roomy).code == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)
