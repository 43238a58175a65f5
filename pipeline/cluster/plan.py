"""How many workers each stage may have on a cluster, and what each of them keeps of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.graph import AUDIO
from pipeline.resources import Resources

_TURNS = 5  # workers that share a CPU: those of one stage work while others wait
_AHEAD = 1.5  # conductors for each CPU: short recordings wait for a worker most of the time


@dataclass(frozen=True)
class Plan:
    """For one stage. `cpus` and `gpus` are what Ray keeps for each worker."""

    cpus: float
    gpus: float
    threads: int
    most: int


def plans(resources: Mapping[str, Resources], cpus: float, gpus: float) -> dict[str, Plan]:
    """By node, under AUDIO for the conductors. Any stage may keep all of the cluster's CPUs
    busy: its workers are as many, and what they keep is so little that the others of the stages
    find room beside them. Where the profile says more, that counts.

    One CPU is enough for a worker of each stage; `cpus` and `gpus` are the whole cluster's."""
    cpus = max(1.0, cpus)
    most = {name: _most(some, cpus, gpus) for name, some in resources.items()}
    most[AUDIO] = resources[AUDIO].workers or int(_AHEAD * cpus) + 1
    slots = max(_TURNS * cpus, most[AUDIO] + len(resources) - 1)
    share = math.floor(cpus / slots * 10_000) / 10_000  # Ray's precision
    return {
        name: Plan(
            cpus=share if some.cpus is None else some.cpus,
            gpus=some.gpus,
            threads=some.threads,
            most=most[name],
        )
        for name, some in resources.items()
    }


def check_fit(planned: Mapping[str, Plan], cpus: float, gpus: float) -> None:
    """UsageError where a worker of each stage, which a run needs, does not fit."""
    needed = {
        "CPUs": (sum(plan.cpus for plan in planned.values()), max(1.0, cpus)),
        "GPUs": (sum(plan.gpus for plan in planned.values()), gpus),
    }
    for what, (wanted, there) in needed.items():
        if wanted > there:
            raise UsageError(
                f"resources: a worker of each stage keeps {wanted:g} {what} together, and the "
                f"cluster has {there:g}"
            )


def _most(wanted: Resources, cpus: float, gpus: float) -> int:
    if wanted.workers is not None:
        return wanted.workers
    fitting = gpus / wanted.gpus if wanted.gpus else cpus / max(1.0, wanted.cpus or 1.0)
    return max(1, int(fitting))
