"""Synthetic voices with exact word times: flite and espeak-ng through their C libraries,
festival as a process. A seed of many speakers for training, and the demo meeting's cast.

Sources: Black and Lenzo, Flite (2001); espeak-ng's speak_lib.h; the Festival manual, 14.
Debian packages: flite, espeak-ng, festival, festvox-kallpc16k, -kdlpc16k, -us-slt-hts.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import shutil
import subprocess
import tempfile
from ctypes import POINTER, c_char_p, c_float, c_int, c_short, c_uint, c_void_p
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile
from scipy.signal import resample_poly

RATE = 16000
LEAD_MS = 100
TAIL_MS = 150


class VoiceError(RuntimeError):
    """The engine or the voice is not installed, or it did not read the text word by word."""


@dataclass(frozen=True)
class Voice:
    """`name` is the engine's own, for espeak-ng ACCENT or ACCENT+VARIANT. `speed` scales the
    tempo (festival's HTS voice knows none). `warp` scales pitch and formants together, as a
    shorter (> 1) vocal tract would."""

    engine: Literal["flite", "festival", "espeak"]
    name: str
    female: bool = False
    speed: float = 1.0
    warp: float = 1.0

    @property
    def label(self) -> str:
        """Names the voice uniquely, say `flite-slt-s1-w1.1`."""
        return f"{self.engine}-{self.name}-s{self.speed:g}-w{self.warp:g}"


class Word(NamedTuple):
    """A word as the text has it, case and punctuation included; ms from the first sample."""

    text: str
    start: int
    end: int


class Speech(NamedTuple):
    """`samples` float32 [n] at 16 kHz, full scale 1.0: LEAD_MS before the first word and
    TAIL_MS after the last; n is a whole number of ms."""

    samples: NDArray[np.float32]
    words: tuple[Word, ...]


class Raw(NamedTuple):
    """What an engine gives: int16 samples at its rate, each token's start and end in s."""

    samples: NDArray[np.int16]
    rate: float
    times: list[tuple[float, float]]


_FLITE = (("slt", True), ("rms", False), ("awb", False), ("kal16", False))
_FESTIVAL = (("kal_diphone", False), ("ked_diphone", False), ("cmu_us_slt_arctic_hts", True))
_ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-us-nyc")
_VARIANTS = (("m1", False), ("m3", False), ("m7", False), ("adam", False), ("max", False))
_VARIANTS_F = (("f1", True), ("f2", True), ("f4", True), ("linda", True), ("steph", True))
_WARPS = (1.0, 0.88, 0.94, 1.07, 1.14)

VOICES: tuple[Voice, ...] = (
    *(Voice("flite", n, f, warp=w) for w in _WARPS for n, f in _FLITE),
    *(Voice("festival", n, f, warp=w) for w in _WARPS for n, f in _FESTIVAL),
    *(Voice("espeak", f"{a}+{v}", f) for a in _ACCENTS for v, f in _VARIANTS + _VARIANTS_F),
)


def missing(voice: Voice) -> str:
    """Why `voice` cannot speak on this machine; empty where it can."""
    try:
        say(voice, "yes")
    except VoiceError as error:
        return str(error)
    return ""


def say(voice: Voice, text: str) -> Speech:
    """`text` (ASCII, numbers in words) read by `voice`, with a time for each of its
    whitespace-separated words. flite and festival give the same samples on every call;
    espeak-ng's oscillators run on from call to call, so that it takes the same calls since
    the start of the process (else a pause may be some ms longer, and its times say so).

    ValueError for an empty or non-ASCII text, VoiceError where the engine is not installed.
    """
    tokens = text.split()
    if not tokens or not text.isascii() or not all(any(c.isalnum() for c in t) for t in tokens):
        raise ValueError(f"not plain words: {text!r}")
    engine = {"flite": _flite, "festival": _festival, "espeak": _espeak}[voice.engine]
    raw = engine(voice.name, tokens, voice.speed / voice.warp)
    if len(raw.times) != len(tokens):
        raise VoiceError(f"{voice.label}: {len(raw.times)} words for {len(tokens)} in {text!r}")
    return _place(raw, tokens, voice.warp)


def _place(raw: Raw, tokens: list[str], warp: float) -> Speech:
    """Resampled to 16 kHz (and by the warp), with LEAD_MS before and TAIL_MS after."""
    ratio = Fraction(RATE / (raw.rate * warp)).limit_denominator(441)
    samples = resample_poly(raw.samples / 32768.0, ratio.numerator, ratio.denominator)
    scale = raw.rate * float(ratio) / RATE * 1000  # engine seconds to ms
    first, last = raw.times[0][0] * scale, raw.times[-1][1] * scale
    start = round(first * RATE / 1000) - LEAD_MS * RATE // 1000
    stop = start + (LEAD_MS + math.ceil(last - first) + TAIL_MS) * RATE // 1000
    body = samples[max(start, 0) : max(stop, 0)]
    left = max(-start, 0)
    padded = np.pad(body, (left, stop - start - left - len(body)))
    placed = padded.clip(-1.0, 1.0).astype(np.float32)
    shift = LEAD_MS - first
    times = [(round(a * scale + shift), round(b * scale + shift)) for a, b in raw.times]
    return Speech(placed, tuple(Word(t, a, b) for t, (a, b) in zip(tokens, times, strict=True)))


# flite ------------------------------------------------------------------------------------


class _FliteWave(ctypes.Structure):
    """cst_wave of cst_wave.h."""

    _fields_ = (
        ("type", c_char_p),
        ("sample_rate", c_int),
        ("num_samples", c_int),
        ("num_channels", c_int),
        ("samples", POINTER(c_short)),
    )


def _library(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise VoiceError(f"{name} is not installed ({error})") from None


@lru_cache(maxsize=1)
def _flite_library() -> Any:
    library = _library("libflite.so.1")
    for lexicon in ("libflite_cmulex.so.1", "libflite_usenglish.so.1"):
        _library(lexicon)
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "flite_synth_text": (c_void_p, [c_char_p, c_void_p]),
        "utt_wave": (POINTER(_FliteWave), [c_void_p]),
        "utt_relation": (c_void_p, [c_void_p, c_char_p]),
        "relation_head": (c_void_p, [c_void_p]),
        "item_next": (c_void_p, [c_void_p]),
        "item_daughter": (c_void_p, [c_void_p]),
        "ffeature_float": (c_float, [c_void_p, c_char_p]),
        "feat_set_float": (None, [c_void_p, c_char_p, c_float]),
        "delete_utterance": (None, [c_void_p]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.flite_init()
    return library


@lru_cache(maxsize=8)
def _flite_voice(name: str) -> Any:
    """A cst_voice: a pointer to its name, then one to its features."""
    _flite_library()
    register = _library(f"libflite_cmu_us_{name}.so.1")[f"register_cmu_us_{name}"]
    register.restype, register.argtypes = POINTER(c_void_p), [c_char_p]
    return register(None)


def _flite(name: str, tokens: list[str], speed: float) -> Raw:
    library, voice = _flite_library(), _flite_voice(name)
    library.feat_set_float(voice[1], b"duration_stretch", 1 / speed)
    ctypes.CDLL(None).srand(1)  # the vocoder's noise
    utterance = library.flite_synth_text(" ".join(tokens).encode(), voice)
    try:
        wave = library.utt_wave(utterance).contents
        rate = int(wave.sample_rate)
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
        head = library.relation_head(library.utt_relation(utterance, b"Token"))
        items = _flite_siblings(library, head)
        times = [_flite_span(library, token) for token in items]
    finally:
        library.delete_utterance(utterance)
    return Raw(samples, rate, times)


def _flite_siblings(library: Any, item: int | None) -> list[int]:
    found = []
    while item:
        found.append(item)
        item = library.item_next(item)
    return found


def _flite_span(library: Any, token: int) -> tuple[float, float]:
    """Start and end of a token, in s. A clitic ('s) has no segments of its own."""
    first = b"R:SylStructure.daughter1.daughter1.R:Segment.p.end"
    last = b"R:SylStructure.daughtern.daughtern.R:Segment.end"
    words = _flite_siblings(library, library.item_daughter(token))
    starts = [library.ffeature_float(word, first) for word in words]
    ends = [library.ffeature_float(word, last) for word in words]
    return min((s for s in starts if s > 0), default=0.0), max(ends, default=0.0)


# festival ---------------------------------------------------------------------------------

_SCHEME = """(voice_{name})
(Parameter.set 'Duration_Stretch {stretch})
(set! spoken (utt.synth (Utterance Text "{text}")))
(set! index 0)
(define (line word)
  (format t "%d %f %f\\n" index (item.feat word 'word_start) (item.feat word 'word_end)))
(define (token item) (mapcar line (item.daughters item)) (set! index (+ index 1)))
(mapcar token (utt.relation.items spoken 'Token))
(utt.save.wave spoken "{wave}" 'riff)
"""


def _festival(name: str, tokens: list[str], speed: float) -> Raw:
    if not shutil.which("festival"):
        raise VoiceError("festival is not installed")
    with tempfile.TemporaryDirectory() as folder:
        wave, script = Path(folder, "speech.wav"), Path(folder, "speech.scm")
        text = " ".join(tokens).replace("\\", "").replace('"', '\\"')
        script.write_text(_SCHEME.format(name=name, stretch=1 / speed, text=text, wave=wave))
        done = subprocess.run(
            ["festival", "-b", str(script)], capture_output=True, text=True, check=False
        )
        if not wave.exists():
            raise VoiceError(f"festival, voice {name}: {done.stderr.strip() or 'no speech'}")
        rate, samples = wavfile.read(wave)
    rows = [line.split() for line in done.stdout.splitlines()]
    times = []
    for _, lines in itertools.groupby(rows, key=lambda row: int(row[0])):
        spans = [(float(row[1]), float(row[2])) for row in lines]
        starts = [start for start, end in spans if end > 0]
        times.append((min(starts, default=0.0), max(end for _, end in spans)))
    return Raw(samples, rate, times)


# espeak-ng --------------------------------------------------------------------------------

_SYNCHRONOUS, _PHONEME_EVENTS, _CHARACTER, _ASCII, _RATE_PARAMETER = 2, 1, 1, 1, 1
_END_OF_LIST, _WORD_EVENT, _PHONEME_EVENT = 0, 1, 7
_WORDS_PER_MINUTE = 165


class _Identifier(ctypes.Union):
    _fields_ = (("number", c_int), ("name", c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", c_int),
        ("unique_identifier", c_uint),
        ("text_position", c_int),
        ("length", c_int),
        ("audio_position", c_int),
        ("sample", c_int),
        ("user_data", c_void_p),
        ("id", _Identifier),
    )


class _Sound(NamedTuple):
    """A phoneme or the start of a word: sample, phoneme ("" for a word), character."""

    sample: int
    phoneme: str
    position: int


_Callback = ctypes.CFUNCTYPE(c_int, POINTER(c_short), c_int, POINTER(_Event))


@lru_cache(maxsize=1)
def _espeak_library() -> tuple[Any, int]:
    library = _library("libespeak-ng.so.1")
    rate = library.espeak_Initialize(_SYNCHRONOUS, 200, None, _PHONEME_EVENTS)
    if rate <= 0:
        raise VoiceError("espeak-ng: its data files are not installed")
    sizes: list[Any] = [c_char_p, ctypes.c_size_t, c_uint, c_int, c_uint, c_uint]
    library.espeak_Synth.argtypes = [*sizes, c_void_p, c_void_p]
    return library, rate


def _espeak(name: str, tokens: list[str], speed: float) -> Raw:
    library, rate = _espeak_library()
    if library.espeak_SetVoiceByName(name.encode()) != 0:
        raise VoiceError(f"espeak-ng has no voice {name}")
    library.espeak_SetParameter(_RATE_PARAMETER, round(_WORDS_PER_MINUTE * speed), 0)
    pieces: list[NDArray[np.int16]] = []
    sounds: list[_Sound] = []

    def receive(wave: Any, count: int, events: Any) -> int:
        if count:
            pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        for event in itertools.takewhile(lambda e: e.type != _END_OF_LIST, _endless(events)):
            if event.type in (_WORD_EVENT, _PHONEME_EVENT):
                phoneme = event.id.string.decode() if event.type == _PHONEME_EVENT else ""
                sounds.append(_Sound(event.sample, phoneme, event.text_position - 1))
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    text = " ".join(tokens).encode()
    library.espeak_Synth(text, len(text) + 1, 0, _CHARACTER, 0, _ASCII, None, None)
    library.espeak_Synchronize()
    samples = np.concatenate(pieces)
    times = [(a / rate, b / rate) for a, b in _espeak_spans(sounds, tokens, len(samples))]
    return Raw(samples, rate, times)


def _endless(events: Any) -> Any:
    return (events[i] for i in itertools.count())


def _espeak_spans(sounds: list[_Sound], tokens: list[str], length: int) -> list[tuple[int, int]]:
    """Start and end sample of each token, in text order. A token ends at the next pause
    ("_" phonemes) or token; where espeak-ng reads several as one ("of the"), its phonemes
    are shared out by their letters."""
    ends = list(itertools.accumulate(len(token) + 1 for token in tokens))
    groups: dict[int, list[int]] = {}  # by token: its phonemes' samples, then its end
    current, closed = -1, True
    for sound in sounds:
        token = int(np.searchsorted(ends, sound.position, side="right"))
        if not sound.phoneme and token > current:
            if not closed:
                groups[current].append(sound.sample)
            current, closed = token, False
            groups[current] = [sound.sample]
        elif sound.phoneme.startswith("_") and not closed:
            groups[current].append(sound.sample)
            closed = True
        elif sound.phoneme and not sound.phoneme.startswith("_") and current >= 0:
            if closed:  # speech goes on after a pause inside the token
                groups[current].pop()
                closed = False
            groups[current].append(sound.sample)
    if not closed:
        groups[current].append(length)
    spans: list[tuple[int, int]] = []
    heads = [*sorted(groups), len(tokens)]
    for head, following in itertools.pairwise(heads):
        spans += _share(sorted(set(groups[head])), [len(t) for t in tokens[head:following]])
    return spans


def _share(edges: list[int], letters: list[int]) -> list[tuple[int, int]]:
    """Consecutive spans over phoneme edges, in proportion to the letters of each word."""
    share = np.cumsum([0, *letters]) / sum(letters)
    cuts = [edges[round(part * (len(edges) - 1))] for part in share]
    return list(itertools.pairwise(cuts))
