"""W3C Trace Context as Kafka headers: from a recorded event to the threshold event that it causes.

https://www.w3.org/TR/trace-context/, version 00. Headers are advice: they never decide whether an event counts, and a
value that is not valid is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["PARENT", "PARENT_SIZE", "STATE", "TraceContext", "traceparent"]

PARENT: Final = "traceparent"
STATE: Final = "tracestate"

PARENT_SIZE: Final = 55
_STATE_BYTES: Final = 512
_PARENT: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE: Final = re.compile(rb"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """`parent` is a valid traceparent; `state` is empty, or what tracing systems add to it."""

    parent: bytes
    state: bytes = b""

    @classmethod
    def of(cls, parent: bytes | None, state: bytes | None = None) -> Self | None:
        """None where `parent` is not a valid traceparent. A tracestate that is not valid is dropped."""
        if parent is None or not _PARENT.fullmatch(parent):
            return None
        keep = state is not None and len(state) <= _STATE_BYTES and _STATE.fullmatch(state)
        return cls(parent, state if keep and state else b"")

    @classmethod
    def read(cls, headers: Iterable[tuple[str, bytes | None]] | None) -> Self | None:
        """From the headers of a message; None where they have no valid traceparent."""
        found = dict(headers or ())
        return cls.of(found.get(PARENT), found.get(STATE))

    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]:
        return ((PARENT, self.parent), (STATE, self.state)) if self.state else ((PARENT, self.parent),)

    @property
    def trace_id(self) -> int:
        return int(self.parent[3:35], 16)

    @property
    def span_id(self) -> int:
        return int(self.parent[36:52], 16)

    @property
    def flags(self) -> int:
        return int(self.parent[53:], 16)


def traceparent(trace_id: int, span_id: int, flags: int) -> bytes:
    return b"00-%032x-%016x-%02x" % (trace_id, span_id, flags)
