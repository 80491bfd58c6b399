"""Fixtures of the tests of the engine."""

from collections.abc import Iterator

import pytest

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
