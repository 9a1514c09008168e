"""`metering.usage.export` and `metering.usage.stream`. Imports Arrow and polars with the first export."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import Period, micros
from meterfold_service.exports.results import Days, Exported, ExportProgress, Format, What

if TYPE_CHECKING:
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_service.exports.days import DayPlan
    from meterfold_service.exports.operations import ExportStream, Selection
    from meterfold_sink.pool import ClientPool

__all__ = ["Exporting"]


class Exporting:
    """The exporting operations of `metering.usage`. Every one raises Retryable or Fatal, and what it says itself."""

    _clients: ClientPool
    _now: Callable[[], datetime]
    _kafka: Callable[[], KafkaSettings] | None

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
        period: str | None = None,
        safe_for_spreadsheets: bool = False,
        partial: bool = False,
        overwrite: bool = False,
        on_progress: ExportProgress | None = None,
    ) -> Exported:
        """usage.export: all rows of a selection into a file or a binary stream, in constant memory.

        what        records, summaries, duplicates, rejected or adjustments
        to          a path, which gets its name when the file is complete, or a binary file object, which stays open
        format      csv, parquet, jsonl or arrow; by default what the suffix of the path says
        metric_key, subject, org_id
                    only these; `org_id` "" are subjects without an organization, None is every organization
        start, end  start <= time < end; the time is the timestamp of records and duplicates, received_at of rejected
                    messages, and period_start of the others. None: no limit
        period      of summaries: hourly, daily (the default), weekly, monthly, yearly or lifetime; of adjustments:
                    hourly, daily or monthly, by default all of them
        safe_for_spreadsheets
                    of CSV: text that a spreadsheet would run as a formula gets an apostrophe in front
        partial     export the records that are left if some have expired; `Exported.expired` says how many
        overwrite   replace a file that exists

        Rows are ordered by partition, received_at and offset; summaries and adjustments by period_start, org_id,
        metric_key, subject_type and subject_id. What is folded while the export runs is not in it: see
        `Exported.positions`.

        Raises InvalidUsage, RecordsExpired, ExportIncomplete, and OSError for what the disk refuses.
        """
        from meterfold_service.exports.operations import export

        target = Path(to) if isinstance(to, str | Path) else to
        kind = _format(format, target)
        if safe_for_spreadsheets and kind is not Format.CSV:
            raise InvalidUsage(f"safe_for_spreadsheets changes text in CSV; {kind.value} needs no change")
        selection = _selection(what, metric_key, subject, org_id, start, end, period, partial)
        return export(
            self._clients,
            selection,
            target,
            kind,
            overwrite=overwrite,
            safe_for_spreadsheets=safe_for_spreadsheets,
            on_progress=on_progress,
            now=self._now,
        )

    def export_days(
        self,
        what: What | str,
        *,
        to: Path | str,
        start: datetime,
        end: datetime | None = None,
        format: Format | str = Format.PARQUET,
        incomplete: bool = False,
        metric_key: str | None = None,
        subject: tuple[str, str] | None = None,
        org_id: str | None = None,
        period: str | None = None,
        safe_for_spreadsheets: bool = False,
        partial: bool = False,
        on_progress: Callable[[date, int, int, int], None] | None = None,
    ) -> Days:
        """usage.export by day: one file per UTC day from `start` to `end` (default: now) in the folder `to`, such as
        records-2026-10-01.parquet. Repeat it as often as you like: a day whose file exists is skipped.

        Only complete days are written: the day and the grace period after it are over, and the fold has passed that
        time. `incomplete` also writes the others, as records-2026-10-02.incomplete.parquet, which the next run replaces
        and the complete file removes. An event that arrives after its day was written is in no file, but in
        adjustments if the day was closed before. `on_progress` gets the day, rows, expected rows and bytes.

        Raises what `export` raises.
        """
        from meterfold_service.exports.days import file_name, plan, span_of
        from meterfold_service.exports.operations import fold_mark

        folder, kind = Path(to), _format(format, Path())
        selection = _selection(what, metric_key, subject, org_id, start, end, period)
        if not folder.is_dir():
            raise InvalidUsage(f"the folder {folder} does not exist; create it")
        now = micros(self._now())
        first, last = micros(start), now if end is None else micros(end)

        def planned(mark: int, grace: int) -> DayPlan:
            whole = plan(first, last, (), now=now, mark=mark, grace=grace)
            present = {
                day for day in (*whole.due, *whole.behind) if (folder / file_name(selection.what, day, kind)).exists()
            }
            return plan(first, last, present, now=now, mark=mark, grace=grace)

        days = planned(*fold_mark(self._clients, self._kafka, lambda mark, grace: not planned(mark, grace).behind, now))
        written = []
        for day in (*days.due, *((*days.behind, *days.open) if incomplete else ())):
            complete = day in days.due
            unfinished = folder / file_name(selection.what, day, kind, complete=False)
            begin, until = span_of(day)
            show = None if on_progress is None else functools.partial(on_progress, day)
            written.append(
                self.export(
                    selection.what,
                    to=folder / file_name(selection.what, day, kind) if complete else unfinished,
                    format=kind,
                    metric_key=metric_key,
                    subject=subject,
                    org_id=org_id,
                    start=begin,
                    end=until,
                    period=period,
                    safe_for_spreadsheets=safe_for_spreadsheets,
                    partial=partial,
                    overwrite=not complete,
                    on_progress=show,
                )
            )
            if complete:
                unfinished.unlink(missing_ok=True)
        return Days(tuple(written), days.present, days.open, days.behind)

    def stream(
        self,
        what: What | str,
        *,
        metric_key: str | None = None,
        subject: tuple[str, str] | None = None,
        org_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        period: str | None = None,
        partial: bool = False,
    ) -> ExportStream:
        """The rows of `export` as Arrow record batches, one at a time: iterate over it, once, and close it.

            with metering.usage.stream("records", metric_key="api.calls") as batches:
                for batch in batches:
                    ...

        Decimals are decimal128(38, 9), times timestamp[us, UTC], metadata is JSON text. Raises what `export` raises.
        """
        from meterfold_service.exports.operations import ExportStream

        selection = _selection(what, metric_key, subject, org_id, start, end, period, partial)
        return ExportStream(self._clients, selection, self._now)


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
    period: str | None,
    partial: bool = False,
) -> Selection:
    from meterfold_service.exports.operations import Selection
    from meterfold_sink.usage_export import ExportFilter

    try:
        kind = What(what)
    except ValueError:
        raise InvalidUsage(f"what {what!r} must be one of {', '.join(What)}") from None
    if period is None and kind is What.SUMMARIES:
        period = Period.DAILY
    if period is not None and period not in tuple(Period):
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
        ExportFilter(metric_key=metric_key, subject=subject, org_id=org_id, start=first, end=last, period=period),
        partial,
    )
