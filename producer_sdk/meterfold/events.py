"""An event as `record_batch` takes it, and as a failed delivery gives it back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypedDict

from meterfold.subjects import Known, Subject
from meterfold.values import Id, Quantity
from meterfold_schemas.usage import UsageRecorded

if TYPE_CHECKING:
    # So that an event without an object of the application's is one of every Meter.
    from typing_extensions import ReadOnly
else:  # typing has it from Python 3.13 on, and only type checkers need it

    class ReadOnly:
        def __class_getitem__(cls, item):
            return item


__all__ = ["Table", "UsageEvent", "event_of"]


class UsageEvent(TypedDict, Generic[Known], total=False):
    """The parameters of `Meter.record` as a mapping: metric_key, and subject or subject_type and subject_id, are
    required. The order of the fields here is the order of a Row (tables.py).
    """

    metric_key: str
    subject: ReadOnly[Subject | tuple[str, Id] | Known | None]
    subject_type: str | None
    subject_id: Id | None
    org_id: Id | None
    quantity: Quantity
    id: Id | None
    timestamp: datetime | None
    source: str | None
    resource_type: str | None
    resource_id: Id | None
    metadata: Mapping[str, Any] | str | None


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


def event_of(value: bytes) -> UsageEvent:
    """The event in a value that the SDK encoded: recorded again, it becomes the same value."""
    event = UsageRecorded.from_bytes(value)
    return UsageEvent(
        metric_key=event.metric_key,
        subject_type=event.subject_type,
        subject_id=event.subject_id,
        org_id=event.org_id,
        quantity=event.quantity,
        id=event.id,
        timestamp=event.timestamp,
        source=event.source,
        resource_type=event.resource_type,
        resource_id=event.resource_id,
        metadata=event.metadata,
    )
