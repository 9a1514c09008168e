"""The errors of the operations. Each carries what it is about as data, so that a command line, an API and an
application say it in their own words; the text is a plain sentence for logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from meterfold_schemas.errors import MeterfoldError, Retryable
from meterfold_schemas.plurals import listed, noun, plural
from meterfold_schemas.quantities import number_text

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
    from meterfold_sink.closing_recount import WindowDifference

__all__ = [
    "AlertNotFound",
    "CheckerNotRunning",
    "DefinitionsBusy",
    "Difference",
    "EndpointNotFound",
    "ExportIncomplete",
    "LimitsNotReady",
    "MetricKeyExists",
    "MetricNotFound",
    "NotAtRest",
    "NotFoldedInTime",
    "NotifierNotRunning",
    "OperationError",
    "PeriodNotClosed",
    "PeriodNotEnded",
    "PeriodRecordsExpired",
    "RecordsExpired",
    "RejectedNotFound",
    "ThresholdExists",
    "ThresholdNotFound",
    "WindowsDiffer",
    "WorkersRunning",
]


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which a definition differs from what was asked for. `is_default`: the caller did not give it."""

    field: str
    known: Any
    wanted: Any
    is_default: bool


class OperationError(MeterfoldError):
    """Base of the errors that an operation raises because of what is defined or stored."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args, self.__dict__)


class MetricNotFound(OperationError):
    """No such metric for this organization ("" and None: for every organization). `defined_for`: the organizations that
    define the key, "" among them where it is defined for every organization. `similar`: the defined key that looks most
    like it, if any."""

    code = "METRIC_NOT_FOUND"

    def __init__(
        self, key: str, org_id: str | None, *, defined_for: Sequence[str] = (), similar: str | None = None
    ) -> None:
        text = f"metric {key!r} is not defined" + (f" for organization {org_id}" if org_id else "")
        if defined_for:
            shown = [f"organization {org}" if org else "every organization" for org in defined_for[:3]]
            text += f", only for {listed(shown, len(defined_for))}"
        elif similar is not None:
            text += f"; did you mean {similar!r}?"
        super().__init__(text)
        self.key = key
        self.org_id = org_id
        self.defined_for = tuple(defined_for)
        self.similar = similar


class MetricKeyExists(OperationError):
    """The key is defined with another content: `known`, which differs in `differences`."""

    code = "METRIC_KEY_EXISTS"

    def __init__(self, known: MetricDefinition, differences: Sequence[Difference]) -> None:
        whose = f"organization {known.org_id}" if known.org_id else "every organization"
        super().__init__(
            f"metric {known.key!r} of {whose} exists and differs: {_shown(differences)}. Update it instead"
        )
        self.known = known
        self.differences = tuple(differences)


class ThresholdExists(OperationError):
    """`known` has the same metric, name and subjects. `differences` is empty where an update asked for its name."""

    code = "THRESHOLD_EXISTS"

    def __init__(self, known: UsageThreshold, differences: Sequence[Difference] = ()) -> None:
        found = f" and differs: {_shown(differences)}. Update it instead" if differences else ". Choose another name"
        super().__init__(
            f"threshold {known.name!r} on {known.metric_key} for the same subjects exists (id {known.id}){found}"
        )
        self.known = known
        self.differences = tuple(differences)


class ThresholdNotFound(OperationError):
    """No threshold has this id."""

    code = "THRESHOLD_NOT_FOUND"

    def __init__(self, threshold_id: str) -> None:
        super().__init__(f"threshold {threshold_id!r} does not exist")
        self.threshold_id = threshold_id


class AlertNotFound(OperationError):
    """There is no alert with this id, or the checker has not copied it to ClickHouse yet."""

    code = "ALERT_NOT_FOUND"

    def __init__(self, alert_id: str) -> None:
        super().__init__(f"alert {alert_id!r} does not exist")
        self.alert_id = alert_id


class RejectedNotFound(OperationError):
    """No message was rejected at this position, or its row has expired."""

    code = "REJECTED_NOT_FOUND"

    def __init__(self, partition: int, offset: int) -> None:
        super().__init__(
            f"no rejected message is stored for partition {partition}, offset {offset}. `meterfold rejected list` "
            "shows those that are; they are kept for the record retention"
        )
        self.partition = partition
        self.offset = offset


class RecordsExpired(OperationError):
    """Records that the answer needs have expired: `missing` of the hour that begins at `hour`, the first such hour.
    Records of `kept_from` and later are complete.

    Whole hours in UTC are kept as windows, also after their records. A part of an hour needs the records, and so does a
    list of them, and so do the metadata fields `fields` that usage is grouped or filtered by.
    """

    code = "RECORDS_EXPIRED"

    def __init__(
        self, metric_key: str, hour: datetime, missing: int, kept_from: datetime, fields: Sequence[str] = ()
    ) -> None:
        expired = (
            f"{plural(missing, 'record')} of {metric_key} in the hour from {hour:%Y-%m-%d %H:%M} UTC "
            f"{noun(missing, 'has', 'have')} expired"
        )
        later = f"periods that begin at {kept_from:%Y-%m-%d %H:%M} UTC or later"
        if fields:
            names, them = " and ".join(map(repr, fields)), noun(missing, "it", "them")
            field, the_field = noun(len(fields), "field"), noun(len(fields), "the field", "the fields")
            super().__init__(
                f"{expired}, and with {them} the metadata {field} {names}. Choose {later}, or leave {the_field} out. "
                "To keep sums by a field, make it a dimension of the metric and close each period before its records "
                "expire"
            )
        else:
            super().__init__(
                f"{expired}, and a part of that hour, or a list of its records, needs them. Choose a time zone or a "
                f"time that begins and ends at whole hours in UTC, or {later}"
            )
        self.metric_key = metric_key
        self.hour = hour
        self.missing = missing
        self.kept_from = kept_from
        self.fields = tuple(fields)

    @classmethod
    def of_export(cls, metric_key: str, hour: datetime, missing: int, kept_from: datetime) -> Self:
        """`missing` of all records that were to be exported; `metric_key` is empty where every metric was asked for."""
        error = cls(metric_key, hour, missing, kept_from)
        error.args = (
            f"{plural(missing, 'record')}{_of(metric_key)} {noun(missing, 'has', 'have')} expired, the first in the "
            f"hour from {hour:%Y-%m-%d %H:%M} UTC. Export from {kept_from:%Y-%m-%d %H:%M} UTC on, export summaries, "
            "which are kept, or export the records that are left with partial=True (--partial)",
        )
        return error


class PeriodRecordsExpired(RecordsExpired):
    """A period cannot be closed: `missing` of its records have expired. `hour` is the start of the period, and
    `metric_key` is empty where every metric was to be closed."""

    def __init__(self, period: str, start: datetime, metric_key: str, missing: int, kept_from: datetime) -> None:
        OperationError.__init__(
            self,
            f"{period_named(period, start)} cannot be closed{_of(metric_key)}: {plural(missing, 'record')} of it "
            f"{noun(missing, 'has', 'have')} expired, so its windows cannot be recounted. Close periods before their "
            "records expire, for example with a scheduled `meterfold periods close --due`",
        )
        self.period = period
        self.metric_key = metric_key
        self.hour = start
        self.missing = missing
        self.kept_from = kept_from
        self.fields = ()


class PeriodNotEnded(OperationError):
    """The period can be closed from `closable_at` on: its end and the grace period."""

    code = "PERIOD_NOT_ENDED"

    def __init__(self, period: str, start: datetime, closable_at: datetime) -> None:
        super().__init__(
            f"{period_named(period, start)} has not ended: it can be closed from {closable_at:%Y-%m-%d %H:%M} UTC on, "
            "when its grace period is over"
        )
        self.period = period
        self.start = start
        self.closable_at = closable_at


class PeriodNotClosed(OperationError):
    """The period has no closing of this metric ("": of every metric), or not this revision."""

    code = "PERIOD_NOT_CLOSED"

    def __init__(self, period: str, start: datetime, metric_key: str, revision: int | None, revisions: int) -> None:
        closings = f" has {plural(revisions, 'closing')}{_of(metric_key)}, not {revision}"
        super().__init__(
            f"{period_named(period, start)}"
            + (closings if revision is not None and revisions else f" is not closed{_of(metric_key)}")
            + f". Close it with `meterfold periods close --period {period}`, or see `meterfold periods list`"
        )
        self.period = period
        self.start = start
        self.metric_key = metric_key
        self.revision = revision


class WindowsDiffer(OperationError):
    """Windows of a period are not what their records add up to, so it was not closed. `differences` are the first of
    `total`."""

    code = "WINDOWS_DIFFER"

    def __init__(
        self, period: str, start: datetime, metric_key: str, total: int, differences: Sequence[WindowDifference]
    ) -> None:
        shown = [
            f"{'/'.join((one.org_id, one.metric_key, one.subject_type, one.subject_id))} ({one.finding}: "
            f"stored {plural(one.stored_count, 'record')} with sum {number_text(one.stored_sum)}, recounted "
            f"{plural(one.recounted_count, 'record')} with sum {number_text(one.recounted_sum)})"
            for one in differences[:3]
        ]
        super().__init__(
            f"{period_named(period, start)} was not closed{_of(metric_key)}: {plural(total, 'window')} "
            f"{noun(total, 'differs', 'differ')} from a recount of the records: {listed(shown, total)}. Run "
            "`meterfold verify` to find the cause"
        )
        self.period = period
        self.start = start
        self.metric_key = metric_key
        self.total = total
        self.differences = tuple(differences)


class CheckerNotRunning(OperationError, Retryable):
    """A definition is published as `version` and will apply, but ClickHouse does not show it after `seconds`: no
    checker copies it. Run the operation again once a checker runs, which changes nothing."""

    code = "CHECKER_NOT_RUNNING"

    def __init__(self, name: str, version: int, seconds: float) -> None:
        super().__init__(
            f"{name} is published (offset {version}), but ClickHouse does not show it after {seconds:g} s: the checker "
            "is not running. Start one, then repeat the operation, which is safe"
        )
        self.name = name
        self.version = version
        self.seconds = seconds


class DefinitionsBusy(OperationError, Retryable):
    """Other callers kept changing definitions at the same moment. Nothing was changed."""

    code = "DEFINITIONS_BUSY"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"definitions were changed by others without a pause for {seconds:g} s. Nothing was changed; repeat it"
        )


class NotFoldedInTime(OperationError, Retryable):
    """The fold has not reached an event after `seconds`."""

    code = "NOT_FOLDED"

    def __init__(self, partition: int, offset: int, seconds: float) -> None:
        super().__init__(
            f"the event at offset {offset} of partition {partition} is not folded after {seconds:g} s: the fold "
            f"is behind "
            "or not running. Repeat the operation later"
        )
        self.partition = partition
        self.offset = offset
        self.seconds = seconds


class LimitsNotReady(OperationError, Retryable):
    """The topic threshold.state is not read to its end yet."""

    code = "LIMITS_NOT_READY"

    def __init__(self) -> None:
        super().__init__("limits are not in memory yet: the topic threshold.state is being read. Repeat the request")


class WorkersRunning(OperationError, Retryable):
    """What was asked for needs every worker to be stopped; `groups` (name and number of members) still have some."""

    code = "WORKERS_RUNNING"

    def __init__(self, groups: Sequence[tuple[str, int]]) -> None:
        found = ", ".join(f"{name} has {plural(members, 'member')}" for name, members in groups)
        super().__init__(
            f"workers are running: {found}. Stop all of them, wait until they have left their groups, and repeat it; a "
            "worker that was killed leaves when its session times out"
        )
        self.groups = tuple(groups)


class NotAtRest(OperationError):
    """A stored setting cannot be changed yet: a flush did not complete, or messages would be deleted unread."""

    code = "NOT_AT_REST"


class ExportIncomplete(OperationError, Retryable):
    """`rows` of `expected` rows arrived. A file of the export was removed; what a stream got is incomplete."""

    code = "EXPORT_INCOMPLETE"

    def __init__(self, rows: int, expected: int) -> None:
        super().__init__(
            f"{rows} of {expected} rows arrived: the connection to ClickHouse ended early. Repeat the export"
        )
        self.rows = rows
        self.expected = expected


def _remade(kind: type[OperationError], args: tuple[Any, ...], state: dict[str, Any]) -> OperationError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def period_named(period: str, start: datetime) -> str:
    """Such as "the month 2026-10"."""
    form = {"hourly": "the hour %Y-%m-%d %H:%M UTC", "daily": "the day %Y-%m-%d", "monthly": "the month %Y-%m"}
    return start.strftime(form[period])


def _of(metric_key: str) -> str:
    return f" for {metric_key}" if metric_key else ""


def _shown(differences: Sequence[Difference]) -> str:
    return ", ".join(f"{one.field} is {one.known!s}, not {one.wanted!s}" for one in differences)


class EndpointNotFound(OperationError):
    """No delivery to this webhook has ever failed, so there is nothing to enable."""

    code = "ENDPOINT_NOT_FOUND"

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"webhook endpoint {endpoint!r} has never failed; `meterfold notify endpoints` lists those that have"
        )
        self.endpoint = endpoint


class NotifierNotRunning(OperationError, Retryable):
    """No notifier has sent the test message in time."""

    code = "NOTIFIER_NOT_RUNNING"

    def __init__(self, event_id: str, seconds: float) -> None:
        super().__init__(
            f"the test message {event_id} was not sent in {seconds:g} s: start `meterfold notify`, or look at its log"
        )
        self.event_id = event_id
        self.seconds = seconds
