"""What a user waits for before anything happens: commands and models bring along no library that
they do not need. Each looks at what a fresh interpreter has imported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Set
from pathlib import Path

from tests.conftest import ROOT, hansard

COMMAND = """
import sys
from jobs import cli

try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
"""
LOAD_ALL = """
from pipeline.profile import load_profile

for node in load_profile("default").nodes:
    node.stage.load()
"""
READ_PUBLISHED = """
import sys
from pathlib import Path

from benchmarks.folders.paraformer import SMALL, make_folder
from stages.asr.paraformer_stage import ParaformerRecogniser
from stages.models import ModelFolder

folder = make_folder(Path(sys.argv[1]), "SeacoParaformer", SMALL)
ParaformerRecogniser.read(ModelFolder(folder), [])
"""
TELL = """
import sys
print("imported", *sys.modules)
"""


def imported(program: str, *arguments: str | Path) -> Set[str]:
    """The modules that a fresh interpreter has after the program."""
    command = [sys.executable, "-c", program + TELL, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_help_and_status_need_no_models(finished: Path) -> None:
    assert not {"torch", "numpy", "pydantic", "fsspec"} & imported(COMMAND, "--help")
    assert not {"torch", "scipy", "ray"} & imported(COMMAND, "status", finished)


def test_a_sync_with_nothing_to_do_needs_no_models(
    meeting: Path, finished: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    call = ("sync", meeting, "--out", out, "--settle", "0")
    assert "1 unchanged" in hansard(*call).stderr  # from now on it is known by its listing
    assert not {"torch", "scipy", "ray"} & imported(COMMAND, *call)


def test_all_models_load_without_what_only_some_runs_need() -> None:
    modules = imported(LOAD_ALL)
    assert "torch" in modules
    # torch's compiler, plots, and what clustering and scoring import when they run.
    unwanted = "torch._dynamo sympy matplotlib scipy.signal scipy.stats sklearn umap pandas ray"
    assert not set(unwanted.split()) & modules


def test_a_published_model_is_read_without_the_compiler(tmp_path: Path) -> None:
    assert not {"torch._dynamo", "sympy"} & imported(READ_PUBLISHED, tmp_path / "model")
