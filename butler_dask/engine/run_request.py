"""RunRequest: what `run_graph` asks an executor to do, whichever that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .dask_graph import DaskGraph
from .journal import PlanFiles
from .run_settings import RunSettings

if TYPE_CHECKING:
    from ..butler.open_repository import OpenRepository
    from ..graph.quantum_graph import QuantumGraph
    from ..registry import RunClaim
    from .recorder import ProgressCallback


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A graph to run and how to run it.

    Parameters
    ----------
    dask_graph : `DaskGraph`
        The graph as Dask tasks.
    repository : `OpenRepository`
        Whose registry and datastore are written.
    claim : `RunClaim`
        That this process writes the run.
    settings : `RunSettings`
        How each quantum is run.
    progress : callable or `None`
        Called with a `Progress` about four times a second, in another thread.
    fail_fast : `bool`
        Start nothing more after the first failure.
    window : `int`
        Dask tasks submitted together.
    worker_timeout_s : `float`, optional
        How long a Dask cluster may be without workers [s]; as long as it likes by default.
    """

    dask_graph: DaskGraph
    repository: OpenRepository
    claim: RunClaim
    settings: RunSettings
    progress: ProgressCallback | None
    fail_fast: bool
    window: int
    worker_timeout_s: float | None = None

    @property
    def graph(self) -> QuantumGraph:
        """The graph to run."""
        return self.dask_graph.graph

    @property
    def files(self) -> PlanFiles:
        """Its copy and journals in the repository."""
        return PlanFiles.of(self.repository.root, self.graph)
