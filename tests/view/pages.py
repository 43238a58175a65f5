"""Pages of `hansard view`, opened in a browser and watched; and records to fill them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from playwright.sync_api import Page

from jobs.ledger import Ledger
from jobs.view.server import Viewer
from pipeline.records import Sentence, SpeakerSegment, Transcript, Turn, Word
from pipeline.storage import Folder
from pipeline.transcript import speakers_of
from tests.meetings import long_meeting
from tests.test_exports import transcript

# Twelve people in half an hour.
CROWD = replace(long_meeting(hours=0.5), id="crowd-0123456789ab")
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;\u202e<!--\u2028${1}"
HEARD = "document.getElementById('audio').currentTime * 1000"


@dataclass
class Visit:
    """A page under watch: whatever it asked for and complained of."""

    page: Page
    requests: list[str]
    complaints: list[str]

    def check(self, origin: str) -> None:
        """Nothing was loaded from elsewhere, nothing was refused, nothing threw."""
        own = (origin, "blob:", "data:")
        assert [url for url in self.requests if not url.startswith(own)] == []
        assert self.complaints == []


Open = Callable[..., Visit]


@dataclass(frozen=True)
class Served:
    """An output folder and the address of its pages."""

    out: Path
    address: str

    @property
    def ledger(self) -> Ledger:
        return Ledger(Folder(str(self.out)))

    def page_of(self, recording: str) -> str:
        return f"{self.address}{recording}.html"


@contextmanager
def served(out: Path) -> Iterator[Served]:
    with Viewer(Ledger(Folder(str(out)))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Served(out, server.address)
        server.shutdown()


def hostile() -> Transcript:
    """Markup wherever a recording, a model or a person can put text."""
    spoken = tuple(
        Word(text, i * 500, i * 500 + 400, 0.9)
        for i, text in enumerate((EVIL, "]]>", "<svg/onload=alert(3)>", "مرحبا", "{{7*7}}"))
    )
    turns = (
        Turn(EVIL, (Sentence(spoken),), {EVIL: 1.0}, EVIL),
        Turn("__proto__", (Sentence((Word("fine", 3000, 3400, 0.9),)),), {}, ""),
    )
    return replace(
        transcript(),
        id="hostile-0123456789ab",
        uri=f"/archive/{EVIL}\n.wav",
        turns=turns,
        speakers=speakers_of(turns),
        timeline=tuple(SpeakerSegment(*turn.span, turn.speaker) for turn in turns),
        language=EVIL,
    )


def press(page: Page, key: str) -> None:
    page.keyboard.press(key)


def seconds_of(text: str) -> int:
    parts = [int(part) for part in text.split(":")]
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))


def overlap(made: Transcript) -> int:
    """Ms in which two people or more are heard."""
    heard = np.zeros(made.duration, dtype=int)
    for segment in made.timeline:
        heard[segment.start : segment.end] += 1
    return int((heard > 1).sum())


def names_shown(page: Page) -> list[str]:
    return page.locator(".turn .who bdi").all_text_contents()


def wait(page: Page, condition: str) -> None:
    """Until the script's condition holds (the page's policy forbids Playwright's own way)."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def wait_until_playable(page: Page) -> None:
    wait(page, "document.getElementById('audio').readyState >= 2")
