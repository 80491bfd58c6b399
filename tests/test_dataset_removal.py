"""Removal of datasets and their files, while somebody else puts a dataset under the same path; and killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from noop_tasks import add_raws, draft_graph
from registry_fixtures import SERVER, drop, new_url

from butler_dask import Butler, ConflictingDefinitionError, DatasetFileError, DatasetRef, FileDataset
from butler_dask.butler.open_repository import OpenRepository
from butler_dask.butler.repository_check import check_repository, repair_repository
from butler_dask.engine.earlier_outputs import clear_earlier_outputs
from butler_dask.errors import OrphanedRecordError
from butler_dask.graph.run_collections import RunOptions, plan_run_collections
from butler_dask.vocabulary.data_id import DataCoordinate
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.file_record import FileTable

OUTPUT, RUN, NEW = "u/me/out", "u/me/out/1", "u/me/out/2"


class _Datastore:
    """A datastore that lets something happen before it removes files."""

    def __init__(self, datastore: Any, before: Callable[[], None]) -> None:
        self._datastore, self._before = datastore, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._datastore, name)

    def remove(self, paths: Iterable[str]) -> None:
        self._before()
        self._datastore.remove(paths)


@pytest.fixture(
    params=["sqlite", *([pytest.param("postgresql", marks=pytest.mark.postgresql)] if SERVER else [])]
)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A repository with the output of one quantum in a run."""
    place = tmp_path / "REPO"
    url = None if request.param == "sqlite" else new_url(request.param, tmp_path)
    Butler.makeRepo(place, registry=url)
    with Butler(place, writeable=True) as butler:
        graph = draft_graph(butler, add_raws(butler, 1, 1), RUN)
        butler.repository.registry.dataset_types.register(graph.output_dataset_types())
        options = RunOptions(inputs="HSC/raw/all", output=OUTPUT, output_run=RUN)
        plan_run_collections(butler.repository.registry, options).apply(butler.repository)
    yield place
    if url is not None:
        drop(url)


@contextmanager
def opened(root: Path, before_removal: Callable[[], None]) -> Iterator[OpenRepository]:
    with OpenRepository.open(root, writeable=True) as found:
        datastore: Any = _Datastore(found.datastore, before_removal)
        yield OpenRepository(found.settings, found.registry, datastore)


def put(root: Path, ref: DatasetRef, value: int) -> None:
    with Butler(root, run=ref.run) as butler:
        butler.put({"value": value}, ref)


def clear(repository: OpenRepository, ref: DatasetRef) -> None:
    """Do finished quanta again, as ``--clobber-outputs`` does."""
    with Butler(repository) as butler:
        raws = butler.query_datasets("raw", "HSC/raw/all")
        clear_earlier_outputs(repository, draft_graph(butler, raws, RUN), clobber=True)


def replace(repository: OpenRepository, prune: Any) -> None:
    options = RunOptions(output=OUTPUT, output_run=NEW, replace_run=True, prune_replaced=prune)
    plan_run_collections(repository.registry, options).apply(repository)


WAYS: dict[str, Callable[[OpenRepository, DatasetRef], None]] = {
    "clear_earlier_outputs": clear,
    "replace a run, unstore": lambda repository, ref: replace(repository, "unstore"),
    "replace a run, purge": lambda repository, ref: replace(repository, "purge"),
    "removeRuns": lambda repository, ref: Butler(repository).removeRuns(RUN, unlink_from_chains=True),
    "pruneDatasets, unstore": lambda repository, ref: Butler(repository).pruneDatasets([ref], unstore=True),
    "pruneDatasets, purge": lambda repository, ref: Butler(repository).pruneDatasets(
        [ref], unstore=True, purge=True
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_dataset_put_while_its_predecessor_is_removed_is_recorded_and_readable(
    root: Path, way: str
) -> None:
    with Butler(root, run=RUN) as butler:
        ref = butler.put({"value": 1}, "icExp", instrument="HSC", visit=903334, detector=0)
    puts: list[Thread] = []

    def put_meanwhile() -> None:
        """Put it again, in another thread: it may have to wait for the end of the removal."""
        puts.append(Thread(target=put, args=(root, ref, 2)))
        puts[-1].start()
        puts[-1].join(timeout=0.5)

    with opened(root, put_meanwhile) as repository:
        WAYS[way](repository, ref)
        assert len(puts) == 1
        puts[0].join()
    with Butler(root) as butler:
        assert butler.get(ref) == {"value": 2}


class _Staged:
    """A staged file that lets something happen before it is taken back."""

    def __init__(self, staged: Any, before: Callable[[], None]) -> None:
        self._staged, self._before = staged, before

    def publish(self) -> None:
        self._staged.publish()

    def retract(self) -> None:
        self._before()
        self._staged.retract()


def test_a_dataset_put_while_an_earlier_put_is_undone_is_recorded_and_readable(root: Path) -> None:
    data_id = {"instrument": "HSC", "visit": 903334, "detector": 0}
    puts: list[Thread] = []

    def put_again() -> None:
        with Butler(root, run=RUN) as butler:
            butler.put({"value": 2}, "icExp", data_id)

    def put_meanwhile() -> None:
        """Put the same, in another thread: it may have to wait until all of the first put is undone."""
        puts.append(Thread(target=put_again))
        puts[-1].start()
        puts[-1].join(timeout=0.5)

    def put_in_vain(repository: OpenRepository) -> None:
        kind = repository.registry.dataset_types.get("icExp")
        ref = DatasetRef(kind, DataCoordinate.standardize(data_id, dimensions=kind.dimensions), RUN)
        staged = repository.datastore.stage({"value": 1}, ref)
        with repository.transaction():
            files = FileTable.from_records([staged.record])
            repository.registry.inserts.insert(DatasetTable.from_refs(kind, [ref]), files)
            wrapped: Any = _Staged(staged, put_meanwhile)
            repository.publish(wrapped)
            raise DatasetFileError("given up")

    with OpenRepository.open(root, writeable=True) as repository:
        with pytest.raises(DatasetFileError, match="given up"):
            put_in_vain(repository)
        puts[0].join()
    with Butler(root) as butler:
        assert butler.get("icExp", data_id, collections=RUN) == {"value": 2}


@pytest.mark.parametrize("way", WAYS)
def test_a_removal_that_was_killed_is_finished_by_the_next_run(root: Path, way: str) -> None:
    with Butler(root, run=RUN) as butler:
        ref = butler.put({"value": 1}, "icExp", instrument="HSC", visit=903334, detector=0)
        file = Path(butler.getURI(ref).ospath)

    def die() -> None:
        raise DatasetFileError("killed")

    with opened(root, die) as repository:
        with pytest.raises(DatasetFileError, match="killed"):
            WAYS[way](repository, ref)
        assert len(repository.registry.datasets.pending_deletions()) == 1
    assert file.exists()
    with OpenRepository.open(root, writeable=True) as repository:
        repository.registry.collections.register(RUN)
        clear(repository, ref)
        assert repository.registry.datasets.pending_deletions() == []
    assert not file.exists()


def test_files_go_at_the_end_of_the_transaction_that_removes_datasets(root: Path) -> None:
    with Butler(root, run=RUN) as butler:
        ref = butler.put({"value": 1}, "icExp", instrument="HSC", visit=903334, detector=0)
        file = Path(butler.getURI(ref).ospath)

        def change_of_mind() -> None:
            with butler.transaction():
                butler.pruneDatasets([ref], unstore=True, purge=True)
                assert butler.finish_removals() == 0
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            change_of_mind()
        assert butler.get(ref) == {"value": 1}
        with butler.transaction():
            butler.pruneDatasets([ref], unstore=True, purge=True)
            assert file.exists()
        assert not file.exists()


@pytest.mark.parametrize("transfer", ["auto", "direct", "symlink"])
def test_a_file_taken_in_twice_goes_with_the_last_of_its_datasets(root: Path, transfer: str) -> None:
    with Butler(root, writeable=True) as butler:
        raw = next(iter(butler.query_datasets("raw", "HSC/raw/all")))
        path = Path(butler.getURI(raw).ospath)
        for run in ("u/again", "u/third"):
            butler.collections.register(run)
            again = DatasetRef(raw.datasetType, raw.dataId, run)
            butler.ingest(FileDataset(str(path), [again]), transfer=transfer)
        butler.removeRuns(["HSC/raw/all"], unlink_from_chains=True)
        assert butler.get(again) == {"value": 0}
        butler.pruneDatasets([again], unstore=True)
        assert path.exists()
        butler.removeRuns(["u/third"])
        assert path.exists()
        assert check_repository(butler.repository).is_clean
        butler.removeRuns(["u/again"])
        assert not path.exists()


def test_the_file_of_a_dataset_is_not_moved_away(root: Path) -> None:
    with Butler(root, writeable=True) as butler:
        raw = next(iter(butler.query_datasets("raw", "HSC/raw/all")))
        butler.collections.register("u/again")
        again = DatasetRef(raw.datasetType, raw.dataId, "u/again")
        with pytest.raises(ConflictingDefinitionError, match="is the file of a dataset"):
            butler.ingest(FileDataset(butler.getURI(raw).ospath, [again]), transfer="move")
        assert butler.get(raw) == {"value": 0}


def test_a_zip_of_two_dataset_types_stays_when_one_of_them_is_pruned(root: Path, tmp_path: Path) -> None:
    with Butler(root, writeable=True) as butler:
        (raw,) = butler.query_datasets("raw", "HSC/raw/all")
        visit = {"instrument": "HSC", "visit": 903334, "detector": 0}
        refs = [raw, *(butler.put({"n": n}, n, visit, run=RUN) for n in ("icExp", "icSrc"))]
        name = butler.retrieve_artifacts_zip(refs, tmp_path / "zips").ospath
        butler.removeRuns(["HSC/raw/all", RUN], unlink_from_chains=True)
        butler.ingest_zip(name, transfer="copy")
        butler.pruneDatasets(refs[1:2], unstore=True, purge=True)
        assert butler.get(refs[0]) == {"value": 0}
        assert butler.get(refs[2]) == {"n": "icSrc"}
        butler.removeRuns([RUN])
        assert butler.get(refs[0]) == {"value": 0}
        butler.removeRuns(["HSC/raw/all"], unlink_from_chains=True)
        assert [path for path, _ in butler.datastore.files() if path.endswith(".zip")] == []


def test_all_datasets_of_a_damaged_file_are_told_and_none_of_a_file_taken_in_meanwhile_is_lost(
    root: Path, tmp_path: Path
) -> None:
    with Butler(root, writeable=True) as butler:
        (raw,) = butler.query_datasets("raw", "HSC/raw/all")
        visit = {"instrument": "HSC", "visit": 903334, "detector": 0}
        refs = [butler.put({"n": n}, n, visit, run=RUN) for n in ("icExp", "icSrc")]
        name = butler.retrieve_artifacts_zip(refs, tmp_path / "zips").ospath
        butler.removeRuns([RUN], unlink_from_chains=True)
        butler.ingest_zip(name, transfer="copy")
        (zipped,) = (path for path, _ in butler.datastore.files() if path.endswith(".zip"))
        (root / zipped).write_bytes(b"PK")
        stray = root / "u/late/raw/stray.yaml"
        stray.parent.mkdir(parents=True)
        stray.write_bytes(Path(butler.getURI(raw).ospath).read_bytes())
        butler.collections.register("u/late")
        found = check_repository(butler.repository)
        assert {fault.ref.id for fault in found.faults} == {ref.id for ref in refs}
        assert found.unrecorded == ["u/late/raw/stray.yaml"]
        late = DatasetRef(raw.datasetType, raw.dataId, "u/late")
        butler.ingest(FileDataset(str(stray), [late]))
        repair_repository(butler.repository, found, older_than_s=-1.0)
        assert butler.get(late) == {"value": 0}
        assert check_repository(butler.repository).is_clean


def test_the_registry_alone_does_not_remove_a_dataset_that_is_stored(root: Path) -> None:
    with Butler(root, writeable=True) as butler:
        (raw,) = butler.query_datasets("raw", "HSC/raw/all")
        with pytest.raises(OrphanedRecordError, match="nothing was removed"):
            butler.registry.removeDatasets([raw])
        assert butler.get(raw) == {"value": 0}
        butler.pruneDatasets([raw], unstore=True)
        butler.registry.removeDatasets([raw])
        assert butler.registry.getDataset(raw.id) is None
        assert check_repository(butler.repository).is_clean
