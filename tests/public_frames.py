"""Real frames and headers the tests use where they are at hand; they are too large for the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def public_data(name: str) -> Path:
    """Return a folder of real data, or skip the test."""
    given = os.environ.get("BUTLER_DASK_TEST_DATA")
    candidates = [Path(given)] if given else []
    candidates += [parent / "shared" / "data" for parent in Path(__file__).resolve().parents]
    for candidate in candidates:
        if (candidate / name).is_dir():
            return candidate / name
    pytest.skip(f"the folder {name} of real frames is not here; BUTLER_DASK_TEST_DATA names its parent")
