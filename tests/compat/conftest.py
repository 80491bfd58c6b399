"""Fixtures: the repository, for reading by all tests and as a copy for each that writes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compat_package import api
from compat_repository import insert_records, put_datasets, register_types


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repository that is copied for each test; not to be written to."""
    root = tmp_path_factory.mktemp("template") / "repo"
    api.Butler.makeRepo(str(root))
    with api.Butler.from_config(str(root), writeable=True) as butler:
        insert_records(butler)
        register_types(butler)
        put_datasets(butler)
    return root


@pytest.fixture(scope="session")
def shared(template: Path) -> Iterator[Any]:
    """Butler of the template, for tests that only read."""
    with api.Butler.from_config(str(template), collections=["defaults"]) as butler:
        yield butler


@pytest.fixture
def repo(template: Path, tmp_path: Path) -> Path:
    """Copy of the repository."""
    root = tmp_path / "repo"
    shutil.copytree(template, root)
    return root


@pytest.fixture
def butler(repo: Path) -> Iterator[Any]:
    """Writing butler of the copy."""
    with api.Butler.from_config(str(repo), writeable=True) as butler:
        yield butler
