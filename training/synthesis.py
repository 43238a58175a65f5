"""Bulk synthetic training speech: sentences of text-en read by flite, festival and espeak-ng
in drawn voices, as one int16 file a worker and a manifest with the exact text."""

from __future__ import annotations

import argparse
import json
import lzma
import multiprocessing
import random
import re
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

SAMPLE_RATE = 16000
FLITE = ("slt", "awb", "rms", "kal16", "kal")
FESTIVAL = ("kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts")
ESPEAK = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029")
ESPEAK_VARIANTS = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "Alex"),
    *("Annie", "Andy", "Michael", "steph", "max", "edward", "belinda", "linda", "rob", "john"),
    "quincy",
)
SPELLED = {"mr": "mister", "mrs": "missus", "dr": "doctor", "ms": "miss", "ok": "okay"}
SPELLED |= {"mm": "mhm", "hm": "hmm", "etc": "et cetera", "vs": "versus", "v": "versus"}


@dataclass(frozen=True)
class Voice:
    """`rate` multiplies the engine's usual speed, `pitch` its usual pitch."""

    engine: str
    name: str
    rate: float
    pitch: float


def draw_voice(rng: random.Random) -> Voice:
    """Half flite, the rest festival and espeak-ng; speed and pitch vary around the usual."""
    engine = rng.choices(("flite", "festival", "espeak"), (0.5, 0.2, 0.3))[0]
    rate, pitch = rng.uniform(0.8, 1.25), rng.uniform(0.8, 1.25)
    if engine == "espeak":
        return Voice(engine, f"{rng.choice(ESPEAK)}+{rng.choice(ESPEAK_VARIANTS)}", rate, pitch)
    names, weights = (FLITE, (3, 3, 3, 2, 1)) if engine == "flite" else (FESTIVAL, (3, 3, 3))
    return Voice(engine, rng.choices(names, weights)[0], rate, pitch)


def say(voice: Voice, text: str) -> NDArray[np.int16]:
    """`text` in `voice`: int16 [samples] at 16 kHz. The engines must be installed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        commands = {"flite": _flite, "festival": _festival, "espeak": _espeak}
        subprocess.run(commands[voice.engine](voice, text, path), check=True, capture_output=True)
        with wave.open(str(path)) as stream:
            rate = stream.getframerate()
            samples = np.frombuffer(stream.readframes(stream.getnframes()), np.int16)
    if rate != SAMPLE_RATE:
        divisor = np.gcd(rate, SAMPLE_RATE)
        resampled = resample_poly(
            samples.astype(np.float32), SAMPLE_RATE // divisor, rate // divisor
        )
        samples = resampled.clip(-32768, 32767).astype(np.int16)
    return samples


def _flite(voice: Voice, text: str, path: Path) -> list[str]:
    usual = {"slt": 170.0, "awb": 125.0, "rms": 95.0, "kal": 105.0, "kal16": 105.0}[voice.name]
    settings = {"duration_stretch": 1 / voice.rate, "int_f0_target_mean": usual * voice.pitch}
    flags = [f for k, v in settings.items() for f in ("--setf", f"{k}={v:.3f}")]
    return ["flite", "-voice", voice.name, *flags, "-t", text, "-o", str(path)]


def _espeak(voice: Voice, text: str, path: Path) -> list[str]:
    speed, pitch = str(round(165 * voice.rate)), str(round(50 * voice.pitch))
    return ["espeak-ng", "-v", voice.name, "-s", speed, "-p", pitch, "-w", str(path), text]


def _festival(voice: Voice, text: str, path: Path) -> list[str]:
    script = path.with_suffix(".scm")
    script.write_text(
        f"(voice_{voice.name})\n(Parameter.set 'Duration_Stretch {1 / voice.rate:.3f})\n"
        f'(utt.save.wave (SynthText "{text}") "{path}" \'riff)\n'
    )
    return ["festival", "-b", str(script)]


def normalise(text: str) -> str:
    """Lower-case letters, apostrophes and single spaces; empty where something cannot be
    known as spoken (digits, symbols, acronyms).

    >>> normalise("Mr. Hertogs, it 's O.K. -- the Court's well-known.")
    "mister hertogs it's okay the court's well known"
    """
    text = re.sub(r"\{[a-z]+\}|[-\"`]", " ", text.replace("\u2019", "'")).replace("O.K.", "okay")
    text = re.sub(r" (n't|'(?:s|m|re|ve|ll|d)\b)", r"\1", text)
    if re.search(r"[^A-Za-z' .,?!:;]|\b[A-Z]{2,}|\b(?!I\b|A\b)[A-Z]\b|[a-z][A-Z]", text):
        return ""
    words = re.sub(r"[^a-z' ]", " ", text.lower()).split()
    words = [word.strip("'") if len(word) > 1 else word for word in words]
    return " ".join(SPELLED.get(word, word) for word in words if word.strip("'"))


def sentences(text_folder: Path) -> Iterator[str]:
    """Sentences of 1 to 24 words from both text collections, normalised, each one once."""
    seen: set[str] = set()
    for name in ("qmsum-train", "oral-arguments"):
        with lzma.open(text_folder / f"{name}.txt.xz", "rt", encoding="utf-8") as lines:
            for line in lines:
                for sentence in re.split(r"(?<=[.?!])\s+", line.partition("\t")[2]):
                    text = normalise(sentence)
                    if text and len(text.split()) <= 24 and text not in seen:
                        seen.add(text)
                        yield text
                if len(seen) > 400_000:
                    return


def _speak(job: tuple[Path, list[str], float, int]) -> int:
    """One worker: speaks until `seconds` are there or the sentences end; returns the samples."""
    path, texts, seconds, seed = job
    rng = random.Random(seed)
    total = 0
    with path.open("wb") as audio, path.with_suffix(".jsonl").open("w") as manifest:
        for text in texts:
            voice = draw_voice(rng)
            try:
                samples = say(voice, text)
            except (subprocess.CalledProcessError, EOFError, wave.Error):
                continue  # an engine that chokes on a sentence costs that sentence only
            if len(samples) < SAMPLE_RATE // 4:
                continue
            audio.write(samples.tobytes())
            row = {"text": text, "offset": total, "samples": len(samples), "voice": asdict(voice)}
            manifest.write(json.dumps(row) + "\n")
            total += len(samples)
            if total > seconds * SAMPLE_RATE:
                break
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="shared/data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    texts = list(sentences(options.data / "text-en"))
    random.Random(options.seed).shuffle(texts)
    share = options.hours * 3600 / options.workers
    jobs = [
        (options.out / f"speech-{n}.pcm", texts[n :: options.workers], share, options.seed + n)
        for n in range(options.workers)
    ]
    with multiprocessing.Pool(options.workers) as pool:
        hours = sum(pool.map(_speak, jobs)) / SAMPLE_RATE / 3600
    print(f"{hours:.1f} hours of synthetic speech in {options.out}")


if __name__ == "__main__":
    main()
