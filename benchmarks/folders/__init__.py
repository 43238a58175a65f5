"""Folders as models are published, filled with weights that a seed gives: the tests let Hansard and
the reference read the same ones, and `benchmarks.published` transcribes with them."""
