"""The stages of the profile "default", breaking on demand: see faulty.py."""

from __future__ import annotations

from importlib.resources import files

from pipeline.profile import load_profile
from tests.faulty import faulty, faulty_profile

STAGES = {
    kind.__name__: faulty(kind, __name__)
    for kind in (type(node.stage) for node in load_profile("default").nodes)
}
# A profile names its stages by module and attribute.
globals().update(STAGES)


def default_profile() -> str:
    """The profile "default" with these stages."""
    return faulty_profile((files("configs") / "default.yaml").read_text(), __name__)
