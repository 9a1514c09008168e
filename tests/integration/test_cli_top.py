"""`meterfold top` on the real stack: one frame, and the live screen while ClickHouse goes away and returns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from meterfold_cli.local_run import command
from meterfold_local.stack_settings import write_settings
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from support import eventually
from support.checker.installation import Installation, running
from support.cli import answer, inside


@pytest.fixture
def there(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    installation = Installation(kafka_settings, clickhouse_settings)
    yield installation
    installation.close()


@contextmanager
def forwarding(port: int, url: str) -> Iterator[None]:
    """Passes connections to a port of loopback on to a server, until the block ends; then they are reset."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    target = (parts.hostname, parts.port)
    open_sockets: list[socket.socket] = []

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.close()

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(target)
                open_sockets.extend((client, server))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    listener = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        for one in (listener, *open_sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Terminal:
    """A process on a pseudo terminal, and everything that it has drawn."""

    def __init__(self, words: list[str], env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        # With a terminal of its own, so that Ctrl-C is a signal.
        self.process = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.text = ""

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def shows(self, words: str, deadline: float = 60) -> None:
        """Wait until it draws these words from now on."""
        start = len(self.text)
        until = time.monotonic() + deadline
        while words not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.text[start:]):
            assert time.monotonic() < until, f"{words!r} is not shown:\n{self.text[-3000:]}"
            self._read(0.2)

    def end(self, deadline: float = 30) -> int:
        until = time.monotonic() + deadline
        while self.process.poll() is None and time.monotonic() < until:
            self._read(0.1)
        code = self.process.poll()
        assert code is not None, "it does not end"
        self._read(0.1)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self._master)

    def _read(self, seconds: float) -> None:
        if select.select([self._master], [], [], seconds)[0]:
            with suppress(OSError):
                self.text += os.read(self._master, 65_536).decode("utf-8", "replace")


def test_top_shows_what_happens_and_recovers_with_its_servers(
    there: Installation, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    there.define_metric()
    there.define_threshold()
    env = {**stack_environment, "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "40", "LANG": "C.UTF-8"}
    with running(there, mirror=True) as checker:
        checker.ready(2)
        there.use_many([("u1", 130), ("u2", 85), ("u2", 0)])

        def frame() -> dict[str, object]:
            found: dict[str, object] = answer("top", "--once", "--interval", "0.2", "--rows", "5", env=env)
            assert found["pending_alerts"] == 3, found
            assert len(found["near"]) == 2, found  # type: ignore[arg-type]
            return found

        found = eventually(frame, 40, "alerts and thresholds are shown")
        assert [(one["name"], one["window"]["subject_id"], one["window"]["level"]) for one in found["near"]] == [  # type: ignore[attr-defined]
            ("cap", "u1", "exceeded"),
            ("cap", "u2", "approaching"),
        ]
        assert [(one["subject_id"], one["records"], one["quantity"]) for one in found["subjects"]] == [  # type: ignore[attr-defined]
            ("u2", 2, "85"),
            ("u1", 1, "130"),
        ]
        assert found["rates"] == {"recorded": 0.0, "folded": 0.0}
        shown = inside("top", "--once", "--interval", "0.2", env=env)
        assert shown.returncode == 0, shown.stderr
        assert "130 %     130     100   cap         api.calls   user:u1 of acme" in shown.stdout

        words = {"COMP_WORDS": "meterfold usage summary api", "COMP_CWORD": "3", "_METERFOLD_COMPLETE": "complete_bash"}
        assert inside(env={**env, **words}).stdout.split() == ["api.calls"], "a shell does not complete the key"

        # On a terminal, with a ClickHouse that is not there at first
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        away = there.clickhouse.model_copy(update={"url": f"http://127.0.0.1:{port}"})
        config = tmp_path / "away.toml"
        write_settings(config, there.kafka, away)
        down = inside("top", "--once", "--interval", "0.2", "--config", config, env=env)
        assert (down.returncode, "ClickHouse does not answer" in down.stdout) == (3, True)
        first, *rest = command("top")
        terminal = Terminal([first, *rest, "--interval", "0.3", "--config", str(config)], env)
        try:
            terminal.shows("ClickHouse does not answer")
            for _ in range(2):
                with forwarding(port, there.clickhouse.url):
                    terminal.shows("user:u1 of acme")
                terminal.shows("ClickHouse does not answer")
            terminal.press(b"\x03")
            assert terminal.end() == 0
            assert "Traceback" not in terminal.text
            last = terminal.text[-200:]
            assert "\x1b[?25h" in last, "the cursor is not shown again"
            assert "\x1b[?1049l" in last, "the screen from before is not restored"
        finally:
            terminal.close()
