"""RunCollections: which collections a run reads, writes and redefines.

All rules about ``-i``, ``-o``, ``--output-run``, ``--extend-run``, ``--replace-run``, ``--prune-replaced``,
``--rebase`` and ``--skip-existing`` are here, as one decision made before the graph is built and carried out
after it: an empty graph or a mistake leaves the repository as it was.

The output collection is a chain: runs written through it, newest first, then the flattened inputs it was
begun with. The chain is all that is remembered, so "the inputs have changed" means "the chain does not end
with them".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from ..errors import (
    CollectionError,
    CollectionTypeError,
    MissingCollectionError,
    OrphanedRecordError,
    RunInUseError,
)
from ..vocabulary.collection import (
    CollectionInfo,
    CollectionType,
    check_collection_name,
    run_timestamp,
    split_names,
)
from .kept_ids import keep_ids
from .quantum_graph import QuantumGraph

if TYPE_CHECKING:
    from ..butler.open_repository import OpenRepository
    from ..registry.registry import Registry

Prune = Literal["unstore", "purge"]


@dataclass(frozen=True, slots=True)
class RunCollections:
    """What a run does with collections.

    Parameters
    ----------
    output_run : `str`
        RUN that takes the outputs.
    output : `str` or `None`
        CHAINED collection to write, if any.
    inputs : `tuple` [`str`, ...]
        Collections to search for inputs, in order, without chains.
    chain : `tuple` [`str`, ...]
        What ``output`` will hold, unless others change it meanwhile; ``output_run`` first.
    found : `tuple` [`str`, ...]
        What ``output`` held when this was planned.
    extend : `bool`
        Whether ``output_run`` exists and is added to.
    named : `bool`
        Whether the user named ``output_run``, so that no other will do.
    replaced : `str` or `None`
        RUN taken out of the chain.
    prune_replaced : `str` or `None`
        ``unstore``: delete the files of ``replaced``; ``purge``: delete all of it.
    skip_existing_in : `tuple` [`str`, ...]
        Collections in which a quantum's outputs make it unnecessary.
    """

    output_run: str
    output: str | None = None
    inputs: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    extend: bool = False
    named: bool = False
    replaced: str | None = None
    prune_replaced: Prune | None = None
    skip_existing_in: tuple[str, ...] = ()

    def apply(
        self, repository: OpenRepository, graph: QuantumGraph | None = None
    ) -> tuple[RunCollections, QuantumGraph | None]:
        """Claim and create the RUN, redefine the chain, prune what is replaced.

        The claim is kept as long as the caller's `RunClaims.kept` says.

        Parameters
        ----------
        repository : `OpenRepository`
            Open for writing.
        graph : `QuantumGraph`, optional
            The graph made for this plan.

        Returns
        -------
        plan : `RunCollections`
            The same plan, or one with another run name if somebody took the name meanwhile.
        graph : `QuantumGraph` or `None`
            The graph, writing to that run.

        Raises
        ------
        OrphanedRecordError
            If the run to purge is in a further chain; nothing was changed.
        CollectionError
            If another run began the same chain with other inputs meanwhile, or took the name the user gave;
            nothing was changed.
        RunInUseError
            If another command writes the run, or the one that is to be pruned; nothing was changed.
        """
        registry = repository.registry
        with registry.claims.kept():
            return self._apply(repository, graph)

    def _apply(
        self, repository: OpenRepository, graph: QuantumGraph | None
    ) -> tuple[RunCollections, QuantumGraph | None]:
        registry = repository.registry
        if self.prune_replaced is not None and self.replaced is not None:
            if self.prune_replaced == "purge":
                self._check_only_ours(registry)
            registry.claims.refuse_others([self.replaced])
        plan = self._claimed(registry)
        with registry.transaction():
            if not plan.extend and not registry.collections.register(plan.output_run, CollectionType.RUN):
                raise CollectionError(
                    f"The output run {plan.output_run!r} was made by another command meanwhile; nothing was "
                    "changed. Add --extend-run to complete it, or give another --output-run."
                )
            if plan.output is not None:
                registry.collections.register(plan.output, CollectionType.CHAINED)
                registry.collections.edit_chain(plan.output, plan._with_changes)
        if plan.replaced is not None and plan.prune_replaced == "purge":
            repository.remove_runs([plan.replaced])
        elif plan.replaced is not None and plan.prune_replaced == "unstore":
            # What is known about its datasets stays.
            repository.remove_files(registry.datasets.existing_in_run(plan.replaced).values())
        if graph is not None and graph.run != plan.output_run:
            graph = graph.in_run(plan.output_run)
            if plan.extend:
                graph = keep_ids(registry, graph)
        return plan, graph

    def _claimed(self, registry: Registry) -> RunCollections:
        """Claim the RUN; take the next free name if another process has the planned one and may have it."""
        if self.extend or self.named:
            registry.claims.take(self.output_run)
            return self
        name, count = self.output_run, 1
        while not _claimed_new(registry, name):
            count += 1
            name = f"{self.output_run}_{count}"
        chain = tuple(name if c == self.output_run else c for c in self.chain)
        return replace(self, output_run=name, chain=chain)

    def _with_changes(self, present: tuple[str, ...]) -> tuple[str, ...]:
        """Return the chain to define, with what others did to it while the graph was built."""
        if present == self.found:
            return self.chain
        inputs = self.chain[1:]
        if not self.found and present[max(len(present) - len(inputs), 0) :] != inputs:
            raise CollectionError(
                f"Another run began {self.output!r} meanwhile; it holds {_quoted(present)}, which does not "
                f"end with the inputs given here ({_quoted(inputs)}). Nothing was changed; choose a new "
                "--output."
            )
        rest = [c for c in inputs if c in present or c not in self.found]
        added = [c for c in present if c not in self.found and c not in self.chain]
        front = [c for c in takewhile(lambda c: c not in rest, present) if c in added]
        return (self.output_run, *front, *rest, *(c for c in added if c not in front))

    def _check_only_ours(self, registry: Registry) -> None:
        assert self.replaced is not None
        (info,) = registry.collections.query([self.replaced], include_parents=True)
        others = sorted((info.parents or frozenset()) - {self.output})
        if others:
            raise OrphanedRecordError(
                f"The run to replace, {self.replaced!r}, is also in {', '.join(map(repr, others))}; it "
                "cannot be purged. Take it out there with `butler collection-chain --mode remove`, or leave "
                "out --prune-replaced."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a user says of the collections of a run: the options of ``pipetask run``.

    Parameters
    ----------
    inputs : `str` or sequence of `str`
        Input collections or comma-separated lists of them; chains are flattened.
    output : `str`, optional
        CHAINED collection to make or add to.
    output_run : `str`, optional
        RUN to write; by default ``<output>/<time stamp>``.
    extend_run : `bool`
        Write to the newest run of ``output`` (or to ``output_run``); implies ``skip_existing``.
    replace_run : `bool`
        Put the new run in the place of the newest run of ``output``.
    prune_replaced : `str`, optional
        What to delete of the replaced run: its files (``unstore``) or all of it (``purge``).
    rebase : `bool`
        Let the chain end with ``inputs`` even if it ended with others.
    skip_existing : `bool`
        Skip quanta whose outputs exist in a run of ``output`` (or in ``output_run``).
    skip_existing_in : `str` or sequence of `str`
        Further collections whose datasets make quanta unnecessary.
    now : `datetime.datetime`, optional
        Time of the stamp.

    Raises
    ------
    CollectionError
        If they contradict one another, or a name is not one of a collection.
    """

    inputs: str | Sequence[str] = ()
    output: str | None = None
    output_run: str | None = None
    extend_run: bool = False
    replace_run: bool = False
    prune_replaced: Prune | None = None
    rebase: bool = False
    skip_existing: bool = False
    skip_existing_in: str | Sequence[str] = ()
    now: datetime | None = None

    def __post_init__(self) -> None:
        if self.output is None and self.output_run is None:
            raise CollectionError("Where should the outputs go? Name a collection with --output (-o).")
        if self.extend_run and self.replace_run:
            raise CollectionError(
                "--extend-run adds to the newest run, --replace-run puts a new one in its place: give only "
                "one."
            )
        if self.prune_replaced is not None and not self.replace_run:
            raise CollectionError(
                "--prune-replaced says what to delete of a run that --replace-run replaces: add "
                "--replace-run."
            )
        for name in (self.output, self.output_run):
            if name is not None:
                check_collection_name(name)


def plan_run_collections(registry: Registry, options: RunOptions) -> RunCollections:
    """Decide which collections a run reads and writes; nothing is written.

    Parameters
    ----------
    registry : `Registry`
        Where the collections are.
    options : `RunOptions`
        What the user says of them.

    Returns
    -------
    plan : `RunCollections`
        To be applied when the graph is built.

    Raises
    ------
    CollectionError
        If the options do not fit what is there, or the inputs are not those of the existing chain.
    MissingCollectionError
        If an input does not exist.
    CollectionTypeError
        If the output collection exists and is no chain, or the output run no RUN.
    """
    given = split_names(options.inputs)
    flat = [c.name for c in registry.collections.flatten(given)] if given else []
    output = _OutputChain(registry, options, _find(registry, options.output))
    output.check(given)
    runs, tail = output.runs_and_inputs(flat if given else None)
    tail = [c for c in tail if c not in runs]
    replaced = None
    if options.replace_run:
        if not runs:
            raise CollectionError(
                f"--replace-run: {options.output!r} has no run to replace; it holds "
                f"{_quoted(output.members)}. Leave out --replace-run."
            )
        replaced, runs = runs[0], runs[1:]
    run = output.run_to_write(runs)
    run_info = _find(registry, run)
    _check_run(registry, options, run, run_info, replaced)
    older = [c for c in runs if c != run]
    chain = (run, *older, *(c for c in tail if c != run))
    skip_in = split_names(options.skip_existing_in)
    skip = [c.name for c in registry.collections.flatten(skip_in)] if skip_in else []
    if options.extend_run:
        skip.insert(0, run)
    elif options.skip_existing:
        skip = [*older, *skip]
    return RunCollections(
        output_run=run,
        output=options.output,
        inputs=chain if run_info is not None else chain[1:],
        chain=chain if options.output is not None else (),
        found=output.members,
        extend=run_info is not None,
        named=options.output_run is not None,
        replaced=replaced,
        prune_replaced=options.prune_replaced,
        skip_existing_in=tuple(dict.fromkeys(skip)),
    )


@dataclass(frozen=True, slots=True)
class _OutputChain:
    """The output collection as it is, and what the user says of it.

    Parameters
    ----------
    registry : `Registry`
        Where the collections are.
    options : `RunOptions`
        What the user says.
    info : `CollectionInfo` or `None`
        The collection; `None` if there is none yet.
    """

    registry: Registry
    options: RunOptions
    info: CollectionInfo | None

    @property
    def members(self) -> tuple[str, ...]:
        """What it holds."""
        return () if self.info is None else tuple(self.info.children)

    def check(self, given: Sequence[str]) -> None:
        """Raise if it is not a collection the options can be meant for.

        Parameters
        ----------
        given : sequence of `str`
            Inputs as the user names them.
        """
        options, output, info = self.options, self.options.output, self.info
        if info is not None and info.type is not CollectionType.CHAINED:
            raise CollectionTypeError(
                f"--output {output!r} is a {info.type.name} collection, but must be CHAINED or new. "
                "Name another one; to write into a RUN of your own naming use --output-run."
            )
        if output is not None and output in given:
            raise CollectionError(
                f"{output!r} is given as --input and as --output. Leave out --input: what is in the chain "
                "is searched."
            )
        if options.rebase and not given:
            raise CollectionError("--rebase needs the new inputs: name them with --input (-i).")
        if options.replace_run and info is None:
            raise CollectionError(
                f"--replace-run needs an existing --output, but there is no collection {output!r}. Leave "
                "out --replace-run for the first run."
            )

    def runs_and_inputs(self, inputs: Sequence[str] | None) -> tuple[list[str], list[str]]:
        """Return its runs, newest first, and what it is to end with.

        Parameters
        ----------
        inputs : sequence of `str` or `None`
            Inputs given, flattened; `None` for those it has.
        """
        if self.info is None:
            return [], list(inputs or ())
        if inputs is None:
            n = self._count_leading(self.own_runs())
            return list(self.members[:n]), list(self.members[n:])
        if self.options.rebase:
            return self.own_runs(), list(inputs)
        return self._split_at(inputs)

    def run_to_write(self, runs: Sequence[str]) -> str:
        """Return the RUN to write.

        Parameters
        ----------
        runs : sequence of `str`
            Its runs that stay, newest first.
        """
        options = self.options
        if options.output_run is not None:
            return options.output_run
        if options.extend_run:
            if not runs:
                there_is = (
                    f"there is no collection {options.output!r}"
                    if self.info is None
                    else f"{options.output!r} has no run yet"
                )
                raise CollectionError(
                    f"--extend-run adds to an existing run, but {there_is}. Leave out --extend-run."
                )
            return runs[0]
        return _free_name(self.registry, f"{options.output}/{run_timestamp(options.now)}")

    def own_runs(self) -> list[str]:
        """Return the members that were written through the chain.

        Those are RUNs named below it, and RUNs of no other chain in which tasks left their configuration.
        Others (raws, calibrations, other outputs) must never be extended or purged because they come first in
        a chain.
        """
        if not self.members:
            return []
        output = self.options.output
        infos = self.registry.collections.query(
            list(self.members), include_summary=True, include_parents=True
        )
        found = {i.name: i for i in infos}
        own = []
        for name in self.members:
            info = found[name]
            written = any(t.endswith("_config") or t == "packages" for t in info.dataset_types or ())
            alone = info.parents == frozenset((output,))
            if info.type is CollectionType.RUN and (name.startswith(f"{output}/") or (written and alone)):
                own.append(name)
        return own

    def _count_leading(self, own: Sequence[str]) -> int:
        """Return how many runs of its own it begins with."""
        return sum(1 for _ in takewhile(lambda name: name in own, self.members))

    def _split_at(self, inputs: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return its runs and its inputs, if the latter are those given."""
        members, own = list(self.members), self.own_runs()
        n = len(members) - len(inputs)
        if n >= 0 and members[n:] == list(inputs) and set(members[:n]) <= set(own):
            return members[:n], list(inputs)
        # Runs of the chain given as inputs again belong to both.
        before = members[self._count_leading(own) :]
        wanted = list(inputs)
        missing = [c for c in before if c not in wanted]
        further = [c for c in wanted if c not in before]
        difference = []
        if further:
            difference.append(f"new: {_quoted(further)}")
        if missing:
            difference.append(f"no longer given: {_quoted(missing)}")
        if not difference:
            difference.append(f"the order is {_quoted(wanted)} instead of {_quoted(before)}")
        raise CollectionError(
            f"Cannot use --output {self.options.output!r} with other --input than it began with "
            f"({'; '.join(difference)}). Leave out --input to keep its inputs, give --rebase to change them, "
            "or choose a new --output."
        )


def _check_run(
    registry: Registry, options: RunOptions, run: str, info: CollectionInfo | None, replaced: str | None
) -> None:
    """Raise if the RUN to write is not as the options say."""
    if info is None:
        if options.extend_run:
            raise CollectionError(f"--extend-run: there is no run {run!r} yet. Leave out --extend-run.")
        return
    if info.type is not CollectionType.RUN:
        raise CollectionTypeError(f"The output run {run!r} is a {info.type.name} collection, not a RUN.")
    if not options.extend_run:
        if run == replaced:
            raise CollectionError(
                f"--replace-run cannot replace {run!r} by itself: give --output-run another name."
            )
        writer = registry.claims.others().get(run)
        if writer is not None:
            raise writer.refusal()
        raise CollectionError(
            f"The output run {run!r} exists. Add --extend-run to complete it, or give another --output-run."
        )


def _claimed_new(registry: Registry, name: str) -> bool:
    """Claim a RUN that is to be made; return whether nobody else has it or its name."""
    if _find(registry, name) is not None:
        return False
    try:
        registry.claims.take(name)
    except RunInUseError:
        return False
    return _find(registry, name) is None  # else somebody made it, and is done, in between


def _find(registry: Registry, name: str | None) -> CollectionInfo | None:
    if name is None:
        return None
    try:
        return registry.collections.get(name)
    except MissingCollectionError:
        return None


def _free_name(registry: Registry, name: str) -> str:
    """Return the name, or with a number after it if a run of the same second has it."""
    candidate, count = name, 1
    while _find(registry, candidate) is not None:
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) if names else "nothing"
