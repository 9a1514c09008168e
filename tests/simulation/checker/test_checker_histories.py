"""The small histories that broke earlier drafts of the checker, each exactly, and each red without its remedy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.pace import Sizes
from meterfold_schemas.periods import DAY, HOUR
from simulation.checker import variants
from simulation.checker.variants import Broken
from simulation.checker.verdict import Violation, check, name_of, read
from simulation.checker.worker import Worker
from simulation.checker.world import NO_ORG, OTHER, T0, TOPICS, U1, U2, World

U3 = ("acme", "api.calls", "user", "u3")

History = Callable[[World], None]


def holds(history: History, *broken: Broken) -> None:
    """The history ends well with the real checker, and is a violation with each broken one."""
    history(World())
    for variant in broken:
        with pytest.MonkeyPatch.context() as patch:
            variant.install(patch)
            with pytest.raises(Violation):
                history(World(variant=variant))


def finish(world: World) -> None:
    world.come_to_rest()
    check(world)


def advance_to(worker: Worker, kind: type, *, after: bool = False) -> None:
    """Up to an operation of this kind: it is the next to be performed, or (after) was just performed."""
    for _ in range(200):
        if isinstance(worker.operation, kind):
            if after:
                worker.advance()
            return
        worker.advance()
    raise AssertionError(f"no {kind.__name__} in 200 operations")


def test_history_19_published_while_the_insert_is_in_flight() -> None:
    def history(world: World) -> None:
        world.metric()
        world.start()
        world.run()
        world.use(120)
        flush = world.store.fold(0)
        first, second = flush.insert, lambda: world.publish(0, flush.rows)
        if isinstance(world.variant, variants.PublishBeforeInsert):
            first, second = second, first
        first()
        world.run()
        world.threshold()
        world.run()
        second()
        flush.progress()
        world.run()
        finish(world)

    holds(history, variants.PublishBeforeInsert())


def test_history_20_a_later_window_at_an_older_offset() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold()
        world.start()
        world.run()
        world.use(50)  # o0, window 0
        world.use(120, at=T0 + DAY)  # o1, window 1
        world.use(60)  # o2, window 0: exceeded at F=2
        flush = world.store.fold(0)
        flush.insert()
        for start in sorted({row.name.start for row in flush.rows}):
            world.publish(0, [row for row in flush.rows if row.name.start == start])
            world.run()
        flush.progress()
        finish(world)

    holds(history, variants.PositionPerSubject())


def test_history_21_an_old_row_after_a_restart() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold()
        worker = world.start()
        world.use(50)
        old = world.fold()
        backup = dict(world.store.stored[0])
        world.use(60)
        world.fold()
        world.run()
        world.kill(worker)
        newest = world.store.stored[0]
        world.store.stored[0] = backup  # ClickHouse came back from a backup; the fold repairs it a little later
        world.start()
        world.run()
        world.publish(0, old.rows)  # and a zombie of the fold wakes up
        world.run()
        world.store.stored[0] = newest
        finish(world)

    holds(history, variants.PositionsInMemory())


def test_history_22_a_throttled_aggregate_whose_offset_is_committed() -> None:
    def history(world: World) -> None:
        world.metric()
        worker = world.start()
        world.run()
        world.use(10)
        world.fold()
        world.run()
        world.use(20)
        world.fold()
        world.tick(2_000_000)  # within the interval, but late enough for the offsets
        world.run()
        assert world.kafka.offsets[0] == world.kafka.log(TOPICS.usage_windows).end
        world.kill(worker)
        finish(world)

    holds(history, variants.StreamOnly())


def test_history_23_a_crash_between_a_definition_and_a_quiet_subject() -> None:
    def history(world: World) -> None:
        world.metric()
        worker = world.start()
        world.run()
        world.use(120)
        world.fold()
        world.tick(2_000_000)
        world.run()
        world.threshold()
        advance_to(worker, ops.LoadWindows)
        world.kill(worker)
        finish(world)

    holds(history, variants.StreamOnly())


def test_history_24_definitions_change_and_the_window_does_not() -> None:
    def new_version(world: World) -> None:
        world.metric()
        world.threshold(limit=100, warn=45)
        world.start()
        world.use(50)
        world.fold()
        world.run()
        world.threshold(limit=40)
        world.run()
        finish(world)

    def new_type(world: World) -> None:
        world.metric("max")
        world.threshold(limit=100)
        world.start()
        for _ in range(2):
            world.use(85)
        world.fold()
        world.run()
        world.metric("sum")
        world.run()
        finish(world)

    def narrower(world: World) -> None:
        world.metric()
        world.threshold(limit=100)
        world.start()
        world.use(90)
        world.fold()
        world.run()
        world.threshold("own", limit=50, subject=("user", "u1"))
        world.run()
        finish(world)

    def narrower_goes(world: World) -> None:
        world.metric()
        world.threshold("wide", limit=100)
        world.threshold("own", limit=50, subject=("user", "u1"))
        world.start()
        world.use(90)
        world.fold()
        world.run()
        world.delete_threshold("own")
        world.run()
        finish(world)

    for history in (new_version, new_type, narrower, narrower_goes):
        holds(history, variants.OnlyNewerRows())


def test_history_24_versions_fall_after_compaction() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold("t1", limit=100)
        world.threshold("t2", limit=500)
        worker = world.start()
        world.use(120)
        world.fold()
        world.run()
        world.delete_threshold("t2")
        world.run()
        world.kill(worker)
        world.compact()
        world.start()
        world.run()
        world.use(-60)
        world.fold()
        finish(world)

    holds(history, variants.VersionsAsPositions())


def test_history_25_offsets_are_gone_and_a_window_closed_meanwhile() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold()
        worker = world.start()
        world.run()
        world.kill(worker)
        world.use(120)
        world.fold()
        world.tick(DAY)
        world.use(1, U2)  # the mark passes the window's end
        world.fold()
        world.kafka.offsets.clear()
        world.kafka.log(TOPICS.usage_windows).expire()
        finish(world)

    holds(history, variants.ClosedAtTheEnd())


def test_history_26_a_transaction_without_offsets_fences_no_one() -> None:
    def history(world: World) -> None:
        world.metric()
        zombie = world.start(0)
        world.use(120)
        world.fold()
        world.run()
        world.threshold()  # judged at once: no row is consumed
        advance_to(zombie, ops.Produce)
        world.expel(zombie)
        owner = world.start(1)
        world.run(owner)
        zombie.turn()
        finish(world)

    holds(history, variants.WithoutOffsets())


def test_history_27_the_last_marker_is_missing() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold()
        worker = world.start(0)
        world.run()
        world.use(120)
        world.fold()
        worker.faults["commit"] = "late marker"
        advance_to(worker, ops.CommitTransaction, after=True)
        world.kafka.finish_offsets(world.kafka.current[worker.producer.name])
        world.kill(worker)
        owner = world.start(1)
        advance_to(owner, ops.ReadStates, after=True)
        world.kafka.finish_decided()
        finish(world)

    holds(history, variants.CommittedEnds())


def test_history_27_offsets_before_the_flush_and_ends_before_the_offsets() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold()
        zombie = world.start(0)
        world.run()
        world.use(120)
        world.fold()
        world.random.randint = lambda low, high: 0  # type: ignore[method-assign]  # nothing is delivered before a flush
        advance_to(zombie, ops.SendOffsets, after=True)
        world.expel(zombie)
        owner = world.start(1)
        advance_to(owner, ops.FetchEnds if isinstance(world.variant, Broken) else ops.FetchCommitted, after=True)
        zombie.turn()
        world.kafka.finish_decided()
        finish(world)

    holds(history, variants.LateFlushEarlyEnds())


def test_history_28_an_aborted_transaction_leaves_memory_ahead() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold()
        worker = world.start()
        world.run()
        world.use(120)
        world.fold()
        worker.faults["commit"] = "aborted"
        world.run()
        finish(world)

    holds(history, variants.KeepsMemoryAfterAbort())


def test_history_29_a_new_owner_with_old_definitions() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold(limit=100)
        world.threshold(limit=50)
        worker = world.start()
        world.use(90)
        world.fold()
        # The first owner follows the definitions live.
        world.run()
        world.run()
        world.kill(worker)
        world.start()
        world.run()
        finish(world)

    holds(history, variants.OldDefinitions())


def test_history_30_state_of_a_closed_window_dropped_too_early() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold()
        worker = world.start()
        world.use(120)
        world.fold()
        world.run()
        world.tick(DAY)
        world.use(1, U2)
        world.fold()
        world.tick(5_000_000)
        world.run()
        world.kill(worker)
        finish(world)

    holds(history, variants.ForgetsEarly())


@pytest.mark.parametrize("values", [(110, 90, 50), (110, 90, 110)])
def test_history_31_one_crossing_counter_for_two_levels(values: tuple[int, ...]) -> None:
    def history(world: World) -> None:
        world.metric("last")
        world.threshold()
        world.start()
        for value in values:
            world.tick()
            world.use(value)
            world.fold()
            world.run()
        finish(world)

    holds(history, variants.OneCounter())


def test_history_32_a_deletion_that_expires() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold()
        worker = world.start()
        world.use(120)
        world.fold()
        world.run()
        if isinstance(world.variant, variants.DeletionsElsewhere):
            world.history["threshold"].append(("t1", None))
            world.kafka.publish(world.variant.TOPIC, 0, b"t1", None)
        else:
            world.delete_threshold()
        world.run()
        world.kill(worker)
        world.compacted = True  # positions are not comparable with a deletion elsewhere: look at the end only
        world.kafka.log(variants.DeletionsElsewhere.TOPIC).expire()
        world.kafka.log(TOPICS.threshold_defined).compact(10**9)
        finish(world)

    holds(history, variants.DeletionsElsewhere())


def test_history_33_cleared_is_read_before_its_exceeded() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold()
        world.start()
        for quantity in (120, -100):
            world.use(quantity)
            world.fold()
            world.run()
        world.come_to_rest()
        committed = read(world)
        seen: dict[str, set[str]] = {}
        received: set[str] = set()
        # Another topic, another order. The receiver keeps the first message of each event id, and cleared wins.
        arriving = zip(committed.events, committed.event_ids, strict=True)
        for event, event_id in sorted(arriving, key=lambda pair: pair[0].event_type, reverse=True):
            if event_id not in received:
                received.add(event_id)
                seen.setdefault(event.alert_id, set()).add(event.event_type)
        if not all("threshold.cleared" in types for types in seen.values()):
            raise Violation("an alert stays pending for ever")

    holds(history, variants.OneEventId())


def test_history_34_an_own_threshold_comes_and_goes() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold("wide", limit=100)
        world.threshold("own", limit=1000, subject=("user", "u1"))
        world.start()
        world.use(120, U1)
        world.use(120, U2)
        world.fold()
        world.run()
        world.delete_threshold("own")
        world.run()
        assert_levels(world, {("wide", "u1"): "exceeded", ("wide", "u2"): "exceeded"})
        world.threshold("own", limit=110, subject=("user", "u1"))
        world.run()
        assert_levels(world, {("wide", "u1"): "none", ("wide", "u2"): "exceeded", ("own", "u1"): "exceeded"})
        finish(world)

    holds(history, variants.NoReplacement(), variants.OnlyOwnSubjects())


def test_a_threshold_of_every_organization_judges_each_subject_by_itself() -> None:
    def history(world: World) -> None:
        world.metric("sum")
        world.metric("max", "acme")
        world.start()
        for subject in (U1, OTHER, NO_ORG):
            world.use(60, subject)
            world.use(60, subject)
        world.fold()
        world.run()
        world.threshold("all", limit=100, org_id=None)
        world.run()
        by_org = {"other": "exceeded", "": "exceeded"}  # acme's own metric takes the largest: 60
        assert_levels(world, {("all", org): level for org, level in by_org.items()}, part=0)
        world.threshold("all", limit=50, org_id=None)
        world.run()
        assert_levels(world, {("all", org): "exceeded" for org in ("acme", "other", "")}, part=0)
        world.delete_metric()
        world.run()
        assert_levels(world, {("all", "acme"): "exceeded", ("all", "other"): "none", ("all", ""): "none"}, part=0)
        finish(world)

    holds(history, variants.WideIsWithoutOrg(), variants.OneTypePerThreshold(), variants.WideChangesNoOrg())


def test_a_threshold_of_one_organization_replaces_that_of_every_organization_there() -> None:
    def history(world: World) -> None:
        world.metric()
        world.threshold("all", limit=100, org_id=None, subject=("user", "u1"))
        world.start()
        for subject in (U1, U2, OTHER, NO_ORG):
            world.use(120, subject)
        world.fold()
        world.run()
        everywhere = {("all", org): "exceeded" for org in ("acme", "other", "")}
        assert_levels(world, everywhere, part=0)
        # Of all its subjects, and still narrower than the one that names u1.
        world.threshold("own", limit=1000, warn=110)
        world.run()
        assert_levels(world, {**everywhere, ("all", "acme"): "none", ("own", "acme"): "approaching"}, part=0)
        world.threshold("nobody", limit=1000, org_id="")
        world.run()
        world.delete_threshold("own")
        world.run()
        gone = {("all", ""): "none", ("own", "acme"): "none"}
        assert_levels(world, {**everywhere, **gone}, part=0)
        finish(world)

    holds(history, variants.WideIsWithoutOrg(), variants.OrgDoesNotReplace(), variants.NoReplacement())


def test_an_abort_between_two_pieces_of_stored_windows() -> None:
    """Windows 1 and 2 are judged from ClickHouse, one piece each, and the transaction of the second piece aborts."""

    def history(world: World) -> None:
        world.sizes = Sizes(smallest=1, pieces=1, events=1)
        world.metric()
        worker = world.start()
        world.run()
        for subject in (U1, U2, U3):
            world.use(120, subject)
        world.fold()
        world.tick(2_000_000)
        world.run()
        world.threshold()
        for _ in range(2):
            advance_to(worker, ops.Produce, after=True)
        worker.faults["commit"] = "aborted"
        world.run()
        finish(world)
        assert_levels(world, dict.fromkeys((("t1", "u1"), ("t1", "u2"), ("t1", "u3")), "exceeded"))

    holds(history, variants.ForgetsTheRest())


def test_rows_of_the_stream_that_are_older_than_the_stored_ones() -> None:
    """The group's offsets are lost: the log is read from its beginning, where the value was above a limit that a later
    threshold has. No event may tell of it."""

    def history(world: World) -> None:
        world.sizes = Sizes(smallest=1, pieces=1, events=1)
        world.metric("last")
        for value in (120, 20):
            world.use(value, U2)
            world.use(1, U1)
            world.fold()
        world.threshold()
        worker = world.start()
        worker.faults["lag"] = "yes"
        world.random.randint = lambda low, high: min(1, high)  # type: ignore[method-assign]  # one message per poll
        world.run()
        finish(world)
        if read(world).events:
            raise Violation("a value that is long gone was judged")

    holds(history, variants.BelievesTheStream())


def test_aggregates_wait_for_judging() -> None:
    def history(world: World) -> None:
        world.sizes = Sizes(smallest=1, pieces=1, events=1)
        world.metric()
        world.threshold()
        worker = world.start()
        for subject in (U1, U2, U3):
            world.use(120, subject)
            world.fold()
        world.run()
        world.kill(worker)
        world.start()
        world.run()
        world.threshold(limit=50)
        finish(world)

    holds(history, variants.AggregatesFirst(), variants.EmitsBeforeReadingBack())


def assert_levels(world: World, expected: dict[tuple[str, str], str], part: int = 3) -> None:
    """Violation unless these are the states now, before anything else happens. `part`: which one of the subject."""
    found = {(state.threshold_id, name_of(state).subject[part]): state.level.value for _, state in read(world).states}
    if found != expected:
        raise Violation(f"{found} instead of {expected}")


def test_state_is_forgotten_when_no_one_can_ask_for_it() -> None:
    world = World()
    world.metric()
    world.threshold()
    world.start()
    world.use(120)
    world.fold()
    world.run()
    for _ in range(10):
        world.tick(DAY)
        world.use(1, U2)
        world.fold()
        world.run()
    finish(world)
    newest = {entry.key: entry.value for entry in world.kafka.log(TOPICS.threshold_state).committed()[0]}
    gone = [key for key, value in newest.items() if value is None]
    assert len(gone) == 1
    assert b'"u1"' in (gone[0] or b"")


def test_finals_come_once_and_again_as_a_revision() -> None:
    world = World()
    world.metric()
    world.start()
    world.use(10)
    world.fold()
    world.tick(DAY)
    world.run()
    assert not [e for e in check_aggregates(world) if e[1]], "final while the fold lags"
    world.use(1, U2)
    world.fold()
    world.tick(HOUR)
    world.run()
    assert check_aggregates(world) == [(0, False), (0, True)]
    world.use(5, at=T0)
    world.fold()
    finish(world)
    assert check_aggregates(world) == [(0, False), (0, True), (2, True)]


def check_aggregates(world: World) -> list[tuple[int, bool]]:
    """(revision, is_final) of the first daily window of u1, as emitted."""
    return [
        (event.revision, event.is_final)
        for _, event in read(world).aggregates
        if event.subject_id == "u1" and event.period_type == "daily"
    ]
