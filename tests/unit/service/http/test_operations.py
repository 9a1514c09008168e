"""Every public operation of `Metering` has a route, or a reason why it has none."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property
from inspect import isroutine
from pathlib import Path

import meterfold_service.http as http
from meterfold_service import Metering

NO_ROUTE = {
    "aggregate": "the same as periods.close",
    "close": "of the process",
    "ping": "of the process; /readyz shows it",
    "reach": "of the process; /readyz shows it",
    "backups.check": "reads the disks of ClickHouse as its administrator",
    "backups.create": "writes to the disks of ClickHouse as its administrator",
    "backups.list": "of the same administrator",
    "backups.restore": "replaces the database that the server itself reads",
    "events.check": "asked before a body is read",
    "events.close": "of the process",
    "events.refresh": "of the process",
    "limits.close": "of the process",
    "limits.follow": "of the process",
    "metrics.defined_keys": "a part of metrics.list",
    "metrics.definitions": "metrics.list without a look at usage",
    "notifications.endpoints": "page_of_endpoints, page by page",
    "notifications.tries": "page_of_tries, page by page",
    "proofs.list": "page, page by page",
    "settings.change": "needs stopped workers, and changes topics and tables as their administrator",
    "status.close": "of the process",
    "tokens.digests_of": "a part of the authentication",
    "tokens.find": "a part of the authentication",
    "tokens.key": "a secret",
    "tokens.note_uses": "a part of the authentication",
    "usage.export": "writes a file where it is called; usage.stream is the same over HTTP",
    "usage.export_days": "writes files where it is called",
}


def operations() -> Iterator[str]:
    """Such as usage.get: what a host of `Metering` can call."""
    with Metering() as metering:
        for name, value in vars(Metering).items():
            if name.startswith("_"):
                continue
            if isinstance(value, property | cached_property):
                room = type(getattr(metering, name))
                for operation in dir(room):
                    if not operation.startswith("_") and isroutine(getattr(room, operation)):
                        yield f"{name}.{operation}"
            else:
                yield name


def called() -> Iterator[str]:
    """What the routes call: each `caller.may.usage.get` in their source."""
    for place in Path(http.__path__[0]).glob("routes/*.py"):
        for node in ast.walk(ast.parse(place.read_text(encoding="utf-8"))):
            match node:
                case ast.Attribute(
                    value=ast.Attribute(value=ast.Attribute(value=ast.Name(id="caller"), attr="may"), attr=room),
                    attr=operation,
                ):
                    yield f"{room}.{operation}"


def test_every_operation_has_a_route_or_a_reason() -> None:
    public, routed = set(operations()), set(called())
    assert len(public) > 60
    assert public - routed - NO_ROUTE.keys() == set(), "add a route, or a reason"
    assert NO_ROUTE.keys() - public == set(), "these do not exist any more"
    assert NO_ROUTE.keys() & routed == set(), "these have a route"
