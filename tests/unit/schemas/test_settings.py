"""Settings: who wins, what is refused, and that no secret shows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr
from rich.pretty import pretty_repr

from meterfold import Meter
from meterfold_schemas.errors import Fatal, InvalidSettings
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings, Settings, Sources, load_settings

SECRET = "hunter2-very-secret"


class PartSettings(Settings):
    seconds: float = Field(default=1.5, ge=0)
    name: str = "part"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, path: str = "meterfold.toml") -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text)


def here(**environ: str) -> Sources:
    """As a command in this folder reads its settings."""
    return Sources.read(environ={f"METERFOLD_{name}": value for name, value in environ.items()}, folder=Path())


def kafka(**environ: str) -> KafkaSettings:
    return KafkaSettings.load(sources=here(**environ))


def test_arguments_win_over_variables_over_the_file() -> None:
    write(
        '[kafka]\nbootstrap_servers = "file:1"\ntopic_prefix = "file."\n[kafka.librdkafka]\n"a.b" = "file"\n"c.d" = 1\n'
    )
    sources = here(BOOTSTRAP_SERVERS="variable:1", KAFKA_A_B="variable")
    assert kafka().bootstrap_servers == "file:1"
    found = KafkaSettings.load(sources=sources)
    assert (found.bootstrap_servers, found.topic_prefix) == ("variable:1", "file.")
    assert found.librdkafka == {"a.b": "variable", "c.d": "1"}
    found = KafkaSettings.load(sources=sources, bootstrap_servers="argument:1", librdkafka={"a.b": "argument"})
    assert found.bootstrap_servers == "argument:1"
    assert found.librdkafka == {"a.b": "argument", "c.d": "1"}


def test_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERFOLD_BOOTSTRAP_SERVERS", "a:1")
    assert KafkaSettings.load().bootstrap_servers == "a:1"


def test_a_command_looks_for_files_in_their_order() -> None:
    write('[kafka]\nbootstrap_servers = "stack:1"\n', ".meterfold/meterfold.toml")
    assert kafka().bootstrap_servers == "stack:1"
    write('[kafka]\nbootstrap_servers = "here:1"\n')
    assert kafka().bootstrap_servers == "here:1"
    write('[kafka]\nbootstrap_servers = "named:1"\n', "other.toml")
    assert kafka(CONFIG="other.toml").bootstrap_servers == "named:1"
    assert KafkaSettings.load(environ={}, config="other.toml").bootstrap_servers == "named:1"


@pytest.mark.parametrize("path", ["meterfold.toml", ".meterfold/meterfold.toml"])
def test_an_application_reads_no_file_of_its_working_directory(path: str) -> None:
    write('[kafka]\nbootstrap_servers = "stack:1"\n[clickhouse]\nurl = "http://h:1"\n', path)
    with pytest.raises(InvalidSettings, match="set METERFOLD_CONFIG to a settings file"):
        KafkaSettings.load(environ={})
    with pytest.raises(InvalidSettings, match="set METERFOLD_CONFIG to a settings file"):
        ClickHouseSettings.load(environ={})
    with pytest.raises(InvalidSettings, match="the Kafka cluster is not configured"):
        Meter()
    assert KafkaSettings.load(environ={"METERFOLD_CONFIG": path}).bootstrap_servers == "stack:1"


def test_a_client_gets_what_passes_through_and_what_its_role_needs() -> None:
    found = kafka(BOOTSTRAP_SERVERS="a:1", KAFKA_SASL_PASSWORD=SECRET, KAFKA_SECURITY_PROTOCOL="SASL_SSL")
    assert found.client(**{"group.id": "g", "security.protocol": "PLAINTEXT"}) == {
        "bootstrap.servers": "a:1",
        "sasl.password": SECRET,
        "security.protocol": "PLAINTEXT",
        "group.id": "g",
    }


def test_toml_booleans_and_numbers_are_written_as_librdkafka_reads_them() -> None:
    write('[kafka]\nbootstrap_servers = "a:1"\n[kafka.librdkafka]\n"x.y" = true\n"z" = 10\n')
    assert kafka().librdkafka == {"x.y": "true", "z": "10"}


def test_variables_of_local_brokers_are_no_librdkafka_settings() -> None:
    assert kafka(BOOTSTRAP_SERVERS="a:1", KAFKA_HOME="/opt/kafka", KAFKA_JVM_OPTIONS="-Xmx1g").librdkafka == {}


@pytest.mark.parametrize(
    ("environ", "hint"),
    [
        ({}, "METERFOLD_BOOTSTRAP_SERVERS"),
        ({"BOOTSTRAP_SERVERS": ""}, "kafka.bootstrap_servers"),
        ({"BOOTSTRAP_SERVERS": "a", "TOPIC_PREFIX": "a/b"}, "kafka.topic_prefix"),
        ({"BOOTSTRAP_SERVERS": "a", "KAFKA_BOOTSTRAP_SERVERS": "b"}, "bootstrap_servers"),
        ({"CONFIG": "nowhere.toml"}, "nowhere.toml does not exist; correct METERFOLD_CONFIG"),
    ],
)
def test_wrong_variables_are_clear_errors(environ: dict[str, str], hint: str) -> None:
    with pytest.raises(InvalidSettings, match=hint) as caught:
        kafka(**environ)
    assert caught.value.code == "INVALID_SETTINGS"
    assert isinstance(caught.value, Fatal)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[kafkaa]\n", r"\[kafkaa\]. Did you mean kafka"),
        ('[kafka]\nbootstrap_server = "a"\n', "Did you mean bootstrap_servers"),
        ("[kafka\n", "not valid TOML"),
        ("kafka = 1\n", "must be a table"),
        ('[kafka]\nbootstrap_servers = ["a"]\n', "kafka.bootstrap_servers"),
    ],
)
def test_a_wrong_file_is_a_clear_error(text: str, hint: str) -> None:
    write(text)
    with pytest.raises(InvalidSettings, match=hint):
        kafka()


def test_clickhouse_settings() -> None:
    write('[clickhouse]\nurl = "http://file:8123"\npassword = "from file"\n')
    found = ClickHouseSettings.load(sources=here(CLICKHOUSE_URL="https://host:8443/"), database="other")
    assert (found.url, found.database, found.username) == ("https://host:8443", "other", "default")
    assert found.password.get_secret_value() == "from file"


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({}, "METERFOLD_CLICKHOUSE_URL"),
        ({"URL": "host:8123"}, "clickhouse.url"),
        ({"URL": f"http://user:{SECRET}@host:8123"}, "not in the URL"),
        ({"URL": "http://h:1", "DATABASE": "a; DROP"}, "clickhouse.database"),
    ],
)
def test_wrong_clickhouse_settings_are_clear_errors(values: dict[str, str], hint: str) -> None:
    with pytest.raises(InvalidSettings, match=hint) as caught:
        ClickHouseSettings.load(environ={f"METERFOLD_CLICKHOUSE_{name}": value for name, value in values.items()})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        ClickHouseSettings(url="http://h:1", password=SecretStr(SECRET)),
        KafkaSettings(bootstrap_servers="a:1", librdkafka={"sasl.password": SECRET, "ssl.key.pem": SECRET}),
        KafkaSettings(bootstrap_servers="a:1", librdkafka={"sasl.oauthbearer.client.secret": SECRET}),
    ],
)
def test_no_secret_shows(settings: Any) -> None:
    for shown in (
        repr(settings),
        str(settings),
        f"{settings}",
        f"{settings!r}",
        repr([settings]),
        pretty_repr(settings),
        str(settings.model_dump()) if isinstance(settings, ClickHouseSettings) else repr(settings),
    ):
        assert SECRET not in shown
        assert "***" in shown
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301


def test_a_refused_secret_is_not_in_the_error() -> None:
    with pytest.raises(InvalidSettings) as caught:
        ClickHouseSettings.load(environ={}, url="http://h:1", password={"secret": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("BOTSTRAP_SERVERS", "Did you mean METERFOLD_BOOTSTRAP_SERVERS"),
        ("CLICKHOUSE_URI", "Did you mean METERFOLD_CLICKHOUSE_URL"),
    ],
)
def test_a_variable_that_sets_nothing_is_one_warning(
    name: str, hint: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meterfold_schemas.settings_sources._warned", set())
    environ = {"METERFOLD_CLICKHOUSE_URL": "http://h:1", "METERFOLD_BOOTSTRAP_SERVERS": "a:1", f"METERFOLD_{name}": "x"}
    for _ in range(2):
        assert ClickHouseSettings.load(environ=environ).url == "http://h:1"
        assert KafkaSettings.load(environ=environ).bootstrap_servers == "a:1"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert hint in caplog.text


def test_service_links_of_kubernetes_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    links = {
        "METERFOLD_PORT": "tcp://10.0.0.1:80",
        "METERFOLD_SERVICE_HOST": "10.0.0.1",
        "METERFOLD_KAFKA_SERVICE_HOST": "10.0.0.2",
        "METERFOLD_KAFKA_SERVICE_PORT": "9092",
        "METERFOLD_KAFKA_PORT_9092_TCP": "tcp://10.0.0.2:9092",
        "METERFOLD_KAFKA_PORT_9092_TCP_ADDR": "10.0.0.2",
        "METERFOLD_KAFKA_PORT_9092_TCP_PROTO": "tcp",
        "METERFOLD_CLICKHOUSE_SERVICE_HOST": "fd00::1",
        "METERFOLD_CLICKHOUSE_PORT": "tcp://10.0.0.3:8123",
    }
    environ = {**links, "METERFOLD_CLICKHOUSE_URL": "http://h:1", "METERFOLD_BOOTSTRAP_SERVERS": "a:1"}
    assert KafkaSettings.load(environ=environ).librdkafka == {}
    assert ClickHouseSettings.load(environ=environ).url == "http://h:1"
    assert caplog.records == []


def test_a_part_has_a_section_of_its_own() -> None:
    write('[fold]\nseconds = 3\nname = "file"\n')
    found = load_settings(PartSettings, "fold", sources=here(FOLD_NAME="variable"), seconds=None)
    assert (found.seconds, found.name) == (3.0, "variable")
    with pytest.raises(InvalidSettings, match=r"fold.seconds"):
        load_settings(PartSettings, "fold", environ={"METERFOLD_FOLD_SECONDS": "-1"})
    with pytest.raises(InvalidSettings, match=r"unknown setting fold.secs"):
        load_settings(PartSettings, "fold", environ={}, secs=1)
