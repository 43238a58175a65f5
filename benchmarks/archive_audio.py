"""An archive to measure with: recordings of minutes to hours made of simulated meetings, real
speech of many people in turn, over each other, in rooms with noise (benchmarks/meetings.py). Some
files are damaged, in six ways.

    python -m benchmarks.archive_audio FOLDER --recordings 1000 --hours 200 --damaged 0.05

Meetings are simulated and encoded once; recordings are sequences of them whose packets are copied,
so that 200 hours take minutes. The same options give the same recordings, and what is there already
is not made again.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.meetings import Options, simulate

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RATE = 48000  # of Opus' clock
PIECE_MINUTES = 2.0
_SHORTEST, _SPREAD = 0.2, 0.9  # minutes; standard deviation of the logarithm of a duration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recordings", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=200.0)
    parser.add_argument("--damaged", type=float, default=0.05)
    parser.add_argument("--pieces", type=int, default=40)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    made = make(
        arguments.folder,
        recordings=arguments.recordings,
        hours=arguments.hours,
        damaged=arguments.damaged,
        pieces=arguments.pieces,
        stock=arguments.folder / ".pieces",
        data=arguments.data,
    )
    print(f"{len(made):,} recordings in {arguments.folder}")


def make(
    folder: Path,
    *,
    recordings: int,
    hours: float,
    stock: Path,
    damaged: float = 0.0,
    pieces: int = 40,
    data: Path = DATA,
) -> list[Path]:
    """The files, of `hours` in all, a share of them `damaged`. The simulated meetings are kept in
    the folder `stock`, for other archives, too."""
    folder.mkdir(parents=True, exist_ok=True)
    meetings = _pieces(stock, pieces, data)
    chance = random.Random(0)
    shares = [chance.lognormvariate(0, _SPREAD) for _ in range(recordings)]
    minutes = [max(_SHORTEST, hours * 60 * share / sum(shares)) for share in shares]
    broken = chance.sample(range(recordings), round(damaged * recordings))
    made: list[Path] = []
    for number, length in enumerate(minutes):
        path = folder / f"{number // 100:02}" / f"recording-{number:05}.ogg"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            aside = path.with_suffix(".part")
            write_recording(aside, meetings, length, random.Random(number))
            if number in broken:
                damage = DAMAGES[broken.index(number) % len(DAMAGES)]
                damage(aside, random.Random(number))
            aside.rename(path)
        made.append(path)
    return made


def write_recording(path: Path, stock: list[Path], minutes: float, chance: random.Random) -> None:
    """Pieces one after the other, copied, until the recording is `minutes` long."""
    end = int(minutes * 60 * RATE)
    with av.open(str(path), "w", format="ogg") as sink:
        stream = None
        at = 0
        while at < end:
            with av.open(str(chance.choice(stock))) as source:
                if stream is None:
                    stream = sink.add_stream_from_template(source.streams.audio[0])
                for packet in source.demux(audio=0):
                    if not packet.duration or at >= end:
                        continue
                    packet.stream = stream
                    packet.time_base = Fraction(1, RATE)
                    packet.pts = packet.dts = at
                    at += packet.duration
                    sink.mux(packet)


def _pieces(folder: Path, count: int, data: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}.ogg" for number in range(count)]
    missing = [(path, number, data) for number, path in enumerate(paths) if not path.exists()]
    with ProcessPoolExecutor() as pool:
        list(pool.map(_write_piece, *zip(*missing, strict=True)) if missing else ())
    return paths


def _write_piece(path: Path, number: int, data: Path) -> None:
    options = Options(
        speakers=2 + number % 5, minutes=PIECE_MINUTES, snr=15.0 + number % 15, seed=number
    )
    aside = path.with_suffix(".part")
    with av.open(str(aside), "w", format="ogg") as sink:
        stream = sink.add_stream("libopus", rate=16000)
        stream.layout = "mono"
        stream.bit_rate = 24000
        for frame in _frames(simulate(data, options).blocks()):
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    aside.rename(path)


def _frames(blocks: Iterator[np.ndarray]) -> Iterator[av.AudioFrame]:
    at = 0
    for block in blocks:
        samples = (np.clip(block, -1, 1) * 32767).astype(np.int16)
        if not len(samples):
            continue
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        frame.pts = at
        at += len(samples)
        yield frame


def _cut(path: Path, chance: random.Random) -> None:
    """As an upload that broke off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * chance.uniform(0.1, 0.9))])


def _empty(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def _text(path: Path, chance: random.Random) -> None:
    path.write_text("<html><body>404 Not Found</body></html>\n" * 20)


def _noise(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(path.stat().st_size))


def _holes(path: Path, chance: random.Random) -> None:
    """Zeros where sectors could not be read."""
    data = bytearray(path.read_bytes())
    for _ in range(5):
        start = chance.randrange(len(data))
        data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    path.write_bytes(data)


def _headless(path: Path, chance: random.Random) -> None:
    """The end of a file whose beginning is lost."""
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 3 :])


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (
    _cut,
    _empty,
    _text,
    _noise,
    _holes,
    _headless,
)


if __name__ == "__main__":
    main()
