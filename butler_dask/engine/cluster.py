"""Where a run's workers come from: processes of this machine, or a Dask cluster that is there already."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ButlerDaskError, ButlerUserError

if TYPE_CHECKING:
    from distributed import Client

_LOG = logging.getLogger("butler_dask.cluster")

CLUSTER_CONFIG: dict[str, Any] = {
    # Deaths are counted by our plugin, quantum by quantum; Dask's own count is the last resort.
    "distributed.scheduler.allowed-failures": 10,
    # Queued on the workers, tasks cost half the round trips (3.5 instead of 8 ms a no-op quantum). Dask's
    # reasons against it do not hold here: results are tokens, and a dead worker is not blamed on the queue.
    "distributed.scheduler.worker-saturation": "inf",
    # A long kernel that holds the GIL must not look like a dead worker.
    "distributed.scheduler.worker-ttl": "15 minutes",
    # Dask tasks return tokens: there is nothing to spill.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # Samples every 10 ms, which is longer than a small quantum.
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.NUMBA_NUM_THREADS": 1,
}
"""Dask settings of clusters started here; what a user's own files or environment set for Dask wins."""

_LOOPBACK = "127.0.0.1"
_ANY_PORT = f"{_LOOPBACK}:0"
_NO_PAGES: dict[str, Any] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
"""Dask's HTTP servers cannot be switched off; without routes they answer every request with 404."""


@dataclass(frozen=True)
class Workers:
    """Where quanta run, as a user says it.

    Parameters
    ----------
    jobs : `int`
        Number of processes (or threads) of this machine, where no cluster is named.
    address : `str`, optional
        Scheduler address (``tcp://host:8786``) or scheduler file.
    client : `distributed.Client`, optional
        A connected client, in place of ``address``.
    dashboard : `str`, optional
        Where processes of this machine serve Dask's dashboard: ``":8787"`` for this machine alone,
        ``"0.0.0.0:8787"`` for all who reach it.
    """

    jobs: int = 1
    address: str | None = None
    client: Client | None = None
    dashboard: str | None = None

    @property
    def are_ours(self) -> bool:
        """Whether they are started for this run alone."""
        return self.client is None and self.address is None

    def connected(self) -> AbstractContextManager[Client]:
        """Return the connection to them, started or made when it is entered.

        Returns
        -------
        connection : context manager of `distributed.Client`
            Connected while it is entered.
        """
        if self.client is not None:
            return nullcontext(self.client)
        if self.address is not None:
            return existing_cluster(self.address)
        return local_cluster(self.jobs, dashboard=self.dashboard)


@contextmanager
def local_cluster(
    jobs: int, *, dashboard: str | None = None, memory_limit: str | float = "auto"
) -> Iterator[Client]:
    """Start worker processes on this machine, which take work from this process alone.

    A Dask scheduler runs whatever code comes to its port, and all users of this machine reach its ports.
    Connections therefore need a key made for this cluster (TLS), which only these processes have.

    Parameters
    ----------
    jobs : `int`
        Number of processes, each with one thread (BLAS and numba are held to one too).
    dashboard : `str`, optional
        Where to serve Dask's dashboard, ``":8787"`` (on this machine alone) or ``"host:8787"``; none by
        default. It shows whoever reaches it what runs, and takes no code.
    memory_limit : `str` or `float`
        Memory of each process, as Dask takes it; by default an equal share of the machine's.

    Yields
    ------
    client : `distributed.Client`
        Connected to them.

    Raises
    ------
    ButlerDaskError
        If processes cannot be started.
    """
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security

    user = dask.config.collect()
    settings = {k: v for k, v in CLUSTER_CONFIG.items() if dask.config.get(k, None, config=user) is None}
    if not dashboard:
        settings |= _NO_PAGES
    elif dashboard.startswith(":"):
        dashboard = f"{_LOOPBACK}{dashboard}"
    with quiet_distributed(), dask.config.set(settings):
        try:
            cluster = LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                processes=True,
                dashboard_address=dashboard,
                # Without a dashboard there still is a port; a fixed one may be taken.
                scheduler_kwargs={} if dashboard else {"dashboard": False, "dashboard_address": _ANY_PORT},
                security=Security.temporary(),
                silence_logs=logging.ERROR,
                memory_limit=memory_limit,
            )
        except RuntimeError as error:
            raise ButlerDaskError(
                f"Worker processes cannot be started: {error} A script that runs a graph in processes must "
                "do so under `if __name__ == '__main__':`, because each process imports it."
            ) from error
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def quiet_distributed() -> Iterator[None]:
    """Keep distributed's chatter about connections out of the log inside the block; errors still show."""
    import distributed  # noqa: F401 -- its import sets the levels

    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def existing_cluster(address: str, *, timeout_s: float = 30.0) -> Iterator[Client]:
    """Connect to a running Dask scheduler.

    Parameters
    ----------
    address : `str`
        ``tcp://host:port``, ``tls://host:port``, or the path of a scheduler file. Certificates are taken
        from Dask's configuration (``distributed.comm.tls``).
    timeout_s : `float`
        How long to try [s].

    Yields
    ------
    client : `distributed.Client`
        Connected to it.

    Raises
    ------
    ButlerUserError
        If there is no scheduler.
    """
    from distributed import Client

    where: dict[str, Any] = {"address": address}
    if "://" not in address and (os.path.exists(address) or address.endswith(".json")):
        if not os.path.exists(address):
            raise ButlerUserError(f"There is no scheduler file {address!r}")
        where = {"scheduler_file": address}
    try:
        client = Client(**where, timeout=timeout_s, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ButlerUserError(
            f"No Dask scheduler answers at {address!r}: {error}. Start one with `dask scheduler` and workers "
            "with `dask worker`, or give the address it prints."
        ) from error
    with client:
        if client.scheduler_info()["n_workers"] == 0:
            _LOG.warning("The Dask cluster at %s has no workers yet; waiting for them", address)
        yield client
