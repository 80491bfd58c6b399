"""What the processes of a local cluster let in: nothing but work of the process that started them."""

import urllib.error
import urllib.request

import psutil
import pytest
from distributed import Client

from butler_dask.engine.cluster import local_cluster


def _ports():
    me = psutil.Process()
    return {
        connection.laddr
        for process in (me, *me.children(recursive=True))
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }


def _status(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/info/main/workers.html", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return None


def test_local_cluster_listens_on_this_machine_alone_and_takes_no_strangers():
    before = _ports()
    with local_cluster(1) as client:
        opened = _ports() - before
        assert {address.ip for address in opened} == {"127.0.0.1"}
        assert all(_status(address.port) in (None, 404) for address in opened)
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        # Neither without TLS nor with a key of one's own.
        for wrong in (address.replace("tls://", "tcp://"), address):
            with pytest.raises((OSError, TypeError)):
                Client(wrong, timeout=3, set_as_default=False)
        assert client.submit(sum, (1, 2)).result(timeout=30) == 3


def test_stranger_with_a_key_of_their_own_is_not_let_in():
    from distributed.security import Security

    with local_cluster(1) as client, pytest.raises(OSError, match=r"scheduler|certificate|timed out"):
        Client(client.scheduler.address, timeout=3, set_as_default=False, security=Security.temporary())


def test_dashboard_of_a_port_is_served_on_this_machine_alone():
    before = _ports()
    with local_cluster(1, dashboard=":0"):
        opened = _ports() - before
    assert {address.ip for address in opened} == {"127.0.0.1"}
    assert opened
