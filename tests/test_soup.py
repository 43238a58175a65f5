"""The mean of several models' weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import ROOT
from training.soup import mean_of


def test_the_mean_of_two_folders(tmp_path: Path) -> None:
    for name, value in {"one": 1.0, "two": 4.0}.items():
        (tmp_path / name).mkdir()
        weights = {"layer": torch.full((2, 3), value, dtype=torch.float16)}
        save_file(weights, tmp_path / name / "model.safetensors")
        (tmp_path / name / "tokens.json").write_text(f'["{name}"]')
    arguments = [tmp_path / "one", tmp_path / "two", "--out", tmp_path / "both"]
    subprocess.run([sys.executable, "-m", "training.soup", *arguments], cwd=ROOT, check=True)
    (layer,) = load_file(tmp_path / "both" / "model.safetensors").values()
    assert torch.equal(layer, torch.full((2, 3), 2.5, dtype=torch.float16))
    assert (tmp_path / "both" / "tokens.json").read_text() == '["one"]'


def test_models_of_different_kinds() -> None:
    with pytest.raises(ValueError, match="differ in the names or shapes"):
        mean_of([{"a": torch.zeros(2)}, {"a": torch.zeros(3)}])
