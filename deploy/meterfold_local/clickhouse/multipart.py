"""multipart/form-data: form fields (query, param_*) and external tables, as clickhouse-connect and curl -F send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser

from meterfold_local.clickhouse.engine import quote_identifier
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.lexer import Kind, tokens


@dataclass(frozen=True, slots=True)
class Part:
    """One part: a plain field, or the rows of an external table when it has a file name."""

    name: str
    is_file: bool
    content: bytes


def is_multipart(content_type: str) -> bool:
    return content_type.lower().startswith("multipart/form-data")


def parse(content_type: str, body: bytes) -> list[Part]:
    """The parts of a body; QueryError (36) when it is not one."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if not boundary:
        raise QueryError(36, "multipart/form-data without a boundary")
    delimiter = b"\r\n--" + boundary.encode("latin-1")
    pieces = (b"\r\n" + body).split(delimiter)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise QueryError(36, "multipart/form-data ends without its last boundary")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    head, separator, content = piece.partition(b"\r\n\r\n")
    if not separator:
        raise QueryError(36, "a part of multipart/form-data has no empty line after its headers")
    headers = BytesParser().parsebytes(head.lstrip(b"\r\n") + b"\r\n\r\n", headersonly=True)
    name = headers.get_param("name", header="content-disposition")
    if not isinstance(name, str) or not name:
        raise QueryError(36, "a part of multipart/form-data has no name")
    return Part(name, headers.get_param("filename", header="content-disposition") is not None, content)


def structure(description: Mapping[str, str]) -> bytes:
    """The columns of an external table, from its `structure` or its `types` (columns _1, _2, ...)."""
    if text := description.get("structure"):
        return text.encode(errors="surrogateescape")
    if text := description.get("types"):
        types = split_types(text.encode(errors="surrogateescape"))
        return b", ".join(b"_%d %s" % (number, kind) for number, kind in enumerate(types, 1))
    raise QueryError(36, "an external table needs its _structure or its _types")


def split_types(text: bytes) -> list[bytes]:
    """Split at commas outside of parentheses: `UInt8, Decimal(38, 9)` are two."""
    depth = 0
    start = 0
    types = []
    for token in tokens(text):
        if token.kind is not Kind.OTHER:
            continue
        depth += {b"(": 1, b")": -1}.get(token.text, 0)
        if token.text == b"," and depth == 0:
            types.append(text[start : token.start].strip())
            start = token.end
    return [*types, text[start:].strip()]


def create_statement(name: str, description: Mapping[str, str]) -> bytes:
    """The temporary table that takes an external table's rows."""
    return b"CREATE TEMPORARY TABLE " + quote_identifier(name) + b" (" + structure(description) + b") ENGINE = Memory"
