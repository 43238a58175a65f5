"""The Ray executor: conductors, a recording each, and workers, on all the nodes of a cluster."""

import os

# Before Ray is loaded, which would tell of every run to its makers, and say so.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
