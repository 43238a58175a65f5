"""SRT, WebVTT and ASS: the same cues in each format's own writing."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from jobs.exports.cues import Cue, Line, cues
from jobs.exports.text import stamp
from jobs.exports.wording import one_line
from pipeline.records import Transcript

_INERT = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")", "\\": "＼"})
"""Neither SRT nor ASS has a way to write what players take for markup."""

_COLOURS = ("FFFFFF", "7FD7FF", "A8F0A0", "FFC98A", "D0B8FF", "8AF0E4", "FFA8C0", "E6E68A")
"""RRGGBB, all light, for text with a dark outline."""

_ASS_HEADER = """\
[Script Info]
ScriptType: v4.00+
PlayResX: 1920
PlayResY: 1080
WrapStyle: 0
ScaledBorderAndShadow: yes

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
"""

_ASS_EVENTS = """
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def to_srt(transcript: Transcript) -> str:
    """SubRip; times as 00:00:01,240."""
    return "\n".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n"
        + "".join(f"{line.shown.translate(_INERT)}\n" for line in cue.lines)
        for number, cue in enumerate(cues(transcript), start=1)
    )


def to_vtt(transcript: Transcript) -> str:
    """WebVTT (W3C); the speaker is the voice of the text: `<v Ann>Good morning.</v>`."""
    blocks = ["WEBVTT\n"]
    for cue in cues(transcript):
        times = f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}"
        blocks.append("\n".join([times, *_voices(cue)]) + "\n")
    return "\n".join(blocks)


def _voices(cue: Cue) -> Iterator[str]:
    for speaker, lines in groupby(cue.lines, key=lambda line: line.speaker):
        text = "\n".join(escape(line.text, quote=False) for line in lines if line.words)
        yield f"<v {escape(one_line(speaker), quote=False)}>{text}</v>"


def to_ass(transcript: Transcript) -> str:
    """Advanced SubStation Alpha: a style, and so a colour, for each speaker."""
    shown = cues(transcript)
    speakers = dict.fromkeys(line.speaker for cue in shown for line in cue.lines)
    styles = {speaker: f"speaker-{number}" for number, speaker in enumerate(speakers, start=1)}
    return (
        _ASS_HEADER
        + "".join(_ass_style(number, name) for number, name in enumerate(styles.values()))
        + _ASS_EVENTS
        + "".join(_ass_event(cue, styles) for cue in shown)
    )


def _ass_style(number: int, name: str) -> str:
    rgb = _COLOURS[number % len(_COLOURS)]
    colour = f"&H00{rgb[4:]}{rgb[2:4]}{rgb[:2]}"
    return (
        f"Style: {name},Arial,54,{colour},{colour},&H00000000,&H80000000,"
        "0,0,0,0,100,100,0,0,1,3,1,2,80,80,60,1\n"
    )


def _ass_event(cue: Cue, styles: dict[str, str]) -> str:
    def written(line: Line) -> str:
        style = f"{{\\r{styles[line.speaker]}}}" if line.named and line is not cue.lines[0] else ""
        return style + line.shown.translate(_INERT)

    speaker = cue.lines[0].speaker
    name = one_line(speaker).translate(_INERT).replace(",", ";")
    text = "\\N".join(written(line) for line in cue.lines)
    times = f"{_hundredths(cue.start)},{_hundredths(cue.end)}"
    return f"Dialogue: 0,{times},{styles[speaker]},{name},0,0,0,,{text}\n"


def _time(milliseconds: int, mark: str) -> str:
    return f"{stamp(milliseconds)}{mark}{milliseconds % 1000:03}"


def _hundredths(milliseconds: int) -> str:
    return f"{stamp(milliseconds)}.{milliseconds % 1000 // 10:02}"
