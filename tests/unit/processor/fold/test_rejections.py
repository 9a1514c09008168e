"""What a worker says about rejected messages: counts and one example, never a line per message."""

from __future__ import annotations

import pyarrow as pa

from meterfold_processor.fold.rejections import LOG_SECONDS, MOST, RECENT_SECONDS, Rejections


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def rows(*found: tuple[str, str, int], detail: str = "why") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"reason": reason, "org_id": org_id, "partition": 2, "offset": offset, "detail": f"{detail} {offset}"}
            for reason, org_id, offset in found
        ]
    )


def test_counts_are_by_reason_and_organization_with_the_last_as_the_example() -> None:
    clock = Clock()
    rejections = Rejections(clock)
    rejections.add(rows(("misrouted", "acme", 4), ("misrouted", "acme", 5), ("too_old", "acme", 6)))
    clock.now += 10
    rejections.add(rows(("misrouted", "acme", 7), ("undecodable", "", 8)))
    found = [(r.count, r.reason, r.org_id, r.offset, r.seconds_ago) for r in rejections.recent()]
    assert found == [
        (3, "misrouted", "acme", 7, 0),
        (1, "too_old", "acme", 6, 10),
        (1, "undecodable", "", 8, 0),
    ]
    assert rejections.recent()[0].text() == (
        "rejected 3 messages of organization 'acme' as misrouted, the last one at partition 2, offset 7: why 7"
    )
    assert rejections.recent()[2].text().startswith("rejected 1 message without an organization as undecodable")


def test_the_log_has_one_line_per_reason_and_organization_and_interval() -> None:
    clock = Clock()
    rejections = Rejections(clock)
    for offset in range(500):
        rejections.add(rows(("misrouted", "acme", offset)))
    assert [(r.count, r.offset) for r in rejections.to_log()] == [(500, 499)]
    rejections.add(rows(("misrouted", "acme", 500), ("misrouted", "other", 501)))
    assert [(r.org_id, r.count) for r in rejections.to_log()] == [("other", 1)]
    clock.now += LOG_SECONDS - 1
    rejections.add(rows(("misrouted", "acme", 502)))
    assert rejections.to_log() == []
    clock.now += 1
    assert [(r.org_id, r.count, r.offset) for r in rejections.to_log()] == [("acme", 2, 502)]
    clock.now += 10 * LOG_SECONDS
    assert rejections.to_log() == []


def test_what_is_older_than_an_hour_is_not_recent() -> None:
    clock = Clock()
    rejections = Rejections(clock)
    rejections.add(rows(("misrouted", "acme", 1)))
    clock.now += RECENT_SECONDS / 2
    rejections.add(rows(("misrouted", "acme", 2), ("misrouted", "acme", 3)))
    assert [r.count for r in rejections.recent()] == [3]
    clock.now += RECENT_SECONDS / 2
    assert [r.count for r in rejections.recent()] == [2]
    clock.now += RECENT_SECONDS / 2
    assert rejections.recent() == []


def test_any_number_of_organizations_takes_bounded_memory() -> None:
    clock = Clock()
    rejections = Rejections(clock)
    for number in range(MOST + 50):
        clock.now += 1
        rejections.add(rows(("misrouted", f"org{number}", number)))
    names = {r.org_id for r in rejections.recent()}
    assert names == {f"org{number}" for number in range(50, MOST + 50)}
