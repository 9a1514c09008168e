"""The users of deploy/kafka/users.yaml on a broker of the local stack that has an authorizer."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import yaml
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from meterfold_local import stack
from meterfold_local.kafka import broker, client, cluster
from meterfold_local.kafka.config import BROKER_USER, CLIENT_USER, HOST, BrokerConfig, escape, server_properties
from meterfold_schemas.settings import KafkaSettings
from support.paths import ROOT

__all__ = ["Rule", "bindings", "create", "rules", "settings_of", "with_authorizer"]

USERS: Final = ROOT / "deploy" / "kafka" / "users.yaml"
_CERTIFICATES: Final = ROOT / "deploy" / "compose" / "generate-certificates.sh"
_OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "Alter": AclOperation.ALTER,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
}
_TYPES: Final = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactionalId": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.BROKER,
}


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """One operation that one user may do; the name of the cluster is empty."""

    user: str
    resource: str
    name: str
    prefix: bool
    operation: str


def rules() -> list[Rule]:
    """Every rule of users.yaml."""
    found = []
    for user in yaml.safe_load_all(USERS.read_text(encoding="utf-8")):
        for acl in user["spec"]["authorization"]["acls"]:
            resource = acl["resource"]
            found += [
                Rule(
                    user["metadata"]["name"],
                    resource["type"],
                    resource.get("name", ""),
                    resource.get("patternType") == "prefix",
                    operation,
                )
                for operation in acl["operations"]
            ]
    return found


def bindings(topic_prefix: str) -> Iterator[AclBinding]:
    """The rules as ACLs of an installation with this topic prefix."""
    for rule in rules():
        cluster = rule.resource == "cluster"
        yield AclBinding(
            _TYPES[rule.resource],
            "kafka-cluster" if cluster else topic_prefix + rule.name,
            ResourcePatternType.PREFIXED if rule.prefix else ResourcePatternType.LITERAL,
            f"User:{rule.user}",
            "*",
            _OPERATIONS[rule.operation],
            AclPermissionType.ALLOW,
        )


def create(settings: KafkaSettings) -> None:
    """Create them, as the administrator."""
    admin = AdminClient(settings.client())
    for future in admin.create_acls(list(bindings(settings.topic_prefix))).values():
        future.result(30)


def settings_of(user: str, settings: KafkaSettings) -> KafkaSettings:
    """The same cluster as another user; the password is the user's name."""
    login = {"sasl.username": user, "sasl.password": user}
    return settings.model_copy(update={"librdkafka": {**settings.librdkafka, **login}})


def with_authorizer(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Brokers that start from now on refuse what no ACL allows, know the users, and let clients in by TLS only, with
    certificates as deploy/compose makes them, in `folder`."""
    subprocess.run([_CERTIFICATES, folder, HOST], check=True, capture_output=True)
    encrypted = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(folder / "ca.pem")}
    plain = client.sasl_settings
    for module in (client, cluster, stack):
        monkeypatch.setattr(module, "sasl_settings", lambda password: {**plain(password), **encrypted})
    accounts = " ".join(f'user_{user}="{user}"' for user in sorted({rule.user for rule in rules()}))

    def properties(config: BrokerConfig) -> str:
        text = server_properties(config)
        login = next(line for line in text.splitlines() if line.startswith("listener.name.client.plain"))
        assert login.endswith(";")
        assert "CLIENT:SASL_PLAINTEXT" in text
        text = text.replace("CLIENT:SASL_PLAINTEXT", "CLIENT:SASL_SSL")
        return text.replace(login, f"{login[:-1]} {accounts};") + (
            f"ssl.keystore.type=PEM\nssl.keystore.location={escape(str(folder / 'broker.pem'))}\n"
            f"ssl.truststore.type=PEM\nssl.truststore.location={escape(str(folder / 'ca.pem'))}\n"
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
            f"super.users=User:{BROKER_USER};User:{CLIENT_USER}\n"
            "allow.everyone.if.no.acl.found=false\n"
        )

    monkeypatch.setattr(broker, "server_properties", properties)
