"""The errors of the operations. Each carries what it is about as data, so that a command line, an API and an
application say it in their own words; the text is a plain sentence for logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from meterfold_schemas.errors import MeterfoldError, Retryable
from meterfold_schemas.plurals import listed, noun, plural

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition, UsageThreshold

__all__ = [
    "CheckerNotRunning",
    "DefinitionsBusy",
    "Difference",
    "ExportIncomplete",
    "MetricKeyExists",
    "MetricNotFound",
    "NotFoldedInTime",
    "OperationError",
    "RecordsExpired",
    "ThresholdExists",
    "ThresholdNotFound",
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
    """There is no threshold with this id."""

    code = "THRESHOLD_NOT_FOUND"

    def __init__(self, threshold_id: str) -> None:
        super().__init__(f"threshold {threshold_id!r} does not exist")
        self.threshold_id = threshold_id


class RecordsExpired(OperationError):
    """Records that the answer needs have expired: `missing` of the hour that begins at `hour`.

    Whole hours in UTC are kept as windows, also after their records. A part of an hour needs the records, and so does a
    list of them.
    """

    code = "RECORDS_EXPIRED"

    def __init__(self, metric_key: str, hour: datetime, missing: int) -> None:
        super().__init__(
            f"{plural(missing, 'record')} of {metric_key} in the hour from {hour:%Y-%m-%d %H:%M} UTC "
            f"{noun(missing, 'has', 'have')} expired, and a part of that hour, or a list of its records, needs them. "
            "Choose a time zone or a time that begins and ends at whole hours in UTC, or a later start"
        )
        self.metric_key = metric_key
        self.hour = hour
        self.missing = missing


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
    """Others define at the same moment, again and again. Nothing was changed."""

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


def _shown(differences: Sequence[Difference]) -> str:
    return ", ".join(f"{one.field} is {one.known!s}, not {one.wanted!s}" for one in differences)
