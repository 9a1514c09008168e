"""Rejected messages: by reason, what can be read beside the bytes, and sending one again with a correction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.usage_fields import NAMES
from meterfold_schemas.zones import zone_of
from meterfold_service.access.principal import Scope
from meterfold_service.console import fields
from meterfold_service.console.visit import Visit, page
from meterfold_service.rejected.corrections import AS_RECEIVED, Correction
from meterfold_service.rejected.results import Position, RedriveReport

__all__ = ["ROUTES", "ShownBytes", "bytes_shown"]

_LIMIT: Final = 50
_BYTES: Final = 4096
_IN_LINE: Final = 16
_POSITION: Final = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)
_SEND_SECONDS: Final = 10.0


async def rejected(visit: Visit) -> Response:
    offset = fields.number(visit.query, "offset", 0)
    reason = fields.text(visit.query, "reason")
    counts = await visit.run(visit.may.rejected.count)
    found = await visit.run(visit.may.rejected.list, reason=reason, limit=_LIMIT, offset=offset)
    return visit.render("rejected.html", found=found, counts=counts, reason=reason, offset=offset, limit=_LIMIT)


async def one(visit: Visit) -> Response:
    return await _shown(visit, _position(visit.query.get("at", "")))


async def send(visit: Visit) -> Response:
    """Tries first; sends what was tried."""
    position = _position(visit.form.get("at", ""))
    try:
        correction = _correction(visit.form)
        dry_run = visit.form.get("step") != "send"
        report = await visit.run(
            visit.may.rejected.redrive,
            {position: correction},
            note=visit.form.get("note", ""),
            dry_run=dry_run,
            wait_seconds=0.0 if dry_run else _SEND_SECONDS,
        )
    except InvalidUsage as error:
        return await _shown(visit, position, problem=error)
    if report.refused:
        return await _shown(visit, position, problem=report.refused[0].why)
    if dry_run:
        return await _shown(visit, position, report=report)
    return visit.go("/rejected/one", at=position, done="sent")


async def _shown(
    visit: Visit, position: Position, *, problem: object = None, report: RedriveReport | None = None
) -> Response:
    found = await visit.run(visit.may.rejected.get, position)
    may_send = visit.principal.may(Scope.MANAGE)
    return visit.render(
        "rejected_one.html",
        422 if problem else 200,
        one=found,
        key=bytes_shown(found.key),
        value=bytes_shown(found.value),
        names=NAMES,
        form=visit.form,
        problem=problem,
        report=report,
        manages=may_send,
    )


class ShownBytes(NamedTuple):
    """`is_dump`: lines of offset, bytes and printable characters, which are not wrapped."""

    text: str
    is_dump: bool


def bytes_shown(data: bytes) -> ShownBytes:
    """Text where it is text, else a dump. The first 4 KiB."""
    more = f"\n… {len(data) - _BYTES:,} more" if len(data) > _BYTES else ""
    data = data[:_BYTES]
    try:
        text = data.decode()
        if all(character.isprintable() or character in "\n\t" for character in text):
            return ShownBytes(text + more, is_dump=False)
    except UnicodeDecodeError:
        pass
    lines = []
    for start in range(0, len(data), _IN_LINE):
        part = data[start : start + _IN_LINE]
        plain = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:05x}  {part.hex(' '):<{3 * _IN_LINE - 1}}  {plain}")
    return ShownBytes("\n".join(lines) + more, is_dump=True)


def _position(text: str) -> Position:
    found = _POSITION.fullmatch(text)
    if found is None:
        raise InvalidUsage(f"{shown(text)} must be a partition and an offset, such as 3:1042")
    return Position(int(found[1]), int(found[2]))


def _correction(form: Mapping[str, str]) -> Correction:
    """The fields that were typed."""
    values: dict[str, Any] = {}
    for name in NAMES:
        if (text := fields.text(form, f"set_{name}")) is None:
            continue
        if name == "timestamp" and text != AS_RECEIVED:
            values[name] = fields.moment(form, f"set_{name}", zone_of(None))
        else:
            values[name] = text
    return Correction(values)


ROUTES = (
    page("/rejected", rejected),
    page("/rejected/one", one),
    page("/rejected/one", send, method="POST"),
)
