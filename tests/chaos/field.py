"""One installation at work: workers, producers, proxy, faults; and everything that may differ once it rests."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from chaos.alerts import Alerts, check_alerts, check_nothing_twice
from chaos.clocks import believed
from chaos.crew import Crew
from chaos.definitions import DefinitionChanges
from chaos.faults import Injector, Outcome
from chaos.foreign import Foreign
from chaos.ground import Ground
from chaos.ledger import Account, check_ledger
from chaos.lookout import Lookout
from chaos.notices import Notices, NoticesFound
from chaos.plan import Fault
from chaos.proxy import Harm, Proxy
from chaos.receivers import GONE, Receivers
from chaos.scenes import USUAL, Scene
from chaos.sender import Sender
from chaos.sentry import Sentry
from meterfold_cli import exits
from meterfold_cli.local_run import command
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from support import eventually
from support.fold import Truth, check

T = TypeVar("T")
Tell = Callable[[str], None]

_ALWAYS = 1_000_000

_FATAL = ("readonly mode",)
"""Last words of workers that are right to end and are started again: ClickHouse refuses to be written to."""


@dataclass(slots=True)
class Findings:
    """`differences` in words; none of them: exactly once, proven."""

    differences: list[str] = field(default_factory=list)
    account: Account | None = None
    alerts: Alerts | None = None
    notices: NoticesFound | None = None
    verified: str = ""


class Field:
    """Started when entered. `name` is the prefix of its topics and its database, so that several can use one stack.
    `rest` lets everything come to an end; `compare` may only follow on that."""

    def __init__(
        self,
        stack: LocalStack,
        folder: Path,
        seed: int,
        tell: Tell,
        *,
        name: str = "",
        protocol: str | None = None,
        broken: str | None = None,
        rest_seconds: float = 180.0,
        scene: Scene = USUAL,
        **crew: Any,
    ) -> None:
        """`crew`: see Crew."""
        self._tell = tell
        self._rest_seconds = rest_seconds
        self.ground = Ground(stack, name, scene.rules, scene.single)
        self._scene = scene
        self._broken = broken is not None
        self._proxy = Proxy(self.ground.clickhouse.url)
        self._proxy.start()
        if scene.records_seconds:
            self._proxy.harm(Harm("late insert", _ALWAYS, True, scene.records_seconds, seed, "usage_records"))
        through = folder / "settings" / "meterfold.toml"
        direct = folder / "settings" / "direct.toml"
        write_settings(through, self.ground.kafka, self.ground.clickhouse.model_copy(update={"url": self._proxy.url}))
        write_settings(direct, self.ground.kafka, self.ground.clickhouse)
        self._direct = {**stack.environment(), "METERFOLD_CONFIG": str(direct)}
        environment = {**self._direct, "METERFOLD_CONFIG": str(through)}
        begin = protocol or ("consumer", "classic")[seed % 2]
        self._receivers: Receivers | None = None
        if any(worker.startswith("notify") for worker in crew.get("workers", ())):
            self._receivers = Receivers()
            self._receivers.__enter__()
            crew["receivers"] = self._receivers.environment()
        self._notices = None if self._receivers is None else Notices(self.ground, self._receivers)
        more = {**crew, **scene.worker, "clocks": scene.stamps is not None, "broken": broken}
        self.crew = Crew(folder, environment, seed, begin, ahead=scene.ahead, batch_events=scene.batch_events, **more)
        self.crew.allowed = [*_FATAL, scene.refusal] if scene.refusal else list(_FATAL)
        self._lookout = Lookout(self.ground, lambda: self._refused)
        self._sentry = Sentry(self.ground)
        self._senders: list[Sender] = [Foreign(self.ground, self.crew.journal("foreign"), seed)]
        if scene.stamps is not None:
            self._senders.append(scene.stamps(self.ground, seed))
        changes = DefinitionChanges(self.ground, self._notified.get("definitions", {}))
        self._injector = Injector(
            *(stack, self.ground, self.crew, self._proxy, self._lookout, self._sentry, changes, tell),
            receivers=self._receivers,
            notices=self._notices,
        )
        self.outcomes = self._injector.outcomes

    def __enter__(self) -> Self:
        try:
            self.crew.start()
            self._lookout.start()
            self._sentry.start()
            self._fixed = self.ground.define(self._notified)
            if self._notices is not None:
                self._notices.fixed = tuple(self._fixed[name].id for name in self._notified if name in self._fixed)
            self.flow()
            if not self._lookout.wait_fold(240) or not self._lookout.wait_checker(240):
                raise RuntimeError("the workers never began")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sender in self._senders:
            sender.stop()
        self._lookout.stop()
        self._sentry.stop()
        self.crew.stop()
        if self._receivers is not None:
            self._receivers.__exit__(kind, error, trace)
        self._proxy.stop()
        self.ground.close()

    def flow(self) -> None:
        """Events, from the beginning or again after a rest."""
        self.crew.start_producers()
        for sender in self._senders:
            sender.start()

    def inject(self, faults: Iterable[Fault], seconds: float | None = None) -> None:
        """All of them, none begun after `seconds`; returns when every one is over."""
        self._injector.inject(faults, seconds)

    def rest(self) -> list[str]:
        """Until every event has its report, is folded and judged; what kept it from that."""
        found = []
        for sender in self._senders:
            sender.stop()
        for name, code in self.crew.stop_producers().items():
            if code != 0:
                found.append(f"producer {name} ended with status {code}")
        if not self._refused:
            if not self.waits:
                found += [f"not recovered from: {outcome.fault}" for outcome in self._unrecovered]
            if not self._lookout.wait_fold(self._rest_seconds):
                found.append(f"not folded: {self._lookout.progress} of {self._lookout.ends}")
            elif not self.waits and not self._lookout.wait_checker(self._rest_seconds):
                found.append(f"not judged: {self._lookout.judged} of {self._lookout.window_ends}")
        for ending in self.crew.endings:
            found.append(f"{ending.name} ended by itself with status {ending.code}:\n{ending.words}")
        return found + self._sentry.found

    def compare(self, *, verify: bool = True, patience: float = 60) -> Findings:
        """Everything that can differ; each part is looked at even if one before it differs."""
        found = Findings()

        def differs(what: str, look: Callable[[], T]) -> T | None:
            begun = time.monotonic()
            try:
                return look()
            except AssertionError as error:
                found.differences.append(f"{what}: {error}")
                return None
            finally:
                self._tell(f"{what}: looked at in {time.monotonic() - begun:.0f} s")

        if self._refused:
            return found
        if self._scene.stamps is not None:  # their events stand in no journal, and no window's end is certain
            with believed():
                differs(
                    "tables and topics of the fold",
                    lambda: check(self.ground, records_expire=bool(self._scene.refusal)),
                )
            return found
        ground = self.ground
        truth = Truth.of(ground.log(), ground.rules)
        journals = {name: self.crew.journal(name) for name in self.crew.producers}
        differs("tables and topics of the fold", lambda: check(ground))
        found.account = differs("journals", lambda: check_ledger(ground, truth, journals, self.crew.journal("foreign")))
        if self.waits:
            differs("threshold events and aggregates", lambda: check_nothing_twice(ground))
            return found
        found.alerts = differs(
            "thresholds and aggregates",
            lambda: eventually(lambda: check_alerts(ground, truth, self._fixed), patience, "the checker is at rest"),
        )
        if (notices := self._notices) is not None:
            notices.redeliver()  # what the endpoint that was gone has missed
            found.notices = differs(
                "notifications", lambda: eventually(notices.check, patience, "the notifiers are at rest")
            )
        if verify:
            found.verified = differs("meterfold verify", self._verify) or ""
        return found

    @property
    def _notified(self) -> dict[str, dict[str, Any]]:
        """Whom thresholds notify. Those that many subjects reach once notify no one: it would only take longer."""
        receivers = self._receivers
        if receivers is None:
            return {}
        return {
            "steady-cap": {"notify_emails": ("steady@example.com",), "notify_webhook": receivers.url("steady")},
            "credit-cap": {"notify_emails": ("credit@example.com",), "notify_webhook": receivers.url("credit")},
            "every-cap": {"notify_emails": ("every@example.com",)},
            "definitions": {"notify_emails": ("flex@example.com",), "notify_webhook": receivers.url(GONE)},
        }

    @property
    def waits(self) -> bool:
        """Whether a whole worker waits, maybe for good: for the end of a transaction that Kafka has lost."""
        return bool(self._scene.single) and not self._broken and bool(self._unrecovered)

    @property
    def _unrecovered(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.seconds is None]

    @property
    def _refused(self) -> bool:
        """Whether a worker has stopped rather than guess."""
        return bool(self._scene.refusal) and any(self._scene.refusal in ending.words for ending in self.crew.expected)

    def _verify(self) -> str:
        """The command proves the same from its own side."""
        until = time.monotonic() + self._rest_seconds
        while True:
            done = subprocess.run(
                [*command("verify"), "--wait", "60", "--contents", "--json"],
                env=self._direct,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != exits.UNAVAILABLE or time.monotonic() > until:
                break
        words = f"{done.stdout[-3000:]}\n{done.stderr[-1000:]}"
        assert done.returncode == exits.OK, f"exit status {done.returncode}\n{words}"
        return f"proven, {sum(part['counted'] for part in json.loads(done.stdout)['partitions']):,} records"
