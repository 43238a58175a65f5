"""A real browser, headless Chromium driven by Playwright, and folders to open in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Playwright, sync_playwright

from pipeline.records import Failure, Transcript
from tests.meetings import keep, long_meeting, spoken_meeting
from tests.view.pages import CROWD, EVIL, Open, Served, Visit, hostile, served

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    if CHROMIUM is None:
        pytest.skip("no chromium: apt install chromium")
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def open_page(playwright: Playwright) -> Iterator[Open]:
    """open_page(address, width=..., height=..., color_scheme=...): a fresh profile each."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    contexts: list[BrowserContext] = []

    def visit(address: str, width: int = 1280, height: int = 800, **options: Any) -> Visit:
        size = {"width": width, "height": height}
        context = browser.new_context(viewport=size, accept_downloads=True, **options)
        contexts.append(context)
        made = Visit(context.new_page(), [], [])
        made.page.set_default_timeout(20_000)
        made.page.on("request", lambda request: made.requests.append(request.url))
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        made.page.on(
            "console",
            lambda message: (
                made.complaints.append(message.text) if message.type == "error" else None
            ),
        )
        # What hostile text would do if any of it ran.
        made.page.on("dialog", lambda dialog: made.complaints.append(dialog.message))
        made.page.goto(address)
        return made

    yield visit
    for context in contexts:
        context.close()
    browser.close()


@pytest.fixture
def recording(meeting: Path) -> Transcript:
    return spoken_meeting(meeting, end=75_000)


@pytest.fixture
def folder(recording: Transcript, tmp_path: Path) -> Iterator[Served]:
    keep(tmp_path / "out", recording)
    with served(tmp_path / "out") as running:
        yield running


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """What nobody corrects: a meeting of three hours, hostile names, failures."""
    out = tmp_path_factory.mktemp("archive") / "out"
    keep(out, long_meeting(), CROWD, hostile())
    keep(out, Failure("broken-0", f"/archive/{EVIL}.mp3", "audio", f"{EVIL}: empty", 1))
    with served(out) as running:
        yield running
