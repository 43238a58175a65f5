"""Decoding: every format at its true times, channels, blocks, memory, addresses."""

from __future__ import annotations

import wave
from pathlib import Path

import fsspec
import numpy as np
import psutil
import pytest
import soundfile

from pipeline.errors import InputError
from stages.audio.location import fingerprint
from tests.audio_files import bursts, encode, lag_and_correlation, read, source

SECONDS = 6.0
REFERENCE = bursts(SECONDS, 16000)

ENCODED = {
    "flac.flac": (44100, "flac", "s16"),
    "mp3.mp3": (44100, "libmp3lame", "fltp"),
    "aac.m4a": (44100, "aac", "fltp"),
    "opus.opus": (48000, "libopus", "flt"),
    "opus.ogg": (48000, "libopus", "flt"),
    "opus.webm": (48000, "libopus", "flt"),
    "film.mp4": (48000, "aac", "fltp"),
    "film.mkv": (48000, "flac", "s16"),
}


@pytest.mark.parametrize("name", ENCODED)
def test_formats_keep_their_times(name: str, tmp_path: Path) -> None:
    rate, codec, sample_format = ENCODED[name]
    path = tmp_path / name
    video = name.startswith("film")
    encode(path, bursts(SECONDS, rate), rate, codec, sample_format, video=video)
    samples, notes = read(path)
    lag, correlation = lag_and_correlation(samples, REFERENCE)
    assert notes == []
    assert abs(len(samples) / 16000 - SECONDS) < 0.06
    assert abs(lag) <= 16
    assert correlation > 0.97
    info = source(path).probe()
    assert abs(info.duration_ms - 1000 * SECONDS) < 60
    assert (info.channels, info.sample_rate) == (1, rate)


@pytest.mark.parametrize(
    ("kind", "subtype", "rate"),
    [
        ("WAV", "PCM_U8", 16000),
        ("WAV", "PCM_16", 44100),
        ("WAV", "PCM_24", 96000),
        ("WAV", "PCM_32", 22050),
        ("WAV", "FLOAT", 48000),
        ("WAV", "DOUBLE", 11025),
        ("WAV", "ULAW", 8000),
        ("WAV", "ALAW", 8000),
        ("AIFF", "PCM_24", 48000),
        ("OGG", "VORBIS", 44100),
    ],
)
def test_sample_formats_and_rates(kind: str, subtype: str, rate: int, tmp_path: Path) -> None:
    path = tmp_path / f"sound.{kind.lower()}"
    soundfile.write(path, bursts(SECONDS, rate), rate, subtype=subtype, format=kind)
    samples, notes = read(path)
    assert notes == []
    assert len(samples) == SECONDS * 16000
    assert np.corrcoef(samples, REFERENCE)[0, 1] > 0.995
    assert abs(np.abs(samples).max() / np.abs(REFERENCE).max() - 1) < 0.06


@pytest.mark.parametrize(
    ("pcm_format", "dtype", "scale"), [("s16le", "<i2", 32767), ("f32le", "<f4", 1.0)]
)
def test_raw_pcm(pcm_format: str, dtype: str, scale: float, tmp_path: Path) -> None:
    path = tmp_path / "sound.raw"
    stereo = np.stack([bursts(SECONDS, 8000), np.zeros(48000, dtype=np.float32)], axis=1)
    path.write_bytes((stereo * scale).astype(dtype).tobytes())
    samples, _ = read(path, pcm_rate=8000, pcm_channels=2, pcm_format=pcm_format, channel=0)
    assert len(samples) == SECONDS * 16000
    assert np.corrcoef(samples, REFERENCE)[0, 1] > 0.995


def test_six_channels_are_averaged_or_picked(tmp_path: Path) -> None:
    gains = np.array([1.0, 0.5, 0.25, 0.9, 0.0, 0.1], dtype=np.float32)
    path = tmp_path / "six.wav"
    soundfile.write(path, np.outer(bursts(2, 48000), gains), 48000, subtype="FLOAT")
    first, _ = read(path, channel=0)
    mixed, notes = read(path)
    assert np.allclose(mixed, first * gains.mean(), atol=1e-6)
    assert notes == []
    # The fourth is the low-frequency channel, which a cinema's down-mix would leave out.
    assert np.allclose(read(path, channel=3)[0], first * 0.9, atol=1e-6)
    assert read(path, channel=4)[1] == ["digital silence from start to end"]
    for passes in (source(path, channel=6).probe, lambda: read(path, channel=6)):
        with pytest.raises(InputError, match=r"six\.wav: no channel 6 in it, channels 0 to 5"):
            passes()


def test_channels_that_cancel_are_noted(tmp_path: Path) -> None:
    sound = bursts(2, 16000)
    soundfile.write(tmp_path / "anti.wav", np.stack([sound, -sound], axis=1), 16000)
    assert any("cancel" in note for note in read(tmp_path / "anti.wav")[1])


@pytest.mark.parametrize("name", ["flac.flac", "mp3.mp3", "opus.opus"])
def test_blocks_do_not_change_the_samples(name: str, tmp_path: Path) -> None:
    rate, codec, sample_format = ENCODED[name]
    path = encode(tmp_path / name, bursts(SECONDS, rate), rate, codec, sample_format)
    whole, _ = read(path)
    for block_ms in (1000, 730):
        blocks = list(source(path, block_ms=block_ms).blocks())
        assert all(len(block.samples) == block_ms * 16 for block in blocks[:-1])
        assert [block.start for block in blocks] == [i * block_ms * 16 for i in range(len(blocks))]
        assert np.array_equal(np.concatenate([block.samples for block in blocks]), whole)


@pytest.mark.parametrize("name", ["gap.webm", "gap.opus", "gap.mp4", "gap.mka", "gap.ts"])
def test_gaps_become_silence(name: str, tmp_path: Path) -> None:
    codec = {"mp4": "aac", "ts": "aac", "mka": "flac"}.get(name[4:], "libopus")
    sample_format = {"aac": "fltp", "flac": "s16", "libopus": "flt"}[codec]
    path = encode(tmp_path / name, bursts(6, 48000), 48000, codec, sample_format, gap=(2, 1.5))
    samples, notes = read(path)
    assert notes == ["1 gap in the time stamps filled with silence, 1.5 s in all"]
    assert abs(len(samples) - 7.5 * 16000) < 0.06 * 16000
    lag, correlation = lag_and_correlation(samples[56000:], REFERENCE[32000:])
    # MPEG-TS cannot say that the first 21 ms are the AAC encoder's delay.
    assert abs(lag) <= (400 if name == "gap.ts" else 16)
    assert correlation > 0.97


def test_sound_that_starts_late_in_a_film(tmp_path: Path) -> None:
    film = encode(
        tmp_path / "late.mp4", bursts(6, 48000), 48000, "aac", "fltp", start=1.5, video=True
    )
    samples, _ = read(film)
    lag, correlation = lag_and_correlation(samples[24000:], REFERENCE)
    assert abs(lag) <= 32
    assert correlation > 0.97


def test_a_broken_clock_is_not_followed(tmp_path: Path) -> None:
    path = encode(tmp_path / "w.mka", bursts(6, 48000), 48000, "flac", "s16", gap=(2, 9000))
    samples, notes = read(path)
    assert abs(len(samples) - 96000) < 960
    assert "1 jump of the time stamps past the end, not followed" in notes


def test_a_broadcast_clock_is_not_silence(tmp_path: Path) -> None:
    path = encode(tmp_path / "b.ts", bursts(6, 48000), 48000, "aac", "fltp", start=5000)
    samples, notes = read(path)
    assert abs(len(samples) - 96000) < 960
    assert notes == []


def test_three_hours_in_constant_memory(tmp_path: Path) -> None:
    """A file of holes: 1 GB of stereo that takes no place on the disk."""
    path = tmp_path / "long.wav"
    size = 3 * 3600 * 24000 * 4
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 24000, 0, "NONE", ""))
        file.setnframes(size // 4)
        file._ensure_header_written(0)
    with path.open("r+b") as raw:
        raw.seek(4)
        raw.write((size + 36).to_bytes(4, "little"))
        raw.seek(40)
        raw.write(size.to_bytes(4, "little"))
        raw.truncate(44 + size)
    _assert_constant_memory(path, 3 * 3600)


def test_an_hour_of_mp3_in_constant_memory(tmp_path: Path) -> None:
    minute = encode(tmp_path / "m.mp3", bursts(60, 32000), 32000, "libmp3lame", "fltp")
    path = tmp_path / "hour.mp3"
    path.write_bytes(minute.read_bytes() * 60)
    _assert_constant_memory(path, 3600)


def _assert_constant_memory(path: Path, seconds: int) -> None:
    process = psutil.Process()
    early = latest = samples = 0
    for number, block in enumerate(source(path, block_ms=30_000).blocks()):
        samples += len(block.samples)
        latest = max(latest, process.memory_info().rss)
        if number == 4:
            early = latest
    assert abs(samples / 16000 - seconds) < 5
    assert latest - early < 40e6


@pytest.mark.parametrize(
    "name",
    [
        "a b.wav",
        'it\'s "quoted".wav',
        "two\nlines.wav",
        "заседание.wav",
        "100%d.wav",
        "s3:x.wav",
        "-i.wav",
        "[0-9]*?.wav",
        b"\xff\xfe.wav".decode("utf-8", "surrogateescape"),
    ],
)
def test_odd_file_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Path(name).open("wb") as file:
        soundfile.write(file, REFERENCE, 16000, format="WAV")
    assert source(name).probe().duration_ms == 1000 * SECONDS
    assert len(read(name)[0]) == len(REFERENCE)
    assert source(name).fingerprint().startswith("sha256:")


def test_addresses(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", bursts(SECONDS, 44100), 44100, "libmp3lame", "fltp")
    stored = fsspec.filesystem("memory")
    stored.pipe_file("/decode/a.mp3", path.read_bytes())
    assert np.array_equal(read("memory://decode/a.mp3")[0], read(path)[0])
    assert np.array_equal(read(path.as_uri())[0], read(path)[0])
    with pytest.raises(InputError, match=r"^memory://decode/b\.mp3: no such file$"):
        source("memory://decode/b.mp3").probe()


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    first = fingerprint(str(path))
    (tmp_path / "b.wav").write_bytes(b"one")
    assert first == fingerprint(str(tmp_path / "b.wav")) == fingerprint(path.as_uri())
    path.write_bytes(b"two")
    assert fingerprint(str(path)) != first
    stored = fsspec.filesystem("memory")
    stored.pipe_file("/decode/c.wav", b"one")
    first = fingerprint("memory://decode/c.wav")
    assert first == fingerprint("memory://decode/c.wav")
    stored.pipe_file("/decode/c.wav", b"three")
    assert fingerprint("memory://decode/c.wav") != first
