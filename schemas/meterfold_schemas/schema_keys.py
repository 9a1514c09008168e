"""What the header of an Avro value names its schema by: a fingerprint or a registry id.

- single-object encoding: c3 01 and a fingerprint of 8 bytes
- the Confluent wire format: 00 and the id of the schema in a Schema Registry, 4 bytes, big-endian

A key here is the 8 or the 4 bytes; its length says which one it is. As text it is 16 hexadecimal digits, or `id:42`.
"""

from __future__ import annotations

import re
from typing import Final

from meterfold_schemas.catalog import MAGIC

__all__ = [
    "CONFLUENT_HEADER_SIZE",
    "CONFLUENT_MAGIC",
    "header_of",
    "key_in",
    "key_of",
    "parsed",
    "registry_id",
    "shown",
]

#: The byte before the id in the Confluent wire format.
CONFLUENT_MAGIC: Final = b"\x00"
CONFLUENT_HEADER_SIZE: Final = 5

_ID_SIZE: Final = 4
_ID_TEXT: Final = re.compile(r"id:([0-9]{1,10})")
_FINGERPRINT_TEXT: Final = re.compile(r"[0-9a-f]{16}")


def header_of(key: bytes) -> bytes:
    """The bytes before every body: 10 for a fingerprint, 5 for a registry id."""
    return (CONFLUENT_MAGIC if len(key) == _ID_SIZE else MAGIC) + key


def key_of(number: int) -> bytes:
    """The key of a registry id. Raises OverflowError for a number beyond 32 bits."""
    return number.to_bytes(_ID_SIZE, "big")


def key_in(header: bytes, *, confluent: bool) -> bytes | None:
    """The key in the first 10 bytes of a value, or None for a value without one. `confluent`: whether a value that
    begins with 00 has the id of a registry."""
    if confluent and header.startswith(CONFLUENT_MAGIC):
        return header[1:CONFLUENT_HEADER_SIZE] if len(header) >= CONFLUENT_HEADER_SIZE else None
    return header[len(MAGIC) : 10] if header.startswith(MAGIC) and len(header) >= 10 else None


def registry_id(key: bytes) -> int | None:
    """The registry id of a key, or None for a fingerprint."""
    return int.from_bytes(key, "big") if len(key) == _ID_SIZE else None


def shown(key: bytes) -> str:
    """A key as text."""
    number = registry_id(key)
    return key.hex() if number is None else f"id:{number}"


def parsed(text: str) -> bytes:
    """The key of a text. Raises ValueError."""
    if match := _ID_TEXT.fullmatch(text):
        number = int(match[1])
        if number < 1 << 8 * _ID_SIZE:
            return key_of(number)
    elif _FINGERPRINT_TEXT.fullmatch(text):
        return bytes.fromhex(text)
    raise ValueError(f"{text!r} must be 16 hexadecimal digits, or id: and the number of a schema in a registry")
