"""The events of a producer, each a function of seed and number: what happens to them is chance, they are not."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

ORG = "acme"
CALLS = "api.calls"
FLEX = "flex.units"
"""A metric whose definition changes while events flow."""
FLEX_SUBJECTS = tuple(f"f{number}" for number in range(5))

STEADY = 8
LATE = 12
GUEST_VALUES = (10, 85, 150)
"""Below the warning, at the warning, beyond the limit of the fixed threshold on guests (80 and 100)."""


def event(seed: int, producer: str, number: int) -> dict[str, Any]:
    """Keywords of `Meter.record`; the timestamp stays out where it is the present."""
    chance = random.Random(f"{seed}/{producer}/{number}")
    drawn = chance.random()
    made: dict[str, Any] = {"id": f"{producer}-{number}", "org_id": ORG, "metric_key": CALLS}
    if drawn < 0.16:  # one event and then silence: nobody repairs its windows by touching them again
        return {**made, "subject": ("guest", f"{producer}-g{number}"), "quantity": chance.choice(GUEST_VALUES)}
    if drawn < 0.36:  # credits: the sum goes up and down through the limits
        name = f"c{chance.randrange(6)}"
        return {**made, "subject": ("credit", name), "quantity": f"{chance.randint(-60_000, 62_000) / 1000}"}
    if drawn < 0.5:
        quantity = chance.randint(-20, 60)
        return {**made, "metric_key": FLEX, "subject": ("user", chance.choice(FLEX_SUBJECTS)), "quantity": quantity}
    made |= {"subject": ("user", f"s{chance.randrange(STEADY)}"), "quantity": chance.choice([0, 1, 2, "0.000000001"])}
    if drawn < 0.62:  # late, and in so few windows that they cross limits long after their ends
        made["timestamp"] = datetime.now(UTC) - timedelta(hours=chance.choice([1, 3, 30, 24 * 20]))
        made |= {
            "subject": ("user", f"late{chance.randrange(LATE)}"),
            "quantity": chance.choice([0, 1, 3, "0.000000001"]),
        }
    elif drawn < 0.635:
        made["timestamp"] = datetime.now(UTC) - timedelta(days=36)
    elif drawn < 0.66:
        made["metadata"] = {"route": "/bulk", "n": number}
    return made


def corrected(seed: int, producer: str, number: int) -> int | None:
    """The number of an earlier event that was too old, to hand in with the right time now: under the same id."""
    before = number - 4
    return before if before >= 0 and 0.62 <= random.Random(f"{seed}/{producer}/{before}").random() < 0.635 else None


def repeats(seed: int, producer: str, number: int) -> int | None:
    """The number of an earlier event to hand in once more after this one."""
    chance = random.Random(f"{seed}/{producer}/{number}/again")
    return max(0, number - chance.randrange(1, 60)) if chance.random() < 0.06 else None
