"""What a worker takes from librdkafka's statistics."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meterfold_processor.kafka.membership import Membership, read


def statistics(state: str = "up", join_state: str = "steady", broker: str = "UP") -> dict[str, Any]:
    """Shortened from what librdkafka 2.16 gives."""

    def partition(number: int, ls_offset: int) -> dict[str, Any]:
        return {"partition": number, "fetch_state": "active", "ls_offset": ls_offset, "hi_offset": ls_offset}

    return {
        "name": "rdkafka#consumer-1",
        "brokers": {
            "sasl_plaintext://127.0.0.1:9092/1": {"state": broker, "stateage": 1},
            "GroupCoordinator": {"state": "INIT"},
        },
        "topics": {
            "usage.recorded": {
                "topic": "usage.recorded",
                "partitions": {"0": partition(0, 17), "1": partition(1, -1001), "-1": partition(-1, -1001)},
            },
            "other": {"partitions": {"0": partition(0, 99)}},
        },
        "cgrp": {"state": state, "join_state": join_state, "assignment_size": 0},
    }


def test_a_steady_member_and_the_ends_that_are_known() -> None:
    seen = read(json.dumps(statistics()), "usage.recorded", 5.0)
    assert (seen.at, seen.member, seen.connected, dict(seen.ends)) == (5.0, True, True, {0: 17})


@pytest.mark.parametrize(
    ("state", "join_state"), [("up", "wait-join"), ("up", "init"), ("query-coord", "steady"), ("wait-coord", "init")]
)
def test_whoever_joins_or_has_lost_the_coordinator_is_no_member(state: str, join_state: str) -> None:
    seen = read(json.dumps(statistics(state, join_state)), "usage.recorded", 5.0)
    assert not seen.member
    assert seen.state == f"coordinator {state}, member {join_state}"


def test_a_member_that_was_never_given_a_partition_is_one_all_the_same() -> None:
    waiting = statistics("up", "init")
    assert not read(json.dumps(waiting), "usage.recorded", 5.0).member, "it may just be joining"
    waiting["cgrp"]["stateage"] = 4_000
    assert read(json.dumps(waiting), "usage.recorded", 5.0).member
    waiting["cgrp"]["state"] = "query-coord"
    assert not read(json.dumps(waiting), "usage.recorded", 5.0).member


def test_no_broker_is_up() -> None:
    assert not read(json.dumps(statistics(broker="DOWN")), "usage.recorded", 5.0).connected


def test_statistics_of_a_client_that_has_just_begun() -> None:
    seen = read('{"name": "rdkafka#consumer-1", "brokers": {}, "topics": {}}', "usage.recorded", 1.0)
    assert (seen.member, seen.connected, dict(seen.ends)) == (False, False, {})


def test_the_callback_of_the_client_keeps_the_newest() -> None:
    membership = Membership()
    assert membership.seen is None
    settings = membership.settings("usage.recorded")
    settings["stats_cb"](json.dumps(statistics()))
    assert membership.seen is not None
    assert membership.seen.member
    settings["stats_cb"](json.dumps(statistics(join_state="init")))
    assert not membership.seen.member
