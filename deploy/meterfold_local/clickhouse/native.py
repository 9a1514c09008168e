"""The Native format of newer protocol revisions, which clickhouse-go asks for with `client_protocol_version`.

The engine writes Native of revision 0. Since revision 51903 a block starts with its info, and since 54454 a byte
between the type and the data of every column names the kind of serialization (0: the ordinary one). Putting that byte
in means finding where each column ends, so this module knows how many bytes every type takes.
"""

from __future__ import annotations

import re
from functools import lru_cache

from meterfold_local.clickhouse.errors import QueryError

CUSTOM_SERIALIZATION = 54454
"""From this revision on results are rewritten; older clients check whether a block has its info."""

_BLOCK_INFO = bytes((1, 0, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0))
"""is_overflows = false, bucket_num = -1, end."""
_ORDINARY = b"\0"

_WIDTHS = {
    **dict.fromkeys(("Int8", "UInt8", "Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("Int16", "UInt16", "Date", "Enum16", "BFloat16"), 2),
    **dict.fromkeys(("Int32", "UInt32", "Float32", "Date32", "DateTime", "Time", "IPv4", "Decimal32"), 4),
    **dict.fromkeys(("Int64", "UInt64", "Float64", "DateTime64", "Time64", "Decimal64"), 8),
    **dict.fromkeys(("Int128", "UInt128", "UUID", "IPv6", "Decimal128"), 16),
    **dict.fromkeys(("Int256", "UInt256", "Decimal256"), 32),
}
_GEOMETRY = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "MultiLineString": "Array(LineString)",
    "Polygon": "Array(Ring)",
    "MultiPolygon": "Array(Polygon)",
}
_ELEMENT_NAME = re.compile(r"\A(?:`(?:[^`\\]|\\.)*`|\w+)\s+(?=\S)")
_ADDITIONAL_KEYS = 1 << 9


def rewritten(blocks: bytes) -> bytes:
    """Blocks of revision 0 as a client of revision 54454 or newer reads them. QueryError (48) for a column whose size
    depends on its serialization (AggregateFunction, Variant, Dynamic, JSON)."""
    parts: list[bytes] = []
    reader = _Reader(blocks)
    while reader.at < len(blocks):
        start = reader.at
        columns, rows = reader.varint(), reader.varint()
        parts.append(_BLOCK_INFO)
        for _ in range(columns):
            reader.string()  # the column's name
            kind = reader.string().decode()
            parts += (blocks[start : reader.at], _ORDINARY)
            start = reader.at
            if rows:
                reader.skip_prefix(kind)
                reader.skip(kind, rows)
        parts.append(blocks[start : reader.at])
    return b"".join(parts)


class _Reader:
    """A position in blocks of revision 0."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def number(self, offset: int = 0) -> int:
        """The UInt64 here, or this many bytes later."""
        return int.from_bytes(self.data[self.at + offset : self.at + offset + 8], "little")

    def string(self) -> bytes:
        size = self.varint()
        self.at += size
        return self.data[self.at - size : self.at]

    def skip_prefix(self, kind: str) -> None:
        """What precedes the data of a whole column: the version of each LowCardinality in it."""
        name, arguments = parse_type(kind)
        if name == "LowCardinality":
            self.at += 8
        elif name in ("Array", "Map", "Nullable", "Tuple"):
            for argument in arguments:
                self.skip_prefix(argument)

    def skip(self, kind: str, rows: int) -> None:
        """The data of this many values."""
        name, arguments = parse_type(kind)
        if width := _width(name, arguments):
            self.at += width * rows
        elif name == "String":
            self._skip_strings(rows)
        elif name == "Nullable":
            self.at += rows
            self.skip(arguments[0], rows)
        elif name == "Array":
            self.skip(arguments[0], self._skip_offsets(rows))
        elif name == "Map":
            elements = self._skip_offsets(rows)
            for argument in arguments:
                self.skip(argument, elements)
        elif name == "Tuple":
            for argument in arguments:
                self.skip(argument, rows)
        elif name == "LowCardinality":
            self._skip_low_cardinality(arguments[0], rows)
        else:
            raise QueryError(
                48,
                f"This server can't write a column of type {kind} in the Native format of this client's protocol "
                "version; convert it with toString(), or ask for another format",
            )

    def _skip_strings(self, rows: int) -> None:
        data, at = self.data, self.at
        for _ in range(rows):
            size = data[at]
            at += 1
            if size >= 0x80:
                self.at = at - 1
                size = self.varint()
                at = self.at
            at += size
        self.at = at

    def _skip_offsets(self, rows: int) -> int:
        """Where each array ends, counted in elements; the last one is their number."""
        if rows == 0:
            return 0
        self.at += 8 * rows
        return self.number(-8)

    def _skip_low_cardinality(self, kind: str, rows: int) -> None:
        if rows == 0:
            return
        flags = self.number()
        self.at += 8
        if flags & _ADDITIONAL_KEYS:
            keys = self.number()
            self.at += 8
            name, arguments = parse_type(kind)
            self.skip(arguments[0] if name == "Nullable" else kind, keys)
        self.at += 8 + (rows << (flags & 0xFF))


def _width(name: str, arguments: tuple[str, ...]) -> int:
    """Bytes of a value of fixed size, 0 for any other type."""
    if name == "FixedString":
        return int(arguments[0])
    if name == "Decimal":
        precision = int(arguments[0])
        return next(width for limit, width in ((9, 4), (18, 8), (38, 16), (76, 32)) if precision <= limit)
    return 8 if name.startswith("Interval") else _WIDTHS.get(name, 0)


@lru_cache(maxsize=1024)
def parse_type(kind: str) -> tuple[str, tuple[str, ...]]:
    """Name and arguments of a type, element names taken off: `Tuple(a Int8)` is ("Tuple", ("Int8",)). Types that are
    another name for one are replaced by it."""
    kind = _GEOMETRY.get(kind, kind)
    name, _, rest = kind.partition("(")
    arguments = _split(rest[:-1]) if len(rest) > 1 and not name.startswith("Enum") else ()
    if name == "SimpleAggregateFunction":
        return parse_type(arguments[-1])
    if name in ("Tuple", "Nested"):
        arguments = tuple(_ELEMENT_NAME.sub("", argument) for argument in arguments)
    if name == "Nested":
        return "Array", (f"Tuple({', '.join(arguments)})",)
    return name, arguments


def _split(text: str) -> tuple[str, ...]:
    """At the commas outside parentheses and quotes."""
    parts = [""]
    depth = 0
    for piece in re.findall(r"`(?:[^`\\]|\\.)*`|'(?:[^'\\]|\\.)*'|.", text, re.DOTALL):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return tuple(part.strip() for part in parts)
