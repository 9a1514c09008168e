"""What is said about rejected messages: whose they are, and what exactly is wrong with a key or a partition.

Both are functions of the message alone, so a message that is rejected again after a crash leaves the same row. Keys are
taken one by one: they may hold any bytes, and each rejected message is published separately anyway.
"""

from __future__ import annotations

import polars as pl

from meterfold_processor.fold.subjects import SUBJECT, subject_keys
from meterfold_processor.kafka.murmur import partitions_of
from meterfold_schemas.keys import parse_subject_key
from meterfold_schemas.usage_rules import MAX_TEXT_BYTES

_SHOWN = 200

_SPELLING = (
    "A key is a JSON array without spaces, in UTF-8, in which only quotation marks, backslashes and control characters "
    "are escaped (\\u00xx in lower case)"
)
_PARTITIONER = "In librdkafka clients set partitioner=murmur2_random; elsewhere use Kafka's default partitioner"


def misrouted_details(events: pl.DataFrame, partition_count: int) -> pl.Series:
    """What is wrong with each misrouted event (columns `key`, `partition` and the subject): the key is not the event's
    subject key, or the partition is not that of the key; what was expected, what was found, and the remedy."""
    expected = subject_keys(events)
    partitions = partitions_of(expected, partition_count).tolist()
    rows = zip(events["key"], expected, events["partition"], partitions, strict=True)
    return pl.Series("detail", [_misrouted(*row) for row in rows], dtype=pl.String)


def with_subject(rejected: pl.DataFrame) -> pl.DataFrame:
    """The subject of each rejected message: from its body where that was decoded, else from its key where that is a
    subject key, else empty. A part of more than 512 bytes stays empty too."""
    if rejected.is_empty():
        return rejected
    unread = rejected["subject_id"].is_null()
    if unread.any():
        of_keys = _subjects_of(rejected.filter(unread)["key"])
        rejected = pl.concat(
            [rejected.filter(~unread), rejected.filter(unread).with_columns(*of_keys.get_columns())]
        ).sort("offset")
    parts = [pl.col(name).fill_null("") for name in SUBJECT]
    return rejected.with_columns(
        pl.when(part.str.len_bytes() <= MAX_TEXT_BYTES).then(part).otherwise(pl.lit("")) for part in parts
    )


def _misrouted(key: bytes | None, expected_key: bytes, found: int, expected: int) -> str:
    if key == expected_key:
        return (
            f"the key {_text(key)} is right, the partition is not: expected partition {expected} (murmur2 of the key), "
            f"found on partition {found}. {_PARTITIONER}"
        )
    what = "the message has no key" if key is None else f"the key {_text(key)} is not the event's subject key"
    return (
        f"{what}; expected {_text(expected_key)}, which belongs to partition {expected}; the message is on partition "
        f"{found}. {_SPELLING}"
    )


def _subjects_of(keys: pl.Series) -> pl.DataFrame:
    """The four columns that each key names, null where it is not a subject key."""
    known: dict[bytes | None, tuple[str | None, ...]] = {key: _parsed(key) for key in keys.unique()}
    schema = dict.fromkeys(SUBJECT, pl.String)
    return pl.DataFrame([known[key] for key in keys], schema=schema, orient="row")


def _parsed(key: bytes | None) -> tuple[str | None, ...]:
    try:
        return parse_subject_key(key or b"")
    except ValueError:
        return (None,) * len(SUBJECT)


def _text(key: bytes) -> str:
    """A key as a person reads it: text where it is text, else hexadecimal; cut where it is long."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = key.hex()
    return text[:_SHOWN] or '""'
