"""pyannote's segmentation-3.0: the network of the published sizes, and its checkpoint."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import ModelError
from stages.models import ModelFolder
from stages.segmentation.checkpoint import load_pyannet
from stages.segmentation.pyannet import PyanNet, PyanNetSizes

RATE = 16000


def filled(network: PyanNet) -> PyanNet:
    """Weights that any implementation can be given."""
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    for name in sorted(state):
        if "filterbank" not in name:
            weights = 0.4 * torch.rand(state[name].shape, generator=generator) - 0.2
            state[name] = weights + ("norm" in name and name.endswith("weight"))
    network.load_state_dict(state)
    return network.eval()


def sweep() -> torch.Tensor:
    """Ten seconds that any implementation can be given; float32 [1, 160000]."""
    time = torch.arange(10 * RATE) / RATE
    tone = torch.sin(2 * torch.pi * (200 + 30 * time) * time) * torch.sin(2 * torch.pi * 3 * time)
    noise = torch.randn(10 * RATE, generator=torch.Generator().manual_seed(1))
    return (0.1 * tone + 0.01 * noise)[None]


def test_the_published_sizes_have_the_published_parameters() -> None:
    network = PyanNet(PyanNetSizes())
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == 1_473_265
    assert state["sincnet.conv1d.0.filterbank.low_hz_"].shape == (40, 1)
    assert state["sincnet.conv1d.0.filterbank.window_"].shape == (125,)
    assert state["sincnet.wav_norm1d.weight"].shape == (1,)
    assert state["sincnet.norm1d.2.bias"].shape == (60,)
    assert state["lstm.weight_ih_l0"].shape == (512, 60)
    assert state["lstm.weight_hh_l3_reverse"].shape == (512, 128)
    assert state["linear.1.weight"].shape == (128, 128)
    assert state["classifier.bias"].shape == (7,)


def test_the_network_gives_what_pyannote_gives() -> None:
    # What pyannote.audio 3.3.2's own PyanNet gave with these weights, on this sound.
    expected = {
        0: [-1.6333, -1.7606, -2.1484, -2.1968, -2.2622, -2.0747, -1.7416],
        100: [-1.3941, -2.1554, -1.9827, -2.0789, -2.6428, -1.956, -1.8281],
        300: [-1.483, -2.2083, -1.6635, -2.1231, -2.464, -2.1647, -1.87],
        588: [-1.6203, -1.9399, -1.7752, -2.2591, -2.1817, -2.0141, -1.9785],
    }
    with torch.inference_mode():
        found = filled(PyanNet(PyanNetSizes()))(sweep())
    assert found.shape == (1, 589, 7)
    for frame, values in expected.items():
        assert found[0, frame].tolist() == pytest.approx(values, abs=2e-3)


# its checkpoint ---------------------------------------------------------------------------


class Problem(Enum):
    MONO_LABEL_CLASSIFICATION = 1


@dataclass
class Specifications:
    problem: Problem
    duration: float
    classes: list[str]


class Run:
    """Runs code where it is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.exec, (self.code,)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder as people have it: Lightning's checkpoint, with objects of classes which are
    nowhere to be found when it is read."""
    name = "pyannote.audio.core.task"
    task = types.ModuleType(name)
    for kind in (Problem, Specifications):
        monkeypatch.setattr(kind, "__module__", name)
        setattr(task, kind.__name__, kind)
    for parent in ("pyannote.audio", "pyannote.audio.core"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, name, task)
    network = filled(PyanNet(PyanNetSizes()))
    torch.save(
        {
            "epoch": 11,
            "pytorch-lightning_version": "1.6.5",
            "state_dict": {
                **network.state_dict(),
                "validation_metric.threshold": torch.zeros(3),
            },
            "callbacks": {"trace": Run(f"open({str(tmp_path / 'ran')!r}, 'w')")},
            "hyper_parameters": {"sincnet": {"stride": 10}},
            "pyannote.audio": {
                "versions": {"torch": torch.torch_version.TorchVersion("1.12")},
                "specifications": Specifications(
                    Problem.MONO_LABEL_CLASSIFICATION, 10.0, ["speaker#1"]
                ),
            },
        },
        tmp_path / "pytorch_model.bin",
    )
    monkeypatch.delitem(sys.modules, name)
    yield tmp_path


def test_a_published_checkpoint_loads_and_nothing_in_it_runs(checkpoint: Path) -> None:
    network = load_pyannet(ModelFolder(checkpoint))
    assert not (checkpoint / "ran").exists()
    assert network.sizes == PyanNetSizes()
    with torch.inference_mode():
        assert torch.equal(network(sweep()), filled(PyanNet(PyanNetSizes()))(sweep()))


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"encoder.weight": torch.zeros(2)}, "no lstm.weight_hh_l0 in it"),
        ({"classifier.weight": torch.zeros(4, 128)}, "4 classes"),
        ({"lstm.weight_hh_l0": torch.zeros(4, 1)}, "not a PyanNet"),
    ],
)
def test_another_network_is_an_error_that_names_the_file(
    tmp_path: Path, state: dict[str, torch.Tensor], reason: str
) -> None:
    whole = {} if "encoder.weight" in state else PyanNet(PyanNetSizes()).state_dict()
    torch.save({"state_dict": whole | state}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=reason) as error:
        load_pyannet(ModelFolder(tmp_path))
    assert "pytorch_model.bin" in str(error.value)


def test_a_file_that_is_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: not a checkpoint"):
        load_pyannet(ModelFolder(tmp_path))
