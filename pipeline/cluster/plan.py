"""How many processes of each kind a run may have on a cluster, and what each keeps of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.graph import AUDIO
from pipeline.resources import Resources

_AHEAD = 1.5  # conductors for each CPU, where they wait for workers half of the time


@dataclass(frozen=True)
class Plan:
    """Of one kind. `cpus` and `gpus` are what Ray keeps for each process."""

    cpus: float
    gpus: float
    threads: int
    most: int


@dataclass(frozen=True)
class Plans:
    """Of conductors, of helpers, and of the workers of those stages that have their own."""

    conductors: Plan
    helpers: Plan
    own: Mapping[str, Plan]


def plans(resources: Mapping[str, Resources], cpus: float, gpus: float) -> Plans:
    """`resources` by stage, under AUDIO those of the conductors; `cpus` and `gpus` are the whole
    cluster's.

    A conductor computes all stages but those with workers of their own, so that one for each CPU
    is enough to keep the cluster busy; helpers, of which there may be as many, do when recordings
    are few. Where the profile does not say what a process keeps, it is so little that all find
    room beside each other."""
    cpus = max(1.0, cpus)
    own = {name: some for name, some in resources.items() if name != AUDIO and some.own}
    most = {name: _most(some, cpus, gpus) for name, some in own.items()}
    conductors = _most(resources[AUDIO], cpus, gpus)
    if own and not resources[AUDIO].own:
        conductors = int(_AHEAD * conductors) + 1
    slots = conductors + int(cpus) + sum(most.values())
    share = math.floor(cpus / slots * 10_000) / 10_000  # Ray's precision
    return Plans(
        _plan(resources[AUDIO], share, conductors),
        Plan(share, 0.0, 1, int(cpus)),
        {name: _plan(some, share, most[name]) for name, some in own.items()},
    )


def check_fit(planned: Plans, cpus: float, gpus: float) -> None:
    """UsageError where a conductor and a worker of each stage that has its own do not fit."""
    everyone = [planned.conductors, *planned.own.values()]
    needed = {
        "CPUs": (sum(plan.cpus for plan in everyone), max(1.0, cpus)),
        "GPUs": (sum(plan.gpus for plan in everyone), gpus),
    }
    for what, (wanted, there) in needed.items():
        if wanted > there:
            raise UsageError(
                f"resources: a worker of each stage keeps {wanted:g} {what} together, and the "
                f"cluster has {there:g}"
            )


def _plan(some: Resources, share: float, most: int) -> Plan:
    return Plan(share if some.cpus is None else some.cpus, some.gpus, some.threads, most)


def _most(wanted: Resources, cpus: float, gpus: float) -> int:
    if wanted.workers is not None:
        return wanted.workers
    fitting = gpus / wanted.gpus if wanted.gpus else cpus / max(1.0, wanted.cpus or 1.0)
    return max(1, int(fitting))
