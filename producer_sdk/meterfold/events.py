"""An event as `record_batch` takes it, and as a failed delivery gives it back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypedDict, cast

from meterfold.subjects import Known, Subject
from meterfold.values import Id, Quantity
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_fields import NAMES, OPTIONAL

if TYPE_CHECKING:
    # So that an event without an object of the application's is one of every Meter.
    from typing_extensions import ReadOnly
else:  # typing has it from Python 3.13 on, and only type checkers need it

    class ReadOnly:
        def __class_getitem__(cls, item):
            return item


__all__ = ["EventDetails", "Table", "UsageEvent", "event_of", "optional_values"]

_OPTIONAL: Final = frozenset(OPTIONAL)


class EventDetails(TypedDict, total=False):
    """The optional fields of an event, as `record` takes them by name. A test holds them to the Avro schema."""

    source: str | None
    resource_type: str | None
    resource_id: Id | None
    metadata: Mapping[str, Any] | str | None


class UsageEvent(EventDetails, Generic[Known], total=False):
    """The parameters of `Meter.record` as a mapping: metric_key, and subject or subject_type and subject_id, are
    required.
    """

    metric_key: str
    subject: ReadOnly[Subject | tuple[str, Id] | Known | None]
    subject_type: str | None
    subject_id: Id | None
    org_id: Id | None
    quantity: Quantity
    id: Id | None
    timestamp: datetime | None


class _ArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


class _ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: Any = None) -> Any: ...


class _PandasFrame(Protocol):
    @property
    def iloc(self) -> Any: ...
    @property
    def columns(self) -> Any: ...


#: A data frame of polars or pandas, an Arrow table, or anything else that offers its columns as Arrow does.
Table = _ArrowStream | _ArrowArray | _PandasFrame


def optional_values(details: EventDetails) -> tuple[Any, ...]:
    """The values of usage_fields.OPTIONAL; None where there is none. Raises TypeError for an unknown name."""
    if not _OPTIONAL.issuperset(details):
        unknown = min(details.keys() - _OPTIONAL)
        raise TypeError(f"record() got an unexpected keyword argument {unknown!r}")
    return tuple(map(details.get, OPTIONAL))


def event_of(value: bytes) -> UsageEvent:
    """The event in a value that the SDK encoded: recorded again, it becomes the same value."""
    event = UsageRecorded.from_bytes(value)
    return cast(UsageEvent, {name: getattr(event, name) for name in NAMES})
