"""The ClickHouse server as a process: how it starts, what it refuses to start with, how it stops."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from support.clickhouse_server import PASSWORD, USER, Server, launch


def end_of(folder: Path, log: Path, *arguments: str, password: str | None = PASSWORD) -> tuple[int, str]:
    """Exit status and output of a server that is expected to end by itself."""
    process = launch(folder, log, *arguments, password=password)
    try:
        status = process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(60)
    return status, log.read_text()


def test_ready_line_says_where(tmp_path: Path) -> None:
    server = Server(tmp_path / "new" / "server")
    server.folder.parent.mkdir()
    with server:
        assert f"ready {server.url}\n" in server.log.read_text()
        assert server.query("SELECT 1").body == b"1\n"
        assert server.stop() == 0
    assert server.log.read_text().endswith("stopped\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_at_once_while_statements_run(tmp_path: Path, number: signal.Signals) -> None:
    server = Server(tmp_path / "server")
    with server:
        idle = http.client.HTTPConnection("127.0.0.1", server.port)
        idle.request("GET", "/ping")
        idle.getresponse().read()
        broken: list[str] = []

        def endless() -> None:
            try:
                broken.append(server.query("SELECT count() FROM system.numbers").text)
            except (OSError, http.client.HTTPException) as error:
                broken.append(repr(error))

        thread = threading.Thread(target=endless)
        thread.start()
        deadline = time.monotonic() + 60
        while server.rows("SELECT count() FROM system.processes") != [["2"]]:
            assert time.monotonic() < deadline
        assert server.stop(number) == 0  # though the statement would never end
        thread.join(60)
        assert len(broken) == 1
        idle.close()


def test_second_server_on_a_folder_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path / "server") as server:
        status, output = end_of(server.folder, tmp_path / "second.log", "--port", "0")
        assert status == 3
        assert f"another server (process {server.pid}) runs on {server.folder}" in output
        assert server.query("SELECT 1").body == b"1\n"


def test_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, output = end_of(tmp_path / "server", tmp_path / "log", "--port", str(taken.getsockname()[1]))
    assert status == 4
    assert "choose another port" in output


def test_no_password(tmp_path: Path) -> None:
    status, output = end_of(tmp_path / "server", tmp_path / "log", "--port", "0", password=None)
    assert status == 5
    assert "METERFOLD_CLICKHOUSE_PASSWORD" in output


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "pattern-*", "alternatives-{a,b}", "archive.zip::x"):
        status, output = end_of(tmp_path / name, tmp_path / "log", "--port", "0")
        assert status == 6, output
    assert "can't use" in output


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_password_is_gone_from_the_process_environment(tmp_path: Path) -> None:
    with Server(tmp_path / "server") as server:
        proc = Path("/proc", str(server.pid))
        assert PASSWORD.encode() not in (proc / "environ").read_bytes()
        assert PASSWORD.encode() not in (proc / "cmdline").read_bytes()
        assert os.getpgid(server.pid) == server.pid


def test_callers_own_config_is_not_the_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine takes ./config.xml for its own wherever it is started."""
    (tmp_path / "config.xml").write_text("<clickhouse><users_config>nowhere.xml</users_config></clickhouse>")
    monkeypatch.chdir(tmp_path)
    with Server(tmp_path / "server") as server:
        assert server.query("SELECT 1").body == b"1\n"


def test_user_is_the_one_that_was_named(tmp_path: Path) -> None:
    with Server(tmp_path / "server") as server:
        right = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD.encode().decode("latin-1")}
        wrong = {**right, "X-ClickHouse-User": "default"}
        assert server.request(body=b"SELECT 1", headers=right, authenticated=False).status == 200
        assert server.request(body=b"SELECT 1", headers=wrong, authenticated=False).status == 401
