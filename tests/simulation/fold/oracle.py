"""What the fold must come to, in plain Python: one event at a time, Decimal and dict, no batches, no columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Context, Decimal

PERIODS = ("hourly", "daily", "monthly", "lifetime")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXACT = Context(prec=60)  # Decimal's own 28 digits would round a sum


@dataclass(frozen=True)
class Event:
    """One message of the log as the test wrote it; `time` and `stamp` in UTC microseconds.

    `poison` stands in place of a readable event: the reason it must be rejected with. `fingerprint` is that of its
    header where it is not the schema's own.
    """

    offset: int
    stamp: int
    subject: tuple[str, str, str, str]
    id: str
    quantity: Decimal
    time: int
    poison: str | None = None
    fingerprint: bytes | None = None


@dataclass
class Window:
    count: int = 0
    sum: Decimal = Decimal(0)
    min: Decimal | None = None
    max: Decimal | None = None
    last: tuple[int, int, Decimal] | None = None  # time, offset, quantity
    through: int = -1

    def add(self, event: Event) -> None:
        self.count += 1
        self.sum = EXACT.add(self.sum, event.quantity)
        self.min = event.quantity if self.min is None else min(self.min, event.quantity)
        self.max = event.quantity if self.max is None else max(self.max, event.quantity)
        candidate = (event.time, event.offset, event.quantity)
        if self.last is None or candidate[:2] > self.last[:2]:
            self.last = candidate
        self.through = max(self.through, event.offset)


@dataclass
class Outcome:
    counted: set[int] = field(default_factory=set)
    duplicates: dict[int, int] = field(default_factory=dict)  # offset -> the offset that counted
    rejected: dict[int, str] = field(default_factory=dict)
    windows: dict[tuple[tuple[str, str, str, str], str, int], Window] = field(default_factory=dict)


def start_of(period: str, time: int) -> int:
    """The start of the window by the standard library's calendar."""
    if period == "lifetime":
        return 0
    seconds, micros = divmod(time, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
    fields = {"minute": 0, "second": 0, "microsecond": 0}
    if period in ("daily", "monthly"):
        fields["hour"] = 0
    if period == "monthly":
        fields["day"] = 1
    return int((moment.replace(**fields) - EPOCH).total_seconds()) * 1_000_000


def fold(log: list[Event], horizon: int, tolerance: int, poison: frozenset[bytes] = frozenset()) -> Outcome:
    """The rules, one event after the other. `poison`: the fingerprints that were decided to be."""
    outcome = Outcome()
    counted: dict[tuple[tuple[str, str, str, str], str], list[Event]] = {}
    for event in log:
        if event.poison is not None:
            outcome.rejected[event.offset] = event.poison
        elif event.fingerprint in poison:
            outcome.rejected[event.offset] = "undecodable"
        elif event.time < event.stamp - horizon:
            outcome.rejected[event.offset] = "too_old"
        elif event.time > event.stamp + tolerance:
            outcome.rejected[event.offset] = "in_future"
        else:
            before = counted.setdefault((event.subject, event.id), [])
            matching = [e.offset for e in before if e.stamp >= event.stamp - horizon - tolerance]
            if matching:
                outcome.duplicates[event.offset] = min(matching)
                continue
            before.append(event)
            outcome.counted.add(event.offset)
            for period in PERIODS:
                key = (event.subject, period, start_of(period, event.time))
                outcome.windows.setdefault(key, Window()).add(event)
    return outcome
