"""Recordings that are broken, or not recordings: one clear line, and what can be saved is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.errors import InputError
from tests.audio_files import bursts, encode, read, source

SOUND = bursts(10, 16000)


def reason(path: Path | str, **parameters: object) -> str:
    """The one line that both a probe and a pass end with, without the path."""
    with pytest.raises(InputError) as told:
        read(path, **parameters)
    line = str(told.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ".replace("\n", "\\n"))
    return line.rpartition(": ")[2]


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.wav") == "no such file"
    assert reason(tmp_path / "two\nlines.wav") == "no such file"
    assert reason(tmp_path / ("long" * 100)) == "no such file (the name is too long)"
    assert reason(tmp_path) == "is a folder, not a file"
    (tmp_path / "empty.wav").touch()
    assert reason(tmp_path / "empty.wav") == "the file is empty (0 bytes)"
    os.mkfifo(tmp_path / "pipe.wav")
    assert reason(tmp_path / "pipe.wav") == "not a regular file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    (tmp_path / "secret.wav").chmod(0)
    assert reason(tmp_path / "secret.wav") == "no permission to read it"


def test_not_audio(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("These are the minutes of the meeting.\n" * 200)
    assert reason(path).startswith("not audio in any format that FFmpeg knows")
    path = tmp_path / "noise.mp3"
    path.write_bytes(np.random.default_rng(1).bytes(50_000))
    assert reason(path).startswith("not audio in any format that FFmpeg knows")
    path.write_bytes(bytes(50_000))
    assert reason(path).startswith(("not audio", "its audio stream is damaged"))
    soundfile.write(tmp_path / "header.wav", SOUND[:0], 16000)
    assert reason(tmp_path / "header.wav")


def test_film_without_sound(tmp_path: Path) -> None:
    import av

    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    assert reason(path) == "no audio stream in it (only video)"


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    encode(tmp_path / "a.aac", SOUND, 16000, "aac", "fltp")
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\na.aac\n#EXT-X-ENDLIST\n")
    assert reason(path)


@pytest.mark.parametrize(
    ("name", "codec", "sample_format"),
    [("a.mp3", "libmp3lame", "fltp"), ("a.flac", "flac", "s16"), ("a.wav", "pcm_s16le", "s16")],
)
def test_truncated_files_give_what_there_is(
    name: str, codec: str, sample_format: str, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, SOUND, 16000, codec, sample_format)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    opened = source(path)
    for _ in range(2):
        samples = np.concatenate([block.samples for block in opened.blocks()])
    assert 4 < len(samples) / 16000 < 8
    assert np.corrcoef(samples[:48000], SOUND[:48000])[0, 1] > 0.97
    told = [note for note in opened.notes if note.startswith("truncated: its header says 10.0 s")]
    assert len(told) == 1
    assert len(set(opened.notes)) == len(opened.notes)


def test_truncated_mp4(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", SOUND, 16000, "aac", "fltp")
    path.write_bytes(path.read_bytes()[:20_000])
    assert "MP4 file without its index" in reason(path)


@pytest.mark.parametrize(
    ("stated", "note"),
    [
        (0, None),
        (0xFFFFFFFF, None),
        (0x7FFFFFFF, "truncated: its header says 67108.9 s, 10.0 s could be decoded"),
        (32_000, "wrong length in the header: its header says 1.0 s, 10.0 s could be decoded"),
    ],
)
def test_header_that_lies_about_its_length(stated: int, note: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, SOUND, 16000)
    content = bytearray(path.read_bytes())
    content[40:44] = stated.to_bytes(4, "little")
    path.write_bytes(content)
    samples, notes = read(path)
    assert len(samples) == len(SOUND)
    assert notes == ([] if note is None else [note])


def test_chunks_behind_the_sound_are_not_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, SOUND, 16000)
    with path.open("ab") as file:
        file.write(b"LIST" + (100_000).to_bytes(4, "little") + b"x" * 100_000)
    samples, notes = read(path)
    assert len(samples) == len(SOUND)
    assert notes == []


def test_nan_and_infinite_samples_become_silence(tmp_path: Path) -> None:
    sound = SOUND.copy()
    sound[1000:1100] = np.nan
    sound[2000:2003] = np.inf, -np.inf, 3e38
    soundfile.write(tmp_path / "nan.wav", sound, 16000, subtype="FLOAT")
    samples, notes = read(tmp_path / "nan.wav")
    expected = SOUND.copy()
    expected[1000:1100] = expected[2000:2003] = 0
    assert np.array_equal(samples, expected)
    assert notes == ["103 samples NaN, infinite or absurdly large: set to 0"]


def test_damage_in_the_middle_keeps_later_times(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, SOUND, 16000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 12_000] = np.random.default_rng(0).bytes(12_000)
    path.write_bytes(content)
    samples, notes = read(path)
    assert len(samples) == len(SOUND)
    assert np.allclose(samples[-32000:], SOUND[-32000:], atol=1e-4)
    assert any("filled with silence" in note for note in notes)


def test_unusual_levels_are_noted_and_kept(tmp_path: Path) -> None:
    cases = {
        "digital silence": SOUND * 0,
        "very quiet: peak at -68 dB": SOUND * 0.001,
        "DC offset of +0.3": SOUND + 0.3,
    }
    for note, sound in cases.items():
        soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
        samples, notes = read(tmp_path / "a.wav")
        assert np.allclose(samples, sound, atol=1e-6)
        assert len(notes) == 1
        assert notes[0].startswith(note)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 96000])
def test_one_sample(rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", np.full(1, 0.5), rate)
    samples, _ = read(tmp_path / "one.wav")
    assert len(samples) == max(1, 16000 // rate)
