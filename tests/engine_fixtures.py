"""Fixtures of the tests of the engine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from noop_tasks import MISCHIEF

from butler_dask.butler import Butler


@pytest.fixture
def butler(tmp_path) -> Iterator[Butler]:
    """A repository; at the end everything recorded in it is readable."""
    Butler.makeRepo(str(tmp_path))
    butler = Butler(str(tmp_path), writeable=True)
    yield butler
    for info in butler.repository.registry.collections.query("*"):
        if info.type.name == "RUN":
            for table in butler.repository.registry.datasets.existing_in_run(info.name).values():
                for ref, file in zip(table, butler.repository.registry.datasets.files_of(table), strict=True):
                    assert file is not None
                    assert butler.datastore.check(file, checksum=True) is None, ref
                    butler.datastore.get(file, ref)
    butler.close()


@pytest.fixture(scope="module")
def mischief_directory(tmp_path_factory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("mischief")
    os.environ[MISCHIEF] = str(path)
    yield path
    del os.environ[MISCHIEF]


@pytest.fixture
def mischief(mischief_directory) -> Path:
    """A directory of files that say what goes wrong; empty at first."""
    for path in mischief_directory.iterdir():
        path.unlink()
    return mischief_directory
