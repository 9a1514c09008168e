"""ClickHouse's compressed blocks, and the Native format of newer protocol revisions."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

import lz4.block
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_local.clickhouse import blocks, native
from meterfold_local.clickhouse.errors import QueryError

# Written by ch-go, the library of clickhouse-go, which has a CityHash128 of its own.
SHORT_LZ4 = base64.b64decode("3nnPCH+2NQSduBbfGVsBa4IMAAAAAgAAACAxCg==")
LONG_LZ4 = base64.b64decode(
    "NOsRlSBfN/Ux5Xo5gBisyYI4AQAALAEAAPD/HjxegbQMXsaOBKNAbJfWPPvcU66INxoSUSG1lWFDwO4tVftjjHf+4Lb1+Sdfryl+LJffVATzO9QG"
    "YgtYIc9oJZzL7gIH/810ZKv3u31qJea/opSJDWuQ8lbGRunwbm5aBam/cX/XSABZqRRLNz7FgJ2T+3pM/Ligc5ke8NMCMY8Ej3l0cQSu87yBzlmj"
    "90zHlZQjBpDWFAr1OVJLb8BUPRqxrIV8YgOzFd2mnHu0Pa5ZYp3BzPzMTtgZpgkSML5Oqtdq1GafD5dReh8AHOdjmYBOf/MWRsl9er/ecaswmiL+"
    "XE1BGDtg7MIowqOJWcljgz9hmatiuKCfxsf7zvJXjUAvb2KejkPzHcsc12gkwljCrWJh588Nr27cL1Wy+qnVg9RvgirCzt97Xb0lAQ=="
)
ZSTD = base64.b64decode(
    "/Gv133B1oGXgtjaQ3+Ork5BpAAAAVAEAACi1L/1EAFQAjQIAwoMKENBlAATxryFJKeX3vjUFoQSkMGeUbdu27f//VVVVkiRJhRiEYCtSmDOAMKgA"
    "vg6Q09IBEDoe1/e/RCEcMliIYFABFqgFrlFG+eWJcd8H7KArxw=="
)
PLAIN = base64.b64decode("5qFrT0JDRoz4YxO0jAk5BwIRAAAACAAAAFNFTEVDVCAx")


def pseudorandom(size: int) -> bytes:
    """The bytes that were compressed into LONG_LZ4."""
    content, state = bytearray(), 1
    for _ in range(size):
        state = (state * 1664525 + 1013904223) % (1 << 32)
        content.append(state >> 24)
    return bytes(content)


@pytest.mark.parametrize(
    ("block", "content"),
    [
        (SHORT_LZ4, b"1\n"),
        (LONG_LZ4, pseudorandom(300)),
        (ZSTD, b"".join(b"%d\trow\n" % n for n in range(50))),
        (PLAIN, b"SELECT 1"),
    ],
)
def test_blocks_of_another_implementation(block: bytes, content: bytes) -> None:
    assert b"".join(blocks.decoded([block])) == content
    assert b"".join(blocks.decoded([block * 3])) == content * 3


def test_a_short_result_is_byte_for_byte_what_another_implementation_writes() -> None:
    assert blocks.encoded(b"1\n") == SHORT_LZ4
    assert blocks.encoded(b"") == b""


def test_layout_of_a_block() -> None:
    """Read by hand, from ClickHouse's description of the format."""
    content = b"meterfold " * 150_000
    rest, found = blocks.encoded(content), []
    while rest:
        method, size, content_size = struct.unpack_from("<BII", rest, 16)
        assert method == 0x82
        assert blocks.checksum(rest[16 : 16 + size]) == rest[:16]
        found.append(lz4.block.decompress(rest[25 : 16 + size], uncompressed_size=content_size))
        rest = rest[16 + size :]
    assert [len(part) for part in found] == [1 << 20, len(content) - (1 << 20)]
    assert b"".join(found) == content


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=4), st.integers(1, 400))
def test_blocks_in_any_pieces(parts: list[bytes], size: int) -> None:
    body = b"".join(map(blocks.encoded, parts))

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    assert b"".join(blocks.decoded(pieces())) == b"".join(parts)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (LONG_LZ4[:-1], 271),
        (LONG_LZ4[:20], 271),
        (LONG_LZ4[:-1] + b"x", 40),
        (b"x" + LONG_LZ4[1:], 40),
        (b"INSERT INTO t VALUES (1), (2), (3)", 271),
    ],
)
def test_damaged_blocks(body: bytes, code: int) -> None:
    with pytest.raises(QueryError) as damaged:
        list(blocks.decoded([body]))
    assert damaged.value.code == code


def test_unknown_method() -> None:
    body = b"\x7f" + struct.pack("<II", 10, 1) + b"x"
    with pytest.raises(QueryError, match="0x7f") as unknown:
        list(blocks.decoded([blocks.checksum(body) + body]))
    assert unknown.value.code == 89


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        ("UInt8", "UInt8", ()),
        ("Decimal(38, 9)", "Decimal", ("38", "9")),
        ("Tuple(a Int8, `b, c` Map(String, DateTime('UTC')))", "Tuple", ("Int8", "Map(String, DateTime('UTC'))")),
        ("Tuple(Decimal(38, 9), Array(Tuple(a Int8)))", "Tuple", ("Decimal(38, 9)", "Array(Tuple(a Int8))")),
        ("Nested(a Int8, b String)", "Array", ("Tuple(Int8, String)",)),
        ("SimpleAggregateFunction(sum, Decimal(38, 9))", "Decimal", ("38", "9")),
        ("Enum8('a,(' = 1, 'b' = 2)", "Enum8", ()),
        ("Ring", "Array", ("Point",)),
    ],
)
def test_types(kind: str, name: str, arguments: tuple[str, ...]) -> None:
    assert native.parse_type(kind) == (name, arguments)
