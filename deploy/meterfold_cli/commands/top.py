"""`meterfold top`: a live screen, until Ctrl-C."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from meterfold_cli import console, exits
from meterfold_cli.exits import WrongInput
from meterfold_cli.installation import ConfigOption, Installation, JsonOption

if TYPE_CHECKING:
    from meterfold_cli.top.looks import Frame, Looks

_DRAW_SECONDS: Final = 0.25
_OVERDUE_SECONDS: Final = 3.0
_END_SECONDS: Final = 1.0
_HEAD_ROWS: Final = 16
"""Lines of the screen beside the rows of its tables."""


def top(
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.2, max=3600, help="Time between two looks.")
    ] = 2.0,
    rows: Annotated[
        int | None,
        typer.Option(min=1, max=200, help="Show at most this many rows of a table. [default: what fits the terminal]"),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print one frame, with the rates of one interval, and exit.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show event rates, lag, the busiest subjects and the thresholds near their limit, until Ctrl-C.

    A server that does not answer is shown as such, and the screen continues when it answers again. Rates are averages
    over about 10 seconds. Without a terminal, one frame is printed.

    Example: meterfold top --interval 5
    """
    from meterfold_cli.logs import configure
    from meterfold_cli.top.looks import Looks
    from meterfold_service import Metering
    from meterfold_service.status.look import Inspector

    configure(as_json=as_json)
    live = console.out().is_terminal and not once and not as_json
    installation = Installation.read(config)
    with (
        Inspector(installation.sources, installation.kafka(), installation.clickhouse()) as inspector,
        Metering(sources=installation.sources) as service,
    ):
        shown = rows or (_fitting() if live else 10)
        looks = Looks(inspector, service, shown)
        if live:
            _live(looks, interval, shown)
        else:
            _once(looks, interval, shown, as_json=as_json)


def _once(looks: Looks, interval: float, rows: int, *, as_json: bool) -> None:
    from meterfold_cli.top.screen import drawn

    looks.look()
    time.sleep(interval)
    frame = looks.look()
    if as_json:
        console.emit(frame)
    else:
        out = console.out()
        out.print(drawn(frame, datetime.now(UTC), rows=rows, width=out.width), soft_wrap=False)
    for server in frame.report.silent:
        console.fail(server)
    if frame.report.silent:
        raise typer.Exit(exits.UNAVAILABLE)


def _live(looks: Looks, interval: float, rows: int) -> None:
    """Looks in a thread of its own: the screen and Ctrl-C do not wait for a server that does not answer."""
    from rich.live import Live

    from meterfold_cli.signals import ShutdownSignals
    from meterfold_cli.top.screen import drawn, waiting

    frames: queue.SimpleQueue[Frame | BaseException] = queue.SimpleQueue()
    with ShutdownSignals() as signals:
        thread = threading.Thread(
            target=_look_on, args=(looks, interval, frames, signals.event), name="meterfold-top", daemon=True
        )
        thread.start()
        frame: Frame | None = None
        begun = last = time.monotonic()
        with Live(console=console.out(), screen=True, auto_refresh=False) as screen:
            while not signals.event.is_set():
                while not frames.empty():
                    found = frames.get()
                    if isinstance(found, BaseException):
                        raise found
                    frame, last = found, time.monotonic()
                quiet = time.monotonic() - last - interval
                if frame is None:
                    screen.update(waiting(time.monotonic() - begun), refresh=True)
                else:
                    overdue = quiet if quiet > _OVERDUE_SECONDS else 0.0
                    now, width = datetime.now(UTC), screen.console.width
                    picture = drawn(frame, now, rows=rows, width=width, overdue_seconds=overdue)
                    screen.update(picture, refresh=True)
                signals.event.wait(_DRAW_SECONDS)
        thread.join(_END_SECONDS)
        if thread.is_alive():
            # It waits for a server that does not answer, up to 10 s; at a normal end Python would wait for it.
            sys.stdout.flush()
            os._exit(exits.OK)


def _look_on(
    looks: Looks, interval: float, frames: queue.SimpleQueue[Frame | BaseException], stop: threading.Event
) -> None:
    try:
        while not stop.is_set():
            frames.put(looks.look())
            stop.wait(interval)
    except BaseException as error:  # the main thread raises it
        frames.put(error)


def _fitting() -> int:
    """Rows of each of the two tables that fit on the terminal."""
    height = console.out().size.height
    if height < _HEAD_ROWS:
        raise WrongInput(f"the terminal has {height} lines; `meterfold top` needs {_HEAD_ROWS} or --rows")
    return max(1, (height - _HEAD_ROWS) // 2)
