"""Renders deploy/helm with Helm and compares it with deploy/kubernetes/base; validates both, and the overlay, with
kubeconform: `make test-deploy`.

helm and kubeconform are $HELM and $KUBECONFORM, those on PATH, or those that `--fetch` has built by the Go proxy in a
cache folder, which takes minutes. Exit status 1 when something differs or is invalid, 3 when a tool is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.helm_chart import BASE, CHART, base_documents

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meterfold" / "tools"
MODULES = {
    "helm": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
}
FETCH_SECONDS = 1800
SECONDS = 120
UNAVAILABLE = 3
VERSION = "1.31"
OTHER = "_definitions.json"


def main() -> int:
    tools = {name: _tool(name) for name in MODULES}
    missing = [name for name, found in tools.items() if found is None]
    if missing:
        print(f"manifests: NOT RUN without {' and '.join(missing)}; see tests/deploy/manifests.py", flush=True)
        return UNAVAILABLE
    done = _run([str(tools["helm"]), "template", "meterfold", str(CHART), "--kube-version", VERSION])
    rendered: dict[tuple[str, str], Any] = {}
    for document in yaml.safe_load_all(done):
        if document["kind"] == "Job":  # named after its release
            document["metadata"]["name"] = document["metadata"]["name"].removesuffix("-1")
        rendered[document["kind"], document["metadata"]["name"]] = document
    expected = base_documents()
    differing = {key for key in rendered.keys() | expected.keys() if rendered.get(key) != expected.get(key)}
    for key in sorted(differing):
        print(f"manifests: the chart and the base differ in {key}", flush=True)
    _run([str(tools["helm"]), "lint", "--strict", "--kube-version", VERSION, str(CHART)])
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder) / "chart.yaml"
        chart.write_text(done, encoding="utf-8")
        files = [chart, *(path for path in sorted(BASE.glob("*.yaml")) if path.stem != "kustomization")]
        schemas = _schemas(Path(folder))
        _run([str(tools["kubeconform"]), "-strict", "-schema-location", schemas, *map(str, files)])
    result = "FAILED" if differing else f"{len(rendered)} documents of the chart are valid and equal the base"
    print(f"manifests: {result}", flush=True)
    return int(bool(differing))


def fetch() -> int:
    go = shutil.which("go")
    if go is None:
        print("manifests: there is no go to build helm and kubeconform", flush=True)
        return UNAVAILABLE
    environment = {**os.environ, "GOBIN": str(CACHE)}
    for module in MODULES.values():
        subprocess.run([go, "install", module], env=environment, timeout=FETCH_SECONDS, check=True)
    return 0


def _tool(name: str) -> Path | None:
    found = os.environ.get(name.upper()) or shutil.which(name)
    cached = CACHE / name
    return Path(found) if found else cached if cached.is_file() else None


def _run(command: list[str]) -> str:
    done = subprocess.run(command, timeout=SECONDS, check=False, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr, flush=True)
        raise SystemExit(1)
    return done.stdout


def _schemas(folder: Path) -> str:
    """Where kubeconform finds its schemas: those of the package kubernetes-validate, each with its definitions inside,
    since kubeconform follows no reference to another file."""
    packaged = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{VERSION}.0-local-strict"
    definitions = json.loads((packaged / "_definitions.json").read_text(encoding="utf-8").replace(OTHER, ""))
    for path in packaged.glob("*-v1.json"):
        schema = json.loads(path.read_text(encoding="utf-8").replace(OTHER, ""))
        if "kind" in schema.get("properties", {}):
            (folder / path.name).write_text(json.dumps({**schema, **definitions}), encoding="utf-8")
    return str(folder / "{{.ResourceKind}}{{.KindSuffix}}.json")


if __name__ == "__main__":
    sys.exit(fetch() if "--fetch" in sys.argv[1:] else main())
