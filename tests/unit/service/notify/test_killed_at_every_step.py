"""The notifier killed at every step of its work: nothing is lost, and a receiver that keys on the id sees each once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from meterfold_schemas.endpoint_changes import EndpointChanged, EndpointState
from meterfold_schemas.events import ThresholdEvent
from meterfold_service.notify import consumer
from meterfold_service.notify.delivering import FAILING_AFTER, Deliverer
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.payloads import payload
from meterfold_sink.notification_tries import TryRow
from meterfold_sink.notifications import Failures
from support.deliveries import event
from support.notifier import HOOK, MAIL, OPERATOR, START, Crash, Fuse, MemoryStore, Notifier, World

AWAY = Outcome("retry", 0, "the connection failed")
GONE = Outcome("gone", 410, "the receiver answered 410 Gone")


def events(count: int) -> list[ThresholdEvent]:
    return [event(subject_id=f"u{number}") for number in range(count)]


def scenario(name: str) -> World:
    answers = {
        "well": {},
        "mail server away": {MAIL: [AWAY] * 3},
        "endpoint away, then back": {HOOK: [AWAY] * 14},
        "endpoint gone": {HOOK: [Outcome("delivered", 200), *[GONE] * 20]},
    }[name]
    return World(answers=answers, log=list(events(3)))


SCENARIOS = ("well", "mail server away", "endpoint away, then back", "endpoint gone")


def lives(name: str, crash_at: int | None, again: int | None = None) -> tuple[World, int]:
    """The world after a notifier that dies at a step, a second one that dies at another, and one that does not; and the
    steps of the first."""
    world = scenario(name)
    steps = 0
    for at in (crash_at, again, None):
        fuse = Fuse(at)
        with suppress(Crash):
            Notifier(world, fuse).live()
        steps = steps or fuse.steps
    return world, steps


def problems(name: str, world: World, crashes: int) -> list[str]:
    """What a receiver, an operator or a reader of the tables would miss."""
    found = []
    wanted = {found.event_id for found in events(3)}
    states = world.states()
    for target in (MAIL, HOOK):
        received = world.received(target)
        got = set(received) & wanted
        if name == "endpoint gone" and target == HOOK:
            over = {event_id for event_id in wanted if states.get((event_id, HOOK)) in ("failed", "disabled")}
            # One that arrived before the crash may be refused when it is repeated.
            if not got or len(got & over) > crashes or got | over != wanted:
                found.append(f"{target}: received {got}, not delivered {over}")
        elif got != wanted or any(states.get((event_id, target)) != "delivered" for event_id in wanted):
            found.append(f"{target}: received {len(got)} of {len(wanted)}, {states}")
        repeats = sum(count - 1 for count in received.values())
        if repeats > crashes:
            found.append(f"{target}: {repeats} repeats after {crashes} crashes")
    changes = sorted(change.state.value for change in world.published())
    expected = {"endpoint away, then back": ["active", "failing"], "endpoint gone": ["disabled"]}.get(name, [])
    if changes != expected:
        found.append(f"events about the endpoint: {changes}, not {expected}")
    if set(world.received(OPERATOR)) != {change.event_id for change in world.published()}:
        found.append("the operators did not get a mail about each")
    if world.unrecorded:
        found.append(f"sent without a row: {world.unrecorded}")
    interrupted = [row for row in world.tries.values() if row.state == "sending"]
    if len(interrupted) > crashes:
        found.append(f"{len(interrupted)} tries have no end after {crashes} crashes")
    return found


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_wherever_it_is_killed(name: str) -> None:
    world, steps = lives(name, None)
    assert problems(name, world, 0) == []
    assert steps > 30
    for at in range(steps):
        world, _ = lives(name, at)
        assert problems(name, world, 1) == [], f"killed at step {at}"


def test_of_an_event_that_was_published_twice_the_first_one_is_sent() -> None:
    """Also where both are read again, because ClickHouse was restored: a receiver got the first under this id."""
    first = EndpointChanged(
        occurred_at=START, endpoint=HOOK, state=EndpointState.FAILING, since=START, failures=5, reason="status 500"
    )
    again = replace(first, occurred_at=START + timedelta(seconds=9), failures=6, reason="no answer")
    assert again.event_id == first.event_id
    world = World(log=[first, again])
    Notifier(world, Fuse(None)).live()
    (row,) = [row for row in world.tries.values() if row.attempt == 0]
    assert (row.payload, row.occurred_at) == (payload(first), START)


def test_nothing_is_lost_when_it_is_killed_twice() -> None:
    name = "endpoint away, then back"
    _, steps = lives(name, None)
    for at in range(0, steps, 7):
        for again in range(0, steps, 11):
            world, _ = lives(name, at, again)
            assert problems(name, world, 2) == [], f"killed at steps {at} and {again}"


def broken(patch: pytest.MonkeyPatch, variant: str) -> None:
    plan, change = consumer.plan, Deliverer._change

    def progress_first(sources, positions, thresholds, store, rules, now):  # type: ignore[no-untyped-def]
        store.write_progress(positions)
        return plan(sources, positions, thresholds, store, rules, now)

    class RowsFirst:
        """The endpoint's row before its event."""

        def __init__(self, journal: Notifier) -> None:
            self.journal = journal
            self.event = None

        async def publish(self, event) -> None:  # type: ignore[no-untyped-def]
            self.event = event

        async def write_endpoint(self, row) -> None:  # type: ignore[no-untyped-def]
            await self.journal.write_endpoint(row)
            await self.journal.publish(self.event)  # type: ignore[arg-type]

    async def rows_first(self: Deliverer, *arguments: object) -> None:
        reversed_ = Deliverer(
            self.senders,
            RowsFirst(self.journal),  # type: ignore[arg-type]
            self.disable_after,
            self.chance,
            self.clock,
        )
        await change(reversed_, *arguments)  # type: ignore[arg-type]

    async def unrecorded(self: Notifier, row: TryRow) -> None:
        if row.stage != 1:
            self.store.write([row])

    if variant == "progress before the deliveries":
        patch.setattr("support.notifier.plan", progress_first)
    elif variant == "endpoint's row before its event":
        patch.setattr(Deliverer, "_change", rows_first)
    else:
        patch.setattr(Notifier, "write", unrecorded)


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("progress before the deliveries", "well"),
        ("endpoint's row before its event", "endpoint gone"),
        ("no row before the try", "well"),
    ],
)
def test_a_broken_notifier_is_noticed(variant: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, variant)
    _, steps = lives(name, None)
    found = [problem for at in range(steps) for problem in problems(name, lives(name, at)[0], 1)]
    assert found


def test_the_tries_of_an_endpoint_are_not_read_while_it_is_known_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    failures = MemoryStore.failures

    def counting(self: MemoryStore, endpoint: str) -> Failures:
        asked.append(endpoint)
        return failures(self, endpoint)

    monkeypatch.setattr(MemoryStore, "failures", counting)
    world = World(answers={HOOK: [AWAY] * 1_000}, log=list(events(1)))
    Notifier(world, Fuse(None)).live()
    tries = [row for row in world.tries.values() if row.target == HOOK and row.attempt]
    assert len(tries) > 2 * FAILING_AFTER
    assert [change.state for change in world.published()] == [EndpointState.FAILING]
    assert asked == [HOOK] * FAILING_AFTER
