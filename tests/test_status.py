"""`hansard status` and `hansard retry`: what failed, why, and once more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.claims import Claims
from pipeline.storage import Folder
from tests.conftest import Here


@pytest.fixture
def out(short: Path, tmp_path: Path, here: Here) -> Path:
    """One recording done with two speakers, two missing, one that is no audio, two claims."""
    (tmp_path / "text.wav").write_text("not audio")
    names = ["a.wav", "missing-1.wav", "missing-2.wav", "text.wav"]
    shutil.copy(short, tmp_path / "a.wav")
    out = tmp_path / "out"
    sources = [tmp_path / name for name in names]
    arguments = ["--speakers", "2", "--format", "srt", "--set", "audio.block_ms=30000"]
    assert here("transcribe", *sources, "--out", out, *arguments).code == 1
    Claims(Folder(str(out)), lease=-1).acquire("gone")
    Claims(Folder(str(out))).acquire("running")
    return out


def test_status_counts_and_groups_failures_by_reason(out: Path, here: Here) -> None:
    told = json.loads(here("status", out, "--json").stdout)
    counts = {key: told[key] for key in ("done", "failed", "running", "expired")}
    assert counts == {"done": 1, "failed": 3, "running": 1, "expired": 1}
    assert told["audio_ms"] == 8000
    first, second = told["failures"]
    assert (first["stage"], first["error"], first["count"]) == ("audio", "no such file", 2)
    assert [name.rsplit("-", 1)[0] for name in first["ids"]] == ["missing-1", "missing-2"]
    assert second["count"] == 1 and second["error"].startswith("not audio")
    assert {claim["id"]: claim["expired"] for claim in told["claims"]} == {
        "gone": True,
        "running": False,
    }
    table = here("status", out)
    assert table.code == 0
    assert "0.0 hours of audio" in table.stdout
    for text in ("done", "failed", "no such file", "not audio", "running", "gone"):
        assert text in table.stdout


def test_status_of_a_folder_without_anything_is_all_zero(tmp_path: Path, here: Here) -> None:
    told = json.loads(here("status", tmp_path / "none", "--json").stdout)
    assert (told["done"], told["failed"], told["failures"]) == (0, 0, [])
    assert not (tmp_path / "none").exists()


def test_retry_runs_what_is_chosen_as_it_was_asked_for(
    out: Path, short: Path, tmp_path: Path, here: Here
) -> None:
    for name in ("missing-1.wav", "missing-2.wav", "text.wav"):
        shutil.copy(short, tmp_path / name)
    chosen = here("retry", out, "--error", "NOT audio", "--json")
    assert chosen.code == 0, chosen.stderr
    record = json.loads(chosen.stdout)
    assert record["uri"] == str(tmp_path / "text.wav")
    assert len({label for _, _, label in record["timeline"]}) == 2
    assert len(list(out.glob("exports/text-*.srt"))) == 1
    (failure,) = out.glob("failures/missing-2-*")
    assert here("retry", out, "--id", failure.stem).code == 0
    assert [path.name.rsplit("-", 1)[0] for path in out.glob("failures/*")] == ["missing-1"]
    (tmp_path / "missing-1.wav").unlink()
    again = here("retry", out)
    assert again.code == 1 and "no such file" in again.stderr
    (path,) = out.glob("failures/*")
    assert json.loads(path.read_bytes())["attempt"] == 2
    path.unlink()
    nothing = here("retry", out)
    assert (nothing.code, nothing.stderr) == (0, "retry: nothing to try again\n")


def test_retry_of_what_never_failed_or_cannot_be_read_is_told(out: Path, here: Here) -> None:
    unknown = here("retry", out, "--id", "no-such-id")
    assert unknown.code == 2 and "no-such-id" in unknown.stderr
    (path,) = out.glob("failures/text-*")
    path.write_text('{"id": "text"}')
    broken = here("retry", out, "--id", path.stem)
    assert broken.code == 1 and str(path) in broken.stderr
    told = json.loads(here("status", out, "--json").stdout)
    assert told["failed"] == 3 and "cannot be read" in told["failures"][1]["error"]
