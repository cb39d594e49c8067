import os
import socket
import subprocess
import sys

import pytest

from m3pc_ray.diagnosis.sockets import descendants, listening


@pytest.mark.parametrize(
    ("family", "bound_to", "loopback"),
    [
        (socket.AF_INET, "127.0.0.1", True),
        (socket.AF_INET, "0.0.0.0", False),
        (socket.AF_INET6, "::ffff:127.0.0.1", True),
    ],
)
def test_a_listening_socket_of_this_process_is_found(family, bound_to, loopback):
    with socket.socket(family) as server:
        server.bind((bound_to, 0))
        port = server.getsockname()[1]
        assert port not in {found.port for found in listening([os.getpid()])}  # not yet
        server.listen()
        (found,) = [found for found in listening([os.getpid()]) if found.port == port]
        assert found.address == bound_to.removeprefix("::ffff:")
        assert found.is_loopback is loopback


def test_every_interface_of_ipv6():
    try:
        server = socket.create_server(("::", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        (found,) = [found for found in listening([os.getpid()]) if found.port == server.getsockname()[1]]
        assert (found.address, found.is_loopback) == ("::", False)


def test_descendants_are_this_process_and_what_it_started():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in descendants()
        assert os.getpid() in descendants()
        assert descendants(child.pid) == [child.pid]
        assert os.getppid() not in descendants()
        child.communicate(b"\n")


def test_a_process_that_is_gone_has_no_sockets():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert listening([child.pid]) == []
