"""Event ids are UUIDv7, rise within a process, and are never given twice."""

from __future__ import annotations

import os
import threading
import time
import uuid

import pytest

from meterfold.event_ids import EventIds


def test_an_id_is_a_uuid_of_version_7_and_tells_its_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(EventIds().next())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_the_text_is_canonical() -> None:
    ids = EventIds()
    for _ in range(1000):
        text = ids.next()
        assert str(uuid.UUID(text)) == text


def test_ids_rise_also_while_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = EventIds()
    clock = iter([5_000_000, 5_000_000, 9_000_000, 2_000_000, 1, 9_000_000, 10_000_000] * 1)
    monkeypatch.setattr("meterfold.event_ids.time.time_ns", lambda: next(clock))
    made = [ids.next() for _ in range(7)]
    assert made == sorted(made)
    assert len(set(made)) == 7


def test_a_full_millisecond_borrows_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = EventIds()
    monkeypatch.setattr("meterfold.event_ids.time.time_ns", lambda: 5_000_000_000)
    first = ids.next()
    ids._tail = (1 << 48) - 1
    second = ids.next()
    assert first < second
    assert uuid.UUID(second).int >> 80 == 5001
    assert uuid.UUID(second).version == 7


def test_many_threads_never_get_the_same() -> None:
    ids = EventIds()
    made: list[list[str]] = [[] for _ in range(8)]

    def make(into: list[str]) -> None:
        into += [ids.next() for _ in range(5000)]

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(into == sorted(into) for into in made)
    assert len({one for into in made for one in into}) == 40_000


def test_two_makers_share_no_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterfold.event_ids.time.time_ns", lambda: 5_000_000_000)
    assert len({EventIds().next() for _ in range(2000)}) == 2000


def test_a_forked_child_makes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the parent's state a child would repeat the parent's ids, and its events would count as duplicates."""
    monkeypatch.setattr("meterfold.event_ids.time.time_ns", lambda: 5_000_000_000)
    ids = EventIds()
    ids.next()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, ids.next().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100).decode() != ids.next()
    os.close(reader)
    os.close(writer)
