"""What a broker has on its disk: the compression of each record batch, which is what consumers get."""

from __future__ import annotations

import struct
from pathlib import Path

from meterfold_local.stack import LocalStack

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

# Of a record batch (magic 2): base offset, length of what follows, leader epoch, magic, CRC, attributes.
_HEAD = struct.Struct(">qiibIh")
_BEFORE_LENGTH = 12
_CODEC, _CONTROL = 0b111, 0b10_0000


def stored_codecs(stack: LocalStack, topic: str) -> list[str]:
    """The codec of every batch of a topic (full name), markers of transactions left out."""
    found = []
    # By the folders of the brokers: a walk through all of them meets topics that a broker is deleting.
    for segment in sorted(stack.data_dir.glob(f"kafka/*/data/{topic}-*/*.log")):
        found += _of_segment(segment)
    return found


def _of_segment(path: Path) -> list[str]:
    data, at, found = path.read_bytes(), 0, []
    while at + _HEAD.size <= len(data):
        _, length, _, magic, _, attributes = _HEAD.unpack_from(data, at)
        if length <= 0:  # a file that was allocated ahead
            break
        assert magic == 2, f"{path}: a batch of version {magic} at {at}"
        if not attributes & _CONTROL:
            found.append(CODECS[attributes & _CODEC])
        at += _BEFORE_LENGTH + length
    return found
