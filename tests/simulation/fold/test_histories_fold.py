"""The small histories that broke earlier designs of the fold, one test each, and the broken fold that each turns red.

oN is offset N, F folded_through, r a broker stamp in days, [a, b) a batch. Horizon 10 days, tolerance 3, slack 5.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from decimal import Decimal
from functools import partial

import pyarrow as pa
import pytest

from meterfold_processor.columns import limbs
from meterfold_processor.fold.flush import InsertRows, window_messages
from meterfold_schemas import catalog
from meterfold_schemas.errors import Fatal
from meterfold_schemas.framing import HEADER_SIZE
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import DAY, Period
from meterfold_schemas.quantities import to_decimal
from meterfold_schemas.schema_keys import header_of
from meterfold_sink.schema_decisions import POISON
from simulation.fold import verdict
from simulation.fold.histories import LAG
from simulation.fold.logs import ALIAS, ELSEWHERE, REGISTERED, RULES, Log, log_of, message_of, value_of
from simulation.fold.script import Hand, event, turns_red, world_of
from simulation.fold.variants import Variant
from simulation.fold.world import SETTLE, Parts, World

MESSAGE_LIMIT = 1_000_000
"""What brokers take by default, with room for what Kafka adds."""


def history_01(variant: Variant) -> None:
    world = world_of([event(0, "a"), event(1, "a"), event(2, "b")], variant)
    a = Hand(world)
    batch = a.fold(0, 2)
    a.land(batch, "records", "duplicates")
    a.land_windows(batch, Period.LIFETIME)
    world.finish()


def test_history_01_batch_that_landed_one_period_only() -> None:
    history_01(Variant())
    turns_red(history_01, "01_rolls_up_what_is_partly_folded", "01_merges_whole_shares")


def history_02(variant: Variant) -> None:
    world = world_of([event(0)], variant)
    a = Hand(world)
    a.land(a.fold(0, 1), "records", "windows")
    world.finish()
    assert len(world.store.published) == 4


def test_history_02_window_stored_but_not_published() -> None:
    history_02(Variant())
    turns_red(history_02, "02_publishes_changed_only")


def history_03(variant: Variant) -> None:
    world = world_of([event(0, "x"), event(1, "x")], variant)
    a = Hand(world)
    a.land_up_to(a.fold(0, 2), "progress")
    world.finish()


def test_history_03_crash_right_after_the_progress_row() -> None:
    history_03(Variant())
    turns_red(history_03, "03_duplicates_after_progress", "03_progress_before_publish")


def history_04(variant: Variant) -> None:
    world = world_of([event(0, "x", r=21), event(1, "x", r=19)], variant, batch=1)
    world.finish()
    assert world.store.now.duplicates[1]["counted_offset"] == 0


def test_history_04_retry_with_an_earlier_stamp() -> None:
    history_04(Variant())
    turns_red(history_04, "04_lookback_with_upper_bound")


def history_05(variant: Variant) -> None:
    for batch in (1, 50):
        world = world_of([event(0, "x", r=21, ahead=3), event(1, "x", r=32, ahead=-8)], variant, batch=batch)
        world.finish()


def test_history_05_event_ahead_of_its_time_retried_after_the_horizon() -> None:
    history_05(Variant())
    turns_red(history_05, "05_lookback_of_the_horizon")


SHORT = replace(RULES, record_retention=RULES.lookback + RULES.slack + LAG)


def history_06_expired(variant: Variant) -> None:
    world = world_of([event(0, "x", r=21), event(1, "x", r=33), event(2, r=44)], variant, rules=SHORT)
    world.available = 1
    a = Hand(world)
    a.land(a.fold(0, 1))
    world.available = 3
    world.store.expire_before(world.clock - SHORT.record_retention)
    assert 0 in world.store.expired
    try:
        world.finish()
    except Fatal:
        verdict.check_so_far(world.store, world.outcome)
        assert world.store.now.progress is not None
        assert world.store.now.progress.next_offset == 1
    else:
        raise AssertionError("the retry was judged although the record it repeats is gone")


def history_06_now(variant: Variant) -> None:
    world = world_of([event(0, "x", r=21), event(1, "x", r=33), event(2, r=44)], variant)
    a = Hand(world)
    a.land(a.fold(0, 1))
    world.finish()
    assert world.store.now.duplicates[1]["counted_offset"] == 0


def test_history_06_record_expired_while_its_retry_waits_unread() -> None:
    history_06_expired(Variant())
    turns_red(history_06_expired, "06_never_refuses_expired")
    history_06_now(Variant())
    turns_red(history_06_now, "06_loads_from_now")


def history_07(variant: Variant) -> None:
    world = world_of([event(0, "x"), event(1, "x")], variant)
    a = Hand(world)
    first, second = a.fold(0, 1), a.fold(1, 2)
    a.land(first)
    a.land(second)
    world.finish()


def test_history_07_retry_while_insert_in_flight() -> None:
    history_07(Variant())
    turns_red(history_07, "07_forgets_unacknowledged")


def history_08(variant: Variant) -> None:
    world = world_of([event(0, "x", r=21), event(1, r=32), event(2, r=36), event(3, "x", r=34)], variant)
    a = Hand(world)
    for offset in range(4):
        a.land(a.fold(offset, offset + 1))
    world.finish()


def test_history_08_filter_evicted_before_a_stamp_steps_back() -> None:
    history_08(Variant())
    turns_red(history_08, "08_evicts_by_highest_stamp")


def history_09(variant: Variant) -> None:
    events = [event(0, "x", r=21), event(1, "x", r=32), event(2, "x", r=40)]
    for cuts in ([0, 3], [0, 1, 3], [0, 2, 3], [0, 1, 2, 3]):
        world = world_of(events, variant)
        a = Hand(world)
        for first, end in itertools.pairwise(cuts):
            a.land(a.fold(first, end))
        world.finish()
        assert world.store.now.records.keys() == {0, 2}


def test_history_09_duplicate_of_a_duplicate() -> None:
    history_09(Variant())
    turns_red(history_09, "09_stood_before")


def history_10(other_horizon: int) -> None:
    """Rules are stored once and read by every worker; this is what happens to two that differ."""
    world = world_of([event(0, ahead=-12), event(1)], Variant())
    a = Hand(world)
    batch = a.fold(0, 2)
    world.rules = replace(RULES, horizon=other_horizon)
    b = Hand(world)
    world.rules = RULES
    b.land(b.fold(0, 2))
    a.land(batch)
    world.finish()


def test_history_10_two_workers_with_different_horizons() -> None:
    history_10(RULES.horizon)
    with pytest.raises(AssertionError):
        history_10(RULES.horizon + 5 * DAY)


def history_11_lost(variant: Variant) -> None:
    world = world_of([event(0), event(1)], variant)
    a = Hand(world)
    before = world.store.now.copy()
    a.land(a.fold(0, 1))
    assert world.store.committed == 1
    world.store.now = before  # the power went, or yesterday's backup was brought back
    world.finish()


def history_11_counters(variant: Variant) -> None:
    world = world_of([event(0), event(1)], variant)
    a = Hand(world)
    a.land_up_to(a.fold(0, 1), "progress")
    world.finish()


def history_11_fsync(*, everything: bool) -> None:
    world = world_of([event(0, "x"), event(1, "x")], Variant())
    a = Hand(world)
    before = world.store.now.copy()
    a.land(a.fold(0, 1))
    if everything:
        world.store.now = before
    else:
        del world.store.now.records[0]  # as if only windows and progress had reached the disk
    world.finish()


def test_history_11_clickhouse_lost_its_tail_after_the_commit() -> None:
    history_11_lost(Variant())
    turns_red(history_11_lost, "11_commit_decides")
    history_11_counters(Variant())
    turns_red(history_11_counters, "11_minimum_decides")
    history_11_fsync(everything=True)
    with pytest.raises(AssertionError):
        history_11_fsync(everything=False)


def test_history_12_topic_created_again_or_log_start_moved() -> None:
    """No fold can notice by itself: the offsets look like replays, or like a gap. Such a partition is not opened."""
    from meterfold_processor.fold.opening import _check_bounds

    world = world_of([event(offset) for offset in range(3)], Variant())
    world.finish()
    progress = world.store.now.progress
    assert progress is not None
    assert progress.next_offset == 3

    again = world_of([event(0, "new"), event(1, "new2")], Variant())
    again.store = world.store
    with pytest.raises(AssertionError):
        again.finish()
    with pytest.raises(Fatal, match="ends at 2"):
        _check_bounds(progress, log_start=0, log_end=2)

    moved = world_of([event(offset) for offset in range(6)], Variant())
    moved.store = world.store
    moved.log = Log(moved.log.events, moved.log.messages[5:])
    with pytest.raises(AssertionError, match=r"offsets \[3, 4\]"):
        moved.finish()
    with pytest.raises(Fatal, match="begins at 5"):
        _check_bounds(progress, log_start=5, log_end=6)
    _check_bounds(progress, log_start=3, log_end=3)


def history_13(variant: Variant) -> None:
    world = world_of([event(0, "x", ahead=4), event(1, "x")], variant, batch=1)
    world.finish()
    assert world.store.now.records.keys() == {1}


def test_history_13_corrected_retry_of_a_rejected_event() -> None:
    history_13(Variant())
    turns_red(history_13, "13_remembers_rejected")


def history_14(variant: Variant) -> None:
    world = world_of([event(0)], variant)
    world.finish()


def test_history_14_event_at_offset_zero() -> None:
    history_14(Variant())
    turns_red(history_14, "14_nothing_is_zero")


def history_15(variant: Variant) -> None:
    for moment in range(12):
        world = world_of([event(0, "x"), event(1, "x")], variant)
        zombie = Hand(world)
        late = zombie.fold(0, 1)
        b = Hand(world, meanwhile=lambda step, at=moment, z=zombie, ops=late: z.land(ops) if step == at else None)
        b.land(b.fold(0, 2))
        zombie.land(late)
        world.finish()


def test_history_15_zombie_writes_while_the_state_is_loaded() -> None:
    history_15(Variant())
    turns_red(history_15, "15_state_before_progress")


def test_history_16_flush_larger_than_the_message_limit() -> None:
    rng = random.Random(16)
    subjects = [("", "api.calls", "user", rng.randbytes(250).hex()) for _ in range(1800)]
    here = [subject for subject in subjects if partition_of(subject_key(*subject), 2) == 0]
    world = world_of([event(number, subject=subject) for number, subject in enumerate(here)], Variant())
    a = Hand(world)
    inserted = next(op for op in a.fold(0, len(here)) if isinstance(op, InsertRows) and op.table == "usage_windows")
    messages = list(window_messages(inserted.rows))
    assert max(map(len, messages)) < MESSAGE_LIMIT
    assert pa.concat_tables(pa.ipc.open_stream(message).read_all() for message in messages) == inserted.rows
    (unsplit,) = window_messages(inserted.rows, limit=2**40)
    assert len(unsplit) > MESSAGE_LIMIT, "this flush fits into one message: it shows nothing"


def history_17(variant: Variant) -> None:
    """o0 holds two records, with room for a nonce between them; o1 is sound."""
    events = [replace(event(0), poison="undecodable"), event(1)]
    sound, forged = value_of(event(0)), value_of(event(7, "forged"))
    spoiled = replace(message_of(event(0)), raw_value=sound + bytes(16) + forged)
    world = world_of(Log(events, [spoiled, message_of(events[1])]), variant)
    world.finish()


def test_history_17_two_records_in_one_message() -> None:
    history_17(Variant())
    turns_red(history_17, "17_no_nonce")


def history_17_json(variant: Variant) -> None:
    """o0 holds two JSON objects; o1 is sound."""
    events = [replace(event(0), poison="undecodable"), event(1)]
    two = replace(message_of(events[0]), raw_value=value_of(event(0), "json") + value_of(event(7, "forged"), "json"))
    sound = replace(message_of(events[1]), raw_value=value_of(event(1), "json"))
    world = world_of(Log(events, [two, sound]), variant)
    world.finish()


def test_history_17_two_json_objects_in_one_message() -> None:
    history_17_json(Variant())
    turns_red(history_17_json, "17_json_lines")


def test_an_event_counts_once_in_whatever_format_it_is_sent_again() -> None:
    """The same identity as Avro, JSON and a CloudEvent, in every order: the first one counts."""
    for order in itertools.permutations(("avro", "json", "cloud event")):
        events = [event(number, "x") for number in range(3)]
        messages = [
            replace(message_of(one), raw_value=value_of(one, form)) for one, form in zip(events, order, strict=True)
        ]
        world = world_of(Log(events, messages), Variant())
        world.finish()
        assert set(world.store.now.records) == {0}
        assert set(world.store.now.duplicates) == {1, 2}


def history_18_partitioner(variant: Variant) -> None:
    """The subject belongs to another partition, where it may be counted; here it must not be."""
    stray = replace(event(0, "x", subject=ELSEWHERE), poison="misrouted")
    world = world_of(log_of([stray, event(1)]), variant)
    world.finish()


def history_18_grown(*, read_again: bool) -> None:
    """The topic has 3 partitions now; the worker still knows 2 and would reject what is rightly keyed."""
    names = [("", "api.calls", "user", f"u{number}") for number in range(100)]
    moved = next(s for s in names if partition_of(subject_key(*s), 3) == 0 and partition_of(subject_key(*s), 2) == 1)
    world = world_of([event(0, subject=moved)], Variant())

    def count_differs() -> None:
        raise Fatal("the topic has 3 partitions")

    if read_again:
        world.check_partition_count = count_differs
    world.finish()


def test_history_18_subject_on_two_partitions() -> None:
    history_18_partitioner(Variant())
    turns_red(history_18_partitioner, "18_never_misrouted")
    with pytest.raises(Fatal, match="3 partitions"):
        history_18_grown(read_again=True)
    with pytest.raises(AssertionError):
        history_18_grown(read_again=False)


def test_history_36_last_offset_is_a_transaction_marker() -> None:
    """Markers are gaps: the fold stands behind the last message, never at the log's end, and yet all is folded."""
    world = world_of([event(0), event(3)], Variant())
    world.finish()
    progress, log_end = world.store.now.progress, 5
    assert progress is not None
    assert progress.next_offset == 4 < log_end
    assert not [message for message in world.log.messages if message.at_offset >= progress.next_offset]
    a = Hand(world)
    assert a.fold(0, log_end) == []


def history_37() -> list[int]:
    """A window one billionth below the limit of decimal(38, 9), and an event of two billionths."""
    tiny = replace(event(1), quantity=Decimal("0.000000002"))
    world = world_of([event(0), tiny], Variant())
    a = Hand(world)
    a.land(a.fold(0, 1))
    largest = to_decimal(limbs.LIMIT - 1)
    world.store.now.windows = {key: {**row, "sum": largest} for key, row in world.store.now.windows.items()}
    b = Hand(world)
    windows = next(op for op in b.fold(1, 2) if isinstance(op, InsertRows) and op.table == "usage_windows")
    return limbs.from_arrow(windows.rows["sum"]).to_ints()


def test_history_37_sum_beyond_decimal_38(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Fatal, match="left decimal"):
        history_37()
    monkeypatch.setattr(limbs, "_refuse_overflow", lambda total, wrapped: None)
    assert min(history_37()) >= limbs.LIMIT  # 39 digits in a column of 38


def log_of_a_foreign(key: bytes) -> Log:
    """One event, with the fingerprint that another library computes, or with a registry id."""
    only = event(0)
    message = replace(message_of(only), raw_value=header_of(key) + value_of(only)[HEADER_SIZE:])
    return Log([replace(only, fingerprint=key)], [message])


def history_of_a_schema(variant: Variant, key: bytes) -> None:
    """A worker that knows the fingerprint writes that it is read. An operator's `poison` has an earlier stamp and turns
    up later; the worker dies after its records were stored, and whoever comes next obeys the first decision."""
    world = World(log_of_a_foreign(key), random.Random(0), variant.parts, gentle=True, schema_rng=random.Random(0))
    world.batch_sizes = [1]
    a = world.start()
    a.knows = {key: catalog.latest("usage_recorded")}
    while not any(row.fact == "decision" for row in world.store.decisions.get(key, [])):
        a.step()
    its_own = next(row for row in world.store.decisions[key] if row.fact == "decision")
    world.store.write_fact(key, "decision", POISON, its_own.stamp - 1, SETTLE)
    while not world.store.now.records and world.ticks < its_own.stamp + 2 * SETTLE:
        a.step()
    world.finish()
    assert set(world.store.now.rejected) == {0}


def test_a_decision_about_a_schema_is_obeyed_only_when_no_earlier_one_can_turn_up() -> None:
    for key in (ALIAS, REGISTERED):
        history_of_a_schema(Variant(), key)
        with pytest.raises(AssertionError):
            history_of_a_schema(Variant(Parts(settle=0)), key)


def test_what_decides_about_a_schema_is_stored() -> None:
    """A worker of a newer version and one of an older one, or one with a registry and one without, which would come to
    different ends."""
    for key in (ALIAS, REGISTERED):
        history = partial(history_of_two_versions, key=key)
        turns_red(history, "39_own_clock_decides_a_schema", "39_version_decides_a_schema")
        history(Variant())


def test_an_id_means_what_was_stored_when_the_registry_is_gone() -> None:
    """A worker with a registry stores what the id means, and dies. One without a registry counts the event."""
    world = World(log_of_a_foreign(REGISTERED), random.Random(0), gentle=True, schema_rng=random.Random(0))
    world.hold_ticks = 10**6
    first = world.start()
    first.knows = {REGISTERED: catalog.latest("usage_recorded")}
    while not any(row.fact == "decision" for row in world.store.decisions.get(REGISTERED, [])):
        first.step()
    world.workers.clear()
    last = world.start()
    last.knows = {}
    while last.step():
        pass
    assert set(world.store.now.records) == {0}
    verdict.check_end(world.store, world.log, world.outcome)


def history_of_two_versions(variant: Variant, key: bytes) -> None:
    """The older worker decides first: poison, by time. The newer one, which could read the message, takes over."""
    world = World(log_of_a_foreign(key), random.Random(0), variant.parts, gentle=True, schema_rng=random.Random(0))
    older, newer = world.start(), world.start()
    older.knows, newer.knows = {}, {key: catalog.latest("usage_recorded")}
    while newer.fold is None:
        newer.step()
    while not world.store.now.rejected:
        older.step()
    while newer.step():
        pass
    verdict.check_end(world.store, world.log, world.outcome)
