"""The faults of a run: a function of the seed. When each of them strikes a process is chance; what strikes is not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, get_args

from chaos.definitions import CHANGES
from chaos.points import ALONE, Point
from chaos.proxy import HARMS
from chaos.receivers import HARMS as RECEIVER_HARMS
from meterfold_processor.fold.flush import Step

FLUSH_STEPS: Final[tuple[str, ...]] = get_args(Step)
TRANSACTION: Final = ("Begin", "Produce", "Flush", "SendOffsets", "Commit")
OPENING: Final = (
    *("FetchCommitted", "FetchEnds", "ReadDefinitions", "ReadStates", "ReadStamps", "LoadWindows", "StartReading"),
)
PLANNING: Final = ("WriteDeliveries", "WriteProgress", "CommitOffsets")
SENDING: Final = ("WriteBegun", "Send", "WriteEnded")
ENDPOINT: Final = ("PublishEndpoint", "WriteEndpoint")
"""What a notifier does once an endpoint has failed for a while, or works again."""
STEPS: Final = {"fold": FLUSH_STEPS, "checker": TRANSACTION, "notifier": (*PLANNING, *SENDING)}
"""Where a process can stand still."""
FOLDS: Final = ("fold-0", "fold-1")
CHECKERS: Final = ("check-0", "check-1")
NOTIFIERS: Final = ("notify-0", "notify-1")
PRODUCERS: Final = ("p0", "p1", "p2", "p3")
AHEAD: Final = "p3"
"""The producer whose clock is a day ahead."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`target` is a process or a server; `point` where a process is to stop itself; `draw` is what else is chance."""

    number: int
    kind: str
    group: str
    target: str
    gap: float
    draw: int
    point: Point | None = None

    def __str__(self) -> str:
        where = f" {self.point}" if self.point and str(self.point.step) not in self.kind else ""
        return f"{self.number:4} {self.kind} ({self.target}){where}"


#: kind -> (group, how often beside the others, whom)
KINDS: Final[dict[str, tuple[str, int, tuple[str, ...]]]] = {
    "fold killed": ("kill", 4, FOLDS),
    **{f"fold killed at {step}": ("point", 2, FOLDS) for step in FLUSH_STEPS},
    "fold stands still": ("stop", 2, FOLDS),
    "fold stands still in a flush": ("stop at", 2, FOLDS),
    "fold wakes in a takeover": ("wake", 2, FOLDS),
    "checker killed": ("kill", 4, CHECKERS),
    **{f"checker killed at {step}": ("point", 2, CHECKERS) for step in TRANSACTION},
    "checker killed while opening": ("opening", 3, CHECKERS),
    "checker stands still": ("stop", 2, CHECKERS),
    "checker stands still in a transaction": ("stop at", 2, CHECKERS),
    "checker stands still over a definition": ("alone", 1, CHECKERS),
    "checker wakes in a takeover": ("wake", 2, CHECKERS),
    "producer killed": ("producer", 5, PRODUCERS),
    "broker killed": ("broker", 2, ("1", "2", "3")),
    "group coordinator killed": ("broker", 1, ("group",)),
    "transaction coordinator killed": ("broker", 1, ("transactions",)),
    "broker away at a commit": ("away", 1, CHECKERS),
    "all brokers killed": ("brokers", 1, ("all",)),
    "clickhouse killed": ("clickhouse", 3, ("clickhouse",)),
    "clickhouse restored": ("restore", 1, ("clickhouse",)),
    **{f"clickhouse: {harm}": ("proxy", 3, (harm,)) for harm in HARMS},
    "folds killed at a partial insert": ("partial", 2, ("fold",)),
    "fold joins and leaves": ("join", 3, ("fold-2",)),
    "checker joins and leaves": ("join", 3, ("check-2",)),
    "fold changes protocol": ("protocol", 1, ("fold",)),
    "checker changes protocol": ("protocol", 1, ("check",)),
    "fold rolls to the other protocol": ("protocol", 1, ("fold",)),
    "checker rolls to the other protocol": ("protocol", 1, ("check",)),
    **{f"definitions: {change}": ("definitions", 1, (change,)) for change in CHANGES},
    "notifier killed": ("kill", 3, NOTIFIERS),
    **{f"notifier killed at {step}": ("point", 1, NOTIFIERS) for step in (*PLANNING, *SENDING, *ENDPOINT)},
    "notifier stands still": ("stop", 1, NOTIFIERS),
    "notifier stands still in a step": ("stop at", 2, NOTIFIERS),
    "notifier joins and leaves": ("join", 1, ("notify-2",)),
    **{harm: ("receiver", 1, (harm.partition(":")[0],)) for harm in RECEIVER_HARMS},
}
NOTICES: Final = tuple(kind for kind in KINDS if kind.startswith(("notifier ", "mail server: ", "endpoint: ")))
"""Those of notifiers and of who gets what they send."""

SHORT: Final = tuple(
    kind
    for kind in KINDS
    if kind
    not in {
        *NOTICES,
        *("fold killed", "fold stands still", "broker killed", "group coordinator killed"),
        "checker stands still in a transaction",
        *(f"fold killed at {step}" for step in FLUSH_STEPS if step != "windows"),
        *(f"checker killed at {step}" for step in TRANSACTION if step != "Commit"),
        *(f"clickhouse: {harm}" for harm in HARMS if harm != "partial insert"),
        *("fold changes protocol", "checker rolls to the other protocol", "fold rolls to the other protocol"),
        *(f"definitions: {change}" for change in CHANGES if change != "narrower threshold"),
    }
)
"""Those of the short run in `make test`: of every group, and of fold and checker where both can be hit; it has no
notifiers. `make chaos` begins with every kind."""


def kinds_on(brokers: int) -> tuple[str, ...]:
    """What can happen to a cluster of so many. A single broker is all of them, and nobody stands in for it."""
    return tuple(kind for kind, (group, _, _) in KINDS.items() if brokers > 1 or group not in ("broker", "away"))


def draw(seed: int, kinds: tuple[str, ...] = tuple(KINDS)) -> Iterator[Fault]:
    """Without end: first every kind once, then by weight."""
    chance = random.Random(seed)
    first = chance.sample(kinds, len(kinds))
    weights = [KINDS[kind][1] for kind in kinds]
    number = 0
    while True:
        kind = first[number] if number < len(first) else chance.choices(kinds, weights)[0]
        number += 1
        group, _, targets = KINDS[kind]
        yield Fault(
            number,
            kind,
            group,
            chance.choice(targets),
            chance.uniform(0.1, 1.2),
            chance.getrandbits(32),
            _point(kind, group, chance),
        )


def faults(seed: int, count: int, kinds: tuple[str, ...] = tuple(KINDS)) -> list[Fault]:
    return list(islice(draw(seed, kinds), count))


def _point(kind: str, group: str, chance: random.Random) -> Point | None:
    when = chance.choice(("before", "after"))
    if group == "point":
        return Point("SIGKILL", when, kind.rpartition(" ")[2])
    if group == "opening":
        return Point("SIGKILL", when, chance.choice(OPENING))
    if group == "stop at":
        return Point("SIGSTOP", when, chance.choice(STEPS[kind.partition(" ")[0]]))
    if group == "away":
        return Point("SIGSTOP", "before", "Commit")
    if group == "alone":
        return Point("SIGSTOP", "before", ALONE)
    if group == "wake":
        # A fold that has stored nothing of its batch yet. A checker with offsets in its transaction must be waited for
        # by its successor; one without must be fenced.
        return Point("SIGSTOP", "before", FLUSH_STEPS[0] if kind.startswith("fold") else chance.choice(TRANSACTION[2:]))
    return None
