"""A training on several machines: every worker runs the same script, draws batches of its own, and
steps with the mean of all gradients. Ray Train starts the workers and connects them.

A recipe calls `launch` once, `average` where it has a number or gradients that all must share, and
writes files only where `first()` holds (see training/run.py). Alone, in one process, these do
nothing.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as group

from pipeline.errors import HansardError

OptionsT = TypeVar("OptionsT")


def rank() -> int:
    """Which of the workers this is, from 0."""
    return group.get_rank() if group.is_initialized() else 0


def first() -> bool:
    """Whether this worker writes the log, the checkpoints and the model."""
    return rank() == 0


def average(tensors: Iterable[Tensor]) -> None:
    """Puts the mean over all workers in place of each tensor. All workers have to call it."""
    if not group.is_initialized():
        return
    found = list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in found])
    group.all_reduce(flat)
    means = (flat / group.get_world_size()).split([tensor.numel() for tensor in found])
    for tensor, mean in zip(found, means, strict=True):
        tensor.copy_(mean.view_as(tensor))


def average_gradients(module: torch.nn.Module) -> None:
    """Of every parameter that takes part in the training, whether or not this batch touched it."""
    parameters = [each for each in module.parameters() if each.requires_grad]
    for each in parameters:
        if each.grad is None:
            each.grad = torch.zeros_like(each)
    average(each.grad for each in parameters if each.grad is not None)


def agree(value: float) -> float:
    """The first worker's number, for all: a decision that ends a loop has to be the same one."""
    if not group.is_initialized():
        return value
    told = torch.tensor([value], dtype=torch.float64)
    group.broadcast(told, src=0)
    return float(told)


def add_arguments(parser: ArgumentParser) -> None:
    """What `launch` has to know."""
    parser.add_argument("--workers", type=int, default=1, help="of a Ray cluster")
    parser.add_argument("--address", default="", help="of the Ray cluster; default: start one")


def command_line(purpose: str | None) -> ArgumentParser:
    """Of a training on shared/data: a parser that knows --data, --out and what `launch` needs."""
    parser = ArgumentParser(description=purpose)
    parser.add_argument("--data", type=absolute, required=True, help="the folder shared/data")
    parser.add_argument("--out", type=absolute, required=True)
    add_arguments(parser)
    return parser


def absolute(path: str) -> Path:
    """A path on the command line, as workers elsewhere find it."""
    return Path(path).resolve()


def launch(
    train: Callable[[OptionsT], None], options: OptionsT, workers: int, address: str, out: Path
) -> None:
    """Runs `train` here, or, with more than one worker, on a Ray cluster: `address` as for
    ray.init ("auto", HOST:PORT), empty for one on this machine. A worker takes a GPU where the
    cluster has some. `out` is made; it must then be a folder that all machines see."""
    out.mkdir(parents=True, exist_ok=True)
    if workers == 1:
        train(options)
        return
    import ray
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    def loop(config: dict[str, Any]) -> None:
        train(config["options"])

    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would make it the lowest
    ray.init(address=address or "local", include_dashboard=False, logging_level="error")
    try:
        TorchTrainer(
            loop,
            train_loop_config={"options": options},
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=ray.cluster_resources().get("GPU", 0) >= workers
            ),
            run_config=RunConfig(name="ray", storage_path=str(out.resolve())),
        ).fit()
    except TrainingFailedError as error:
        raise HansardError(f"a worker failed: {error}") from None
    finally:
        ray.shutdown()
