"""Joins the blocks of a streamed result in the format ArrowStream.

The engine writes each block as a stream of its own: the schema, record batches, the end. A reader stops at the first
end, so only the first schema and the last end are sent. Dictionaries stay right: one that comes again replaces the
earlier one.
"""

from __future__ import annotations

from meterfold_local.clickhouse.errors import QueryError

END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_CONTINUES = b"\xff\xff\xff\xff"


class ArrowStreamJoiner:
    """Takes the blocks in order, `finish` after the last one."""

    def __init__(self) -> None:
        self._schema: bytes | None = None

    def join(self, block: bytes) -> bytes:
        """What is to be sent for the block. QueryError 1002 when its schema differs from the first one's."""
        start = _after_schema(block)
        if not block.endswith(END):
            raise QueryError(1002, "The engine wrote a block of ArrowStream without its end", "UNKNOWN_EXCEPTION")
        if self._schema is None:
            self._schema = block[:start]
            return block[: -len(END)]
        if block[:start] != self._schema:
            raise QueryError(1002, "The schema changed within a result in ArrowStream", "UNKNOWN_EXCEPTION")
        return block[start : -len(END)]

    def finish(self) -> bytes:
        """What ends the stream."""
        return END


def _after_schema(block: bytes) -> int:
    """Where the first message ends; a schema has no body behind its metadata."""
    if not block.startswith(_CONTINUES):
        raise QueryError(1002, "The engine wrote a block that is not an ArrowStream", "UNKNOWN_EXCEPTION")
    return 8 + int.from_bytes(block[4:8], "little")
