"""RTTM (NIST Rich Transcription): who is heard when, for every scoring tool."""

from __future__ import annotations

from pipeline.records import Transcript


def to_rttm(transcript: Transcript) -> str:
    """One SPEAKER line a stretch of the timeline; seconds."""
    return "".join(
        f"SPEAKER {transcript.id} 1 {segment.start / 1000:.3f} "
        f"{(segment.end - segment.start) / 1000:.3f} <NA> <NA> {segment.label} <NA> <NA>\n"
        for segment in transcript.timeline
    )
