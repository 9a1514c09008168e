"""The local stack: Apache Kafka and the ClickHouse server as child processes on one data folder.

    with LocalStack(".meterfold") as stack:
        settings = stack.kafka_settings()

In the data folder: secrets.json and meterfold.toml (0600), stack.json and stack.lock (see stack_state.py), logs/,
kafka/, clickhouse/. All of it survives a restart and a kill -9.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from meterfold_local import clickhouse_process
from meterfold_local.clickhouse_process import ClickHouseProcess
from meterfold_local.errors import StackError
from meterfold_local.kafka import cluster
from meterfold_local.kafka.client import sasl_settings
from meterfold_local.kafka.cluster import KafkaCluster
from meterfold_local.kafka.jars import Progress
from meterfold_local.ports import HOST, choose_port
from meterfold_local.private_files import Passwords, load_passwords
from meterfold_local.process import ManagedProcess
from meterfold_local.stack_settings import write_settings
from meterfold_local.stack_state import (
    STATE_FILE,
    FolderLock,
    ProcessInfo,
    StackState,
    describe_self,
    end_leftovers,
    write_state,
)
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings

DEFAULT_FOLDER = Path(".meterfold")
WORKER_STOP_SECONDS = 12.0
DEFAULT_HTTP_PORT = 8888

_Server = TypeVar("_Server", KafkaCluster, ClickHouseProcess, Passwords)


class LocalStack:
    """The servers, and the processes that are started beside them with `spawn`.

    `brokers` is 1 or 3 (None: as the folder was made, else 1). `kafka_port`, `clickhouse_port`, and `http_port` for a
    `meterfold serve` beside them, are the first ones to try, 0 means random; a folder keeps the ports of its servers
    where they are free. `progress` is called with (jars present, jars in all) while Kafka is fetched, once per machine.
    """

    def __init__(
        self,
        data_dir: Path | str = DEFAULT_FOLDER,
        *,
        brokers: int | None = None,
        kafka_port: int = cluster.DEFAULT_PORT,
        clickhouse_port: int = clickhouse_process.DEFAULT_PORT,
        database: str = "meterfold",
        progress: Progress | None = None,
        http_port: int = DEFAULT_HTTP_PORT,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.logs = self.data_dir / "logs"
        self.config_file = self.data_dir / "meterfold.toml"
        self.leftovers: Sequence[ProcessInfo] = ()
        self._brokers = brokers
        self._ports = (kafka_port, clickhouse_port)
        self._http_port = http_port
        self._database = database
        self._progress = progress
        self._lock = FolderLock(self.data_dir)
        self._workers: list[ManagedProcess] = []
        self._passwords: Passwords | None = None
        self._kafka: KafkaCluster | None = None
        self._clickhouse: ClickHouseProcess | None = None

    @property
    def kafka(self) -> KafkaCluster:
        return _started(self._kafka)

    @property
    def clickhouse(self) -> ClickHouseProcess:
        return _started(self._clickhouse)

    def start(self) -> None:
        """Start both servers side by side and wait until they answer; on failure nothing is left running.

        Raises AlreadyRunning, or StackError with the end of the log of what failed.
        """
        self._lock.acquire()
        try:
            self.leftovers = end_leftovers(self.data_dir)
            passwords = self._passwords = load_passwords(self.data_dir / "secrets.json")
            kafka_port, clickhouse_port = self._ports
            self._kafka = KafkaCluster(
                self.data_dir / "kafka",
                passwords,
                brokers=self._brokers or _brokers_before(self.data_dir),
                port=kafka_port,
                logs=self.logs,
                progress=self._progress,
            )
            self._clickhouse = ClickHouseProcess(
                self.data_dir / "clickhouse", passwords.clickhouse, port=clickhouse_port, logs=self.logs
            )
            self._clickhouse.begin()
            self._kafka.start()
            self._clickhouse.wait_ready()
            taken = [urlsplit(self.clickhouse.url).port or 0, *_ports_of(self.kafka.bootstrap_servers)]
            self._http_port = choose_port(self._http_port, taken)
            self.write_settings()
            self.write_state()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop workers, then servers: cleanly if they manage to within some seconds, else with SIGKILL."""
        try:
            _stop_all([*reversed(self._workers)])
            self._workers.clear()
            with ThreadPoolExecutor() as pool:
                stops = [pool.submit(server.stop) for server in (self._kafka, self._clickhouse) if server is not None]
                for stop in stops:
                    stop.result()
        finally:
            if self._kafka is not None:
                # A settings file without servers would only make the next command wait for them.
                self.config_file.unlink(missing_ok=True)
                (self.data_dir / STATE_FILE).unlink(missing_ok=True)
            self._kafka = self._clickhouse = None
            self._lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def kafka_settings(self, topic_prefix: str = "") -> KafkaSettings:
        """For an authenticated client of the running cluster."""
        return KafkaSettings(
            bootstrap_servers=self.kafka.bootstrap_servers,
            topic_prefix=topic_prefix,
            librdkafka=sasl_settings(_started(self._passwords).kafka_client),
        )

    def clickhouse_settings(self, database: str | None = None) -> ClickHouseSettings:
        """For the running server; the database need not exist yet."""
        return ClickHouseSettings(
            url=self.clickhouse.url,
            database=database or self._database,
            username=clickhouse_process.USERNAME,
            password=SecretStr(_started(self._passwords).clickhouse),
        )

    def spawn(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> ManagedProcess:
        """Start a worker that finds this stack through METERFOLD_CONFIG; it is stopped before the servers are.

        `env` comes on top of our environment without its METERFOLD_ variables. Its output goes to logs/<name>.log.
        """
        process = ManagedProcess(name, command, self.logs / f"{name}.log", env={**self.environment(), **(env or {})})
        process.start()
        self._workers.append(process)
        self.write_state()
        return process

    def end(self, process: ManagedProcess) -> None:
        """Stop one worker, which is then no longer looked after."""
        process.terminate(WORKER_STOP_SECONDS)
        self._workers.remove(process)
        self.write_state()

    @property
    def http_url(self) -> str:
        """Where `meterfold serve` listens with the settings of this stack."""
        return f"http://{HOST}:{self._http_port}"

    def environment(self) -> dict[str, str]:
        """Our environment, pointed at this stack."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("METERFOLD_")}
        return {**environment, "METERFOLD_CONFIG": str(self.config_file)}

    def check(self) -> None:
        """Raises StackError with the end of its log if a server or worker is no longer running."""
        for process in self._processes():
            if not process.running:
                raise StackError(f"{process.name} ended with status {process.exit_code}{process.quote()}")

    def wait(self, stop: threading.Event) -> None:
        """Return when `stop` is set; StackError as soon as one of the processes has ended."""
        while not stop.wait(0.3):
            self.check()

    def write_settings(self, **sdk: int) -> None:
        """Write the settings file; `sdk` are settings for applications, by name."""
        http: dict[str, str | int] = {"port": self._http_port, "token_key": _started(self._passwords).http_token_key}
        write_settings(self.config_file, self.kafka_settings(), self.clickhouse_settings(), sdk, http)

    def write_state(self) -> None:
        """Bring stack.json up to date, after a process was started again by hand."""
        processes = tuple(ProcessInfo.of(p.name, p.pid) for p in self._processes() if p.running)
        state = StackState(describe_self(), processes, self.kafka.bootstrap_servers, self.clickhouse.url)
        write_state(self.data_dir, state)

    def _processes(self) -> list[ManagedProcess]:
        brokers = [broker.process for broker in self.kafka.brokers]
        return [*brokers, self.clickhouse.process, *self._workers]


def _stop_all(workers: Sequence[ManagedProcess]) -> None:
    """All at once: each may take its whole deadline to hand its partitions back."""
    if workers:
        with ThreadPoolExecutor(len(workers)) as pool:
            list(pool.map(lambda worker: worker.terminate(WORKER_STOP_SECONDS), workers))


def _ports_of(servers: str) -> list[int]:
    return [int(server.rpartition(":")[2]) for server in servers.split(",")]


def _brokers_before(data_dir: Path) -> int:
    layout = data_dir / "kafka" / "cluster.json"
    return int(json.loads(layout.read_text(encoding="utf-8"))["brokers"]) if layout.exists() else 1


def _started(server: _Server | None) -> _Server:
    if server is None:
        raise StackError("the local stack is not running; start it first")
    return server
