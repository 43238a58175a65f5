"""Profiles: YAML files that name the stages and their parameters."""
