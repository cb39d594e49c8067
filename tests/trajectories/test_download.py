"""Downloads from a server on this machine: complete or absent, whatever goes wrong."""

import http.server
import os
import socket
import threading

import pytest

from m3pc_ray import cli
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import resolve
from m3pc_ray.trajectories.download import D4RL_NAMES, download, server_file
from tests.trajectories.factory import d4rl_arrays, make_trajectories, write_arrays

NAME, FILE = "d4rl/hopper-medium-replay-v2", "hopper_medium_replay-v2.hdf5"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves tmp_path/server; `server.promised` claims more bytes than come."""
    root = tmp_path / "server"
    root.mkdir()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            file = root / self.path.lstrip("/")
            if not file.is_file():
                self.send_error(404)
                return
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + self.server.promised))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.requests, running.promised, running.root = [], 0, root
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("M3PC_D4RL_URL", f"http://127.0.0.1:{running.server_port}")
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "datasets"


def serve_data(server):
    return write_arrays(server.root / FILE, d4rl_arrays(make_trajectories([5, 6])), env_id=None)


def test_names_are_spelt_as_the_server_does():
    assert server_file(NAME) == FILE
    assert server_file("d4rl/walker2d-medium-v2") == "walker2d_medium-v2.hdf5"
    assert len(D4RL_NAMES) == 18


def test_a_file_arrives_whole_and_is_fetched_once(server, folder):
    source = serve_data(server)
    seen = []
    path = download(NAME, str(folder), progress=lambda received, expected: seen.append((received, expected)))
    assert path == folder / FILE
    assert path.read_bytes() == source.read_bytes()
    assert os.listdir(folder) == [FILE]
    size = source.stat().st_size
    assert seen[-1] == (size, size)
    download(NAME, str(folder))
    assert server.requests == [f"/{FILE}"]
    download(NAME, str(folder), overwrite=True)
    assert len(server.requests) == 2


def test_load_by_name_downloads_and_knows_the_environment(server, folder):
    serve_data(server)
    assert resolve.load(NAME, folder=str(folder)).metadata.environment_id == "Hopper-v4"
    server.root.joinpath(FILE).unlink()
    assert resolve.load("hopper-medium-replay-v2", folder=str(folder)).num_steps == 11


def test_the_command_line(server, folder, capsys):
    serve_data(server)
    assert cli.main(["data", "download", NAME, "--folder", str(folder)]) == 0
    assert FILE in capsys.readouterr().out
    assert cli.main(["data", "--folder", str(folder), "download", NAME]) == 0
    assert "already there" in capsys.readouterr().out
    assert len(server.requests) == 1


def test_too_few_bytes(server, folder):
    serve_data(server)
    server.promised = 1000
    with pytest.raises(UserError, match=r"bytes arrived; try again"):
        download(NAME, str(folder))
    assert os.listdir(folder) == []


def test_something_that_is_not_hdf5(server, folder):
    (server.root / FILE).write_text("<html>Please log in</html>")
    with pytest.raises(UserError, match="is no HDF5 file"):
        download(NAME, str(folder))
    assert os.listdir(folder) == []


def test_a_failed_refetch_keeps_the_old_file(server, folder):
    source = serve_data(server)
    good = source.read_bytes()
    download(NAME, str(folder))
    source.write_text("no longer data")
    with pytest.raises(UserError):
        download(NAME, str(folder), overwrite=True)
    assert (folder / FILE).read_bytes() == good
    assert os.listdir(folder) == [FILE]


def test_a_file_the_server_does_not_have(server, folder):
    with pytest.raises(UserError, match=f"{FILE}: the server answered 404"):
        download(NAME, str(folder))
    assert os.listdir(folder) == []


def test_interrupting_leaves_nothing(server, folder):
    serve_data(server)

    def interrupt(received, expected):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(NAME, str(folder), progress=interrupt)
    assert os.listdir(folder) == []


def test_without_network_it_says_what_to_do(folder, monkeypatch):
    with socket.socket() as unused:  # a port that is certainly closed
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("M3PC_D4RL_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(UserError, match=r"cannot be reached .*; check the network, or put the file into") as caught:
        resolve.load(NAME, folder=str(folder))
    assert "\n" not in str(caught.value)
    assert os.listdir(folder) == []


def test_a_name_d4rl_does_not_have(folder):
    with pytest.raises(UserError, match="no D4RL data set that can be downloaded"):
        download("d4rl/octopus-medium-v2", str(folder))
