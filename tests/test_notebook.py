"""The example notebook runs as it is, over an archive, and shows what it promises."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from benchmarks.tables import simulated
from jobs import load_tables
from jobs.ledger import Ledger
from jobs.tables.update import update_tables
from pipeline.storage import Folder
from pipeline.transcript import encode, to_json
from tests.conftest import ROOT

NOTEBOOK = ROOT / "notebooks" / "analyse.ipynb"


@pytest.fixture(scope="module")
def archive(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real recording without a date, and three simulated ones a month for four months."""
    out = tmp_path_factory.mktemp("archive") / "out"
    shutil.copytree(finished, out)
    folder = Folder(str(out))
    for number in range(12):
        made = simulated(f"/archive/2024-{1 + number // 3:02}-10/{number}.wav", 900, number)
        folder.write(f"transcripts/{made.id}.json", encode(to_json(made)))
    update_tables(Ledger(folder), lambda *_: None)
    return out


def test_the_notebook_answers_its_questions(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSARD_OUT", str(archive))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept in git"
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if output.get("name") == "stderr"]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) == 7, "timeline, shares, mood, interruptions, words, months, pyannote"
    text = "\n".join(
        output.get("data", {}).get("text/plain", output.get("text", "")) for output in shown
    )
    recordings = load_tables(str(archive), ["recordings"]).recordings
    assert f"of {recordings.words.sum()} words have a confidence below" in text
    for month in ("2024-01", "2024-02", "2024-03", "2024-04"):
        assert f"\n{month} " in text
