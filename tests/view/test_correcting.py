"""What one finds and corrects on the page of a recording."""

from __future__ import annotations

import re
from pathlib import Path

from jobs.exports.text import clock
from jobs.ledger import Ledger
from pipeline.records import Transcript
from pipeline.storage import Folder
from pipeline.transcript import join_words
from tests.conftest import hansard
from tests.meetings import keep
from tests.view.pages import (
    HEARD,
    Open,
    Served,
    names_shown,
    overlap,
    press,
    seconds_of,
    wait,
    wait_until_playable,
)


def test_search_counts_and_marks(open_page: Open, folder: Served, recording: Transcript) -> None:
    page = open_page(folder.page_of(recording.id)).page
    text = "\n".join(join_words(turn.words) for turn in recording.turns).lower()
    wanted = text.count("the")
    assert wanted > 3
    press(page, "/")
    page.keyboard.type("THE")
    wait(page, f"document.getElementById('hits').textContent === '{wanted} hits'")
    assert page.evaluate("CSS.highlights.get('hit').size") == wanted
    press(page, "Enter")
    assert page.text_content("#hits") == f"1 of {wanted}"
    marked = "[...CSS.highlights.get('hit-now')].map((range) => range.toString().toLowerCase())"
    assert page.evaluate(marked) == ["the"]
    page.locator("#reading").focus()
    press(page, "n")
    press(page, "n")
    press(page, "N")
    assert page.text_content("#hits") == f"2 of {wanted}"
    # A phrase over several words, without its marks and accents.
    turn = max(recording.turns, key=lambda turn: len(turn.words))
    phrase = " ".join(re.sub(r"[^\w' ]", "", word.text) for word in turn.words[:4])
    page.fill("#query", phrase.upper())
    wait(page, "document.getElementById('hits').textContent === '1 hit'")
    page.fill("#query", "qqqq")
    wait(page, "document.getElementById('hits').textContent === 'no hits'")


def test_corrections_are_saved_and_the_exports_have_them(
    open_page: Open, folder: Served, recording: Transcript
) -> None:
    visit = open_page(folder.page_of(recording.id))
    page = visit.page
    assert {turn.speaker for turn in recording.turns} >= {"S1", "S2"}
    other = next(i for i, turn in enumerate(recording.turns) if turn.speaker != "S1")
    page.locator("#gutter .who", has_text="S1").click()
    page.fill("#name", "Änna <b>Lee</b>")
    press(page, "Enter")
    page.locator(".turn").nth(other).locator(".who").click()
    page.locator("#choices button", has_text="Änna").click()
    wait(page, "document.getElementById('save-state').textContent === 'Saved'")
    expected = ["Änna <b>Lee</b>" if t.speaker == "S1" else t.speaker for t in recording.turns]
    expected[other] = "Änna <b>Lee</b>"
    assert names_shown(page) == expected

    corrected = folder.ledger.corrected(recording.id)
    assert corrected is not None
    assert [turn.speaker for turn in corrected.turns] == expected
    # The page counts as the tables do.
    total = sum(speaker.speaking for speaker in corrected.speakers)
    for speaker in corrected.speakers:
        row = page.locator("#people li", has=page.get_by_text(speaker.label, exact=True))
        told = row.locator(".figure").text_content() or ""
        time_told, share = told.split(" · ")
        assert seconds_of(time_told) == speaker.speaking // 1000
        assert abs(int(share.removesuffix(" %")) - 100 * speaker.speaking / total) <= 0.5
    assert page.locator("#measures dd").first.text_content() == clock(overlap(corrected))

    assert hansard("export", folder.out, "--format", "srt").code == 0
    (srt,) = (folder.out / "exports").glob("*.srt")
    assert "Änna " in srt.read_text()
    assert "\nS1: " not in srt.read_text()

    page.reload()
    assert names_shown(page) == expected
    page.goto(folder.address)
    assert "Änna <b>Lee</b>" in (page.locator(".share-names").text_content() or "")
    visit.check(folder.address)


def test_undo_and_two_who_become_one(
    open_page: Open, folder: Served, recording: Transcript
) -> None:
    page = open_page(folder.page_of(recording.id)).page
    before = names_shown(page)
    people = page.locator("#people li").count()
    page.locator("#gutter .who", has_text="S2").click()
    page.fill("#name", "S1")
    assert page.locator("#merge-hint").is_visible()
    page.locator("#rename").click()
    wait(page, f"document.querySelectorAll('#people li').length === {people - 1}")
    assert "S2" not in names_shown(page)
    page.locator("#reading").focus()
    press(page, "u")
    wait(page, f"document.querySelectorAll('#people li').length === {people}")
    assert names_shown(page) == before
    wait(page, "document.getElementById('save-state').textContent === 'Saved'")
    corrected = folder.ledger.corrected(recording.id)
    assert corrected is not None
    assert [turn.speaker for turn in corrected.turns] == before
    # Cancelled, nothing changes.
    page.locator("#gutter .who").first.click()
    page.fill("#name", "Nobody")
    press(page, "Escape")
    assert names_shown(page) == before


def test_a_page_from_the_disk_plays_and_gives_its_corrections_as_a_file(
    open_page: Open, recording: Transcript, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    keep(out, recording)
    assert hansard("view", out, "--write").code == 0
    visit = open_page((out / "exports" / "index.html").as_uri())
    page = visit.page
    page.locator("#rows a").click()
    wait_until_playable(page)
    page.locator(".turn .word").first.click()
    wait(page, f"{HEARD} > {recording.turns[0].span.start + 200}")
    press(page, " ")
    page.locator("#gutter .who", has_text="S1").click()
    page.fill("#name", "Anna")
    press(page, "Enter")
    with page.expect_download() as download:
        page.locator("#download").click()
    (record,) = (out / "transcripts").iterdir()
    assert download.value.suggested_filename == record.name
    (out / "corrections").mkdir()
    download.value.save_as(out / "corrections" / record.name)
    (corrected,) = Ledger(Folder(str(out))).transcripts()
    assert "Anna" in {turn.speaker for turn in corrected.turns}
    assert "S1" not in {turn.speaker for turn in corrected.turns}
    visit.check("file:")
