"""Every stored row against its own message in the log, as far as the log reaches back.

The recount proves windows from records; this proves the records themselves: each column against the message, the
decision (counted or duplicate, rejected and why) against the fold's own rules, the counts of each organization, and
that there is no row of an offset without a message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl
from confluent_kafka import Message

from meterfold_processor.fold.batch import judge
from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.duplicates import identity_hash
from meterfold_processor.fold.messages import Consumed, columns
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.schemas import Schemas
from meterfold_processor.fold.subjects import SUBJECT, Subjects
from meterfold_processor.garbage import PausedGC
from meterfold_processor.verify.log import Log, by_partition
from meterfold_processor.verify.orgs import OrgTally
from meterfold_processor.verify.report import Finding, Findings
from meterfold_schemas import usage_fields
from meterfold_sink.client import Client
from meterfold_sink.positions import KINDS, Span, slices, stored_rows
from meterfold_sink.read_ahead import read_ahead

__all__ = ["Contents", "differences"]

_TOGETHER: Final = 100_000
#: Offsets whose rows are read at once; behind the last message there may be any number.
_SLICE: Final = 2_000_000
_IDENTITY: Final = ("org_id", "metric_key", "subject_type", "subject_id", "id", "quantity", "timestamp", "received_at")
_COLUMNS: Final = {
    "usage_records": (*usage_fields.NAMES, "received_at", "identity_hash"),
    "usage_duplicates": _IDENTITY,
    "usage_rejected": ("received_at", *SUBJECT, "key", "value", "reason"),
}
_ACCEPTED: Final = "counted or a duplicate"


@dataclass(frozen=True, slots=True)
class _Piece:
    """Offsets of some partitions: the messages there, no entry where a partition has none, and the rows by table."""

    spans: Sequence[Span]
    messages: Mapping[int, Consumed]
    rows: Mapping[str, pl.DataFrame]


class Contents:
    """A few partitions together. `schemas`: how each fingerprint is read, or that it is poison. `orgs` and `compared`
    (rows that were compared with their messages) are by partition."""

    def __init__(
        self,
        client: Client,
        log: Log,
        rules: Rules,
        schemas: Schemas,
        findings: Findings,
        tell: Callable[[str], None],
    ) -> None:
        self._client, self._log = client, log
        self._rules, self._schemas = rules, schemas
        self._findings, self._tell = findings, tell
        self.orgs: dict[int, OrgTally] = {}
        self.compared: Counter[int] = Counter()

    def compare(self, spans: Sequence[Span]) -> None:
        """Rows of offsets that the log still holds, at most one span of each partition. Raises Retryable or Fatal."""
        self.orgs = {span.partition: OrgTally() for span in spans}
        subjects = {span.partition: Subjects(span.partition, self._rules.partition_count) for span in spans}
        with PausedGC() as garbage, closing(read_ahead(self._pieces(spans))) as pieces:
            for piece in pieces:
                for span in piece.spans:
                    self._tell(f"comparing rows of offsets {span.first:,} to {span.until - 1:,} with the log")
                logs = {p: self._judged(few, subjects[p]) for p, few in piece.messages.items()}
                self._compare(logs, piece.rows)
                garbage.collect()
        for partition, orgs in self.orgs.items():
            self._findings.extend(orgs.differences(partition))

    def _pieces(self, spans: Sequence[Span]) -> Generator[_Piece, None, None]:
        """In order. They are read ahead on another thread, so nothing else uses the log or the client meanwhile."""
        left = {span.partition: span for span in spans}
        for messages, is_last in _together(self._log.read(spans)):
            found = by_partition(messages)
            if is_last:
                now = [span for span in left.values() if span.first < span.until]
            else:
                now = [Span(p, left[p].first, (few[-1].offset() or 0) + 1) for p, few in found.items()]
            left.update((span.partition, Span(span.partition, span.until, left[span.partition].until)) for span in now)
            for together in slices(now, _SLICE):
                within = {span.partition: _within(found.get(span.partition, []), span) for span in together}
                yield _Piece(
                    together,
                    {partition: columns(few) for partition, few in within.items() if few},
                    {table: self._rows(table, together) for table in _COLUMNS},
                )

    def _rows(self, table: str, spans: Sequence[Span]) -> pl.DataFrame:
        rows = pl.DataFrame(stored_rows(self._client, table, ("partition", "offset", *_COLUMNS[table]), spans))
        if "reason" in rows.columns:
            # The whole table comes as bytes, since keys and values may be anything.
            rows = rows.with_columns(pl.col("reason").cast(pl.String, strict=False))
        return rows

    def _compare(self, logs: Mapping[int, pl.DataFrame], rows: Mapping[str, pl.DataFrame]) -> None:
        for partition, log in logs.items():
            self.orgs[partition].add_log(log["key"])
        for table, all_rows in rows.items():
            for partition in all_rows["partition"].unique().sort().to_list():
                own = all_rows.filter(pl.col("partition") == partition).drop("partition")
                self._compare_table(table, partition, logs.get(partition), own)

    def _compare_table(self, table: str, partition: int, log: pl.DataFrame | None, rows: pl.DataFrame) -> None:
        self.compared[partition] += rows.height
        self.orgs[partition].add_rows(table, rows)
        invented = rows if log is None else rows.join(log, on="offset", how="anti")
        for offset in invented["offset"].sort().to_list():
            self._findings.add(_invented(table, partition, offset))
        if log is not None:
            said = log.with_columns(pl.col(SUBJECT).cast(pl.Binary)) if table == KINDS["rejected"] else log
            self._findings.extend(differences(table, partition, said, rows))

    def _judged(self, consumed: Consumed, subjects: Subjects) -> pl.DataFrame:
        """The messages with the decision about each: `decision`, null if it is not rejected."""
        schemas = self._schemas
        decoded = decode(consumed, schemas)
        while decoded.holds:
            # The fold is beyond them, so they were decided, and the decision is gone: they cannot be read here.
            poison = schemas.poison | {hold.fingerprint for hold in decoded.holds}
            schemas = replace(schemas, poison=poison)
            decoded = decode(consumed, schemas)
        frame = decoded.frame
        judged = judge(frame, subjects, self._rules, lambda: None)
        rejected = judged.rejected.select("offset", pl.col("reason").alias("decision"), *SUBJECT)
        hashes = judged.accepted.select("offset", identity_hash=identity_hash())
        # Text that is not UTF-8 cannot be in a column of strings: keys and values stay bytes.
        values = pl.Series("value", consumed.values, dtype=pl.Binary)
        return (
            frame.drop("reason", "detail")
            .join(rejected, on="offset", how="left", maintain_order="left", suffix="_rejected")
            .join(hashes, on="offset", how="left", maintain_order="left")
            .with_columns(
                # Whose a rejected message is may be known from its key alone.
                *(pl.coalesce(f"{name}_rejected", name).alias(name) for name in SUBJECT),
                pl.col("stamp").cast(pl.Datetime("us", "UTC")).alias("received_at"),
                pl.col("key").fill_null(b""),
                values.gather(frame["row"]),
                reason=pl.col("decision"),
            )
        )


def differences(table: str, partition: int, log: pl.DataFrame, rows: pl.DataFrame) -> Iterator[Finding]:
    """The rows of one table that are not what their messages say; a row without a message is not looked at.

    `log`: offset, the fields of the event, received_at, key, value, identity_hash and `reason` (null: not rejected);
    `rows`: offset and the table's columns.
    """
    names = [name for name in _COLUMNS[table] if name in rows.columns]
    both = rows.join(log.select("offset", pl.col("reason").alias("decision"), *_renamed(names)), on="offset")
    right = pl.col("decision").is_null() == (table != KINDS["rejected"])
    for row in both.filter(~right).sort("offset").iter_rows(named=True):
        expected = _ACCEPTED if row["decision"] is None else f"rejected as {row['decision']}"
        yield _finding(table, partition, row["offset"], "decision about a message of the log", expected, f"in {table}")
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_log")) for name in names)
    if table == KINDS["rejected"]:
        # Rows of versions that did not store a subject have four empty columns.
        without = pl.all_horizontal(pl.col(SUBJECT) == b"")
        both = both.with_columns(
            pl.when(without).then(pl.col(name)).otherwise(pl.col(f"{name}_log")).alias(f"{name}_log")
            for name in SUBJECT
        )
    for row in both.filter(right & differs).sort("offset").iter_rows(named=True):
        wrong = [name for name in names if row[name] != row[f"{name}_log"]]
        yield _finding(
            table,
            partition,
            row["offset"],
            "row against its message in the log",
            ", ".join(f"{name} {_text(row[f'{name}_log'])}" for name in wrong),
            ", ".join(f"{name} {_text(row[name])}" for name in wrong),
        )


def _renamed(names: list[str]) -> list[pl.Expr]:
    return [pl.col(name).alias(f"{name}_log") for name in names]


def _invented(table: str, partition: int, offset: int) -> Finding:
    return _finding(table, partition, offset, "row of an offset that holds no message", "no row", "one row")


def _finding(table: str, partition: int, offset: int, what: str, expected: str, found: str) -> Finding:
    return Finding(
        check="contents", place=table, partition=partition, offset=offset, what=what, expected=expected, found=found
    )


def _within(messages: list[Message], span: Span) -> list[Message]:
    """Nearly always all of them: a piece is cut where its offsets are mostly without messages."""
    if not messages or (span.first <= (messages[0].offset() or 0) and (messages[-1].offset() or 0) < span.until):
        return messages
    return [message for message in messages if span.first <= (message.offset() or 0) < span.until]


def _together(batches: Iterable[list[Message]]) -> Iterator[tuple[list[Message], bool]]:
    """Larger pieces, since each costs a query per table, and whether a piece is the last one; it may be empty."""
    found: list[Message] = []
    for batch in batches:
        if len(found) >= _TOGETHER:
            yield found, False
            found = []
        found += batch
    yield found, True


def _text(value: Any) -> str:
    return repr(value[:200]) if isinstance(value, str | bytes) else str(value)
