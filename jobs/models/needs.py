"""Which models a profile needs: what its stages' parameters `model` and `..._model` name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.graph import Graph
from pipeline.profile import load_profile
from stages.model_cache import HubModel, WebModel, published
from stages.models import BUNDLED, locate


@dataclass(frozen=True)
class Need:
    """A model of one stage. `package` is where a bundled one lies."""

    profile: str
    stage: str
    model: str
    package: str

    @property
    def published(self) -> HubModel | WebModel | None:
        return published(self.model)

    @property
    def kind(self) -> str:
        """bundled, published or folder."""
        if self.model.startswith(BUNDLED):
            return "bundled"
        return "folder" if self.published is None else "published"

    def size(self) -> int | None:
        """Bytes on this machine; None where it is not there. ModelError for a bad name."""
        there = self.published
        if there is not None and not there.folder.is_dir():
            return None
        folder = locate(self.model, self.package).path
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def needs_of(profile: str, settings: Iterable[str] = ()) -> tuple[Need, ...]:
    """Every model that the profile's stages read, after `stage.key=value` settings, in the order
    of the graph."""
    return tuple(_needs(profile, load_profile(profile, settings)))


def _needs(profile: str, graph: Graph) -> Iterator[Need]:
    for node in graph.nodes:
        package = type(node.stage).__module__.rpartition(".")[0]
        for name, value in node.stage.parameters:
            named = name == "model" or name.endswith("_model")
            if named and isinstance(value, str) and value:
                yield Need(profile, node.name, value, package)
