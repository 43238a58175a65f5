"""The page of a recording plays it, and goes where one points."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from pipeline.records import Transcript
from pipeline.transcript import join_words
from tests.audio_files import bursts, encode
from tests.conftest import ROOT, hansard
from tests.meetings import keep
from tests.test_exports import transcript
from tests.view.pages import HEARD, Open, Served, press, served, wait, wait_until_playable


def test_it_plays_and_the_words_follow(
    open_page: Open, folder: Served, recording: Transcript
) -> None:
    visit = open_page(folder.page_of(recording.id))
    page = visit.page
    assert page.locator(".turn p").all_text_contents() == [
        join_words(turn.words) for turn in recording.turns
    ]
    wait_until_playable(page)
    first = recording.turns[0].words[0]
    page.locator(".turn .word").first.click()  # hear it
    wait(page, "document.body.classList.contains('playing')")
    assert page.evaluate(HEARD) >= first.start - 50
    shown = set()
    for _ in range(80):
        page.wait_for_timeout(50)
        shown |= set(page.locator(".word.now").all_text_contents())
        if len(shown) > 3:
            break
    assert len(shown) > 3, "the mark does not move on"
    # The text follows the voice until the reader scrolls, and again when asked to.
    pressed = page.locator("#follow")
    assert pressed.get_attribute("aria-pressed") == "true"
    page.mouse.move(500, 600)
    page.mouse.wheel(0, 600)
    page.locator("#to-voice").click()
    assert pressed.get_attribute("aria-pressed") == "true"
    assert not page.locator("#to-voice").is_visible()
    press(page, " ")
    wait(page, "!document.body.classList.contains('playing')")
    # The word that is marked is the one whose time it is.
    now = page.evaluate(HEARD)
    words = [word for turn in recording.turns for word in turn.words]
    near = {word.text for word in words if word.start - 60 <= now <= word.end + 360}
    assert set(page.locator(".word.now").all_text_contents()) <= near
    visit.check(folder.address)


def test_the_command_serves_until_it_is_interrupted(
    open_page: Open, recording: Transcript, tmp_path: Path
) -> None:
    keep(tmp_path / "out", recording)
    command = [sys.executable, "-m", "jobs.cli", "view", f"{tmp_path}/out/{recording.id}"]
    with subprocess.Popen(
        [*command, "--no-browser"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address.endswith(f"/{recording.id}.html")
            visit = open_page(address)
            wait_until_playable(visit.page)
            visit.page.locator("#to-index").click()
            assert visit.page.locator("#rows a").all_text_contents() == ["meeting.wav"]
            visit.check(address.rpartition("/")[0])
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0


def test_a_click_on_word_time_or_timeline_goes_there(
    open_page: Open, folder: Served, recording: Transcript
) -> None:
    page = open_page(folder.page_of(recording.id)).page
    wait_until_playable(page)
    turn = recording.turns[2]
    at = len(turn.words) // 2
    page.locator(".turn").nth(2).locator(".word").nth(at).click()
    press(page, " ")
    assert 0 <= page.evaluate(HEARD) - turn.words[at].start < 1500
    page.locator(".turn").nth(1).locator(".at").click()
    press(page, " ")
    assert 0 <= page.evaluate(HEARD) - recording.turns[1].span.start < 1500
    box = page.locator("#lane-area").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 10)
    assert abs(page.evaluate(HEARD) - recording.duration / 2) < 1000
    assert page.locator(".turn.current").is_visible()
    frame, turn_box = (page.locator(one).bounding_box() for one in ("#reading", ".turn.current"))
    assert frame is not None and turn_box is not None
    assert frame["y"] <= turn_box["y"] <= frame["y"] + frame["height"]
    # Zoomed in, the same place shows an eighth of the recording around the voice.
    for _ in range(3):
        press(page, "+")
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + 10)
    assert abs(page.evaluate(HEARD) - recording.duration * (0.5 + 1 / 16)) < 1000


def test_keys(open_page: Open, folder: Served, recording: Transcript) -> None:
    page = open_page(folder.page_of(recording.id)).page
    wait_until_playable(page)

    def at(ms: int) -> None:
        wait(page, f"Math.abs({HEARD} - {ms}) < 60")

    press(page, "ArrowRight")
    press(page, "ArrowRight")
    at(10_000)
    press(page, "ArrowLeft")
    at(5000)
    press(page, "Home")  # scrolls, and moves nothing
    at(5000)
    starts = [turn.span.start for turn in recording.turns]
    here = max(i for i, start in enumerate(starts) if start <= 5000)
    press(page, "j")
    at(starts[here + 1])
    press(page, "k")
    at(starts[here])
    press(page, "?")
    assert page.locator("#help").is_visible()
    press(page, "Escape")
    press(page, "/")
    page.keyboard.type("e k j ")  # letters are letters in a field
    assert page.input_value("#query") == "e k j "
    at(starts[here])
    press(page, "Escape")
    press(page, "e")
    assert page.locator("#correct").is_visible()
    press(page, "Escape")
    # All that is clicked can be reached, and has a name.
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select")]
          .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_where_the_audio_is_gone_one_can_choose_it(
    open_page: Open, recording: Transcript, meeting: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    made = replace(recording, uri="/gone/meeting.wav")
    keep(out, made)
    assert hansard("view", out, "--write").code == 0
    page = open_page((out / "exports" / f"{made.id}.html").as_uri()).page
    assert page.locator("#no-audio").is_visible()
    assert page.locator(".turn").count() == len(made.turns)
    page.set_input_files("#audio-file", meeting)
    wait_until_playable(page)
    assert not page.locator("#no-audio").is_visible()
    page.locator(".turn .word").first.click()
    wait(page, f"{HEARD} > {made.turns[0].span.start + 200}")


def test_a_format_that_browsers_do_not_know_is_played_decoded(
    open_page: Open, tmp_path: Path
) -> None:
    audio = encode(tmp_path / "old.aiff", bursts(20, 16000), 16000, "pcm_s16be", "s16")
    made = replace(transcript(("S1", "one two three.", 5000)), uri=str(audio), duration=20_000)
    keep(tmp_path / "out", made)
    with served(tmp_path / "out") as running:
        page = open_page(running.page_of(made.id)).page
        wait_until_playable(page)
        page.locator(".turn .word").nth(1).click()
        wait(page, f"{HEARD} > 5500")
        assert abs(page.evaluate("document.getElementById('audio').duration") - 20) < 0.1


def test_an_mp3_of_variable_bit_rate_is_played_decoded(open_page: Open, tmp_path: Path) -> None:
    audio = encode(tmp_path / "call.mp3", bursts(20, 16000), 16000, "libmp3lame", "fltp")
    # LAME calls its table Info where the rate is constant, and Xing where it is not.
    constant = audio.read_bytes()
    assert constant.count(b"Info") == 1
    variable = tmp_path / "variable.mp3"
    variable.write_bytes(b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256) + constant)
    variable.write_bytes(variable.read_bytes().replace(b"Info", b"Xing"))
    made = transcript(("S1", "one two three.", 5000))
    for file, played in ((audio, "audio/m-1"), (variable, "audio/m-1.wav")):
        keep(tmp_path / "out", replace(made, uri=str(file), duration=20_000))
        with served(tmp_path / "out") as running:
            page = open_page(running.page_of("m-1")).page
            wait_until_playable(page)
            source = page.evaluate("document.getElementById('audio').currentSrc")
            assert source == running.address + played
    assert hansard("view", tmp_path / "out", "--write").code == 0
    page = open_page((tmp_path / "out" / "exports" / "m-1.html").as_uri()).page
    assert "variable bit rate" in (page.text_content("#note") or "")


def test_a_recording_without_speech_says_so(open_page: Open, meeting: Path, tmp_path: Path) -> None:
    made = replace(transcript(), uri=str(meeting), duration=75_000)
    keep(tmp_path / "out", made)
    with served(tmp_path / "out") as running:
        visit = open_page(running.page_of(made.id))
        assert "No speech" in (visit.page.text_content("#transcript") or "")
        for key in ("j", "k", "e", "n", " ", "+"):
            press(visit.page, key)
        visit.page.goto(running.address)
        assert "no speech" in (visit.page.text_content("#rows") or "")
        visit.check(running.address)
