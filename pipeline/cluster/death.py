"""How Ray tells that a process is gone."""

from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, WorkerCrashedError

DIED = (RayActorError, OutOfMemoryError, NodeDiedError, WorkerCrashedError)
