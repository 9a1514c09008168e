"""Write a new `kafka.lock.toml`: `python -m meterfold_local.kafka.relock 4.4.0`.

A maintainer's tool. It resolves Kafka's whole dependency tree with jgo's plain Python resolver, adds the log4j
binding that Kafka's own packages ship but its POM leaves out, downloads every jar once and writes down its SHA-256.
The result is reviewed like any other change.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from meterfold_local.kafka.lock import LOCK_FILE, sha256_of

HEADER = """\
# Apache Kafka for the local stack: every jar with the SHA-256 of its bytes.
# Written by `python -m meterfold_local.kafka.relock VERSION`; do not edit by hand.
"""


def relock(version: str, target: Path = LOCK_FILE) -> int:
    """Resolve, download and hash; returns the number of jars written to `target`."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(folder), timeout=60)
        kafka = [context.create_dependency(f"org.apache.kafka:kafka_2.13:{version}")]
        inputs, transitive = context.resolver.resolve(kafka)
        found = [dep.artifact for dep in [*inputs, *transitive] if dep.scope in (None, "compile", "runtime")]
        # Kafka logs through SLF4J 1.7; without a binding of log4j's version it is silent.
        log4j = next(a.version for a in found if a.artifactId == "log4j-core")
        binding = context.project("org.apache.logging.log4j", "log4j-slf4j-impl").at_version(log4j)
        found.append(binding.artifact())
        lines = [HEADER, f'kafka_version = "{version}"\n']
        for artifact in sorted(found, key=lambda a: (a.groupId, a.artifactId)):
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            lines.append(f'\n[[jar]]\ncoordinate = "{coordinate}"\nsha256 = "{sha256_of(artifact.resolve())}"\n')
    target.write_text("".join(lines), encoding="utf-8")
    return len(found)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m meterfold_local.kafka.relock KAFKA_VERSION")
    sys.stdout.write(f"{relock(sys.argv[1])} jars locked in {LOCK_FILE}\n")
