"""The columns of `usage_windows`, as the fold publishes them and as the checker reads them, and those of traces, which
only published windows have."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from meterfold_processor.columns import limbs
from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.totals import AMOUNTS
from meterfold_schemas.traces import PARENT, STATE

__all__ = ["TIMESTAMP", "TRACES", "WINDOWS"]

TIMESTAMP = pa.timestamp("us", "UTC")

_WINDOW_FIELDS: list[pa.Field[Any]] = [
    *(pa.field(name, pa.large_string()) for name in SUBJECT),
    pa.field("period_type", pa.int8()),
    pa.field("period_start", TIMESTAMP),
    pa.field("partition", pa.int32()),
    pa.field("record_count", pa.int64()),
    *(pa.field(name, limbs.DECIMAL) for name in AMOUNTS),
    pa.field("last_timestamp", TIMESTAMP),
    pa.field("last_offset", pa.int64()),
    pa.field("folded_through", pa.int64()),
]

WINDOWS = pa.schema(_WINDOW_FIELDS)

TRACES = pa.schema([pa.field(PARENT, pa.binary()), pa.field(STATE, pa.binary())])
"""Behind the columns of WINDOWS in a message of `usage.windows` whose events had traces; both may be null."""
