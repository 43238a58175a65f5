"""How fast audio is decoded to 16 kHz mono, by format: CPU time beside how long it is.

    python -m benchmarks.decoding [--minutes 20]

The demo meeting again and again, written in each format by PyAV (44.1 kHz stereo where the format
has a rate of its own) and read block by block, as the stages do.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.signal import resample_poly

from pipeline.stage import SAMPLE_RATE
from stages.audio.decode import AudioParameters, AudioSource

MEETING = Path(__file__).resolve().parents[1] / "demo" / "meeting.opus"
ROUNDS = 3


class Format(NamedTuple):
    suffix: str
    codec: str
    rate: int


FORMATS = (
    Format("wav", "pcm_s16le", 16000),
    Format("wav", "pcm_s16le", 44100),
    Format("flac", "flac", 44100),
    Format("mp3", "libmp3lame", 44100),
    Format("m4a", "aac", 44100),
    Format("opus", "libopus", 48000),
)


def write(path: Path, made: Format, speech: NDArray[np.float32]) -> None:
    """`speech` at 16 kHz, on both channels but at 16 kHz."""
    layout = "mono" if made.rate == SAMPLE_RATE else "stereo"
    divisor = np.gcd(made.rate, SAMPLE_RATE)
    samples = resample_poly(speech, made.rate // divisor, SAMPLE_RATE // divisor)
    channels = np.stack([samples] * (1 if layout == "mono" else 2)).clip(-1, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(made.codec, rate=made.rate, layout=layout)
        for start in range(0, channels.shape[1], made.rate):
            part = np.ascontiguousarray(channels[:, start : start + made.rate], np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = made.rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decoded(path: Path) -> tuple[float, float]:
    """Seconds of audio, and the least CPU time that reading it took."""
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        source = AudioSource(str(path), AudioParameters.model_validate({}))
        samples = sum(len(block.samples) for block in source.blocks())
        spent.append(time.process_time() - began)
    return samples / SAMPLE_RATE, min(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    arguments = parser.parse_args()
    meeting, rate = soundfile.read(MEETING, dtype="float32")
    length = int(arguments.minutes * 60 * SAMPLE_RATE)
    speech = np.resize(resample_poly(meeting, SAMPLE_RATE, rate), length).astype(np.float32)
    table = Table(title=f"{arguments.minutes:g} minutes, best of {ROUNDS}")
    for column in ("format", "kHz", "times real time"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for made in FORMATS:
            path = Path(folder, f"speech-{made.rate}.{made.suffix}")
            write(path, made, speech)
            audio, spent = decoded(path)
            table.add_row(made.suffix, f"{made.rate / 1000:g}", f"{audio / spent:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
