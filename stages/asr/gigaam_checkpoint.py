"""Reads GigaAM's checkpoints as they are published, without running anything that lies in them.

Two layouts. The hub's: `config.json` and `pytorch_model.bin` (or `model.safetensors`). That of the
`gigaam` package: one `.ckpt`, a torch file with `state_dict` and `cfg`. This `cfg` is an OmegaConf
object; it is unpickled with `weights_only=True`, and in place of OmegaConf's classes stand inert
ones that only keep their fields, so that OmegaConf is neither needed nor run.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import ModelError, printable
from stages.models import ModelFolder

BUFFERS = {
    "preprocessor.featurizer.0.spectrogram.window": "preprocessor.window",
    "preprocessor.featurizer.0.mel_scale.fb": "preprocessor.mel",
}
"""What torchaudio calls the frontend's constants, and what `LogMel` does. They are read, not only
computed: those of a checkpoint stored in half precision are what its reference uses."""


@dataclass(frozen=True)
class GigaAmCheckpoint:
    """`config`: GigaAM's `cfg` (preprocessor, encoder, head, decoding or id2name) as plain data;
    `state`: the weights under their published names, float32, on the CPU."""

    folder: Path
    config: Mapping[str, Any]
    state: Mapping[str, Tensor]

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of `cfg`; ModelError where it is missing."""
        section = self.config.get(name)
        if not isinstance(section, Mapping):
            raise ModelError(f"{printable(str(self.folder))}: no {name} in its cfg: not a GigaAM")
        return section

    @property
    def tokenizer(self) -> Path:
        """The SentencePiece model beside the weights; ModelError where there is none."""
        found = sorted(self.folder.glob("*tokenizer*.model"))
        if not found:
            raise ModelError(f"{printable(str(self.folder))}: no tokenizer.model in it")
        return found[0]


def read_config(folder: ModelFolder) -> Mapping[str, Any]:
    """GigaAM's `cfg` alone; weights are mapped, not read."""
    if (folder.path / "config.json").is_file():
        try:
            whole = json.loads((folder.path / "config.json").read_text(encoding="utf-8"))
            config = whole["cfg"]["model"]["cfg"]
        except (ValueError, KeyError, TypeError):
            raise ModelError(
                f"{printable(str(folder.path))}/config.json: no cfg.model.cfg in it: not a GigaAM"
            ) from None
    else:
        config = _plain(_load(folder.weights).get("cfg"))
    if not isinstance(config, Mapping):
        raise ModelError(f"{printable(str(folder.weights))}: no cfg in it: not a GigaAM")
    return config


def read_checkpoint(folder: ModelFolder) -> GigaAmCheckpoint:
    """ModelError where the folder holds something else."""
    config = read_config(folder)
    if folder.weights.suffix == ".ckpt":
        state = _load(folder.weights).get("state_dict")
        if not isinstance(state, Mapping):
            raise ModelError(f"{printable(str(folder.weights))}: no state_dict in it")
    else:
        state = folder.state_dict()
    weights = {
        name.removeprefix("model."): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }
    named = {BUFFERS.get(name, name): value for name, value in weights.items()}
    return GigaAmCheckpoint(folder.path, config, named)


class _Kept:
    """Stands for a class of OmegaConf: keeps what was stored of it."""

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"_content": state})


class _Mapping(_Kept):
    """DictConfig."""


class _Sequence(_Kept):
    """ListConfig."""


class _Leaf(_Kept):
    """AnyNode and the like: a value."""


_STAND_INS: list[Any] = [
    (_Mapping, "omegaconf.dictconfig.DictConfig"),
    (_Sequence, "omegaconf.listconfig.ListConfig"),
    *((_Leaf, f"omegaconf.nodes.{name}") for name in ("AnyNode", "StringNode", "IntegerNode")),
    *((_Leaf, f"omegaconf.nodes.{name}") for name in ("FloatNode", "BooleanNode")),
    (_Kept, "omegaconf.base.Metadata"),
    (_Kept, "omegaconf.base.ContainerMetadata"),
    (_Kept, "typing.Any"),
    (_Kept, "typing.Union"),
    (defaultdict, "collections.defaultdict"),
    *((kind, f"builtins.{kind.__name__}") for kind in (dict, list, str, int, float, bool)),
]


def _load(path: Path) -> Mapping[str, Any]:
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever the pickle makes it stumble on
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{printable(str(path))}: not a GigaAM checkpoint ({reason})") from None
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{printable(str(path))}: not a GigaAM checkpoint")
    return loaded


def _plain(node: Any) -> Any:
    """Plain data of a kept OmegaConf object (or of plain data)."""
    if isinstance(node, _Leaf):
        return vars(node).get("_val")
    if isinstance(node, _Kept):
        node = vars(node).get("_content")
    if isinstance(node, Mapping):
        return {_plain(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return node
