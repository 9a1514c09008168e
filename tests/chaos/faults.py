"""How each fault is done, what ends it, and what counts as recovered. One thread per fault; they overlap."""

from __future__ import annotations

import math
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from threading import Condition, Event, Thread
from typing import Any

import psutil

from chaos import journal
from chaos.crew import CLICKHOUSE_SECONDS, Crew, Member
from chaos.definitions import DefinitionChanges
from chaos.ground import Ground, persist
from chaos.lookout import Lookout
from chaos.notices import Notices
from chaos.plan import CHECKERS, ENDPOINT, FOLDS, NOTICES, NOTIFIERS, PRODUCERS, Fault
from chaos.points import Point
from chaos.proxy import Harm, Proxy
from chaos.receivers import GONE, Receivers
from chaos.sentry import Sentry
from meterfold_local.stack import LocalStack
from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.fold.settings import FoldSettings
from support.kafka import admin

TOGETHER = 8
"""So many faults may be open at the same time."""
AHEAD = 24
RECOVERY_SECONDS = 300.0
_REACH_SECONDS = 45.0
"""What a fault waits for may take so long while others keep the victim from it."""
_QUIET_SECONDS = 15.0
_DEFINITIONS = 4
_SENT_LOOK_SECONDS = 1.0
_JUDGED_SECONDS = 4.0
_COMMIT_SECONDS = 12.0
_INTERNAL_PARTITIONS = 4


@dataclass(slots=True)
class Outcome:
    """`seconds` from the end of the fault (or from the fault, where nothing ends it) until all went on; None: never."""

    fault: Fault
    at: float
    seconds: float | None = None
    note: str = ""
    missed: bool = False
    """The victim never came to the step, or ClickHouse was never asked: it was struck elsewhere, or not at all."""


class Injector:
    """Does the faults in order. `outcomes` in the order in which they began."""

    def __init__(
        self,
        stack: LocalStack,
        ground: Ground,
        crew: Crew,
        proxy: Proxy,
        lookout: Lookout,
        sentry: Sentry,
        changes: DefinitionChanges,
        tell: Callable[[str], None],
        receivers: Receivers | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._stack = stack
        self._ground = ground
        self._crew = crew
        self._proxy = proxy
        self._lookout = lookout
        self._sentry = sentry
        self._changes = changes
        self._receivers = receivers
        self._notices = notices
        self._tell = tell
        self._ended = Condition()
        self._busy: set[str] = set()
        self._open = 0
        self._threads: list[Thread] = []
        self.over = Event()
        self.outcomes: list[Outcome] = []

    def inject(self, faults: Iterable[Fault], seconds: float | None = None) -> None:
        """All of them, none begun after `seconds`. One whose targets are still busy with another is overtaken by those
        behind it that want none of them."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        coming = iter(faults)
        waiting: list[Fault] = list(islice(coming, AHEAD))
        while waiting and time.monotonic() < until:
            with self._ended:
                fault = self._startable(waiting)
                if fault is None or self._open >= TOGETHER:
                    self._ended.wait(0.5)
                    continue
                self._busy |= _targets(fault)
                self._open += 1
            waiting.remove(fault)
            waiting += islice(coming, 1)
            time.sleep(fault.gap)
            outcome = Outcome(fault, time.monotonic())
            self.outcomes.append(outcome)
            thread = Thread(target=self._one, args=(outcome,), name=str(fault), daemon=True)
            self._threads.append(thread)
            thread.start()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _startable(self, waiting: list[Fault]) -> Fault | None:
        oldest = _targets(waiting[0])
        if not oldest & self._busy:
            return waiting[0]
        return next((one for one in waiting if not _targets(one) & (self._busy | oldest)), None)

    def _one(self, outcome: Outcome) -> None:
        fault = outcome.fault
        try:
            healed_at = self._do(fault, outcome)
            if healed_at is not None and self._recovered(fault):
                outcome.seconds = time.monotonic() - healed_at
        except Exception as error:
            outcome.note = f"{type(error).__name__}: {error}"
        finally:
            with self._ended:
                self._busy -= _targets(fault)
                self._open -= 1
                self._ended.notify_all()
        result = "NOT RECOVERED" if outcome.seconds is None else f"{outcome.seconds:.1f} s"
        self._tell(f"{fault}: {result}{'; ' if outcome.note else ''}{outcome.note}")

    def _recovered(self, fault: Fault) -> bool:
        """Whatever stood on the topics when the fault was over is folded, and judged."""
        if fault.group in ("producer", "definitions"):
            return True  # their own condition was waited for
        if fault.kind in NOTICES:
            return self._all_sent(RECOVERY_SECONDS)
        if not self._lookout.wait_fold(RECOVERY_SECONDS):
            return False
        return fault.kind.startswith("fold") or self._lookout.wait_checker(RECOVERY_SECONDS)

    def _do(self, fault: Fault, outcome: Outcome) -> float | None:
        chance = random.Random(fault.draw)
        name = fault.target
        match fault.group:
            case "kill":
                self._crew.signal(name, signal.SIGKILL)
            case "point" | "opening":
                self._at_point(fault, outcome)
            case "stop" | "stop at" | "wake" | "alone":
                return self._zombie(fault, outcome, chance)
            case "producer":
                return self._producer(name)
            case "broker":
                return self._broker(fault, outcome, chance)
            case "away":
                return self._away(fault, outcome, chance)
            case "brokers":
                self._stack.kafka.kill()
                self._stack.kafka.restart(*(broker.node_id for broker in self._stack.kafka.brokers))
            case "clickhouse":
                self._stack.clickhouse.kill()
                self.over.wait(chance.choice([0, 0.3, 1.5]))
                self._stack.clickhouse.restart()
            case "proxy":
                self._harm(fault, outcome, chance)
            case "partial":
                self._partial(fault, outcome)
            case "restore":
                self._restore(chance)
            case "join":
                self._join(fault, outcome, chance)
            case "receiver":
                self._receiver(fault, outcome, chance)
            case "protocol":
                self._protocol(fault, outcome)
            case "definitions":
                begun = time.monotonic()
                outcome.note = self._changes.one(name, chance)
                return begun
        return time.monotonic()

    def _at_point(self, fault: Fault, outcome: Outcome) -> None:
        assert fault.point is not None
        points = self._crew.points(fault.target)
        points.arm(fault.point)
        if fault.group == "opening":
            self._crew.signal(fault.target, signal.SIGKILL)
        if fault.point.step in ENDPOINT and self._receivers is not None:
            self._receivers.harm("endpoint", "status 500")  # until one is called failing
        if not self._lookout.wait(lambda: points.was_hit, time.monotonic() + _REACH_SECONDS) and points.disarm():
            outcome.missed, outcome.note = True, "step not reached, killed anyway"
            self._crew.signal(fault.target, signal.SIGKILL)
        if fault.point.step in ENDPOINT and self._receivers is not None:
            self._receivers.heal("endpoint")

    def _zombie(self, fault: Fault, outcome: Outcome, chance: random.Random) -> float:
        """Still until the others have taken over, or are about to, then awake again."""
        name = fault.target
        member = self._crew.member(name)
        if fault.point is None:
            self._crew.signal(name, signal.SIGSTOP)
        else:
            points = self._crew.points(name)
            points.arm(fault.point)
            if fault.group == "alone":
                reached = self._define_alone(lambda: points.was_hit, chance)
            else:
                reached = self._lookout.wait(lambda: points.was_hit, time.monotonic() + _REACH_SECONDS)
            if not reached and points.disarm():
                outcome.missed, outcome.note = True, "step not reached, stopped anyway"
                self._crew.signal(name, signal.SIGSTOP)
        self._lookout.wait(lambda: _still(member.process.pid), time.monotonic() + 2)
        judged = dict(self._lookout.judged)
        if fault.group == "wake":
            self.over.wait(chance.uniform(2.5, 5.0))  # the group takes 3 s to see that it is silent
        elif not self._taken_over(name, judged, 40):
            outcome.note += " woken before the others had taken over"  # they may be struck as well
        self._crew.signal(name, signal.SIGCONT)
        return time.monotonic()

    def _taken_over(self, name: str, judged: dict[int, int], seconds: float) -> bool:
        """Whether the others do the work of one that stands still."""
        if name.startswith("notify"):
            return self._all_sent(seconds)
        return self._lookout.wait_fold(seconds) if name.startswith("fold") else self._judged_beyond(judged, seconds)

    def _all_sent(self, seconds: float) -> bool:
        """Until every event of now is delivered."""
        assert self._notices is not None
        at, until = datetime.now(UTC), time.monotonic() + seconds
        while not self._notices.are_sent(at):
            if time.monotonic() > until or self.over.wait(_SENT_LOOK_SECONDS):
                return False
        return True

    def _receiver(self, fault: Fault, outcome: Outcome, chance: random.Random) -> None:
        """Messages are sent meanwhile, and some of them more than once."""
        assert self._receivers is not None
        assert self._notices is not None
        server, _, harm = fault.kind.partition(": ")
        seconds = chance.uniform(2, 12)
        self._receivers.harm(server, harm)
        self.over.wait(seconds)
        self._receivers.heal(server)
        outcome.note = f"{seconds:.0f} s"
        if harm == GONE:
            persist(self._notices.redeliver)

    def _define_alone(self, hit: Callable[[], bool], chance: random.Random) -> bool:
        """Thresholds that windows are beyond already, until one is the victim's to judge. No row has caused it: there
        is none any more whose offset has not been committed."""
        with self._crew.silence():
            self._lookout.wait_fold(_QUIET_SECONDS)
            self._lookout.wait_checker(_QUIET_SECONDS)
            for _ in range(_DEFINITIONS):
                self._changes.one("threshold", chance)
                if self._lookout.wait(hit, time.monotonic() + _JUDGED_SECONDS):
                    return True
        return False

    def _judged_beyond(self, judged: dict[int, int], seconds: float) -> bool:
        """Whether new rows of every partition are judged: nobody waits any more for one who stands still."""
        now, end = self._lookout, time.monotonic() + seconds
        return now.wait(lambda: all(now.judged[p] > offset for p, offset in judged.items()), end)

    def _producer(self, name: str) -> float | None:
        path = self._crew.journal(name)
        self._crew.signal(name, signal.SIGKILL)
        begun, size = time.monotonic(), path.stat().st_size
        more = self._lookout.wait(lambda: journal.has_report(path, size), begun + RECOVERY_SECONDS)
        return begun if more else None

    def _broker(self, fault: Fault, outcome: Outcome, chance: random.Random) -> float:
        number = int(fault.target) if fault.target.isdigit() else self._coordinator(fault.target, chance)
        outcome.note = f"broker {number}"
        self._stack.kafka.broker(number).kill()
        if chance.random() < 0.6 and not self._lookout.wait_fold(40):
            outcome.note += ", started again before the others had taken over"
        self._stack.kafka.restart(number)
        return time.monotonic()

    def _away(self, fault: Fault, outcome: Outcome, chance: random.Random) -> float:
        """A transaction is committed while a broker with some of its messages is away, and its checker ends before that
        one is back: the next owner sees the new offsets, and the state does not have its marker yet."""
        name = fault.target
        member, points = self._crew.member(name), self._crew.points(name)
        assert fault.point is not None
        number = self._leader_of_state(member, chance)
        outcome.note = f"broker {number}"
        points.arm(fault.point)
        if not self._lookout.wait(lambda: points.was_hit, time.monotonic() + _REACH_SECONDS):
            points.disarm()
            outcome.missed, outcome.note = True, outcome.note + ", step not reached"
        self._stack.kafka.broker(number).kill()
        member.wanted = False
        points.arm(Point("SIGKILL", "after", "Commit"))
        self._crew.signal(name, signal.SIGCONT)
        if not self._lookout.wait(lambda: points.was_hit, time.monotonic() + _COMMIT_SECONDS):
            points.disarm()
            outcome.missed, outcome.note = True, outcome.note + ", killed without a commit"
        self._crew.retire(name, signal.SIGKILL)
        self.over.wait(chance.uniform(3.5, 6.0))  # the group takes 3 s to see that it is gone
        self._stack.kafka.restart(number)
        self._lookout.wait_checker(_REACH_SECONDS)
        self._crew.add(name)
        return time.monotonic()

    def _leader_of_state(self, member: Member, chance: random.Random) -> int:
        """A broker that leads a partition of the victim, and not its transactions, if there is one."""
        topic = self._ground.topics.threshold_state
        leaders = {int(p.id): int(p.leader) for p in self._partitions(topic).values()}
        shown = re.findall(r"partitions ([\d, ]+);", member.process.output())
        owned = [int(number) for number in shown[-1].split(",")] if shown else list(leaders)
        group = self._ground.kafka.topic_prefix + CheckerSettings().group_id
        decides = self._leader("__transaction_state", f"{group}-{member.name.partition('-')[2]}")
        brokers = {leaders[partition] for partition in owned if leaders[partition] > 0} or {1, 2, 3}
        return chance.choice(sorted(brokers - {decides} or brokers))

    def _coordinator(self, what: str, chance: random.Random) -> int:
        """The broker that coordinates a group, or the transactions of a checker."""
        prefix = self._ground.kafka.topic_prefix
        groups = [prefix + FoldSettings().group_id, prefix + CheckerSettings().group_id]
        if what == "group":
            topic, name = "__consumer_offsets", chance.choice(groups)
        else:
            topic, name = "__transaction_state", f"{groups[1]}-{chance.randrange(2)}"
        return self._leader(topic, name)

    def _leader(self, topic: str, name: str) -> int:
        """Of the partition of an internal topic to which a name belongs."""
        return int(self._partitions(topic)[_java_hash(name) % _INTERNAL_PARTITIONS].leader)

    def _partitions(self, topic: str) -> dict[int, Any]:
        found: dict[int, Any] = admin(self._ground.kafka).list_topics(topic, timeout=20).topics[topic].partitions
        return found

    def _harm(self, fault: Fault, outcome: Outcome, chance: random.Random) -> None:
        kind = fault.kind.partition(": ")[2]
        count = 1 if kind == "read-only" else chance.randint(1, 3)
        harm = Harm(kind, count, chance.random() < 0.6, CLICKHOUSE_SECONDS + 1.0, fault.draw)
        self._proxy.harm(harm)
        self._lookout.wait(lambda: not harm.left, time.monotonic() + _REACH_SECONDS)
        self._proxy.spare(harm)
        outcome.missed, outcome.note = not harm.done, f"{harm.done} requests"

    def _partial(self, fault: Fault, outcome: Outcome) -> None:
        """Some of a batch's windows are stored, and whoever folded it is no more."""
        harm = Harm("partial insert", 1, True, 0, fault.draw, "usage_windows", self._kill_folds)
        self._proxy.harm(harm)
        self._lookout.wait(lambda: not harm.left, time.monotonic() + _REACH_SECONDS)
        self._proxy.spare(harm)
        if harm.left:
            outcome.missed, outcome.note = True, "no insert, killed anyway"
            self._kill_folds()

    def _kill_folds(self) -> None:
        for name in FOLDS:
            self._crew.signal(name, signal.SIGKILL)

    def _restore(self, chance: random.Random) -> None:
        """ClickHouse comes back as it was some seconds ago, while no worker runs: the log repairs it."""
        server = self._stack.clickhouse
        backup = server.folder.with_name("clickhouse-backup")
        server.stop()
        shutil.copytree(server.folder, backup, symlinks=True)  # a database is one
        server.restart()
        self._lookout.wait_fold(_REACH_SECONDS)
        self.over.wait(chance.uniform(1, 6))
        with self._sentry.looking_away():  # what was published is not stored any more
            with self._crew.away(self._crew.workers):
                server.stop()
                shutil.rmtree(server.folder)
                backup.rename(server.folder)
                server.restart()
            self._lookout.wait_fold(RECOVERY_SECONDS)

    def _protocol(self, fault: Fault, outcome: Outcome) -> None:
        if "rolls" in fault.kind:
            self._crew.roll_protocol(fault.target, self._ready)
        else:
            self._crew.change_protocol(fault.target)
        outcome.note = f"now {self._crew.protocols[fault.target]}"

    def _ready(self, member: Member) -> bool:
        """It has its partitions; the output is that of its last start."""
        return self._lookout.wait(lambda: ": ready" in member.process.output(), time.monotonic() + 60)

    def _join(self, fault: Fault, outcome: Outcome, chance: random.Random) -> None:
        name = fault.target
        member = self._crew.add(name, wanted=False)
        there = self._ready(member)
        self.over.wait(chance.random())
        how = signal.SIGKILL if chance.random() < 0.3 else signal.SIGTERM
        code = self._crew.retire(name, how)
        outcome.note = f"{'' if there else 'never ready, '}{how.name}, status {code}"


def _targets(fault: Fault) -> set[str]:
    """What nobody else may harm meanwhile."""
    if fault.group in ("broker", "brokers"):
        return {"kafka"}
    if fault.group == "away":
        return {"kafka", *CHECKERS}
    if fault.group == "definitions":
        return {"definitions"}
    if fault.group == "restore":
        return {*FOLDS, *CHECKERS, *NOTIFIERS, "fold-2", "check-2", "notify-2", "clickhouse"}
    if fault.group == "partial":
        return set(FOLDS)
    if fault.group == "alone":
        return {*CHECKERS, *PRODUCERS, "definitions"}
    if fault.group == "wake":
        return set(FOLDS if fault.kind.startswith("fold") else CHECKERS)  # somebody must be there to take over
    if fault.group == "protocol":
        return {*(FOLDS if fault.target == "fold" else CHECKERS), f"{fault.target}-2"}
    if fault.point is not None and fault.point.step in ENDPOINT:
        return {fault.target, "endpoint"}
    return {fault.target}


def _still(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return True


def _java_hash(text: str) -> int:
    """Java's String.hashCode without its sign bit: how Kafka finds the coordinator of a group or transactional id."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF
