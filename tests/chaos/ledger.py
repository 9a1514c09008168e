"""The journals against the log and the tables: acknowledged within counted, counted within handed in, each once.

Everything is plain Python. What the log comes to is `support.fold.Truth`, which reads message by message and folds with
Decimal and dict; nothing of the fold is used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from chaos import journal
from chaos.ground import Ground
from chaos.journal import Entry, Position
from meterfold_schemas.periods import micros
from meterfold_schemas.usage import UsageRecorded
from meterfold_sink.rules import FoldRules
from support.fold import Truth
from support.fold.truth import stamp_of


@dataclass(frozen=True, slots=True)
class Account:
    """How many events there were of each kind."""

    handed_in: int
    acknowledged: int
    counted: int
    duplicates: int
    rejected: int


def check_ledger(ground: Ground, truth: Truth, journals: Mapping[str, Path], foreign: Path) -> Account:
    """AssertionError unless journals and log fit together."""
    entries: dict[str, Entry] = {}
    for path in journals.values():
        entries |= journal.read(path)
    _check_acknowledged(entries, truth)
    _check_counted(entries, truth)
    _check_rejected(entries, journal.read(foreign), truth, ground.rules)
    acknowledged = sum(bool(entry.acknowledged) for entry in entries.values())
    sizes = (len(truth.counted), len(truth.duplicates), len(truth.rejected))
    return Account(len(entries), acknowledged, *sizes)


def _refusal(event: UsageRecorded, stamp: int, rules: FoldRules) -> str | None:
    """What the times alone make of an event that an application handed in."""
    time = micros(event.timestamp)
    if time < stamp - rules.horizon_seconds * 1_000_000:
        return "too_old"
    return "in_future" if time > stamp + rules.future_tolerance_seconds * 1_000_000 else None


def _check_acknowledged(entries: dict[str, Entry], truth: Truth) -> None:
    counted = Counter(truth.events[position].id for position in truth.counted)
    rejected = truth.rejected
    standing: dict[str, list[Position]] = defaultdict(list)
    for position, event in truth.events.items():
        standing[event.id].append(position)
    for event_id, entry in entries.items():
        placed = [position for position in entry.acknowledged if position[1] is not None]
        for position in placed:
            assert position in truth.events, f"{event_id}: acknowledged at {position}, and not in the log"
            found = truth.events[position].id
            assert found == event_id, f"{event_id}: acknowledged at {position}, where {found} stands"
        if entry.acknowledged:
            # A broker that had a batch already says so without its offsets; then only the identity can be looked for.
            places = placed or standing[event_id]
            assert places, f"{event_id}: acknowledged, and not in the log"
            refused = all(position in rejected for position in places)
            # What was refused may have been handed in again with the right time, and lost its report with a producer.
            assert refused or counted[event_id] == 1, f"{event_id}: acknowledged, and counted {counted[event_id]} times"
    again = {event_id: times for event_id, times in counted.items() if times > 1}
    assert not again, f"counted more than once: {sorted(again.items())[:5]}"


def _check_counted(entries: dict[str, Entry], truth: Truth) -> None:
    for position in truth.counted:
        event = truth.events[position]
        entry = entries.get(event.id)
        assert entry is not None, f"{event.id} at {position} was counted, and nobody handed it in"
        assert any(_same(contents, event) for contents in entry.contents), (
            f"{event.id}: {event} is not what was handed in"
        )


def _same(contents: dict[str, Any], event: UsageRecorded) -> bool:
    return (
        [event.subject_type, event.subject_id] == contents["subject"]
        and event.metric_key == contents["metric_key"]
        and event.quantity == Decimal(contents["quantity"])
        and contents["timestamp"] in (None, micros(event.timestamp))
    )


def _check_rejected(entries: dict[str, Entry], strangers: dict[str, Entry], truth: Truth, rules: FoldRules) -> None:
    """Exactly the poison: what the raw producer sent, and what a wrong clock and old times make of the others."""
    # By value as well: without a report, and where the client has sent a batch twice, the position is not in a journal.
    values = {entry.contents[0]["value"]: entry.contents[0]["reason"] for entry in strangers.values()}
    poison = {entry.acknowledged[0]: entry.contents[0]["reason"] for entry in strangers.values() if entry.acknowledged}
    rejected = truth.rejected
    for position, message in truth.messages.items():
        found = rejected.get(position)
        event = truth.events.get(position)
        if position in poison:
            assert found == poison[position], f"the poison at {position} is {found}, not {poison[position]}"
        elif event is not None and event.id in entries:
            expected = _refusal(event, stamp_of(message), rules)
            assert found == expected, f"{event.id} at {position} is {found}, not {expected}"
        else:
            value = message.value()
            text = None if value is None else value.hex()
            assert text in values, f"nobody handed in what stands at {position}"
            assert found == values[text], f"the poison at {position} is {found}, not {values[text]}"
    wrong = {i for i, entry in entries.items() if entry.contents[0]["ahead"] > rules.future_tolerance_seconds}
    ahead = {i for i in wrong if entries[i].acknowledged}
    refused = {truth.events[position].id for position, reason in rejected.items() if reason == "in_future"}
    assert refused <= ahead, "an event of a right clock was rejected as in_future"
    assert not ahead or refused, "no event of the wrong clock was rejected"
