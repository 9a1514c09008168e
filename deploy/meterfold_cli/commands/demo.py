"""`meterfold demo`: a million real events end to end, twice, with a worker killed, and every number proved."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer


def demo(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Where the demo keeps everything.")] = Path(
        ".meterfold/demo"
    ),
) -> None:
    """Meter every flight from New York in 2013 on a local stack, prove the numbers, do it again with a crash.

    Starts Kafka and ClickHouse, records 1,000,898 events through the SDK, shows the result, verifies it, and stops.
    It can be run again on the same folder. Exit code 0: everything was proved.
    """
    from meterfold_cli.demo.play import Play
    from meterfold_cli.logs import configure

    configure(as_json=False)
    Play(data.absolute(), threading.Event()).run()
