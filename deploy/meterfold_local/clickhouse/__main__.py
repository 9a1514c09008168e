"""python -m meterfold_local.clickhouse: ClickHouse's engine behind HTTP, on loopback, as one process.

The password comes from METERFOLD_CLICKHOUSE_PASSWORD, never from the command line. Once the server answers, it prints
`ready http://127.0.0.1:PORT`. SIGTERM and SIGINT cancel running statements and close the engine.

Exit status: 0 stopped by a signal, 1 failed while running, 2 wrong arguments, 3 another process uses the data folder,
4 the port is taken, 5 no password, 6 the data folder can't be used or the engine can't open it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

from meterfold_local.clickhouse.errors import StartError

HOST = "127.0.0.1"
PASSWORD_VARIABLE = "METERFOLD_CLICKHOUSE_PASSWORD"  # noqa: S105
EXIT_PASSWORD = 5
EXIT_DATA = 6
STOP_SECONDS = 4.0
"""After that the process ends with statements still running; what was acknowledged is on disk."""


def main() -> NoReturn:
    """Run until a signal; ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m meterfold_local.clickhouse",
        description="ClickHouse's engine (chDB) behind an HTTP server, on loopback.",
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that keeps the data")
    parser.add_argument("--port", type=int, default=8123, help="port to listen on, 0 for a free one (default: 8123)")
    parser.add_argument("--user", default="default", help="name of the one user (default: default)")
    arguments = parser.parse_args()
    try:
        run(arguments.data_dir, arguments.port, arguments.user)
        print("stopped", flush=True)  # noqa: T201
        _leave(0)
    except StartError as error:
        print(f"clickhouse: {error}", file=sys.stderr, flush=True)  # noqa: T201
        _leave(error.exit_status)
    except BaseException:
        traceback.print_exc()
        _leave(1)


def run(data: Path, port: int, user: str) -> None:
    """Serve until a signal. StartError when it can't start."""
    password = _take_from_environment(PASSWORD_VARIABLE)
    if not password:
        raise StartError(EXIT_PASSWORD, f"no password: set {PASSWORD_VARIABLE}")
    # Blocked here and waited for below; the engine's threads inherit that and never see them.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    # Imported late: argument errors should not wait for half a second of imports.
    from meterfold_local.clickhouse.folder import DataFolder

    with DataFolder(data) as folder:
        folder.enter()
        from meterfold_local.clickhouse.app import App
        from meterfold_local.clickhouse.auth import ServerUser
        from meterfold_local.clickhouse.engine import Engine
        from meterfold_local.clickhouse.server import HttpServer

        try:
            engine = Engine()
        except RuntimeError as error:
            raise StartError(EXIT_DATA, f"the engine can't open {folder.path}: {error}") from None
        app = App(engine, ServerUser(user, password))
        server = HttpServer(app, HOST, port)
        server.start()
        print(f"ready http://{HOST}:{server.port}", flush=True)  # noqa: T201
        signal.sigwait(signals)
        _end_after(STOP_SECONDS)
        engine.cancel_all()
        server.stop()
        app.close()
        engine.close()


def _leave(status: int) -> NoReturn:
    """End now: the interpreter's own way out would wait for the threads of the engine and of the server."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _take_from_environment(name: str) -> str:
    """The variable's value, which is then gone, also from /proc/self/environ."""
    value = os.environ.get(name, "")
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    if address := libc.getenv(name.encode()):
        ctypes.memset(address, 0, len(os.fsencode(value)))
    os.environ.pop(name, None)
    return value


def _end_after(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, args=(0,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    main()
