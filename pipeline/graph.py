"""The graph of stages that a profile describes, checked whole before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pipeline.errors import ProfileError
from pipeline.resources import Resources
from pipeline.stage import Parameters, Source, Stage

AUDIO = "audio"


@dataclass(frozen=True)
class Node:
    """A stage under its name in the profile."""

    name: str
    stage: Stage[Any, Any]

    @property
    def needs(self) -> tuple[str, ...]:
        return self.stage.needs


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which each finds its inputs made; `turns` names the node whose
    artifact becomes the transcript, `timeline` the one that says who is heard when, `exclusive`
    the one that says it for one speaker at a time, which may be the same. `resources` by node,
    and under AUDIO those for decoding."""

    profile: str
    language: str
    source: type[Source]
    source_parameters: Parameters
    nodes: tuple[Node, ...]
    turns: str
    timeline: str
    exclusive: str
    resources: Mapping[str, Resources] = field(default_factory=dict)

    @property
    def own_workers(self) -> frozenset[str]:
        """The stages that have workers of their own on a cluster."""
        return frozenset(node.name for node in self.nodes if self.resources[node.name].own)

    def check_models(self) -> None:
        """ModelError, before anything runs, where a model folder is missing or incomplete."""
        for node in self.nodes:
            node.stage.weights_digest()

    def check_here(self) -> None:
        """ModelError, before anything runs, where this machine cannot run a stage."""
        for node in self.nodes:
            node.stage.check_here(node.name)

    def keys(self, fingerprint: str) -> dict[str, str]:
        """The artifact key of every node for a recording with this fingerprint: a hash of the
        stage and its version, the parameters that matter, the weights and the inputs' keys."""
        keys = {AUDIO: _hash(fingerprint, _keyed(self.source_parameters))}
        for node in self.nodes:
            stage = node.stage
            kind = f"{type(stage).__module__}:{type(stage).__qualname__}"
            keys[node.name] = _hash(
                kind,
                stage.version,
                _keyed(stage.parameters),
                stage.weights_digest(),
                [keys[need] for need in node.needs],
            )
        return keys

    @property
    def overlapping(self) -> bool:
        """Whether stretches of `timeline` may overlap, and `exclusive` is another."""
        return self.timeline != self.exclusive

    def transcript_key(self, keys: Mapping[str, str]) -> str:
        """Of all that a transcript is made from; `keys` as of `keys`."""
        if not self.overlapping:
            return keys[self.turns]
        return _hash(keys[self.turns], keys[self.timeline])


def order(nodes: Mapping[str, Stage[Any, Any]], where: str) -> tuple[Node, ...]:
    """Topological order, ties as in the profile. ProfileError on a missing input or a cycle."""
    for name, stage in nodes.items():
        for need in stage.needs:
            if need != AUDIO and need not in nodes:
                raise ProfileError(
                    f"{where}: {name}: needs the artifact of {need!r}, and no stage has that name"
                )
    ordered: list[Node] = []
    made = {AUDIO}
    waiting = dict(nodes)
    while waiting:
        ready = [name for name, stage in waiting.items() if made.issuperset(stage.needs)]
        if not ready:
            raise ProfileError(f"{where}: stages wait for each other: {', '.join(waiting)}")
        ordered.append(Node(ready[0], waiting.pop(ready[0])))
        made.add(ready[0])
    return tuple(ordered)


def giving(kind: type, nodes: tuple[Node, ...]) -> list[str]:
    """The nodes whose artifact is a tuple of `kind`."""
    return [node.name for node in nodes if kind in get_args(node.stage.artifact_type)]


def _keyed(parameters: Parameters) -> dict[str, Any]:
    return parameters.model_dump(mode="json", exclude=set(parameters.speed_only))


def _hash(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
