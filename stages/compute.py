"""On which device, and in which numbers, a network computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from pipeline.errors import ModelError
from pipeline.stage import Parameters

if TYPE_CHECKING:
    import torch

Precision: TypeAlias = Literal["float32", "bfloat16", "float16", "int8"]


def precision_field() -> Any:
    """The parameter `precision` of a stage."""
    return Field(
        default="float32",
        description="in which the encoder and decoder compute; the others change some words: "
        "bfloat16 and float16 are for processors and GPUs made for them, int8 for any CPU",
    )


class NetworkParameters(Parameters):
    """Of every stage with a network."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"device"})

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="cpu, cuda, cuda:N, or auto: a GPU where there is one",
    )


def find_device(name: str, key: str = "device") -> torch.device:
    """What `NetworkParameters.device` names, a parameter under `key`. ModelError where this
    machine lacks it."""
    import torch

    known = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if known else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= known:
        raise ModelError(
            f"{key}={name}: torch {torch.__version__} finds {known or 'no'} GPUs on this machine: "
            f"set {key}=cpu, or leave it away: a GPU is taken where there is one"
        )
    return device
