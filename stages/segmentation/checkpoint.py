"""Reads a segmentation network: the bundled layout, or pyannote's published checkpoint.

The published `pytorch_model.bin` is a Lightning checkpoint: beside the tensors under `state_dict`
it holds objects of pyannote's and torch's own classes. None of them is needed, and no code of
theirs is run: an inert stand-in takes the place of each.
"""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import ModelError, printable
from stages.models import ModelFolder
from stages.segmentation.pyannet import PyanNet, PyanNetSizes

_PARTS = ("sincnet.", "lstm.", "linear.", "classifier.")
_NEEDED = ("lstm.weight_hh_l0", "lstm.weight_hh_l0_reverse", "linear.0.weight", "classifier.weight")
_SPEAKERS = {7: 3, 11: 4}  # by the number of classes, two at once at most


class _Inert:
    """Stands for an object of a class that a checkpoint names: takes any state, does nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def load_pyannet(folder: ModelFolder) -> PyanNet:
    """The network, ready for inference. ModelError names the file and what does not fit."""
    state = published(folder.weights) if _is_pickle(folder.weights) else folder.state_dict()
    network = PyanNet(_sizes(state, folder.weights))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1:2] or [str(error)]
        raise ModelError(f"{_name(folder.weights)}: not a PyanNet: {reason[0].strip()}") from None
    return network.eval()


def published(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint as Lightning writes it, by parameter name, float32."""
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        with torch.serialization.safe_globals([(_Inert, name) for name in foreign]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise ModelError(f"{_name(path)}: not a checkpoint: {str(error).splitlines()[0]}") from None
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else {}
    # Losses and metrics that Lightning kept with the network are no part of it.
    return {
        name: value.float()
        for name, value in state.items()
        if isinstance(value, Tensor) and name.startswith(_PARTS)
    }


def _sizes(state: dict[str, Tensor], path: Path) -> PyanNetSizes:
    """As the shapes of the weights have them. The stride of SincNet leaves no trace in them: it is
    10, as in segmentation-3.0 and by default."""
    for name in _NEEDED:
        if name not in state:
            raise ModelError(f"{_name(path)}: not a PyanNet: no {name} in it")
    classes = len(state["classifier.weight"])
    if classes not in _SPEAKERS:
        raise ModelError(
            f"{_name(path)}: {classes} classes; only sets of at most two speakers are known, "
            f"that is {' or '.join(map(str, _SPEAKERS))} classes (pyannote/segmentation-3.0 has 7)"
        )
    return PyanNetSizes(
        lstm_hidden=state["lstm.weight_hh_l0"].shape[1],
        lstm_layers=sum(bool(re.fullmatch(r"lstm\.weight_ih_l\d+", name)) for name in state),
        linear_hidden=state["linear.0.weight"].shape[0],
        linear_layers=sum(bool(re.fullmatch(r"linear\.\d+\.weight", name)) for name in state),
        speakers=_SPEAKERS[classes],
        log_mel=len(state["log_mel.conv2.bias"]) if "log_mel.conv2.bias" in state else 0,
    )


def _is_pickle(path: Path) -> bool:
    return path.suffix != ".safetensors"


def _name(path: Path) -> str:
    return printable(str(path))
