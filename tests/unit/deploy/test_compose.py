"""deploy/compose and deploy/docker: valid by Compose's schema, every variable is a setting of ours, every command and
option exists. tests/integration/test_deploy.py starts the processes as the file says."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cryptography import x509
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from meterfold_cli import main
from meterfold_schemas.settings import KafkaSettings
from support import deployed
from support.deployed import COMPOSE, check_environment, compose, interpolated
from support.paths import ROOT

ONE = ("compose.yaml",)
THREE = ("compose.yaml", "compose.brokers.yaml")
OURS = ("migrate", "fold", "check", "notify", "serve")
DOCKER = ROOT / "deploy" / "docker"
DUMMY = {
    "CLICKHOUSE_PASSWORD": "a",
    "CLICKHOUSE_READ_PASSWORD": "b",
    "GRAFANA_PASSWORD": "c",
    "KAFKA_CLUSTER_ID": "d",
    "HTTP_TOKEN_KEY": "e" * 32,
}


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: interpolated(value, DUMMY) for name, value in service.get("environment", {}).items()}


@pytest.mark.parametrize("names", [ONE, THREE], ids=["one", "three"])
def test_the_files_are_valid_by_the_schema_of_compose(names: tuple[str, ...]) -> None:
    schemas = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    for name in names:
        validator.validate(yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8")))
    validator.validate(compose(*names))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"services": {"fold": {"comand": ["fold"]}}})


@pytest.mark.parametrize("names", [ONE, THREE], ids=["one", "three"])
@pytest.mark.parametrize("service", OURS)
def test_every_variable_is_a_setting_and_every_command_and_option_exists(
    names: tuple[str, ...], service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compose(*names)["services"][service]
    check_environment(environment(found))
    command, *options = found["command"]
    assert main.run([command, "--help"]) == 0
    helped = capsys.readouterr().out
    assert [option for option in options if option.startswith("--") and option not in helped] == []


def test_a_variable_that_sets_nothing_is_found() -> None:
    good = {"METERFOLD_BOOTSTRAP_SERVERS": "a:1", "METERFOLD_CLICKHOUSE_URL": "http://a:1"}
    check_environment(good)
    with pytest.raises(AssertionError, match="METERFOLD_FOLD_BATCH_SIZE"):
        check_environment({**good, "METERFOLD_FOLD_BATCH_SIZE": "1"})


@pytest.mark.parametrize("names", [ONE, THREE], ids=["one", "three"])
def test_ports_are_on_loopback_and_passwords_come_from_the_environment(names: tuple[str, ...]) -> None:
    services = compose(*names)["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == len(set(ports)) >= 4
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert re.fullmatch(r"\$\{\w+_PASSWORD:\?[^}]+\}", value), (name, variable)


@pytest.mark.parametrize("names", [ONE, THREE], ids=["one", "three"])
def test_workers_start_after_the_servers_are_healthy_and_migrated(names: tuple[str, ...]) -> None:
    services = compose(*names)["services"]
    brokers = {name for name in services if name.startswith("kafka")}
    waits = services["migrate"]["depends_on"]
    assert waits.keys() == brokers | {"clickhouse"}
    assert {wait["condition"] for wait in waits.values()} == {"service_healthy"}
    assert all("healthcheck" in services[name] for name in waits)
    for worker in ("fold", "check", "notify", "serve"):
        assert services[worker]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
        assert services[worker]["read_only"] is True
        assert services[worker]["cap_drop"] == ["ALL"]


def test_the_brokers_of_the_override_are_one_cluster() -> None:
    services = compose(*THREE)["services"]
    brokers = {name: environment(services[name]) for name in services if name.startswith("kafka")}
    assert len(brokers) == 3
    own = {"KAFKA_NODE_ID", "KAFKA_ADVERTISED_LISTENERS"}
    shared = [{name: value for name, value in found.items() if name not in own} for found in brokers.values()]
    assert shared[0] == shared[1] == shared[2]
    voters = {f"{found['KAFKA_NODE_ID']}@{name}:9093" for name, found in brokers.items()}
    assert set(shared[0]["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")) == voters
    assert shared[0]["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == "2"
    for name in OURS:
        servers = environment(services[name])["METERFOLD_BOOTSTRAP_SERVERS"]
        assert servers.split(",") == [f"{broker}:9092" for broker in brokers], name
    assert services["migrate"]["command"] == ["migrate", "--replication", "3"]


def test_every_connection_to_the_brokers_of_the_override_is_encrypted() -> None:
    found = compose(*THREE)
    files = {name: Path(secret["file"]) for name, secret in found["secrets"].items()}
    for name, service in found["services"].items():
        given = environment(service)
        if name.startswith("kafka"):
            protocols = dict(one.split(":") for one in given["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
            listeners = {one.split("://")[0] for one in given["KAFKA_LISTENERS"].split(",")}
            assert protocols == dict.fromkeys(listeners, "SSL")
            # The image asks for a Java keystore where a listener is named SSL.
            assert "SSL" not in listeners
            stores = {given[f"KAFKA_SSL_{kind}STORE_LOCATION"] for kind in ("KEY", "TRUST")}
            assert stores == {f"/run/secrets/{secret}" for secret in service["secrets"]}
            assert "/etc/meterfold/client.properties" in service["healthcheck"]["test"][1]
        elif name in OURS:
            kafka = KafkaSettings.load(environ=given)
            assert kafka.librdkafka["security.protocol"] == "SSL"
            assert kafka.librdkafka["ssl.ca.location"] == f"/run/secrets/{service['secrets'][0]}"
    properties = (COMPOSE / "kafka" / "client.properties").read_text(encoding="utf-8")
    assert "ssl.truststore.location=/run/secrets/ca.pem\n" in properties
    assert {path.parent for path in files.values()} == {Path("tls")}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_generated_certificates_are_of_every_broker(tmp_path: Path) -> None:
    script, folder = COMPOSE / "generate-certificates.sh", tmp_path / "tls"
    subprocess.run([script, folder], check=True, capture_output=True)
    assert {path.name for path in folder.iterdir()} == set(compose(*THREE)["secrets"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    chain = x509.load_pem_x509_certificates((folder / "broker.pem").read_bytes())
    (ca,) = x509.load_pem_x509_certificates((folder / "ca.pem").read_bytes())
    assert chain[1] == ca
    chain[0].verify_directly_issued_by(ca)
    names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    services = compose(*THREE)["services"]
    assert set(names.get_values_for_type(x509.DNSName)) == {name for name in services if "kafka" in name} | {
        "localhost"
    }
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "broker.pem")  # the key is the certificate's


def test_files_that_are_mounted_exist() -> None:
    services = compose(*THREE)["services"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())]
    paths = [COMPOSE / path for path in mounted if path.startswith(".")]
    assert len(paths) >= 5
    assert [path for path in paths if not path.exists()] == []
    assert {name for name in mounted if not name.startswith(".")} == set(compose(*THREE)["volumes"])


def test_the_images_are_those_that_tests_run_against() -> None:
    services = compose(*ONE)["services"]
    lock = (ROOT / "deploy" / "meterfold_local" / "kafka" / "kafka.lock.toml").read_text(encoding="utf-8")
    kafka = services["kafka"]["image"].partition(":")[2]
    assert f'"{kafka}"' in lock or f":{kafka}" in lock
    assert all(":" in service["image"] and ":latest" not in service["image"] for service in services.values())


def test_generated_passwords_are_private_different_and_kept(tmp_path: Path) -> None:
    script, path = COMPOSE / "generate-env.sh", tmp_path / ".env"
    assert os.access(script, os.X_OK)
    subprocess.run([script, path], check=True, capture_output=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())
    wanted = deployed.variables_of(COMPOSE / "compose.yaml") | deployed.variables_of(COMPOSE / "compose.brokers.yaml")
    assert values.keys() == wanted
    assert len(set(values.values())) == len(values)
    assert all(len(value) >= 22 and value.isalnum() for value in values.values())
    before = path.read_bytes()
    again = subprocess.run([script, path], check=False, capture_output=True, text=True)
    assert again.returncode == 1
    assert "is kept" in again.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_can_be_run(path: Path) -> None:
    shell = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#!")
    assert os.access(path, os.X_OK)
    assert subprocess.run([shell, "-n", path], check=False, capture_output=True).stderr == b""


def test_the_image_has_what_the_package_declares_locked_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    parts = [project["project"]["dependencies"], *(extras[name] for name in ("server", "http", "notify-chat", "otel"))]
    declared = [one for part in parts for one in part if not one.startswith("meterfold")]
    for name, wanted in (
        ("requirements.txt", declared),
        ("build-requirements.txt", project["build-system"]["requires"]),
    ):
        text = (DOCKER / name).read_text(encoding="utf-8").replace("\\\n", " ")
        locked: dict[str, list[str]] = {}
        for line in text.splitlines():
            requirement = Requirement(line.split(" --hash=")[0])
            assert " --hash=sha256:" in line, requirement.name
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            locked.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
        for requirement in map(Requirement, wanted):
            versions = locked[canonicalize_name(requirement.name)]
            assert any(requirement.specifier.contains(version) for version in versions), requirement.name
        assert "//" not in text, "the lock names no registry"


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), DOCKER / "Dockerfile"], check=False, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    copied = re.findall(r"^COPY ([^-].*) \S+$", text, re.MULTILINE)
    assert [path for line in copied for path in line.split() if not (ROOT / path).exists()] == []
