"""What the workers of a stage get of a cluster: the section `resources` of a profile."""

from __future__ import annotations

from pydantic import Field

from pipeline.stage import Parameters


class Resources(Parameters):
    """Of each worker of one stage, which has workers of its own where any of this is said; under
    `audio` of each conductor, which decodes one recording at a time and computes all other stages.
    They change no result and are in no artifact's key."""

    cpus: float | None = Field(
        default=None,
        gt=0,
        description="CPUs kept for each worker, which computes with so many threads. Default: as "
        "little as leaves room for all processes, and one thread",
    )
    gpus: float = Field(
        default=0.0,
        ge=0,
        description="GPUs kept for each worker: a share such as 0.25, or whole ones",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="at most so many. Default: what the cluster's CPUs or GPUs give",
    )

    @property
    def own(self) -> bool:
        """Whether the stage is to have workers of its own."""
        return bool(self.model_fields_set)

    @property
    def threads(self) -> int:
        """That a worker computes with."""
        return max(1, int(self.cpus or 1))
