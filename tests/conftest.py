"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The open speech beside the checkout (or where HANSARD_SHARED_DATA points)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(os.environ.get("HANSARD_SHARED_DATA", beside))
    if not data.is_dir():
        pytest.skip(f"no open speech at {data}: set HANSARD_SHARED_DATA to run this test")
    return data
