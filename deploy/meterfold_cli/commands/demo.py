"""`meterfold demo`: meter a million real events twice, kill a worker, and verify every number."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer


def demo(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the demo.")] = Path(".meterfold/demo"),
) -> None:
    """Meter every flight that left New York in 2013, verify the numbers, then do it again while a worker is killed.

    Starts a local stack, records 1,000,898 events through the SDK, shows and verifies the result, and stops. It can be
    repeated on the same folder. Exit code 0: everything was proven.

    Example: meterfold demo
    """
    from meterfold_cli.demo.play import Play
    from meterfold_cli.logs import configure

    configure(as_json=False)
    Play(data.absolute(), threading.Event()).run()
