"""`meterfold serve`: the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from meterfold_cli.commands.fold import JsonLinesOption, VerboseOption
from meterfold_cli.installation import ConfigOption, Installation


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0: a free one. [default: 8888]")] = None,
    config: ConfigOption = None,
    as_json: JsonLinesOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Serve the HTTP API.

    Applications send usage to it, and read it, with a token (`meterfold token create`). Any number of servers may run
    at the same time. SIGTERM or Ctrl-C stops the server after the requests that it is answering (exit code 0).

    Example: meterfold serve --host 0.0.0.0 --port 8888
    """
    from meterfold_cli.logs import configure
    from meterfold_cli.workers import Snapshot, run_worker
    from meterfold_processor.probes.server import serving
    from meterfold_processor.probes.settings import HealthSettings
    from meterfold_schemas.settings import load_settings
    from meterfold_service.http.server import HttpServer
    from meterfold_service.http.settings import HttpSettings
    from meterfold_service.http.traffic import ServerSubject
    from meterfold_service.metering import Metering

    configure(as_json=as_json, verbose=verbose)
    installation = Installation.read(config)
    settings = load_settings(HttpSettings, "http", sources=installation.sources, host=host, port=port)
    metering = Metering(
        kafka=installation.kafka(),
        clickhouse=installation.clickhouse(),
        sources=installation.sources,
        wait_seconds=settings.wait_seconds,
        call_seconds=settings.call_seconds,
    )
    server = HttpServer(settings, metering)
    health = load_settings(HealthSettings, "health", sources=installation.sources)
    with serving(health, ServerSubject(server.traffic)):
        run_worker(
            "serve",
            server.run,
            lambda: Snapshot(
                ready=server.ready,
                text=f"listening on {server.url}",
                values={"url": server.url},
                troubles=list(dict(server.traffic.errors).values()),
            ),
            as_json=as_json,
        )
