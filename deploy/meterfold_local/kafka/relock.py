"""Write a new `kafka.lock.toml`: `python -m meterfold_local.kafka.relock 4.4.0`.

A maintainer's tool. It resolves Kafka's whole dependency tree with jgo's plain Python resolver, adds the log4j
binding that Kafka's own packages ship but its POM leaves out, downloads every jar once and writes down its SHA-256.
The result is reviewed like any other change. `lock_jars` does the same for any other coordinates.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jgo.config import GlobalSettings
from jgo.maven import MavenContext, PythonResolver

from meterfold_local.kafka.lock import LOCK_FILE, sha256_of

HEADER = """\
# Apache Kafka for the local stack: every jar with the SHA-256 of its bytes.
# Written by `python -m meterfold_local.kafka.relock VERSION`; do not edit by hand.
"""

More = Callable[[MavenContext, Sequence[Any]], list[Any]]
"""Artifacts to add to those that were resolved."""


def lock_jars(
    name: str, version: str, coordinates: Sequence[str], target: Path, header: str, more: More | None = None
) -> int:
    """Resolve, download and hash; returns the number of jars written to `target`.

    A coordinate is `group:artifact:version`. The first version of an artifact wins, so a version that must not differ
    from a coordinate's own is given as a coordinate as well.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(folder), timeout=60)
        context.remote_repos.update(GlobalSettings.load().repositories)
        wanted = [context.create_dependency(coordinate) for coordinate in coordinates]
        inputs, transitive = context.resolver.resolve(wanted)
        found = [dep.artifact for dep in [*inputs, *transitive] if dep.scope in (None, "compile", "runtime")]
        found += more(context, found) if more else []
        lines = [header, f'name = "{name}"\nversion = "{version}"\n']
        for artifact in sorted(found, key=lambda a: (a.groupId, a.artifactId)):
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            lines.append(f'\n[[jar]]\ncoordinate = "{coordinate}"\nsha256 = "{sha256_of(artifact.resolve())}"\n')
    target.write_text("".join(lines), encoding="utf-8")
    return len(found)


def _log4j_binding(context: MavenContext, found: Sequence[Any]) -> list[Any]:
    """Kafka logs through SLF4J 1.7; without a binding of log4j's version it is silent."""
    log4j = next(artifact.version for artifact in found if artifact.artifactId == "log4j-core")
    return [context.project("org.apache.logging.log4j", "log4j-slf4j-impl").at_version(log4j).artifact()]


def relock(version: str, target: Path = LOCK_FILE) -> int:
    """Lock the broker's jars; returns their number."""
    return lock_jars("kafka", version, [f"org.apache.kafka:kafka_2.13:{version}"], target, HEADER, _log4j_binding)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m meterfold_local.kafka.relock KAFKA_VERSION")
    sys.stdout.write(f"{relock(sys.argv[1])} jars locked in {LOCK_FILE}\n")
