"""What is written once a run: collections, configs, package versions."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from noop_tasks import add_raws, draft_graph

from butler_dask.butler.butler import Butler
from butler_dask.engine.init_outputs import package_versions, write_init_outputs
from butler_dask.errors import MissingCollectionError, RunConfigMismatchError
from butler_dask.graph.quantum_graph import QuantumGraph
from butler_dask.graph.run_collections import RunOptions, plan_run_collections
from butler_dask.vocabulary.dataset import DatasetTable
from butler_dask.vocabulary.file_record import FileTable

pytest_plugins = ("engine_fixtures",)

RUN = "u/me/run"


def the(butler: Butler, name: str, run: str = RUN):
    (ref,) = butler.repository.registry.datasets.existing_in_run(run)[name]
    return butler.get(ref)


def graph_of(butler: Butler, raws, config: str = "", run: str = RUN) -> QuantumGraph:
    return draft_graph(butler, raws, run, config=config)


def test_configs_and_versions_are_datasets_of_the_run(butler):
    graph = graph_of(butler, add_raws(butler, 1, 1), "config.doDark = False\n")
    assert write_init_outputs(butler.repository, graph) is graph
    assert the(butler, "isr_config").doDark is False
    assert the(butler, "packages")["numpy"] == package_versions()["numpy"]
    assert {t.name for t in butler.repository.registry.dataset_types.query("isr*")} == {
        "isr_config",
        "isr_log",
        "isr_metadata",
    }


def test_same_configuration_is_accepted_and_written_once(butler):
    raws = add_raws(butler, 1, 1)
    write_init_outputs(butler.repository, graph_of(butler, raws))
    before = {n: t.ids.tolist() for n, t in butler.repository.registry.datasets.existing_in_run(RUN).items()}
    write_init_outputs(butler.repository, graph_of(butler, raws))
    after = {n: t.ids.tolist() for n, t in butler.repository.registry.datasets.existing_in_run(RUN).items()}
    assert after == before


def test_other_configuration_is_refused_in_the_tutorial_s_words(butler, caplog):
    raws = add_raws(butler, 1, 1)
    write_init_outputs(butler.repository, graph_of(butler, raws))
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(
            RunConfigMismatchError,
            match=r"^Config does not match existing task config 'isr_config' in butler; tasks configurations "
            r"must be consistent within the same run collection$",
        ),
    ):
        write_init_outputs(butler.repository, graph_of(butler, raws, "config.doDark = False\n"))
    (record,) = [r for r in caplog.records if "Comparing" in r.message]
    assert record.message == "Comparing configuration: Inequality in doDark: False != True"
    assert record.levelno == logging.CRITICAL
    assert the(butler, "isr_config").doDark is True


def test_changed_package_version_is_refused_unless_versions_are_left_alone(butler):
    raws = add_raws(butler, 1, 1)
    graph = graph_of(butler, raws)
    write_init_outputs(butler.repository, graph)
    (ref,) = butler.repository.registry.datasets.existing_in_run(RUN)["packages"]
    file = butler.datastore.put({**package_versions(), "numpy": "1.0", "click": "0"}, ref)
    table = DatasetTable.from_refs(ref.datasetType, [ref])
    butler.repository.registry.record_outputs([(table, FileTable.from_records([file]))])
    with pytest.raises(RunConfigMismatchError, match=r"\(numpy: 1\.0 -> .*--no-versions") as caught:
        write_init_outputs(butler.repository, graph)
    assert "click" not in str(caught.value)  # changes no pixel
    write_init_outputs(butler.repository, graph, save_versions=False)


def test_versions_are_not_saved_where_they_are_not_wanted(butler):
    write_init_outputs(butler.repository, graph_of(butler, add_raws(butler, 1, 1)), save_versions=False)
    assert "packages" not in butler.repository.registry.datasets.existing_in_run(RUN)


def test_chain_and_run_are_there_before_anything_runs(butler):
    raws = add_raws(butler, 1, 1)
    plan = plan_run_collections(
        butler.repository.registry, RunOptions(inputs="HSC/raw/all", output="u/me/out")
    )
    graph = replace(graph_of(butler, raws, run=plan.output_run), output="u/me/out")
    with pytest.raises(MissingCollectionError):
        butler.repository.registry.collections.get("u/me/out")
    graph = write_init_outputs(butler.repository, graph, plan)
    children = [c.name for c in butler.repository.registry.collections.flatten(["u/me/out"])]
    assert children == [graph.run, "HSC/raw/all"]


def test_graph_moves_to_another_run_if_the_name_was_taken_meanwhile(butler):
    raws = add_raws(butler, 1, 1)
    plan = plan_run_collections(
        butler.repository.registry, RunOptions(inputs="HSC/raw/all", output="u/me/out")
    )
    graph = graph_of(butler, raws, run=plan.output_run)
    butler.repository.registry.collections.register(plan.output_run)
    moved = write_init_outputs(butler.repository, graph, plan)
    assert moved.run != plan.output_run
    assert moved.run.startswith(plan.output_run)
    assert "isr_config" in butler.repository.registry.datasets.existing_in_run(moved.run)


def test_package_versions_name_python_and_what_is_installed():
    import platform

    import numpy

    versions = package_versions()
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == numpy.__version__
    assert list(versions) == sorted(versions)
    assert "lsst-pex-config" in versions
