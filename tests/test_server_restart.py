"""A PostgreSQL server that is started anew while a run is recorded in it."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress

import pytest
import sqlalchemy as sa
from noop_tasks import add_raws, draft_graph
from registry_fixtures import SERVER, drop, new_url

from butler_dask.butler import Butler
from butler_dask.engine.execution import run_graph
from butler_dask.engine.init_outputs import write_init_outputs
from butler_dask.errors import RepositoryError
from butler_dask.registry.registry import Registry

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.skipif(not SERVER, reason="BUTLER_DASK_TEST_POSTGRESQL names no server"),
]

RUN = "u/me/run"


class Gateway:
    """Stands between a program and the server; closed, it is a server that is down."""

    def __init__(self, url: sa.URL) -> None:
        host = str(url.query.get("host") or url.host or "127.0.0.1")
        port = url.port or 5432
        self._target = (
            (socket.AF_UNIX, f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else (socket.AF_INET, (host, port))
        )
        self._sockets: list[socket.socket] = []
        self.port = 0
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.socket(self._target[0])
                far.connect(self._target[1])
                self._sockets += [near, far]
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError), near, far:
            while True:
                for end in select.select([near, far], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    (far if end is near else near).sendall(data)


@pytest.fixture
def gateway(tmp_path):
    url = sa.make_url(new_url("postgresql", tmp_path))
    gateway = Gateway(url)
    rest = {k: v for k, v in url.query.items() if k != "host"}
    gateway.url = url.set(host="127.0.0.1", port=gateway.port, query=rest).render_as_string(False)
    yield gateway
    gateway.close()
    drop(url.render_as_string(False))


def test_run_waits_for_a_server_that_is_started_anew(tmp_path, gateway):
    Butler.makeRepo(str(tmp_path / "repo"), registry=gateway.url)
    with Butler(str(tmp_path / "repo"), writeable=True) as butler:
        graph = draft_graph(butler, add_raws(butler, 8, 1), RUN, config="config.seconds = 0.3\n")
        graph = write_init_outputs(butler.repository, graph)

        def restart() -> None:
            time.sleep(0.5)
            gateway.close()
            time.sleep(3.0)
            gateway.open()

        restarting = threading.Thread(target=restart)
        restarting.start()
        summary = run_graph(graph, butler.repository)
        restarting.join()
        assert summary.describe() == "24 quanta: 24 succeeded"
        assert len(butler.repository.registry.quanta.query(RUN)) == 24


def test_server_that_never_answered_is_not_waited_for(gateway):
    gateway.close()
    began = time.monotonic()
    with pytest.raises(RepositoryError, match="Cannot open the registry"):
        Registry.open(gateway.url)
    assert time.monotonic() - began < 20
