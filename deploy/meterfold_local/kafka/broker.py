"""One broker: its folder, its storage, its process."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path

from meterfold_local.errors import StackError
from meterfold_local.kafka import java
from meterfold_local.kafka.config import BrokerConfig, log4j_properties, server_properties
from meterfold_local.private_files import write_private
from meterfold_local.process import ManagedProcess

FORMAT_SECONDS = 60.0
STOP_SECONDS = 8.0


class Broker:
    """A node of the cluster, broker and controller in one process. Below `folder`:

    server.properties (0600), log4j2.properties, data/ (the log), tmp/ (emptied at each start).
    """

    def __init__(
        self, config: BrokerConfig, folder: Path, logs: Path, classpath: str, aot_output: Path | None = None
    ) -> None:
        self.config = config
        self.folder = folder
        self._classpath = classpath
        self._log = logs / f"kafka-{config.node_id}.log"
        self._properties = folder / "server.properties"
        self._log4j = folder / "log4j2.properties"
        self.process = ManagedProcess(
            f"Kafka broker {config.node_id}",
            java.broker_command(classpath, folder, self._properties, self._log4j, aot_output),
            logs / f"kafka-{config.node_id}.out",
            env=java.java_environment(),
            more_logs=(self._log,),
        )

    @property
    def node_id(self) -> int:
        return self.config.node_id

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.config.ports.client}"

    def prepare(self) -> ManagedProcess | None:
        """Write the configuration; returns the running format process if the storage is new, for `finish_format`."""
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        (self.folder / "tmp").mkdir(parents=True)
        write_private(self._properties, server_properties(self.config))
        self._log4j.write_text(log4j_properties(self._log), encoding="utf-8")
        if self.config.data_folder.is_dir():
            return None
        # Formatted beside its place: a kill in the middle leaves nothing that looks like storage.
        unfinished = self._unfinished
        shutil.rmtree(unfinished, ignore_errors=True)
        temporary = self.folder / "format.properties"
        write_private(temporary, server_properties(replace(self.config, data_folder=unfinished)))
        cluster_id = (self.folder.parent / "cluster_id").read_text(encoding="ascii").strip()
        process = ManagedProcess(
            f"formatting of Kafka broker {self.node_id}",
            java.format_command(self._classpath, self.folder, temporary, self._log4j, cluster_id),
            self.process.log_file,
            env=java.java_environment(),
        )
        process.start()
        return process

    def finish_format(self, process: ManagedProcess) -> None:
        """Wait for the format process and put the new storage in its place."""
        code = process.wait(FORMAT_SECONDS)
        (self.folder / "format.properties").unlink()
        if code != 0:
            raise StackError(f"{process.name} ended with status {code}{process.quote()}")
        self._unfinished.rename(self.config.data_folder)

    def start(self) -> None:
        """Start the process; readiness is the cluster's to judge."""
        self.process.start()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()

    def request_stop(self) -> None:
        """SIGTERM, without waiting."""
        self.process.signal(signal.SIGTERM)

    def stop(self, deadline: float = STOP_SECONDS) -> None:
        """Stop cleanly; after `deadline` seconds with SIGKILL, which loses nothing that was acknowledged."""
        self.process.terminate(deadline)

    @property
    def _unfinished(self) -> Path:
        return self.config.data_folder.with_name("data.unfinished")
