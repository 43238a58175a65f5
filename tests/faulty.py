"""Stages that break on demand, for runs on a cluster: those of benchmarks/simulation.py here, those
of the profile "default" in faulty_default.py, each under its own name. The process of a stage dies
once where the folder HANSARD_FAULTS holds a file of that name. Whoever computes on a recording with
`poison` in its name dies every time. Where the folder holds a file `lease`, claims hold for so many
seconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from benchmarks import simulation
from jobs.claims import Claims
from pipeline.stage import BatchedStage, Block, Inputs, Stage

POISON = "poison"
FAULTS = "HANSARD_FAULTS"


def faulty_profile(text: str, module: str, **parameters: float) -> str:
    """The YAML of a profile with the stages of `module`, each with the `parameters`."""
    sections = yaml.safe_load(text)
    for section in sections.values():
        if isinstance(section, dict) and "stage" in section:
            section["stage"] = f"{module}:{section['stage'].partition(':')[2]}"
            section.update(parameters)
    return str(yaml.safe_dump(sections, sort_keys=False))


def light_profile(work: float) -> str:
    """Of the simulated stages; `work`: seconds that each unit takes. A unit of the first is a
    second of three."""
    sections = yaml.safe_load(faulty_profile(simulation.PROFILE, __name__, work=work))
    sections["audio"] = {"source": f"{__name__}:Source", "seconds": 3}
    return str(yaml.safe_dump(sections, sort_keys=False))


class Source(simulation.SimulatedSource):
    """Silence where there is poison."""

    def blocks(self) -> Iterator[Block]:
        for block in super().blocks():
            yield block._replace(samples=block.samples * 0) if POISON in self.location else block


def strike(stage: str) -> None:
    """Ends this process if it is the first that is to die of the stage."""
    with suppress(FileNotFoundError):
        Path(os.environ[FAULTS], stage).unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def faulty(kind: type[Stage[Any, Any]], module: str) -> type[Stage[Any, Any]]:
    """The stage, breaking on demand; what it gives is the same. It belongs to `module`."""

    def compute(self: Any, batch: Any) -> Any:
        strike(kind.__name__)
        if isinstance(batch, Block) and not batch.samples.any():
            os.kill(os.getpid(), signal.SIGKILL)
        return kind.compute(self, batch)  # type: ignore[attr-defined]

    def run(self: Any, inputs: Inputs) -> Any:
        strike(kind.__name__)
        return kind.run(self, inputs)

    members = {"compute": compute} if issubclass(kind, BatchedStage) else {"run": run}
    return type(kind.__name__, (kind,), {**members, "__module__": module})


Loudness = faulty(simulation.Loudness, __name__)
OneSpeaker = faulty(simulation.OneSpeaker, __name__)
OneTurn = faulty(simulation.OneTurn, __name__)

with suppress(FileNotFoundError, KeyError):
    Claims.__init__.__defaults__ = (float(Path(os.environ[FAULTS], "lease").read_text()),)
