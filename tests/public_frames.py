"""Real frames and headers the tests use where they are at hand; they are too large for the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def find_public_data(name: str) -> Path | None:
    """Return a folder of real data, or None where it is not at hand."""
    given = os.environ.get("BUTLER_DASK_TEST_DATA")
    candidates = [Path(given)] if given else []
    candidates += [parent / "shared" / "data" for parent in Path(__file__).resolve().parents]
    return next((c / name for c in candidates if (c / name).is_dir()), None)


def public_data(name: str) -> Path:
    """Return a folder of real data, or skip the test."""
    found = find_public_data(name)
    if found is None:
        pytest.skip(f"the folder {name} of real frames is not here; BUTLER_DASK_TEST_DATA names its parent")
    return found
