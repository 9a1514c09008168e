"""Shell completion of values: metric keys."""

from __future__ import annotations

import typer

__all__ = ["complete_metric"]

_MOST = 1000


def complete_metric(context: typer.Context, incomplete: str) -> list[str]:
    """The keys of defined metrics that begin with what is typed; none where ClickHouse does not answer."""
    from meterfold_cli.commands.metric import metering
    from meterfold_schemas.errors import MeterfoldError

    try:
        with metering(context.params.get("config")) as service:
            return sorted({key for _, key in service.metrics.defined_keys() if key.startswith(incomplete)})[:_MOST]
    except MeterfoldError:
        return []
