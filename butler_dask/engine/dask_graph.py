"""DaskGraph: a QuantumGraph as Dask tasks that carry row numbers and nothing else.

A Dask task stands for a *cluster* of quanta: by default the chain of one detector, which hands its exposures
over in memory. Its key names the dataset the last quantum makes, ``("calexp-3f2a9c11", 903344, 5)``: Dask
groups, colours and learns durations by the dataset type. Run and plan are hashed into the key, because a key
that a scheduler knows already is silently not executed.

Tasks return tokens, never data: which of their quanta failed or left outputs out. A failed quantum does not
raise inside Dask, so that the other quanta of its cluster, and with ``threads`` those of all the run, go on.

A submission of 100 000 tasks freezes Dask's scheduler for seconds, so tasks are made and submitted in windows
of connected components, where these are small enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..graph.graph_columns import LOG_CONNECTION, METADATA_CONNECTION, TaskColumns
from ..graph.quantum_graph import QuantumGraph
from .open_plan import Token, run_cluster

if TYPE_CHECKING:
    from dask.task_spec import Task

Clustering: TypeAlias = Literal["none", "detector", "visit"]
"""How many quanta make a Dask task: one, the chain of one detector, or all of a visit."""

Key: TypeAlias = tuple[str | int, ...]

WINDOW_TASKS = 10_000
"""Dask tasks submitted together: a freeze of the scheduler's loop of about half a second."""


@dataclass(frozen=True, slots=True)
class Window:
    """Clusters that are submitted together.

    Parameters
    ----------
    index : `int`
        0 for the first.
    clusters : `numpy.ndarray`, shape (n,), int64
        Which, rising.
    after : `int`
        Index of the last window that must have ended before; -1 if it waits for none.
    """

    index: int
    clusters: NDArray[np.int64]
    after: int


class DaskGraph:
    """The Dask tasks of a quantum graph, made window by window.

    Parameters
    ----------
    graph : `QuantumGraph`
        What to run.
    clustering : `str`
        ``detector``: a quantum with a detector joins the task of its predecessors where these are all in
        one; ``visit``: likewise for everything of one visit or exposure; ``none``: a task a quantum.

    Attributes
    ----------
    cluster_of : `numpy.ndarray`, shape (n quanta,), int64
        Cluster of each quantum.
    n_clusters : `int`
        Number of Dask tasks.

    Notes
    -----
    A quantum only joins a cluster that holds all its predecessors, and only quanta without predecessors start
    a common one. So no path leaves a cluster and comes back, and the clusters have no cycle.
    """

    def __init__(self, graph: QuantumGraph, clustering: Clustering = "detector") -> None:
        self.graph = graph
        self.clustering = clustering
        self.cluster_of, self.n_clusters = _clusters(graph, clustering)
        digest = hashlib.blake2b(f"{graph.run}\n{graph.plan_id}".encode(), digest_size=4)
        self.run_tag = digest.hexdigest()

    @cached_property
    def _members(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of each cluster as (indptr, rows); rows rise, which is an order they can run in."""
        order = np.argsort(self.cluster_of, kind="stable")
        indptr = np.zeros(self.n_clusters + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.cluster_of, minlength=self.n_clusters), out=indptr[1:])
        return indptr, order

    @cached_property
    def _edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Distinct (cluster, cluster it waits for), sorted."""
        indptr, indices = self.graph.dependency_csr()
        rows = np.repeat(np.arange(len(self.graph), dtype=np.int64), np.diff(indptr))
        later, earlier = self.cluster_of[rows], self.cluster_of[indices]
        between = later != earlier
        n = max(self.n_clusters, 1)
        pairs = np.unique(later[between] * n + earlier[between])
        later, earlier = np.divmod(pairs, n)
        return later, earlier

    @cached_property
    def _dependencies(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        later, earlier = self._edges
        indptr = np.zeros(self.n_clusters + 1, dtype=np.int64)
        np.cumsum(np.bincount(later, minlength=self.n_clusters), out=indptr[1:])
        return indptr, earlier

    def rows(self, cluster: int) -> NDArray[np.int64]:
        """Return the quanta of a cluster, in an order they can run in.

        Parameters
        ----------
        cluster : `int`
            Which cluster.

        Returns
        -------
        rows : `numpy.ndarray`, shape (m,), int64
            Rows of its quanta in the graph.
        """
        indptr, order = self._members
        return order[indptr[cluster] : indptr[cluster + 1]]

    def windows(self, size: int = WINDOW_TASKS) -> Iterator[Window]:
        """Yield the clusters to submit together.

        Parameters
        ----------
        size : `int`
            Number of clusters a window has at most. Connected components stay whole where they fit in one;
            larger ones (all visits of a tract) are cut, and the later windows wait for the earlier.

        Yields
        ------
        window : `Window`
            In an order they can run in.
        """
        if self.n_clusters <= size:
            if self.n_clusters:
                yield Window(0, np.arange(self.n_clusters, dtype=np.int64), -1)
            return
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        later, earlier = self._edges
        ones = np.ones(len(later), dtype=np.int8)
        matrix = coo_array((ones, (later, earlier)), shape=(self.n_clusters, self.n_clusters))
        n_components, component = connected_components(matrix, directed=False)
        order = np.argsort(component, kind="stable").astype(np.int64)
        ends = np.cumsum(np.bincount(component, minlength=n_components)).tolist()
        indptr, waits_for = self._dependencies
        window_of = np.full(self.n_clusters, -1, dtype=np.int64)
        begin = index = 0
        for i, end in enumerate(ends):
            if i + 1 < n_components and ends[i + 1] - begin <= size:
                continue
            # Clusters are numbered in an order they can run in, so any cut of the sorted ones is one too.
            members = np.sort(order[begin:end])
            for start in range(0, len(members), size):
                clusters = members[start : start + size]
                window_of[clusters] = index
                spans = [waits_for[indptr[c] : indptr[c + 1]] for c in clusters.tolist()]
                before = window_of[np.concatenate(spans)]
                before = before[before != index]
                yield Window(index, clusters, int(before.max()) if len(before) else -1)
                index += 1
            begin = end

    def tasks(
        self, clusters: NDArray[np.int64] | None = None, unusable: Set[int] = frozenset()
    ) -> tuple[dict[Key, Task], list[Key]]:
        """Make the Dask tasks of some clusters.

        Parameters
        ----------
        clusters : `numpy.ndarray`, shape (n,), int64, optional
            Which; default: all. What else they wait for has run.
        unusable : set of `int`
            Quanta that have run and failed, or were blocked.

        Returns
        -------
        tasks : `dict`
            `dask.task_spec.Task` by key.
        sinks : `list`
            Keys that no other of these tasks waits for.
        """
        from dask.task_spec import Task, TaskRef

        if clusters is None:
            clusters = np.arange(self.n_clusters, dtype=np.int64)
        members_at, members = self._members
        waits_at, waits = self._dependencies
        keys = dict(zip(clusters.tolist(), self.keys(clusters), strict=True))
        plan_id = self.graph.plan_id
        made: dict[Key, Task] = {}
        needed: set[Key] = set()
        for cluster, key in keys.items():
            rows = tuple(members[members_at[cluster] : members_at[cluster + 1]].tolist())
            tokens: list[Any] = []
            for before in waits[waits_at[cluster] : waits_at[cluster + 1]].tolist():
                if before in keys:
                    needed.add(keys[before])
                    tokens.append(TaskRef(keys[before]))
                else:
                    tokens.append(token_of_ended(self.rows(before).tolist(), unusable))
            made[key] = Task(key, run_cluster, plan_id, rows, *tokens)
        return made, [k for k in made if k not in needed]

    def tasks_of_rows(
        self, rows: NDArray[np.int64], attempt: int, unusable: Set[int] = frozenset()
    ) -> tuple[dict[Key, Task], list[Key]]:
        """Make Dask tasks of quanta left over from tasks that died, a task a quantum.

        Parameters
        ----------
        rows : `numpy.ndarray`, shape (n,), int64
            The quanta. What else they wait for has run; which of its outputs there are is looked up.
        attempt : `int`
            Told apart from earlier ones by it.
        unusable : set of `int`
            As in `tasks`.

        Returns
        -------
        tasks, sinks
            As `tasks`.
        """
        from dask.task_spec import Task, TaskRef

        single = DaskGraph(self.graph, "none")
        keys = {r: (*k, attempt) for r, k in zip(rows.tolist(), single.keys(rows), strict=True)}
        made: dict[Key, Task] = {}
        needed: set[Key] = set()
        for row, key in keys.items():
            before = self.graph.predecessors(row).tolist()
            waits = [keys[r] for r in before if r in keys]
            needed.update(waits)
            earlier = token_of_ended([r for r in before if r not in keys], unusable)
            refs = map(TaskRef, waits)
            made[key] = Task(key, run_cluster, self.graph.plan_id, (row,), earlier, *refs)
        return made, [k for k in made if k not in needed]

    def keys(self, clusters: NDArray[np.int64]) -> list[Key]:
        """Return the keys of clusters: dataset type and run, then the data ID of what the last quantum makes.

        Instrument and skymap are left out where the graph has one only.

        Parameters
        ----------
        clusters : `numpy.ndarray`, shape (n,), int64
            Which clusters.

        Returns
        -------
        keys : `list` of `tuple`
            One for each.
        """
        graph = self.graph
        members_at, members = self._members
        last = members[members_at[clusters + 1] - 1]
        datasets = self._named_by[last]
        firsts = np.array([d.first_row for d in graph.dataset_types], dtype=np.int64)
        kinds = np.searchsorted(firsts, datasets, side="right") - 1
        keys: list[Key] = [()] * len(clusters)
        for kind in np.unique(kinds).tolist():
            columns = graph.dataset_types[kind]
            at = np.flatnonzero(kinds == kind)
            data_ids = columns.table.data_ids
            local = datasets[at] - columns.first_row
            names = [
                n
                for n in data_ids.dimensions.required
                if n not in ("instrument", "skymap") or len(data_ids.categories[n]) > 1
            ]
            head = f"{columns.dataset_type.name}-{self.run_tag}"
            values = [data_ids.values(n)[local].tolist() for n in names]
            for i, rest in zip(at.tolist(), zip(*values, strict=True), strict=True) if values else ():
                keys[i] = (head, *rest)
            if not values:
                keys[int(at[0])] = (head,)
        return keys

    @cached_property
    def _named_by(self) -> NDArray[np.int64]:
        """Dataset row each quantum is named by: its first output that is neither metadata nor log if any."""
        graph = self.graph
        edges = graph.outputs_of
        own = np.ones(len(edges.indices), dtype=bool)
        for task in graph.tasks:
            span = slice(edges.indptr[task.first_quantum], edges.indptr[task.first_quantum + len(task)])
            implicit = np.array([c.name in (METADATA_CONNECTION, LOG_CONNECTION) for c in task.connections])
            if len(implicit):
                own[span] = ~implicit[edges.connections[span]]
        named = edges.indices[edges.indptr[:-1]].astype(np.int64)
        rows = edges.quantum_rows()[own]
        quanta, first = np.unique(rows, return_index=True)
        named[quanta] = edges.indices[own][first]
        return named


def token_of_ended(rows: Sequence[int], unusable: Set[int]) -> Token:
    """Return the token of quanta that ended earlier: which of their outputs there are is to be looked up.

    Parameters
    ----------
    rows : sequence of `int`
        The quanta.
    unusable : set of `int`
        Quanta that failed or were blocked.

    Returns
    -------
    token : `Token`
        As the Dask task that ran them would have returned it.
    """
    return tuple(r for r in rows if r in unusable), tuple(r for r in rows if r not in unusable)


def _clusters(graph: QuantumGraph, clustering: Clustering) -> tuple[NDArray[np.int64], int]:
    """Return the cluster of each quantum, dense, and their number."""
    n = len(graph)
    if clustering == "none":
        return np.arange(n, dtype=np.int64), n
    indptr, indices = graph.dependency_csr()
    cluster = np.full(n, -1, dtype=np.int64)
    n_clusters = 0
    for task in graph.tasks:
        if not len(task):
            continue
        rows = np.arange(task.first_quantum, task.first_quantum + len(task), dtype=np.int64)
        names = _common_names(task, clustering)
        has_before = np.diff(indptr)[rows] > 0
        joined = np.full(len(task), -1, dtype=np.int64)
        if names and has_before.any():
            # The predecessors of consecutive rows are one span of `indices`, empty ones included.
            before = cluster[indices[indptr[rows[0]] : indptr[rows[-1] + 1]]]
            starts = (indptr[rows] - indptr[rows[0]])[has_before]
            low, high = np.minimum.reduceat(before, starts), np.maximum.reduceat(before, starts)
            joined[has_before] = np.where(low == high, low, -1)
        fresh = joined < 0
        common = fresh & ~has_before if names else np.zeros(len(task), dtype=bool)
        if common.any():
            codes = np.unique(task.data_ids.take(common).codes(names), return_inverse=True)[1]
            joined[common] = n_clusters + codes
            n_clusters += int(codes.max()) + 1
        alone = fresh & ~common
        n_alone = int(alone.sum())
        joined[alone] = n_clusters + np.arange(n_alone)
        n_clusters += n_alone
        cluster[rows] = joined
    return cluster, n_clusters


def _common_names(task: TaskColumns, clustering: Clustering) -> tuple[str, ...]:
    """Return the dimensions whose values the quanta of a cluster share; none if the task is not clustered."""
    required: tuple[str, ...] = task.dimensions.required
    moment = next((n for n in ("visit", "exposure", "group") if n in required), None)
    if clustering == "detector":
        if "detector" not in required:
            return ()
        return tuple(n for n in required if n in ("instrument", "detector", moment))
    if moment is None or "tract" in required:
        return ()
    return tuple(n for n in required if n in ("instrument", moment))
