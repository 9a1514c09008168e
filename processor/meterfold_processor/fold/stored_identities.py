"""store.IdentityHistory from ClickHouse, for one partition; for the worker's own thread."""

from __future__ import annotations

import zlib
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from meterfold_processor.fold import compact
from meterfold_processor.fold.compact import Piece, UInt64s, Version
from meterfold_processor.fold.remembered import Span
from meterfold_processor.fold.store import Rests
from meterfold_sink import identity_tables, reads
from meterfold_sink.client import Client
from meterfold_sink.identity_tables import TableVersion

T = TypeVar("T", bound=np.generic)

_NO_RESTS = np.empty(0, dtype=np.uint32)


class StoredIdentities:
    def __init__(self, client: Client, partition: int, source: str) -> None:
        """`source` names the log and the rules (identity_tables.identity_source)."""
        self._client = client
        self._partition = partition
        self._source = source

    def find_records(self, hashes: UInt64s, spans: list[Span]) -> pl.DataFrame:
        found = pl.DataFrame(reads.find_records(self._client, self._partition, hashes.tolist(), spans=spans))
        return found.with_columns(
            pl.col("received_at").to_physical().alias("stamp"), pl.col("identity_hash").alias("hash")
        )

    def count_records(self, span: Span) -> int:
        return identity_tables.count_records(self._client, self._partition, *span)

    def load_hashes(self, span: Span, lowest: int, highest: int) -> UInt64s:
        found = identity_tables.load_hashes(self._client, self._partition, *span, lowest, highest)
        return found["identity_hash"].to_numpy()

    def load_identities(self, span: Span, from_offset: int) -> tuple[UInt64s, npt.NDArray[np.int64]]:
        found = reads.load_identities(self._client, self._partition, *span, from_offset=from_offset)
        stamps = found["received_at"].cast(pa.int64())
        return found["identity_hash"].to_numpy(), stamps.to_numpy()

    def table_versions(self) -> list[Version]:
        stored = identity_tables.read_versions(self._client, self._source, self._partition)
        return [
            Version(one.week, one.covered_until, one.through, one.bucket_bits)
            for one in stored
            if one.pieces == compact.piece_count(one.bucket_bits)
        ]

    def load_pieces(self, version: Version, first: int, end: int) -> list[tuple[Piece, int]]:
        found = identity_tables.read_pieces(self._client, self._source, self._partition, _stored(version), first, end)
        pieces: dict[int, tuple[Piece, int]] = {}
        columns = (found[name].to_pylist() for name in ("piece", "counts", "remainders", "checksum"))
        for number, counts, remainders, checksum in zip(*columns, strict=True):
            piece = Piece(number, _numbers(counts, np.uint32), _numbers(remainders, np.uint16), _NO_RESTS)
            pieces[number] = (piece, checksum)
        return list(pieces.values())

    def load_rests(self, wanted: list[tuple[Version, int]]) -> list[Rests]:
        found = identity_tables.read_rests(
            self._client, self._source, self._partition, [(_stored(version), number) for version, number in wanted]
        )
        return [
            Rests(Version(*key), number, _numbers(rests, np.uint32), checksum)
            for *key, number, rests, checksum in zip(*(column.to_pylist() for column in found.columns), strict=True)
        ]

    def save_pieces(self, version: Version, pieces: list[Piece]) -> None:
        table = pa.table(
            {
                "piece": pa.array([piece.number for piece in pieces], pa.uint32()),
                "counts": pa.array([piece.counts.astype("<u4").tobytes() for piece in pieces], pa.binary()),
                "remainders": pa.array([piece.remainders.astype("<u2").tobytes() for piece in pieces], pa.binary()),
                "checksum": pa.array([piece.checksum(version.bits) for piece in pieces], pa.uint32()),
                "rests": pa.array([piece.rests.astype("<u4").tobytes() for piece in pieces], pa.binary()),
                "rests_checksum": pa.array([zlib.crc32(piece.rests.tobytes()) for piece in pieces], pa.uint32()),
            }
        )
        identity_tables.write_pieces(self._client, self._source, self._partition, _stored(version), table)


def _stored(version: Version) -> TableVersion:
    return TableVersion(version.week, version.until, version.through, version.bits)


def _numbers(data: bytes, kind: type[T]) -> npt.NDArray[T]:
    """What was stored, little-endian; with bytes missing, what is left, which no checksum fits."""
    size = np.dtype(kind).itemsize
    stored = np.frombuffer(data[: len(data) // size * size], dtype=np.dtype(kind).newbyteorder("<"))
    return stored.astype(kind, copy=False)
