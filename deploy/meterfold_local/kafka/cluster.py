"""A cluster of one or three brokers in one folder: laid out once, started, waited for, stopped.

Below the folder: `cluster_id`, `cluster.json` (how many brokers, the ports they used last), and a folder per broker.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from meterfold_local.errors import StackError
from meterfold_local.kafka.broker import STOP_SECONDS, Broker
from meterfold_local.kafka.client import Probe, sasl_settings
from meterfold_local.kafka.config import BrokerConfig, BrokerPorts
from meterfold_local.kafka.jars import Progress, kafka_classpath
from meterfold_local.ports import choose_port
from meterfold_local.private_files import Passwords, write_private
from meterfold_local.process import tail
from meterfold_schemas.plurals import plural

READY_SECONDS = 120.0
DEFAULT_PORT = 9092
CONTROLLER_OFFSET = 1000
"""A controller's port is looked for this far above its broker's, so that both rows of ports stay together."""


class KafkaCluster:
    """Apache Kafka in KRaft mode. `port` is the first to try (0: random ones); a restart prefers the last used.

    `aot_output` makes this a trial run for prepare.py.
    """

    def __init__(
        self,
        folder: Path,
        passwords: Passwords,
        *,
        brokers: int = 1,
        port: int = DEFAULT_PORT,
        logs: Path | None = None,
        progress: Progress | None = None,
        aot_output: Path | None = None,
    ) -> None:
        if brokers not in (1, 3):
            raise StackError(f"brokers={brokers}: a local cluster has 1 broker, or 3 for replication")
        self.folder = folder
        self.size = brokers
        self.brokers: tuple[Broker, ...] = ()
        self._passwords = passwords
        self._port = port
        self._logs = logs or folder / "logs"
        self._progress = progress
        self._aot_output = aot_output

    @property
    def bootstrap_servers(self) -> str:
        """host:port of every broker, comma separated; known once started."""
        return ",".join(broker.address for broker in self.brokers)

    def client_settings(self) -> dict[str, str]:
        """librdkafka's settings for an authenticated client."""
        return {"bootstrap.servers": self.bootstrap_servers, **sasl_settings(self._passwords.kafka_client)}

    def broker(self, node_id: int) -> Broker:
        """The broker with this node id (from 1)."""
        return self.brokers[node_id - 1]

    def start(self, deadline: float = READY_SECONDS) -> None:
        """Lay out what is new, start every broker, wait until all answer. On failure nothing is left running."""
        classpath = kafka_classpath(self._progress)
        try:
            for attempt in (1, 2, 3):
                self._lay_out(classpath)
                try:
                    self._start_all(deadline)
                    return
                except StackError:
                    # Between our look at a port and the broker's bind somebody else may have taken it.
                    if attempt == 3 or not self._port_was_taken():
                        raise
                    self.kill()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self, deadline: float = READY_SECONDS) -> None:
        """Wait until every broker that runs answers a client, and says that all that run are up.

        Each is asked directly: the others count a killed broker as up until its session times out.
        StackError when one dies or time runs out.
        """
        end = time.monotonic() + deadline
        running = [broker for broker in self.brokers if broker.process.running]
        wanted = {broker.node_id for broker in running}
        for broker in running:
            probe = Probe(broker.address, self._passwords.kafka_client)
            broker.process.wait_until(partial(probe.knows, wanted), max(0.0, end - time.monotonic()))

    def restart(self, *node_ids: int, deadline: float = READY_SECONDS) -> None:
        """Start brokers that were killed or stopped, on their old ports and storage, and wait until all are up."""
        for node_id in node_ids:
            self.broker(node_id).start()
        self.wait_ready(deadline)

    def stop(self) -> None:
        """Stop all at once, each cleanly if it manages to in time."""
        for broker in self.brokers:
            broker.request_stop()
        end = time.monotonic() + STOP_SECONDS
        for broker in self.brokers:
            broker.stop(max(0.0, end - time.monotonic()))

    def kill(self) -> None:
        """SIGKILL to all."""
        for broker in self.brokers:
            broker.kill()

    def _start_all(self, deadline: float) -> None:
        formatting = [(broker, process) for broker in self.brokers if (process := broker.prepare()) is not None]
        for broker, process in formatting:
            broker.finish_format(process)
        for broker in self.brokers:
            broker.start()
        self.wait_ready(deadline)

    def _lay_out(self, classpath: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        identity = self.folder / "cluster_id"
        if not identity.exists():
            write_private(identity, new_cluster_id() + "\n")
        layout = self.folder / "cluster.json"
        before = json.loads(layout.read_text(encoding="utf-8")) if layout.exists() else {}
        if before and before["brokers"] != self.size:
            raise StackError(
                f"{self.folder}: made for {plural(before['brokers'], 'broker')}, not {self.size}; "
                f"start it with --brokers {before['brokers']}, or use another folder"
            )
        voters = self._choose_ports(before.get("ports", []))
        ports = [[voters[node].client, voters[node].controller] for node in sorted(voters)]
        write_private(layout, json.dumps({"brokers": self.size, "ports": ports}) + "\n")
        self.brokers = tuple(
            Broker(
                BrokerConfig(
                    node_id=node,
                    voters=voters,
                    data_folder=(self.folder / str(node) / "data").resolve(),
                    client_password=self._passwords.kafka_client,
                    broker_password=self._passwords.kafka_broker,
                ),
                (self.folder / str(node)).resolve(),
                self._logs.resolve(),
                classpath,
                self._aot_output,
            )
            for node in sorted(voters)
        )

    def _choose_ports(self, before: Sequence[Sequence[int]]) -> dict[int, BrokerPorts]:
        voters: dict[int, BrokerPorts] = {}
        taken: set[int] = set()
        for node in range(1, self.size + 1):
            if before:
                wanted_client, wanted_controller = before[node - 1]
            else:
                wanted_client = self._port and self._port + node - 1
                # At the end of the range the controller's row is below the brokers'.
                above = wanted_client + CONTROLLER_OFFSET + self.size <= 65535
                wanted_controller = wanted_client and wanted_client + (
                    CONTROLLER_OFFSET if above else -CONTROLLER_OFFSET
                )
            client = choose_port(wanted_client, taken)
            taken.add(client)
            controller = choose_port(wanted_controller, taken)
            taken.add(controller)
            voters[node] = BrokerPorts(client, controller)
        return voters

    def _port_was_taken(self) -> bool:
        signs = ("Address already in use", "BindException")
        ended = [broker for broker in self.brokers if broker.process.exit_code is not None]
        return any(
            sign in tail(path, 60)
            for broker in ended
            for path in (broker.process.log_file, *broker.process.more_logs)
            for sign in signs
        )


def new_cluster_id() -> str:
    """A random id as Kafka makes them: 16 bytes, URL-safe base64 without padding, not beginning with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text
