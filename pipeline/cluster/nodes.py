"""The nodes of a Ray cluster, and which of them a new worker goes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Node(NamedTuple):
    """What a node has for everybody."""

    id: str
    cpus: float
    gpus: float


def alive() -> list[Node]:
    """The nodes that are there now."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Node(node["NodeID"], there.get("CPU", 0.0), there.get("GPU", 0.0))
        for node in found
        if node["Alive"] and (there := node["Resources"])
    ]


def capacity(nodes: Sequence[Node]) -> tuple[float, float]:
    """CPUs and GPUs of all together, whoever uses them."""
    return sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)


def emptiest(
    nodes: Iterable[Node], cpus: float, gpus: float, own: Iterable[str], all_: Iterable[str]
) -> str:
    """The id of the node that can have a worker of so many CPUs and GPUs and has, for its CPUs,
    the fewest of the stage's workers (`own`: their nodes), then of all stages'; "" where none can.
    Ray's own way to spread actors often gives a node two of a stage, and another one none."""
    owned, everyone = Counter(own), Counter(all_)
    able = [node for node in nodes if node.cpus and node.cpus >= cpus and node.gpus >= gpus]
    best = min(
        able,
        key=lambda node: ((owned[node.id] + 1) / node.cpus, (everyone[node.id] + 1) / node.cpus),
        default=Node("", 0.0, 0.0),
    )
    return best.id


def strategy(node: str) -> str | NodeAffinitySchedulingStrategy:
    """Asks Ray for that node, or another one where it has no room."""
    if not node:
        return "SPREAD"
    return NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
