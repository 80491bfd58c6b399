"""The reference's names for building and looking at quantum graphs."""

from pathlib import Path

import pytest
from small_survey import WHERE, make_survey, small_graph

from butler_dask.butler.butler import Butler
from butler_dask.errors import CollectionError, InvalidQueryError
from butler_dask.graph.all_dimensions_builder import AllDimensionsQuantumGraphBuilder
from butler_dask.graph.dataset_query_constraint import ALL, OFF, DatasetQueryConstraintVariant


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("survey") / "repo"
    make_survey(root).close()
    return root


def test_the_builder_takes_collections_and_run_from_the_butler(root: Path) -> None:
    with Butler(root, collections="HSC/defaults") as butler:
        builder = AllDimensionsQuantumGraphBuilder(small_graph(), butler, where=WHERE, output_run="u/run")
        graph = builder.finish(attach_datastore_records=False).assemble()
        with pytest.raises(CollectionError, match="Give an output_run"):
            AllDimensionsQuantumGraphBuilder(small_graph(), butler)
    assert graph.metadata["output_run"] == "u/run"
    assert {label: len(quanta) for label, quanta in graph.quanta_by_task.items()} == {
        "clean": 1,
        "catalog": 1,
        "warp": 12,
    }
    quanta = graph.build_execution_quanta()
    ((data_id, clean),) = graph.quanta_by_task["clean"].items()
    assert quanta[clean].dataId == data_id
    (catalog,) = graph.quanta_by_task["catalog"].values()
    edges = set(graph.quantum_only_xgraph.edges)
    warps = set(graph.quanta_by_task["warp"].values())
    assert edges == {(clean, catalog)} | {(catalog, warp) for warp in warps}
    assert set(graph.quantum_only_xgraph) == set(quanta)


def test_dataset_query_constraints_are_read_from_text() -> None:
    read = DatasetQueryConstraintVariant.fromExpression
    assert read("all") == ALL == DatasetQueryConstraintVariant.ALL
    assert read(" OFF ") == OFF
    assert read("raw, calexp").names == {"raw", "calexp"}
    with pytest.raises(InvalidQueryError, match="'all', 'off'"):
        read("raw,,calexp")


def test_without_a_constraint_missing_inputs_prune_instead_of_deciding(root: Path) -> None:
    with Butler(root) as butler:
        counts = [
            AllDimensionsQuantumGraphBuilder(
                small_graph(),
                butler,
                where="instrument='HSC'",
                input_collections="HSC/defaults",
                output_run="u/run",
                dataset_query_constraint=constraint,
            )
            .build()
            .counts()
            for constraint in (ALL, OFF)
        ]
    assert counts[0] == counts[1] == {"clean": 4, "catalog": 4, "warp": 48}
