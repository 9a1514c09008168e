"""deploy/kubernetes: valid by the schemas of Kubernetes, every variable is a setting, selectors and names agree.

With kubectl on this machine, the overlay is rendered and checked as well."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from meterfold_cli import main
from support.deployed import check_environment
from support.paths import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
BASE, OVERLAY = FOLDER / "base", FOLDER / "overlays" / "example"
VERSIONS = ("1.31", "1.37")
WORKERS = {"fold", "check", "notify", "serve"}
KINDS = {"Deployment", "StatefulSet", "Job", "CronJob"}
ORDINAL = "1"
"""What a pod of a StatefulSet gets from its label."""


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


DOCUMENTS: dict[str, dict[str, Any]] = {
    path.stem: load(path) for path in sorted(BASE.glob("*.yaml")) if path.stem != "kustomization"
}
WORKLOADS = {name: found for name, found in DOCUMENTS.items() if found["kind"] in KINDS}


def template(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    found: dict[str, Any] = spec["template"]
    return found


def container(document: dict[str, Any]) -> dict[str, Any]:
    (found,) = template(document)["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def literals() -> Iterator[tuple[str, str]]:
    for folder in (BASE, OVERLAY):
        (generator,) = load(folder / "kustomization.yaml")["configMapGenerator"]
        for literal in generator["literals"]:
            name, _, value = literal.partition("=")
            yield name, value


def secret(name: str) -> dict[str, str]:
    lines = (OVERLAY / f"{name.removeprefix('meterfold-')}.env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def environment(document: dict[str, Any]) -> dict[str, str]:
    """What the container gets from the ConfigMap, its Secret and its own `env`."""
    sources = container(document)["envFrom"]
    assert sources[0] == {"configMapRef": {"name": "meterfold"}}
    own = {entry["name"]: entry.get("value", ORDINAL) for entry in container(document).get("env", ())}
    return {**dict(literals()), **secret(sources[1]["secretRef"]["name"]), **own}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_is_valid_by_the_schema_of_kubernetes(name: str, version: str) -> None:
    kubernetes_validate.validate(DOCUMENTS[name], version, strict=True)


def test_a_misspelt_field_is_found() -> None:
    broken = {**DOCUMENTS["fold"], "spec": {**DOCUMENTS["fold"]["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_variable_is_a_setting_and_every_command_and_option_exists(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check_environment(environment(WORKLOADS[name]))
    words = container(WORKLOADS[name])["args"]
    options = [word for word in words if word.startswith("--")]
    commands = list(itertools.takewhile(lambda word: not word.startswith("--"), words))
    assert main.run([*commands, "--help"]) == 0
    helped = capsys.readouterr().out
    assert [option for option in options if option not in helped] == []


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_container_has_no_rights_that_it_does_not_need(name: str) -> None:
    pod, one = template(WORKLOADS[name])["spec"], container(WORKLOADS[name])
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001, "the user of the image"
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert one["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in one["resources"]["limits"]


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_workers_are_probed_scraped_and_stopped_gently(name: str) -> None:
    found = WORKLOADS[name]
    pod, one = template(found)["spec"], container(found)
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert environment(found)["METERFOLD_HEALTH_ADDRESS"].endswith(f":{ports['health']}")
    probes = {probe: one[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    # Of a server, requests themselves can be probed.
    ready = "http" if name == "serve" else "health"
    assert [probe["port"] for probe in probes.values()] == ["health", "health", ready]
    assert probes["livenessProbe"]["path"] == "/healthz"
    assert probes["readinessProbe"]["path"] == "/readyz"
    assert template(found)["metadata"]["annotations"]["prometheus.io/port"] == str(ports["health"])
    assert pod["terminationGracePeriodSeconds"] >= 15, "a worker takes 10 seconds at most"
    assert DOCUMENTS["network"]["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": ports["health"]}]


def test_the_slot_of_a_checker_is_the_ordinal_of_its_pod() -> None:
    """A StatefulSet has at most one pod of each ordinal, and starts the next one when it has ended."""
    assert DOCUMENTS["check"]["kind"] == "StatefulSet"
    (slot,) = container(DOCUMENTS["check"])["env"]
    assert slot["name"] == "METERFOLD_CHECKER_SLOT"
    assert slot["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}
    assert environment(DOCUMENTS["check"])["METERFOLD_CHECKER_SLOT"] == ORDINAL


def test_selectors_match_their_pods() -> None:
    for name in WORKERS:
        assert DOCUMENTS[name]["spec"]["selector"]["matchLabels"] == template(DOCUMENTS[name])["metadata"]["labels"]
    labels = {name: template(found)["metadata"]["labels"] for name, found in WORKLOADS.items()}
    budget = DOCUMENTS["disruption"]["spec"]["selector"]["matchLabels"]
    policy = DOCUMENTS["network"]["spec"]["podSelector"]["matchLabels"]
    assert [name for name, found in labels.items() if budget.items() <= found.items()] == ["fold"]
    assert all(policy.items() <= found.items() for found in labels.values())


def test_the_base_names_every_file_and_the_overlay_every_secret() -> None:
    assert load(BASE / "kustomization.yaml")["resources"] == [f"{name}.yaml" for name in sorted(DOCUMENTS)]
    generated = {entry["name"]: entry["envs"] for entry in load(OVERLAY / "kustomization.yaml")["secretGenerator"]}
    used = {container(found)["envFrom"][1]["secretRef"]["name"] for found in WORKLOADS.values()}
    assert generated.keys() == used
    users = (ROOT / "deploy" / "clickhouse" / "users.sql").read_text(encoding="utf-8")
    for name in used:
        assert generated[name] == [f"{name.removeprefix('meterfold-')}.env"]
        assert secret(name)["METERFOLD_CLICKHOUSE_USERNAME"] == name
        assert f"`{name}`" in users


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_overlay_renders_to_valid_resources(tmp_path: Path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    for example in (copy / "overlays" / "example").glob("*.env.example"):
        example.rename(example.with_suffix(""))
    done = subprocess.run(
        ["kubectl", "kustomize", copy / "overlays" / "example"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    for document in rendered:
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
    names = {(document["kind"], document["metadata"]["name"]) for document in rendered}
    for found in [document for document in rendered if document["kind"] in KINDS]:
        for source in container(found)["envFrom"]:
            ((kind, reference),) = source.items()
            assert ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], reference["name"]) in names
        assert container(found)["image"] == "localhost/meterfold:0.1.0"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_with_the_component_keda_sets_the_number_of_fold_workers(tmp_path: Path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    overlay = copy / "overlays" / "scaled"
    overlay.mkdir()
    lines = "resources: [../../base]\ncomponents: [../../components/keda]\n"
    (overlay / "kustomization.yaml").write_text(lines, encoding="utf-8")
    done = subprocess.run(["kubectl", "kustomize", overlay], check=True, capture_output=True, text=True, timeout=60)
    rendered = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    assert "replicas" not in rendered["Deployment", "meterfold-fold"]["spec"]
    assert rendered["ScaledObject", "meterfold-fold"]["spec"]["maxReplicaCount"] == 6
