"""deploy/kafka: both files give the same rights, on topics that exist.

tests/integration/test_least_privilege.py shows on a real broker that they are enough, and not too much."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator

from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.fold.settings import FoldSettings
from meterfold_schemas.topics import NAMES
from meterfold_service.notify.settings import NotifySettings
from support.kafka_users import Rule, rules
from support.paths import ROOT

SCRIPT = ROOT / "deploy" / "kafka" / "acls.sh"
OPTIONS = {"--topic": "topic", "--group": "group", "--transactional-id": "transactionalId"}


def told(prefix: str) -> Iterator[Rule]:
    """What acls.sh tells Kafka's tool, which `echo` shows."""
    environment = {"PATH": os.environ["PATH"], "KAFKA_ACLS": "echo", "PREFIX": prefix}
    command = [SCRIPT, "--bootstrap-server", "broker:9092"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        words = line.split()
        assert words[:2] == ["--bootstrap-server", "broker:9092"]
        assert words[-3:-1] == ["--add", "--allow-principal"]
        pairs = list(itertools.pairwise(words))
        places = [(OPTIONS[option], value) for option, value in pairs if option in OPTIONS]
        if "--cluster" in words:
            places.append(("cluster", prefix))
        assert places, line
        for resource, name in places:
            assert name.startswith(prefix)
            for option, operation in pairs:
                if option == "--operation":
                    user = words[-1].removeprefix("User:")
                    yield Rule(user, resource, name.removeprefix(prefix), "prefixed" in words, operation)


def test_the_script_gives_the_rights_of_the_users() -> None:
    found = list(told("prefix."))
    assert len(found) > 50
    assert sorted(found) == sorted(rules())


def test_names_are_those_of_the_code() -> None:
    topics = {rule.name for rule in rules() if rule.resource == "topic"}
    assert topics == set(NAMES)
    groups = {(rule.user, rule.name) for rule in rules() if rule.resource == "group"}
    assert ("meterfold-fold", FoldSettings().group_id) in groups
    assert ("meterfold-check", CheckerSettings().group_id) in groups
    assert ("meterfold-notify", NotifySettings().group_id) in groups
    identities = {rule.name for rule in rules() if rule.resource == "transactionalId" and rule.prefix}
    assert identities == {f"{CheckerSettings().group_id}-"}


def test_nobody_has_more_than_one_part_needs() -> None:
    writers: dict[str, set[str]] = {}
    for rule in rules():
        if rule.resource == "topic" and rule.operation == "Write":
            writers.setdefault(rule.name, set()).add(rule.user)
        assert rule.operation not in ("All", "Delete", "ClusterAction"), rule
        if rule.user == "meterfold-migrate":
            assert rule.operation not in ("Read", "Write"), "it makes topics and sees no message"
    readers = {rule.user for rule in rules() if (rule.name, rule.operation) == ("usage.recorded", "Read")}
    assert readers == {"meterfold-backup", "meterfold-fold", "meterfold-serve", "meterfold-service", "meterfold-verify"}
    assert writers["usage.recorded"] == {"meterfold-app", "meterfold-redrive", "meterfold-serve"}
    assert writers["usage.windows"] == writers["usage.rejected"] == {"meterfold-fold"}
    assert writers["metric.defined"] == writers["alert.acted"] == {"meterfold-serve", "meterfold-service"}
    assert writers["endpoint.changed"] == {"meterfold-notify", "meterfold-serve", "meterfold-service"}
    assert {user for topic, found in writers.items() if topic.startswith("threshold.") for user in found} == {
        "meterfold-check",
        "meterfold-serve",
        "meterfold-service",
    }
    assert len(writers) == len(NAMES)
