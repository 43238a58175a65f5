"""Model folders: one layout for bundled and published weights.

A folder holds `config.yaml` (FunASR's keys where they apply), the weights as
`model.safetensors` (bundled), `model.pt`, `*.bin` or `*.ckpt` (published), and what the stage's
network needs besides (`am.mvn`, `tokens.json`). Weights are never unpickled freely.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from pipeline.errors import ModelError, printable
from pipeline.lanes import cores
from stages.compute import find_device
from stages.model_cache import published

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BUNDLED = "bundled/"
_WEIGHTS = (
    *("model.safetensors", "model.pt", "pytorch_model.bin", "*.bin", "*.ckpt"),
    *("*.arpa", "*.arpa.gz"),  # language models
)


@dataclass(frozen=True)
class ModelFolder:
    """An existing folder with a config and weights; see `locate`."""

    path: Path

    @property
    def weights(self) -> Path:
        for name in _WEIGHTS:
            for path in sorted(self.path.glob(name)):
                return path
        raise ModelError(f"{printable(str(self.path))}: no {' or '.join(_WEIGHTS)} in it")

    def file(self, name: str) -> Path:
        """A file of the folder; ModelError where it is missing."""
        path = self.path / name
        if not path.is_file():
            raise ModelError(f"{printable(str(self.path))}: no {name} in it")
        return path

    def config(self) -> dict[str, Any]:
        """`config.yaml` as plain data."""
        with self.file("config.yaml").open() as stream:
            config = yaml.safe_load(stream)
        if not isinstance(config, dict):
            raise ModelError(f"{printable(str(self.path))}/config.yaml: not a mapping")
        return config

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by parameter name, on the CPU, float32. Those that the file has in float32
        are mapped, not read: processes that use them as they are share one copy."""
        import torch
        from safetensors.torch import load_file

        if self.weights.suffix == ".safetensors":
            state: dict[str, Tensor] = load_file(self.weights)
        else:
            mapped = zipfile.is_zipfile(self.weights)  # not so before torch 1.6
            state = torch.load(self.weights, map_location="cpu", weights_only=True, mmap=mapped)
            state = state.get("state_dict", state)  # type: ignore[assignment]
        return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}

    def digest(self) -> str:
        """`sha256:...` over every file that changes the result, names included."""
        return _digest(self.path, self.weights.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: Path, _modified: int) -> str:
    total = hashlib.sha256()
    for file in sorted(p for p in path.iterdir() if p.is_file() and _matters(p)):
        with file.open("rb") as stream:
            total.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{total.hexdigest()}"


def _matters(file: Path) -> bool:
    return file.suffix != ".md" and not file.name.startswith(".")


class WithModel:
    """For a stage whose parameter `model` names the one folder that it loads. `package`: where
    its bundled models lie, say "stages.vad"."""

    package: ClassVar[str]
    parameters: Any

    @property
    def model(self) -> str:
        """See `Stage`."""
        return str(self.parameters.model)

    @property
    def folder(self) -> ModelFolder:
        """ModelError where it is not there; see `locate`."""
        return locate(self.model, self.package)

    def weights_digest(self) -> str:
        """See `Stage`."""
        return self.folder.digest()


class WithNetwork(WithModel):
    """For a stage whose parameters are `NetworkParameters`."""

    @property
    def device(self) -> torch.device:
        """Where the network computes. ModelError where this machine has no such device."""
        return find_device(self.parameters.device)

    @property
    def lanes(self) -> int:
        """See `BatchedStage`. A GPU computes one batch while the next is made ready for it."""
        return cores() if self.device.type == "cpu" else 2

    def check_here(self, name: str) -> None:
        """See `Stage`."""
        find_device(self.parameters.device, f"{name}.device")


def locate(model: str, package: str) -> ModelFolder:
    """The folder of `model`: `bundled/NAME` lies in the stage's own package (say
    "stages.vad"), `hub:OWNER/NAME@REVISION` and `https://...` in the cache (see `model_cache`),
    anything else is a path. ModelError names the folder and the way out."""
    if model.startswith(BUNDLED):
        shelf = Path(str(files(package))) / "bundled"
        path = shelf / model.removeprefix(BUNDLED)
        if not path.is_dir():
            known = ", ".join(sorted(BUNDLED + p.name for p in shelf.glob("*") if p.is_dir()))
            raise ModelError(f"no model {model!r} in {package}; bundled here: {known or 'none'}")
        return ModelFolder(path)
    known_elsewhere = published(model)
    if known_elsewhere is not None:
        if not known_elsewhere.folder.is_dir():
            raise ModelError(
                f"{printable(model)} is not on this machine: run `hansard models pull PROFILE`, or "
                f"put its files into {printable(str(known_elsewhere.folder))}"
            )
        return ModelFolder(known_elsewhere.folder)
    path = Path(model).expanduser()
    if not path.is_dir():
        raise ModelError(
            f"model folder not found: {printable(model)} (a folder, bundled/NAME, "
            "hub:OWNER/NAME@REVISION, or https://...)"
        )
    return ModelFolder(path)


def save_model(path: Path, state: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Writes a model folder. Weights are stored as float16: half the size, and what is lost
    is measured by the recipe that calls this."""
    import torch
    from safetensors.torch import save_file

    path.mkdir(parents=True, exist_ok=True)
    half = {
        k: (v.to(torch.float16) if v.is_floating_point() else v).contiguous().cpu()
        for k, v in state.items()
    }
    save_file(half, path / "model.safetensors")
    (path / "model.safetensors").chmod(0o644)  # safetensors leaves it readable to its owner only
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
