"""The offsets that a verification speaks about, fixed before anything else is read.

"Folded" means: a read_committed read from the progress to the end that was captured finds no message. The last offset
of a partition may be a transaction's marker, which no progress row ever passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meterfold_processor.kafka.offsets import log_bounds
from meterfold_processor.verify.log import LogReader
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import Client
from meterfold_sink.reads import Progress, read_progress

__all__ = ["Fixed", "fix_offsets"]

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Fixed:
    """One partition. The log's bounds were read after the progress; `progress` is None where nothing was folded."""

    partition: int
    log_start: int
    log_end: int
    progress: Progress | None
    unfolded: bool


def fix_offsets(
    settings: KafkaSettings,
    client: Client,
    reader: LogReader,
    partitions: Iterable[int],
    wait_seconds: float,
    tell: Callable[[str], None],
) -> list[Fixed]:
    """Every partition's progress, once everything appended before the call is folded or `wait_seconds` have passed.

    Raises Retryable or Fatal.
    """
    topic = Topics(settings.topic_prefix).usage_recorded
    wanted = sorted(partitions)
    ends = log_bounds(settings, topic, wanted)
    deadline = time.monotonic() + wait_seconds
    unfolded = set(wanted)
    while True:
        progress = read_progress(client)
        for partition in sorted(unfolded):
            start, end = ends[partition]
            row = progress.get(partition)
            if not reader.has_message(partition, max(start, row.next_offset) if row else start, end):
                unfolded.discard(partition)
        if not unfolded or time.monotonic() >= deadline:
            break
        tell(f"waiting until partitions {', '.join(map(str, sorted(unfolded)))} are folded")
        time.sleep(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
    # The progress may have passed the ends that were captured at the call: what is compared with it comes after it.
    bounds = log_bounds(settings, topic, wanted)
    return [Fixed(p, *bounds[p], progress.get(p), p in unfolded) for p in wanted]
