"""When which delivery is tried next: nothing that is open is forgotten, and one target takes no more than its share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from meterfold_service.notify.agenda import PER_TARGET, Agenda
from meterfold_sink.notification_tries import ENDED, TryRow
from meterfold_sink.notifications import DeliveryKey, DueDelivery, OpenDelivery

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
PLACE, OTHER = ("threshold.exceeded", 0), ("threshold.exceeded", 1)


def an_open(number: int, target: str = "a", due: float = 0, place: tuple[str, int] = PLACE) -> OpenDelivery:
    """One that is due `due` seconds from NOW."""
    key = DeliveryKey(f"e{number}", "webhook", target)
    return OpenDelivery(key, NOW - timedelta(minutes=number), *place, NOW + timedelta(seconds=due))


def state(one: OpenDelivery, due: float | None = None) -> DueDelivery:
    return DueDelivery(
        occurred_at=one.occurred_at, event_id=one.key.event_id, channel=one.key.channel, target=one.key.target,
        event_type="threshold.exceeded", topic=one.topic, partition=one.partition, org_id="", threshold_id="",
        alert_id="", round=0, attempt=0, state="pending", due_at=one.due_at if due is None else at(due),
        give_up_at=NOW + timedelta(days=3), payload="{}",
    )  # fmt: skip


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def ended(one: OpenDelivery, state: str, due: float = 0) -> TryRow:
    return TryRow(
        occurred_at=one.occurred_at, event_id=one.key.event_id, channel=one.key.channel, target=one.key.target,
        attempt=1, stage=ENDED, state=state, due_at=at(due), give_up_at=NOW + timedelta(days=3),
        event_type="threshold.exceeded", topic=one.topic, partition=one.partition, ended_at=NOW,
    )  # fmt: skip


def names(found: list[OpenDelivery]) -> list[str]:
    return [one.key.event_id for one in found]


def test_due_ones_are_chosen_longest_first_and_few_of_one_target() -> None:
    agenda = Agenda()
    agenda.load([an_open(n, "slow", -n) for n in range(20)] + [an_open(30, "b", -0.5), an_open(31, "b", 5)])
    chosen = agenda.choose(NOW, [PLACE], (), 100)
    assert names(chosen) == ["e19", "e18", "e17", "e16", "e30"]
    busy = [an_open(n, "slow").key for n in range(PER_TARGET)]
    agenda.load([an_open(9, "slow"), an_open(30, "b")])
    assert names(agenda.choose(NOW, [PLACE], busy, 100)) == ["e30"]


def test_more_than_are_asked_for_stay() -> None:
    agenda = Agenda()
    agenda.load([an_open(n, f"t{n}", -n) for n in range(5)])
    first = agenda.choose(NOW, [PLACE], (), 2)
    assert agenda.settle(first, [], NOW) == []
    assert names(agenda.choose(NOW, [PLACE], (), 9)) == ["e2", "e1", "e0"]


def test_the_store_says_what_is_due() -> None:
    """The agenda may be behind: another notifier has finished one, and tried another one."""
    agenda = Agenda()
    agenda.load([an_open(1, "a"), an_open(2, "b"), an_open(3, "c")])
    chosen = agenda.choose(NOW, [PLACE], (), 9)
    due = agenda.settle(chosen, [state(an_open(2, "b")), state(an_open(3, "c"), 60)], NOW)
    assert [one.event_id for one in due] == ["e2"]
    agenda.ended(ended(an_open(2, "b"), "retrying", 30))
    assert agenda.choose(at(29), [PLACE], (), 9) == []
    assert names(agenda.choose(at(60), [PLACE], (), 9)) == ["e2", "e3"]


def test_a_delivery_ends_or_is_tried_again() -> None:
    agenda = Agenda()
    agenda.load([an_open(1)])
    (one,) = agenda.choose(NOW, [PLACE], (), 9)
    agenda.settle([one], [state(one)], NOW)
    assert agenda.waiting() == {"webhook": (1, one.occurred_at)}
    agenda.ended(ended(one, "delivered"))
    assert agenda.waiting() == {}
    assert agenda.choose(at(1e6), [PLACE], (), 9) == []


def test_a_redelivery_that_is_requested_during_a_try_is_sent_after_it() -> None:
    for state_after in ("delivered", "retrying"):
        agenda = Agenda()
        agenda.load([an_open(1)])
        (one,) = agenda.choose(NOW, [PLACE], (), 9)
        agenda.settle([one], [state(one)], NOW)
        agenda.add([one._replace(due_at=at(1))])
        assert agenda.choose(at(2), [PLACE], [one.key], 9) == []
        agenda.ended(ended(one, state_after, 3600))
        assert names(agenda.choose(at(2), [PLACE], (), 9)) == ["e1"]


def test_a_load_during_a_try_does_not_forget_the_delivery() -> None:
    """The load reads a new round of the delivery, whose try of the earlier round then ends."""
    agenda = Agenda()
    agenda.load([an_open(1)])
    assert agenda.choose(NOW, [PLACE], [an_open(1).key], 9) == []
    agenda.ended(ended(an_open(1), "delivered"))
    assert names(agenda.choose(NOW, [PLACE], (), 9)) == ["e1"]


def test_other_partitions_are_not_sent() -> None:
    agenda = Agenda()
    agenda.load([an_open(1), an_open(2, place=OTHER)])
    assert names(agenda.choose(NOW, [OTHER], (), 9)) == ["e2"]
    agenda.load([an_open(1), an_open(2, place=OTHER)])
    agenda.keep([PLACE])
    assert agenda.waiting()["webhook"][0] == 1
    crowded = Agenda(most_held=2)
    crowded.load([an_open(1), an_open(2)])
    assert not crowded.complete
    crowded.keep([])
    assert (crowded.complete, crowded.wants_more(at(1e6))) == (True, False)


def test_what_a_target_has_more_is_loaded_when_it_may_be_due() -> None:
    agenda = Agenda(most_held=10)
    everything = [an_open(n, "many", n) for n in range(25)] + [an_open(99, "few")]
    agenda.load(everything[:10] + everything[-1:])  # the store gives the first ten of each target
    assert not agenda.complete
    assert not agenda.wants_more(at(5)), "the ones that are here are due first"
    done: list[str] = []
    for second in range(40):
        if agenda.wants_more(at(second)):
            left = [one for one in everything if one.key.event_id not in done]
            many = [one for one in left if one.key.target == "many"][:10]
            agenda.load(many + [one for one in left if one.key.target == "few"])
        for one in (chosen := agenda.choose(at(second), [PLACE], (), 9)):
            agenda.settle([one], [state(one)], at(second))
            agenda.ended(ended(one, "delivered"))
        done += names(chosen)
    assert sorted(done) == sorted(names(everything))
    assert agenda.complete


def test_more_than_it_holds_keeps_those_that_are_due_first() -> None:
    agenda = Agenda(most_held=3)
    agenda.add([an_open(n, "many", n) for n in (8, 1, 5, 2, 9)])
    assert agenda.waiting()["webhook"][0] == 3
    assert (agenda.complete, agenda.wants_more(at(7)), agenda.wants_more(at(8))) == (False, False, False)
    chosen = agenda.choose(at(7), [PLACE], (), 9)
    assert names(chosen) == ["e1", "e2", "e5"]
    for one in chosen:
        agenda.ended(ended(one, "retrying", 600))
    assert not agenda.wants_more(at(7))
    assert agenda.wants_more(at(8)), "the eighth is in the store only"


def test_old_entries_do_not_pile_up() -> None:
    agenda = Agenda(most_held=5)
    agenda.load([an_open(1)])
    for number in range(1_000):
        agenda.ended(ended(an_open(1), "retrying", number + 1))
    (queue,) = agenda._queues.values()
    assert len(queue.times) <= 21
    assert agenda.choose(at(999), [PLACE], (), 9) == []
    assert names(agenda.choose(at(1_000), [PLACE], (), 9)) == ["e1"]
