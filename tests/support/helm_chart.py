"""deploy/helm, derived from deploy/kubernetes/base, and a renderer of the little of Helm's language that it uses.

python -m support.helm_chart        # from tests/: writes templates and values.yaml again after a change of the base
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from support.paths import ROOT

__all__ = ["BASE", "CHART", "base_documents", "derived", "render"]

BASE: Final = ROOT / "deploy" / "kubernetes" / "base"
CHART: Final = ROOT / "deploy" / "helm"
REVISION: Final = 1
_HEADER: Final = """\
# Everything that differs between installations. With these values the chart renders deploy/kubernetes/base.
# The Secrets that the templates name are yours: each has METERFOLD_CLICKHOUSE_USERNAME and _PASSWORD, and
# METERFOLD_KAFKA_SASL_USERNAME and _PASSWORD.

# With its registry and tag.
image: meterfold

# Variables of every pod: add METERFOLD_BOOTSTRAP_SERVERS, METERFOLD_CLICKHOUSE_URL and what else your servers need.
settings:
{settings}

# The namespace whose pods may scrape the workers.
monitoringNamespace: monitoring
"""
_CONFIG: Final = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: meterfold
data: {{ toJson .Values.settings }}
"""
_ABOUT: Final = {
    "fold": "At most one per partition.",
    "check": "The ordinal of a pod is its slot.",
    "migrate": "For the topics that it creates.",
    "close": "Schedules are in UTC.",
}
_MIGRATE: Final = re.compile(r'--partitions, "(\d+)", --replication, "(\d+)"')
_RESOURCES: Final = re.compile(r"^( +)resources:\n +requests: (\{.*\})\n +limits: (\{.*\})\n", re.MULTILINE)
_ACTION: Final = re.compile(r"\{\{ (toJson )?\.(Values|Release)((?:\.\w+)+) \}\}")


def derived() -> dict[str, str]:
    """Path below deploy/helm -> text."""
    files, blocks = {"templates/config.yaml": _CONFIG}, []
    for path in _files():
        key = re.sub(r"-(\w)", lambda match: match[1].upper(), path.stem)
        text, values = _template(path.read_text(encoding="utf-8"), key)
        files[f"templates/{path.name}"] = text
        if values:
            about = f"# {_ABOUT[key]}\n" if key in _ABOUT else ""
            blocks.append("\n".join([f"{about}{key}:", *_lines(values)]) + "\n")
    (generator,) = _kustomization()["configMapGenerator"]
    pairs = (literal.split("=", 1) for literal in generator["literals"])
    settings = "\n".join(f"  {name}: {json.dumps(value)}" for name, value in pairs)
    files["values.yaml"] = "\n".join([_HEADER.format(settings=settings), *blocks])
    return files


def base_documents() -> dict[tuple[str, str], Any]:
    """(kind, name) -> each document of the base, with its ConfigMap."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in _files()]
    (generator,) = _kustomization()["configMapGenerator"]
    data = dict(literal.split("=", 1) for literal in generator["literals"])
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}
    return {(one["kind"], one["metadata"]["name"]): one for one in (*documents, config)}


def render(changes: Mapping[str, Any] | None = None) -> dict[tuple[str, str], Any]:
    """What `helm template` makes of the committed chart. Raises ValueError for anything of Helm's language but values
    and toJson."""
    values = {**yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")), **(changes or {})}
    scope = {"Values": values, "Release": {"Revision": REVISION}}
    found = {}
    for path in sorted((CHART / "templates").glob("*.yaml")):

        def value(match: re.Match[str]) -> str:
            result: Any = scope[match[2]]
            for name in match[3].strip(".").split("."):
                result = result[name]
            return json.dumps(result) if match[1] else str(result)

        text = _ACTION.sub(value, path.read_text(encoding="utf-8"))
        if "{{" in text:
            raise ValueError(f"{path.name}: only values and toJson are allowed in the chart: {text}")
        document = yaml.safe_load(text)
        found[document["kind"], document["metadata"]["name"]] = document
    return found


def _template(text: str, key: str) -> tuple[str, dict[str, Any]]:
    """The document with values in their places, and the values of this document."""
    document, values = yaml.safe_load(text), dict[str, Any]()
    text = re.sub(r"\A(#.*\n)+", "", text)
    text = text.replace("image: meterfold\n", "image: {{ toJson .Values.image }}\n")
    text = text.replace("metadata.name: monitoring}", "metadata.name: {{ .Values.monitoringNamespace }}}")
    if "replicas" in document["spec"]:
        values["replicas"] = document["spec"]["replicas"]
        text = re.sub(r"replicas: \d+", f"replicas: {{{{ .Values.{key}.replicas }}}}", text)
    if document["kind"] == "CronJob":
        values["schedule"] = document["spec"]["schedule"]
        text = re.sub(r'schedule: ".*"', f"schedule: {{{{ toJson .Values.{key}.schedule }}}}", text)
    if document["kind"] == "Job":
        # A Job of its own for each release: the template of a Job does not change.
        text = text.replace("name: meterfold-migrate\n", "name: meterfold-migrate-{{ .Release.Revision }}\n", 1)
        if (found := _MIGRATE.search(text)) is not None:
            values |= {"partitions": found[1], "replication": found[2]}
            places = (f"--{name}, {{{{ toJson .Values.{key}.{name} }}}}" for name in values)
            text = text.replace(found[0], ", ".join(places))
    if (found := _RESOURCES.search(text)) is not None:
        values["resources"] = {"requests": yaml.safe_load(found[2]), "limits": yaml.safe_load(found[3])}
        text = text.replace(found[0], f"{found[1]}resources: {{{{ toJson .Values.{key}.resources }}}}\n")
    return text, values


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield f"  {name}:"
            for inner, amounts in value.items():
                shown = ", ".join(f"{unit}: {json.dumps(amount)}" for unit, amount in amounts.items())
                yield f"    {inner}: {{{shown}}}"
        else:
            yield f"  {name}: {json.dumps(value)}"


def _files() -> list[Path]:
    return [path for path in sorted(BASE.glob("*.yaml")) if path.stem != "kustomization"]


def _kustomization() -> Any:
    return yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name, content in derived().items():
        (CHART / name).write_text(content, encoding="utf-8")
