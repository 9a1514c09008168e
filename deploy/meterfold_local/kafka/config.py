"""The configuration of one broker: `server.properties` and its log4j configuration, as text.

Loopback only. Clients, brokers and controllers authenticate with SASL PLAIN; the passwords are in this file alone,
which is written with mode 0600, never on a command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CLIENT_USER = "meterfold"
BROKER_USER = "broker"
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class BrokerPorts:
    """Where a broker listens on loopback: for clients and other brokers, and for controllers."""

    client: int
    controller: int


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Everything that differs between brokers or installations.

    `voters` maps the node id of every broker of the cluster (each is a controller, too) to its ports.
    """

    node_id: int
    voters: Mapping[int, BrokerPorts]
    data_folder: Path
    client_password: str = field(repr=False)
    broker_password: str = field(repr=False)

    @property
    def ports(self) -> BrokerPorts:
        return self.voters[self.node_id]

    @property
    def replication(self) -> int:
        return min(3, len(self.voters))

    @property
    def min_in_sync(self) -> int:
        """Two of three: a message that was acknowledged survives the loss of any one broker."""
        return 2 if self.replication == 3 else 1


def server_properties(config: BrokerConfig) -> str:
    """Render `server.properties`."""
    voters = ",".join(f"{node}@{HOST}:{ports.controller}" for node, ports in sorted(config.voters.items()))
    replicated = {
        "replication.factor": str(config.replication),
        "min.isr": str(config.min_in_sync),
    }
    properties = {
        "process.roles": "broker,controller",
        "node.id": str(config.node_id),
        "controller.quorum.voters": voters,
        "listeners": f"CLIENT://{HOST}:{config.ports.client},CONTROLLER://{HOST}:{config.ports.controller}",
        "advertised.listeners": f"CLIENT://{HOST}:{config.ports.client}",
        "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "controller.listener.names": "CONTROLLER",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": _login(config, clients=True),
        "listener.name.controller.plain.sasl.jaas.config": _login(config, clients=False),
        "log.dirs": str(config.data_folder),
        # Topics are made by `meterfold migrate`; a misspelt name must not become one.
        "auto.create.topics.enable": "false",
        "num.partitions": "6",
        "default.replication.factor": str(config.replication),
        "min.insync.replicas": str(config.min_in_sync),
        "unclean.leader.election.enable": "false",
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": str(config.replication),
        "transaction.state.log.num.partitions": "4",
        **{f"transaction.state.log.{name}": value for name, value in replicated.items()},
        "share.coordinator.state.topic.num.partitions": "4",
        **{f"share.coordinator.state.topic.{name}": value for name, value in replicated.items()},
        # A transaction whose producer died holds up read_committed readers until it is found: look every second.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        # Hand-over in half a second, a dead member replaced in some five: Kafka's defaults are made for large groups.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "3000",
        "group.consumer.heartbeat.interval.ms": "500",
        "group.consumer.min.heartbeat.interval.ms": "300",
        "group.consumer.session.timeout.ms": "6000",
        "group.consumer.min.session.timeout.ms": "3000",
        # After this a killed broker is fenced and its partitions move; only then is it let in again, too.
        "broker.session.timeout.ms": "4000" if config.replication > 1 else "2000",
        "broker.heartbeat.interval.ms": "500",
        # One machine, a small heap: the cleaner's default buffer alone is 128 MB.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.recovery.threads.per.data.dir": "2",
    }
    return "".join(f"{name}={escape(value)}\n" for name, value in properties.items())


def _login(config: BrokerConfig, *, clients: bool) -> str:
    """JAAS configuration of one listener: who this broker is and whom it lets in."""
    accepted = f'user_{BROKER_USER}="{config.broker_password}"'
    if clients:
        accepted += f' user_{CLIENT_USER}="{config.client_password}"'
    return (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="{BROKER_USER}" password="{config.broker_password}" {accepted};'
    )


def escape(value: str) -> str:
    """A value as java.util.Properties reads it back: backslashes doubled, non-ASCII as UTF-16 escapes."""
    out = []
    for position, character in enumerate(value):
        if character in "\\\n\r\t" or (character == " " and position == 0):
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character, f"\\{character}"))
        elif " " <= character <= "~":
            out.append(character)
        else:
            units = character.encode("utf-16-be")
            out.extend(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
    return "".join(out)


def log4j_properties(log_file: Path) -> str:
    """Log to one rolling file (3 x 20 MB); what the JVM itself prints goes to the process's own output file."""
    path = escape(str(log_file))
    return f"""\
status=error
# Kafka's own shutdown hook still has things to say after log4j's would have closed the file.
shutdownHook=disable
appender.file.type=RollingFile
appender.file.name=FILE
appender.file.fileName={path}
appender.file.filePattern={path}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %p %m (%c{{1}})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=20MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
# 400 lines of settings at every start, and again for every client inside the broker.
logger.settings.name=kafka.server.KafkaConfig
logger.settings.level=warn
logger.values.name=org.apache.kafka.common.config.AbstractConfig
logger.values.level=warn
rootLogger.level=info
rootLogger.appenderRef.file.ref=FILE
"""
