"""The Ray executor: a pool of workers for each stage, on all the nodes of a cluster."""

import os

# Before Ray is loaded, which would tell of every run to its makers, and say so.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
