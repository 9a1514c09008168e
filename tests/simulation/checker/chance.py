"""Random histories: everything that may happen, in any order, from one seed."""

from __future__ import annotations

import random

from meterfold_processor.checker.pace import Sizes
from meterfold_schemas.periods import DAY, HOUR, Period
from simulation.checker.model_store import Flush
from simulation.checker.verdict import check
from simulation.checker.worker import Variant, Worker
from simulation.checker.world import NO_ORG, OTHER, TOPICS, U1, U2, World

U3 = ("other", "api.calls", "team", "t1")
HORIZON = 3 * DAY
"""Below WindowRules.open_for, which holds the slack as well."""


class Chance:
    def __init__(self, seed: int, variant: Variant | None = None) -> None:
        self.random = random.Random(seed)
        aggregated = self.random.choice([{Period.DAILY, Period.LIFETIME}, {Period.HOURLY, Period.MONTHLY}, set()])
        # Most histories know pieces of a few rows only, so that whatever goes wrong goes wrong between two of them.
        sizes = Sizes()
        if self.random.random() < 0.8:
            number = self.random.choice
            sizes = Sizes(
                number([1, 2]), number([1, 3]), number([1, 2, 5]), number([1, 4]), number([1, 2, 7]), number([1, 2, 9])
            )
        partitions = self.random.choice([1, 1, 2])
        self.world = World(partitions, seed, variant or Variant(), frozenset(aggregated), sizes)
        self.flushes: dict[int, tuple[str, Flush]] = {}
        self.compaction = self.random.random() < 0.3
        # Few kinds of faults per history find more than all of them at once.
        faults = [self.kill, self.expel, self.time_out, self.fault, self.lag, self.zombie_fold, self.lose_offsets]
        faults += [self.store_down, self.fold_crash, self.move, self.expire, self.late_markers, self.skip]
        self.kinds = self.random.sample(faults, self.random.randint(1, 5))
        self.dead: list[str] = []

    def run(self, length: int) -> None:
        world = self.world
        world.metric(self.random.choice(["sum", "sum", "max", "avg", "count", "min", "last"]))
        world.threshold("t1", 100)
        world.start(0)
        for _ in range(length):
            self.random.choices(
                [self.advance, self.usage, self.fold, self.define, self.start, self.time, self.misfortune],
                [40, 18, 18, 4, 1, 4, 5],
            )[0]()
        world.come_to_rest()
        check(world)

    def misfortune(self) -> None:
        self.random.choice(self.kinds)()
        if self.compaction and self.random.random() < 0.2:
            self.world.compact()

    # What should happen

    def advance(self) -> None:
        worker = self.worker()
        if worker is None:
            self.world.start(0)
            return
        for _ in range(self.random.choice([1, 2, 5, 15, 40])):
            worker.advance()

    def worker(self) -> Worker | None:
        return self.random.choice(self.world.workers) if self.world.workers else None

    def usage(self) -> None:
        late = self.random.choice([0, 0, 0, self.random.randint(0, HORIZON)])
        subject = self.random.choice([U1, U1, U2, U3, OTHER, NO_ORG])
        self.world.use(self.random.choice([10, 30, 50, 90, 120, -40, -90]), subject, at=self.world.wall_now - late)

    def fold(self) -> None:
        """One step of the fold on one partition; the next flush begins when the one before is through."""
        partition = self.random.randrange(self.world.partitions)
        step, flush = self.flushes.pop(partition, ("begin", None))
        if flush is None:
            if self.world.store.folded[partition] < len(self.world.store.events[partition]):
                count = self.random.choice([None, 1, 2])
                self.flushes[partition] = ("insert", self.world.store.fold(partition, count))
        elif step == "insert":
            flush.insert()
            self.flushes[partition] = ("publish", flush)
        elif step == "publish":
            rows = list(flush.rows)
            self.random.shuffle(rows)
            cut = self.random.randint(0, len(rows))
            self.world.publish(partition, rows[:cut])
            self.world.publish(partition, rows[cut:])
            self.flushes[partition] = ("progress", flush)
        else:
            flush.progress()

    def define(self) -> None:
        world, pick = self.world, self.random.choice
        match self.random.randrange(12):
            case 0:
                world.metric(pick(["sum", "max", "avg", "count", "min", "last"]), pick(["", "acme"]))
            case 1:
                world.delete_metric(pick(["", "acme"]))
            case 2:
                world.metric("sum", pick(["", "acme"]), is_active=pick([True, True, False]))
            case 3 | 4:
                threshold_id = pick(["t1", "t2"])
                world.threshold(threshold_id, pick([40, 100, 150]), is_active=pick([True, True, True, False]))
            case 5:
                world.threshold("narrow", pick([40, 100, 150]), subject=pick([("user", ""), ("user", "u1")]))
            case 6:
                world.threshold("life", pick([100, 300]), period=Period.LIFETIME, name="life")
            case 7:
                period = pick([Period.HOURLY, Period.MONTHLY])
                world.threshold(f"{period}", pick([40, 100]), period=period, name="level")
            case 8:
                world.delete_threshold(pick(["t1", "t2", "narrow", "life", "hourly", "every", "all", "own"]))
            case 9:
                # Of every organization; in acme t1, t2 and narrow have its name.
                subject = pick([None, ("user", ""), ("user", "u1")])
                world.threshold("every", pick([40, 100, 150]), org_id=None, subject=subject)
            case 10:
                world.threshold("all", pick([40, 100]), org_id=None, name="fair", subject=pick([None, ("user", "")]))
            case 11:
                org_id = pick(["acme", "other", ""])
                world.threshold("own", pick([40, 100, 150]), org_id=org_id, name="fair", is_active=pick([True, False]))

    def start(self) -> None:
        if len(self.world.workers) < 3:
            self.world.start(self.random.randrange(3))

    def time(self) -> None:
        step = self.random.choice([1_000_000, 5_000_000, 20_000_000, HOUR, 5 * HOUR, DAY, 3 * DAY])
        self.world.tick(step)

    # What may go wrong

    def kill(self) -> None:
        worker = self.worker()
        if worker is not None:
            notice = self.random.random() < 0.7
            self.world.kill(worker, notice=notice)
            if not notice:
                self.dead.append(worker.member)
        elif self.dead:
            self.world.kafka.members.pop(self.dead.pop(), None)
            self.world.hand_out()

    def expel(self) -> None:
        worker = self.worker()
        if worker is not None:
            self.world.expel(worker)

    def move(self) -> None:
        target = self.worker()
        if target is not None:
            self.world.moving[self.random.randrange(self.world.partitions)] = target.member

    def time_out(self) -> None:
        names = list(self.world.kafka.current)
        if names:
            self.world.kafka.time_out(self.random.choice(names))

    def late_markers(self) -> None:
        self.world.kafka.finish_decided()

    def fault(self) -> None:
        worker = self.worker()
        if worker is not None:
            worker.faults["commit"] = self.random.choice(["aborted", "lost answer", "late marker"])
            worker.faults["rebalance"] = "yes"

    def lag(self) -> None:
        worker = self.worker()
        if worker is not None and worker.faults.pop("lag", None) is None:
            worker.faults["lag"] = "yes"

    def skip(self) -> None:
        worker = self.worker()
        if worker is not None:
            worker.faults["skip"] = "yes"

    def zombie_fold(self) -> None:
        if self.world.store.published:
            partition, rows = self.random.choice(self.world.store.published)
            self.world.publish(partition, rows)

    def fold_crash(self) -> None:
        if self.flushes:
            self.flushes.pop(self.random.choice(list(self.flushes)))

    def lose_offsets(self) -> None:
        self.world.kafka.offsets.clear()

    def expire(self) -> None:
        self.world.kafka.log(TOPICS.usage_windows, self.random.randrange(self.world.partitions)).expire()

    def store_down(self) -> None:
        self.world.store.down = not self.world.store.down
