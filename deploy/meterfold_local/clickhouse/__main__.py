"""python -m meterfold_local.clickhouse: ClickHouse's engine behind HTTP, on loopback, as one process.

The password comes from METERFOLD_CLICKHOUSE_PASSWORD or from a file (--password-file), never from the command line.
Once it answers, it prints `ready http://HOST:PORT` and writes {"url", "host", "port", "pid"} to DATA/ready.json, which
is removed when it stops.
SIGTERM and SIGINT: running statements are cancelled, the engine is closed.

Exit status: 0 stopped as asked, 1 failed while running, 2 wrong arguments, 3 another process has the data folder,
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
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from meterfold_local.clickhouse.errors import StartError

PASSWORD_VARIABLE = "METERFOLD_CLICKHOUSE_PASSWORD"  # noqa: S105
EXIT_PASSWORD = 5
EXIT_DATA = 6
STOP_SECONDS = 4.0
"""After that the process ends with statements still running; what was acknowledged is on disk."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run until a signal; ends the process."""
    arguments = _parser().parse_args(argv)
    try:
        run(arguments)
        print("stopped", flush=True)  # noqa: T201
        _leave(0)
    except StartError as error:
        print(f"clickhouse: {error}", file=sys.stderr, flush=True)  # noqa: T201
        _leave(error.exit_status)
    except BaseException:
        traceback.print_exc()
        _leave(1)


def run(arguments: argparse.Namespace) -> None:
    """Everything after the arguments, until a signal; StartError when it can't start."""
    password = read_password(arguments.password_file)
    if arguments.host not in ("127.0.0.1", "::1", "localhost") and not arguments.any_host:
        raise StartError(2, f"{arguments.host} is not loopback; this server has no TLS (--any-host if you must)")
    # Blocked now and waited for at the end of the start; the engine's threads inherit that and never see them.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    # Imported late: argument errors should not wait for half a second of imports.
    from meterfold_local.clickhouse.folder import DataFolder

    with DataFolder(arguments.data) as folder:
        folder.enter()
        from meterfold_local.clickhouse.app import App
        from meterfold_local.clickhouse.auth import Account
        from meterfold_local.clickhouse.engine import Engine
        from meterfold_local.clickhouse.server import HttpServer

        try:
            engine = Engine()
        except RuntimeError as error:
            raise StartError(EXIT_DATA, f"the engine can't open {folder.path}: {error}") from None
        app = App(engine, Account(arguments.user, password))
        server = HttpServer(app, arguments.host, arguments.port)
        server.start()
        url = f"http://{arguments.host}:{server.port}"
        folder.announce({"url": url, "host": arguments.host, "port": server.port, "pid": os.getpid()})
        print(f"ready {url}", flush=True)  # noqa: T201
        signal.sigwait(signals)
        _end_anyway(STOP_SECONDS)
        engine.cancel_all()
        server.stop()
        app.close()
        engine.close()


def _leave(status: int) -> NoReturn:
    """End now: the interpreter's own way out would wait for the threads of the engine and of the server."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def read_password(file: Path | None) -> str:
    """From the file, else from the environment; StartError (5) without one."""
    if file is not None:
        try:
            password = file.read_text(encoding="utf-8").strip("\r\n")
        except OSError as error:
            raise StartError(EXIT_PASSWORD, f"can't read the password from {file}: {error}") from None
    else:
        password = _take_from_environment(PASSWORD_VARIABLE)
    if not password:
        raise StartError(EXIT_PASSWORD, f"no password: set {PASSWORD_VARIABLE} or give --password-file")
    return password


def _take_from_environment(name: str) -> str:
    """The variable's value, which is then gone, also from /proc/self/environ."""
    value = os.environ.get(name, "")
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    if address := libc.getenv(name.encode()):
        ctypes.memset(address, 0, len(os.fsencode(value)))
    os.environ.pop(name, None)
    return value


def _end_anyway(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, args=(0,))
    timer.daemon = True
    timer.start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m meterfold_local.clickhouse",
        description="ClickHouse's engine (chDB) behind an HTTP server, on loopback.",
    )
    parser.add_argument(
        "--data", "--data-dir", dest="data", type=Path, required=True, help="folder that keeps the data"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8123, help="port to listen on, 0 for a free one (default: 8123)")
    parser.add_argument("--user", default="default", help="name of the one user (default: default)")
    parser.add_argument("--password-file", type=Path, help=f"file with the password (default: ${PASSWORD_VARIABLE})")
    parser.add_argument("--any-host", action="store_true", help="allow an address that is not loopback")
    return parser


if __name__ == "__main__":
    main()
