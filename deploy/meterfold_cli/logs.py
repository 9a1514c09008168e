"""Logging of the commands: rich on a terminal, plain lines elsewhere, JSON lines with --json; always standard error."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from typing import Final

from meterfold_cli.console import err

_LIBRDKAFKA: Final = ("meterfold.kafka", "meterfold.librdkafka")


class JsonLines(logging.Formatter):
    """One object per record: time, level, logger, message, and the trace if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1]:
            entry["trace"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(entry, ensure_ascii=False)


def configure(*, as_json: bool = False, verbose: bool = False) -> None:
    """Send Meterfold's log to standard error: warnings and worse of others, INFO of our own (DEBUG if verbose)."""
    console = err()
    handler: logging.Handler
    if as_json:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
    elif console.is_terminal:
        from rich.logging import RichHandler

        handler = RichHandler(console=console, show_path=False, markup=False, highlighter=None, log_time_format="%X")
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("meterfold").setLevel(logging.DEBUG if verbose else logging.INFO)
    if verbose:
        for name in _LIBRDKAFKA:
            logging.getLogger(name).setLevel(logging.DEBUG)
    else:
        quiet()


def quiet() -> None:
    """Without librdkafka's own lines: it repeats every lost connection, several hundred times a minute; commands and
    workers say in their own words what they do about it."""
    for name in _LIBRDKAFKA:
        logging.getLogger(name).setLevel(logging.CRITICAL)
