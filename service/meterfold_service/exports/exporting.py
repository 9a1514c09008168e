"""`metering.usage.export` and `metering.usage.stream`. Imports Arrow and polars with the first export."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import Period, micros
from meterfold_service.exports.results import Exported, ExportProgress, Format, What

if TYPE_CHECKING:
    from meterfold_service.exports.operations import ExportStream, Selection
    from meterfold_sink.pool import ClientPool

__all__ = ["Exporting"]


class Exporting:
    """The exporting operations of `metering.usage`. Every one raises Retryable or Fatal, and what it says itself."""

    _clients: ClientPool
    _now: Callable[[], datetime]

    def export(
        self,
        what: What | str,
        *,
        to: Path | str | IO[bytes],
        format: Format | str | None = None,
        metric_key: str | None = None,
        subject: tuple[str, str] | None = None,
        org_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        period: str = "daily",
        safe_for_spreadsheets: bool = False,
        overwrite: bool = False,
        on_progress: ExportProgress | None = None,
    ) -> Exported:
        """usage.export: all rows of a selection into a file or a binary stream, in constant memory.

        what        records, summaries, duplicates or rejected
        to          a path, which gets its name when the file is complete, or a binary file object, which stays open
        format      csv, parquet, jsonl or arrow; by default what the suffix of the path says
        metric_key, subject, org_id
                    only these; `org_id` "" are subjects without an organization, None is every organization
        start, end  start <= time < end; the time is the timestamp of records and duplicates, period_start of summaries
                    and received_at of rejected messages. None: no limit
        period      of summaries: hourly, daily, weekly, monthly, yearly or lifetime
        safe_for_spreadsheets
                    of CSV: text that a spreadsheet would run as a formula gets an apostrophe in front
        overwrite   replace a file that exists

        Rows are ordered by partition, received_at and offset; summaries by period_start, org_id, metric_key,
        subject_type and subject_id. What is folded while the export runs is not in it: see `Exported.positions`.

        Raises InvalidUsage, ExportIncomplete, and OSError for what the disk refuses.
        """
        from meterfold_service.exports.operations import export

        target = Path(to) if isinstance(to, str | Path) else to
        kind = _format(format, target)
        if safe_for_spreadsheets and kind is not Format.CSV:
            raise InvalidUsage(f"safe_for_spreadsheets changes text in CSV; {kind.value} needs no change")
        selection = _selection(what, metric_key, subject, org_id, start, end, period)
        return export(
            self._clients,
            selection,
            target,
            kind,
            overwrite=overwrite,
            safe_for_spreadsheets=safe_for_spreadsheets,
            on_progress=on_progress,
        )

    def stream(
        self,
        what: What | str,
        *,
        metric_key: str | None = None,
        subject: tuple[str, str] | None = None,
        org_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        period: str = "daily",
    ) -> ExportStream:
        """The rows of `export` as Arrow record batches, one at a time: iterate over it, once, and close it.

            with metering.usage.stream("records", metric_key="api.calls") as batches:
                for batch in batches:
                    ...

        Decimals are decimal128(38, 9), times timestamp[us, UTC], metadata is JSON text.
        """
        from meterfold_service.exports.operations import ExportStream

        return ExportStream(self._clients, _selection(what, metric_key, subject, org_id, start, end, period))


def _format(given: Format | str | None, to: Path | IO[bytes]) -> Format:
    known = ", ".join(Format)
    if given is not None:
        try:
            return Format(given)
        except ValueError:
            raise InvalidUsage(f"format {given!r} must be one of {known}") from None
    if not isinstance(to, Path):
        raise InvalidUsage(f"a stream needs a format: {known}")
    try:
        return Format(to.suffix.removeprefix("."))
    except ValueError:
        raise InvalidUsage(f"the name {to.name} does not end with a format ({known}); give the format") from None


def _selection(
    what: What | str,
    metric_key: str | None,
    subject: tuple[str, str] | None,
    org_id: str | None,
    start: datetime | None,
    end: datetime | None,
    period: str,
) -> Selection:
    from meterfold_service.exports.operations import Selection
    from meterfold_sink.usage_export import ExportFilter

    try:
        kind = What(what)
    except ValueError:
        raise InvalidUsage(f"what {what!r} must be one of {', '.join(What)}") from None
    if period not in tuple(Period):
        raise InvalidUsage(f"period {period!r} must be one of {', '.join(Period)}")
    match subject:
        case None | (str(), str()):
            pass
        case _:
            raise InvalidUsage(f"subject {subject!r:.80} must be a pair of strings: its type and its id")
    first = None if start is None else micros(start)
    last = None if end is None else micros(end)
    if first is not None and last is not None and last < first:
        raise InvalidUsage(f"end {end} is before start {start}")
    return Selection(
        kind,
        ExportFilter(
            metric_key=metric_key, subject=subject, org_id=org_id, start=first, end=last, period=Period(period).value
        ),
    )
