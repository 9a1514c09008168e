"""deploy/helm renders deploy/kubernetes/base. `make test-deploy` does the same with Helm itself."""

from __future__ import annotations

import kubernetes_validate
import yaml

from support import promql
from support.exported import exported
from support.helm_chart import CHART, base_documents, derived, render
from support.paths import ROOT

KEDA = ROOT / "deploy" / "kubernetes" / "components" / "keda"


def test_the_chart_is_derived_from_the_base() -> None:
    committed = {
        str(path.relative_to(CHART)): path.read_text(encoding="utf-8")
        for path in CHART.rglob("*.yaml")
        if path.name != "Chart.yaml"
    }
    assert committed == derived(), "run: cd tests && python -m support.helm_chart"


def test_the_chart_renders_the_base() -> None:
    rendered = render()
    job = rendered.pop(("Job", "meterfold-migrate-1"))
    job["metadata"]["name"] = "meterfold-migrate"
    rendered["Job", "meterfold-migrate"] = job
    assert rendered == base_documents()


def test_every_value_changes_what_is_rendered() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    before = render()
    for name, value in values.items():
        for inner in value if isinstance(value, dict) else [None]:
            changed = "other" if inner is None else {**value, inner: {"cpu": "7"} if inner == "resources" else "9"}
            assert render({name: changed}) != before, (name, inner)


def test_what_is_rendered_with_other_values_is_valid() -> None:
    found = render({"image": "registry.example/meterfold:0.2.0", "settings": {"METERFOLD_BOOTSTRAP_SERVERS": "a:9092"}})
    for document in found.values():
        kubernetes_validate.validate(document, "1.31", strict=True)
    images = {
        one["image"]
        for (kind, _), document in found.items()
        if kind in ("Deployment", "StatefulSet", "Job")
        for one in document["spec"]["template"]["spec"]["containers"]
    }
    assert images == {"registry.example/meterfold:0.2.0"}


def test_scaling_uses_a_metric_that_workers_export() -> None:
    scaled = yaml.safe_load((KEDA / "fold.yaml").read_text(encoding="utf-8"))
    target = scaled["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in base_documents()
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "prometheus", "the scaler for Kafka counts markers of transactions as lag"
    promql.check(trigger["metadata"]["query"], exported())
    migrate = base_documents()["Job", "meterfold-migrate"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert scaled["spec"]["maxReplicaCount"] == int(migrate[migrate.index("--partitions") + 1])
    component = yaml.safe_load((KEDA / "kustomization.yaml").read_text(encoding="utf-8"))
    assert component["resources"] == ["fold.yaml"]
