"""The rules for -i, -o, --output-run, --extend-run, --replace-run, --rebase and --skip-existing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pytest
from graph_draft import GraphDraft

from butler_dask.butler.butler import Butler
from butler_dask.errors import (
    CollectionError,
    CollectionTypeError,
    MissingCollectionError,
    OrphanedRecordError,
    RunInUseError,
)
from butler_dask.graph.run_collections import Prune, RunCollections, RunOptions, plan_run_collections
from butler_dask.registry.registry import Registry
from butler_dask.vocabulary.collection import CollectionType
from butler_dask.vocabulary.dataset_type import DatasetType

NOW = datetime(2020, 10, 13, 14, 4, 17, tzinfo=UTC)
LATER = datetime(2020, 10, 13, 14, 9, 42, tzinfo=UTC)
FIRST, SECOND = "u/me/1/20201013T140417Z", "u/me/1/20201013T140942Z"
INPUTS = ("HSC/raw/all", "HSC/calib", "refcats", "skymaps")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry.create(f"sqlite:///{tmp_path}/registry.sqlite3")
    for name in ("HSC/raw/all", "refcats", "skymaps", "HSC/masks"):
        registry.collections.register(name)
    registry.collections.register("HSC/calib", CollectionType.CALIBRATION)
    registry.collections.register("HSC/others", CollectionType.CHAINED)
    registry.collections.set_chain("HSC/others", ["refcats", "skymaps"])
    registry.collections.register("HSC/defaults", CollectionType.CHAINED)
    registry.collections.set_chain("HSC/defaults", ["HSC/raw/all", "HSC/calib", "HSC/others"])
    return registry


def begin(registry: Registry, plan: RunCollections) -> RunCollections:
    """Do what a run does with collections, without its datasets."""
    registry.collections.register(plan.output_run)
    if plan.output is not None:
        registry.collections.register(plan.output, CollectionType.CHAINED)
        registry.collections.set_chain(plan.output, plan.chain)
    return plan


def start(registry: Registry) -> RunCollections:
    return begin(
        registry, plan_run_collections(registry, RunOptions(inputs="HSC/defaults", output="u/me/1", now=NOW))
    )


def test_a_new_output_is_a_chain_of_a_stamped_run_and_the_flattened_inputs(registry: Registry) -> None:
    plan = plan_run_collections(registry, RunOptions(inputs="HSC/defaults", output="u/me/1", now=NOW))
    assert plan.output_run == FIRST
    assert plan.chain == (FIRST, *INPUTS)
    assert plan.inputs == INPUTS
    assert not plan.extend
    assert plan.skip_existing_in == ()


def test_planning_writes_nothing(registry: Registry) -> None:
    before = registry.collections.query()
    plan_run_collections(registry, RunOptions(inputs="HSC/defaults", output="u/me/1", now=NOW))
    assert registry.collections.query() == before


def test_runs_of_one_second_get_different_names(registry: Registry) -> None:
    start(registry)
    plan = plan_run_collections(registry, RunOptions(output="u/me/1", now=NOW))
    assert plan.output_run == FIRST + "_2"


def test_inputs_may_be_lists_with_commas(registry: Registry) -> None:
    plan = plan_run_collections(
        registry, RunOptions(inputs=["HSC/raw/all,HSC/calib", "refcats"], output="u/me/1", now=NOW)
    )
    assert plan.inputs == ("HSC/raw/all", "HSC/calib", "refcats")


def test_rerun_without_inputs_puts_a_run_in_front_and_searches_the_older_one(registry: Registry) -> None:
    start(registry)
    plan = plan_run_collections(registry, RunOptions(output="u/me/1", now=LATER))
    assert plan.chain == (SECOND, FIRST, *INPUTS)
    assert plan.inputs == (FIRST, *INPUTS)


@pytest.mark.parametrize("inputs", ["HSC/defaults", "HSC/raw/all,HSC/calib,HSC/others", ",".join(INPUTS)])
def test_the_same_inputs_are_accepted_again(registry: Registry, inputs: str) -> None:
    start(registry)
    plan = plan_run_collections(registry, RunOptions(inputs=inputs, output="u/me/1", now=LATER))
    assert plan.chain == (SECOND, FIRST, *INPUTS)


@pytest.mark.parametrize(
    ("inputs", "difference"),
    [
        ("HSC/defaults,HSC/masks", "new: 'HSC/masks'"),
        ("HSC/raw/all,HSC/calib", "no longer given: 'refcats', 'skymaps'"),
        ("HSC/masks", "new: 'HSC/masks'; no longer given: 'HSC/raw/all'"),
        ("HSC/calib,HSC/raw/all,HSC/others", "the order is 'HSC/calib', 'HSC/raw/all'"),
        ("skymaps", "no longer given: 'HSC/raw/all', 'HSC/calib', 'refcats'"),
    ],
)
def test_other_inputs_are_refused_with_the_difference(
    registry: Registry, inputs: str, difference: str
) -> None:
    start(registry)
    with pytest.raises(CollectionError) as caught:
        plan_run_collections(registry, RunOptions(inputs=inputs, output="u/me/1", now=LATER))
    assert difference in str(caught.value)
    assert "--rebase" in str(caught.value)


def test_rebase_changes_the_inputs_and_keeps_the_runs(registry: Registry) -> None:
    start(registry)
    plan = plan_run_collections(
        registry, RunOptions(inputs="HSC/masks,HSC/raw/all", output="u/me/1", rebase=True, now=LATER)
    )
    assert plan.chain == (SECOND, FIRST, "HSC/masks", "HSC/raw/all")
    with pytest.raises(CollectionError, match="--rebase needs the new inputs"):
        plan_run_collections(registry, RunOptions(output="u/me/1", rebase=True))


def test_extend_run_adds_to_the_newest_run_and_skips_what_it_has(registry: Registry) -> None:
    start(registry)
    begin(registry, plan_run_collections(registry, RunOptions(output="u/me/1", now=LATER)))
    plan = plan_run_collections(registry, RunOptions(output="u/me/1", extend_run=True))
    assert plan.output_run == SECOND
    assert plan.extend
    assert plan.chain == (SECOND, FIRST, *INPUTS)
    assert plan.inputs == plan.chain
    assert plan.skip_existing_in == (SECOND,)
    both = plan_run_collections(registry, RunOptions(output="u/me/1", extend_run=True, skip_existing=True))
    assert both == plan
    again = plan_run_collections(
        registry, RunOptions(inputs="HSC/defaults", output="u/me/1", extend_run=True)
    )
    assert again == plan


def test_skip_existing_alone_skips_what_earlier_runs_of_the_chain_have(registry: Registry) -> None:
    start(registry)
    plan = plan_run_collections(registry, RunOptions(output="u/me/1", skip_existing=True, now=LATER))
    assert plan.output_run == SECOND
    assert plan.skip_existing_in == (FIRST,)
    plan = plan_run_collections(
        registry, RunOptions(output="u/me/1", skip_existing_in="HSC/others,HSC/masks", now=LATER)
    )
    assert plan.skip_existing_in == ("refcats", "skymaps", "HSC/masks")


def test_extend_run_needs_a_run(registry: Registry) -> None:
    with pytest.raises(CollectionError, match="there is no collection 'u/me/1'"):
        plan_run_collections(registry, RunOptions(inputs="HSC/defaults", output="u/me/1", extend_run=True))
    with pytest.raises(CollectionError, match="'HSC/defaults' has no run yet"):
        plan_run_collections(registry, RunOptions(output="HSC/defaults", extend_run=True))
    with pytest.raises(CollectionError, match="there is no run 'u/me/new' yet"):
        plan_run_collections(
            registry, RunOptions(inputs="HSC/defaults", output_run="u/me/new", extend_run=True)
        )


def test_replace_run_takes_the_newest_run_out_of_the_chain(registry: Registry) -> None:
    start(registry)
    plan = plan_run_collections(registry, RunOptions(output="u/me/1", replace_run=True, now=LATER))
    assert plan.replaced == FIRST
    assert plan.chain == (SECOND, *INPUTS)
    assert plan.inputs == INPUTS
    with_inputs = plan_run_collections(
        registry, RunOptions(inputs="HSC/defaults", output="u/me/1", replace_run=True, now=LATER)
    )
    assert with_inputs == plan
    purge = plan_run_collections(
        registry, RunOptions(output="u/me/1", replace_run=True, prune_replaced="purge", now=LATER)
    )
    assert purge.prune_replaced == "purge"


def test_replace_run_needs_an_output_that_exists_and_has_a_run(registry: Registry) -> None:
    with pytest.raises(CollectionError, match="--replace-run needs an existing --output"):
        plan_run_collections(registry, RunOptions(inputs="HSC/defaults", output="u/me/1", replace_run=True))
    with pytest.raises(CollectionError, match="'HSC/defaults' has no run to replace"):
        plan_run_collections(
            registry, RunOptions(output="HSC/defaults", replace_run=True, prune_replaced="purge")
        )


def test_options_that_contradict_one_another_are_refused(registry: Registry) -> None:
    start(registry)
    with pytest.raises(CollectionError, match="give only one"):
        plan_run_collections(registry, RunOptions(output="u/me/1", extend_run=True, replace_run=True))
    with pytest.raises(CollectionError, match="add --replace-run"):
        plan_run_collections(registry, RunOptions(output="u/me/1", prune_replaced="purge"))
    with pytest.raises(CollectionError, match=r"Name a collection with --output"):
        plan_run_collections(registry, RunOptions(inputs="HSC/defaults"))
    with pytest.raises(CollectionError, match="as --input and as --output"):
        plan_run_collections(registry, RunOptions(inputs="u/me/1", output="u/me/1"))


def test_output_run_alone_makes_no_chain(registry: Registry) -> None:
    plan = plan_run_collections(registry, RunOptions(inputs="HSC/defaults", output_run="u/me/run"))
    assert plan.output_run == "u/me/run"
    assert plan.output is None
    assert plan.chain == ()
    assert plan.inputs == INPUTS
    begin(registry, plan)
    with pytest.raises(CollectionError, match=r"'u/me/run' exists\. Add --extend-run"):
        plan_run_collections(registry, RunOptions(inputs="HSC/defaults", output_run="u/me/run"))
    extended = plan_run_collections(
        registry, RunOptions(inputs="HSC/defaults", output_run="u/me/run", extend_run=True)
    )
    assert extended.inputs == ("u/me/run", *INPUTS)
    assert extended.skip_existing_in == ("u/me/run",)


def test_output_run_with_output_comes_first_in_the_chain(registry: Registry) -> None:
    start(registry)
    plan = plan_run_collections(registry, RunOptions(output="u/me/1", output_run="u/me/1/best"))
    assert plan.chain == ("u/me/1/best", FIRST, *INPUTS)
    with pytest.raises(CollectionError, match="cannot replace"):
        plan_run_collections(registry, RunOptions(output="u/me/1", output_run=FIRST, replace_run=True))


def test_collections_of_the_wrong_type_are_refused(registry: Registry) -> None:
    with pytest.raises(CollectionTypeError, match=r"'refcats' is a RUN collection.*CHAINED"):
        plan_run_collections(registry, RunOptions(inputs="HSC/defaults", output="refcats"))
    with pytest.raises(CollectionTypeError, match="'HSC/calib' is a CALIBRATION collection, not a RUN"):
        plan_run_collections(registry, RunOptions(inputs="refcats", output_run="HSC/calib"))
    with pytest.raises(MissingCollectionError, match="HSC/default"):
        plan_run_collections(registry, RunOptions(inputs="HSC/default", output="u/me/1"))


@pytest.fixture
def butler(tmp_path: Path) -> Iterator[Butler]:
    """A repository with an input, and a finished first run of ``u/me/1`` that wrote one file."""
    Butler.makeRepo(tmp_path / "repo")
    with Butler(tmp_path / "repo", writeable=True) as butler:
        butler.repository.registry.collections.register("HSC/raw/all")
        plan = plan_run_collections(
            butler.repository.registry, RunOptions(inputs="HSC/raw/all", output="u/me/1", now=NOW)
        )
        plan.apply(butler.repository)
        butler.repository.registry.dataset_types.register([DatasetType("result", (), "StructuredDataDict")])
        butler.put({"answer": 42}, "result", run=plan.output_run)
        yield butler


def files_below(butler: Butler) -> list[str]:
    root = Path(butler.datastore.root.removeprefix("file://"))
    return [p.name for p in root.rglob("result*") if p.is_file()]


def names(butler: Butler, expression: str) -> list[str]:
    return [c.name for c in butler.repository.registry.collections.query(expression)]


def test_apply_creates_the_run_before_its_chain(butler: Butler) -> None:
    assert names(butler, "u/*") == [FIRST, "u/me/1"]
    assert butler.repository.registry.collections.get("u/me/1").children == (FIRST, "HSC/raw/all")


def test_apply_takes_another_name_if_the_planned_one_was_taken_meanwhile(butler: Butler) -> None:
    registry = butler.repository.registry
    draft = GraphDraft(SECOND)
    plans = [plan_run_collections(registry, RunOptions(output="u/me/1", now=LATER)) for _ in range(2)]
    assert plans[0] == plans[1]
    plans[0].apply(butler.repository)
    plan, graph = plans[1].apply(butler.repository, draft.finish())
    assert plan.output_run == SECOND + "_2"
    assert graph is not None
    assert graph.run == SECOND + "_2"
    assert {i.ref.run for i in graph.init_outputs} == {SECOND + "_2"}
    assert registry.collections.get("u/me/1").children == (SECOND + "_2", SECOND, FIRST, "HSC/raw/all")


def test_a_name_the_user_gave_is_not_changed_into_another(butler: Butler) -> None:
    registry = butler.repository.registry
    options = RunOptions(inputs="HSC/raw/all", output_run="u/mine")
    plans = [plan_run_collections(registry, options) for _ in range(2)]
    plans[0].apply(butler.repository)
    with pytest.raises(CollectionError, match="'u/mine' was made by another command meanwhile"):
        plans[1].apply(butler.repository)
    assert names(butler, "u/mine*") == ["u/mine"]


@pytest.mark.parametrize("prune", ["unstore", "purge"])
def test_a_run_that_is_being_written_is_not_pruned_when_it_is_replaced(
    butler: Butler, tmp_path: Path, prune: Prune
) -> None:
    registry = butler.repository.registry
    options = RunOptions(output="u/me/1", replace_run=True, prune_replaced=prune, now=LATER)
    plan = plan_run_collections(registry, options)
    with Butler(tmp_path / "repo", writeable=True) as writer, writer.repository.registry.claims.kept():
        writer.repository.registry.claims.take(FIRST)
        with pytest.raises(RunInUseError, match=f"'{FIRST}' is being written by"):
            plan.apply(butler.repository)
        assert names(butler, "u/*") == [FIRST, "u/me/1"]
        assert registry.collections.get("u/me/1").children == (FIRST, "HSC/raw/all")
        assert len(files_below(butler)) == 1
    plan.apply(butler.repository)
    assert files_below(butler) == []


def test_runs_begun_at_the_same_moment_are_all_in_the_chain(butler: Butler, tmp_path: Path) -> None:
    all_planned = Barrier(4, timeout=60)

    def run(output: str) -> str:
        with Butler(tmp_path / "repo", writeable=True) as own:
            plan = plan_run_collections(
                own.repository.registry, RunOptions(inputs="HSC/raw/all", output=output, now=LATER)
            )
            all_planned.wait()
            return plan.apply(own.repository)[0].output_run

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(run, ["u/me/1", "u/me/1", "u/me/new", "u/me/new"]))
    children = butler.repository.registry.collections.get("u/me/1").children
    assert len(set(runs[:2])) == 2
    assert set(children[:2]) == set(runs[:2])
    assert children[2:] == (FIRST, "HSC/raw/all")
    children = butler.repository.registry.collections.get("u/me/new").children
    assert len(set(runs[2:])) == 2
    assert set(children[:2]) == set(runs[2:])
    assert children[2:] == ("HSC/raw/all",)


def test_changes_of_the_chain_while_the_graph_is_built_are_kept(butler: Butler) -> None:
    registry = butler.repository.registry
    for name in ("front", "back"):
        registry.collections.register(name)
    plan = plan_run_collections(registry, RunOptions(output="u/me/1", now=LATER))
    registry.collections.set_chain("u/me/1", ["front", "HSC/raw/all", "back"])
    plan.apply(butler.repository)
    assert registry.collections.get("u/me/1").children == (SECOND, "front", "HSC/raw/all", "back")


def test_runs_that_replace_the_same_run_at_once_are_both_in_the_chain(butler: Butler) -> None:
    registry = butler.repository.registry
    plans = [
        plan_run_collections(registry, RunOptions(output="u/me/1", replace_run=True, now=LATER))
        for _ in range(2)
    ]
    for plan in plans:
        plan.apply(butler.repository)
    assert registry.collections.get("u/me/1").children == (SECOND + "_2", SECOND, "HSC/raw/all")


def test_a_chain_begun_meanwhile_with_other_inputs_is_left_as_it_is(butler: Butler) -> None:
    registry = butler.repository.registry
    registry.collections.register("refcats")
    one, other = (
        plan_run_collections(registry, RunOptions(inputs=i, output="u/me/new", now=LATER))
        for i in ("HSC/raw/all", "refcats")
    )
    one.apply(butler.repository)
    before = names(butler, "*")
    with pytest.raises(
        CollectionError, match=r"Another run began 'u/me/new' meanwhile.*choose a new --output"
    ):
        other.apply(butler.repository)
    assert registry.collections.get("u/me/new").children == (one.output_run, "HSC/raw/all")
    assert names(butler, "*") == before


def test_a_replaced_run_stays_outside_the_chain(butler: Butler) -> None:
    plan_run_collections(
        butler.repository.registry, RunOptions(output="u/me/1", replace_run=True, now=LATER)
    ).apply(butler.repository)
    assert butler.repository.registry.collections.get("u/me/1").children == (SECOND, "HSC/raw/all")
    assert names(butler, "u/me/1/*") == [FIRST, SECOND]
    assert butler.get("result", collections=FIRST) == {"answer": 42}


def test_purging_leaves_nothing_of_the_replaced_run(butler: Butler) -> None:
    assert files_below(butler)
    plan_run_collections(
        butler.repository.registry,
        RunOptions(output="u/me/1", replace_run=True, prune_replaced="purge", now=LATER),
    ).apply(butler.repository)
    assert names(butler, "u/me/1/*") == [SECOND]
    assert files_below(butler) == []


def test_unstoring_keeps_what_is_known_of_the_replaced_run(butler: Butler) -> None:
    plan_run_collections(
        butler.repository.registry,
        RunOptions(output="u/me/1", replace_run=True, prune_replaced="unstore", now=LATER),
    ).apply(butler.repository)
    assert names(butler, "u/me/1/*") == [FIRST, SECOND]
    assert files_below(butler) == []
    assert butler.find_dataset("result", collections=FIRST) is not None


def test_a_run_in_another_chain_is_not_purged_and_nothing_changes(butler: Butler) -> None:
    registry = butler.repository.registry
    registry.collections.register("shared", CollectionType.CHAINED)
    registry.collections.set_chain("shared", [FIRST])
    plan = plan_run_collections(
        registry, RunOptions(output="u/me/1", replace_run=True, prune_replaced="purge", now=LATER)
    )
    with pytest.raises(OrphanedRecordError, match=r"is also in 'shared'.*cannot be purged"):
        plan.apply(butler.repository)
    assert names(butler, "u/*") == [FIRST, "u/me/1"]
    assert registry.collections.get("u/me/1").children == (FIRST, "HSC/raw/all")


def test_an_earlier_run_as_input_of_another_output(registry: Registry) -> None:
    start(registry)
    plan = begin(
        registry, plan_run_collections(registry, RunOptions(inputs="u/me/1", output="u/me/2", now=NOW))
    )
    assert plan.chain == ("u/me/2/20201013T140417Z", FIRST, *INPUTS)
    again = plan_run_collections(registry, RunOptions(inputs="u/me/1", output="u/me/2", now=LATER))
    assert again.inputs == plan.chain
