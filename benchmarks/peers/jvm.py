"""Peers in Java: jars from a lock file, compiled by the Eclipse compiler, on the Java runtime of the local stack."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from meterfold_local.errors import StackError
from meterfold_local.kafka.jars import cache_folder, classpath, install
from meterfold_local.kafka.java import java_binary
from meterfold_local.kafka.lock import load_lock
from peers.contestants import FOLDER, Peer
from peers.venvs import PreparationFailed, run

__all__ = ["command"]

SHARED = FOLDER / "java"
"""What the peers in Java share, and the lock file of the compiler."""

# Jars of these engines reach into the runtime, as their own start scripts allow them to.
_OPENED = (
    "java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.math", "java.text",
    "java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks",
    "sun.nio.ch", "sun.net.util",
)  # fmt: skip
_OPTIONS = (
    "-Xms1g",
    "-Xmx3g",
    "-XX:+UseParallelGC",
    "-XX:+ExitOnOutOfMemoryError",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dfile.encoding=UTF-8",
)


def command(peer: Peer, program: str) -> list[str]:
    """The command line of one class of a peer. Installs and compiles what is missing; raises PreparationFailed."""
    try:
        jars = classpath(install(load_lock(peer.folder / "jars.lock.toml"), cache_folder() / "peers"))
        classes = _compiled(peer, jars)
    except StackError as error:
        raise PreparationFailed(str(error)) from error
    return [str(java_binary()), *_OPTIONS, "-cp", os.pathsep.join([str(classes), jars]), program]


def _compiled(peer: Peer, jars: str) -> Path:
    """The folder of classes, made once per content of the sources and of the lock file."""
    sources = [*sorted(SHARED.glob("*.java")), *sorted(peer.folder.glob("*.java"))]
    digest = hashlib.sha256(jars.encode())
    for source in sources:
        digest.update(source.read_bytes())
    target = cache_folder() / "peers" / f"{peer.name}-classes-{digest.hexdigest()[:12]}"
    if not target.is_dir():
        compiler = classpath(install(load_lock(SHARED / "jars.lock.toml"), cache_folder() / "peers"))
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        # -17 names the language level; --release would need a file that this runtime does not have.
        line = [str(java_binary()), "-cp", compiler, "org.eclipse.jdt.internal.compiler.batch.Main", "-17", "-nowarn"]
        run([*line, "-proc:none", "-cp", jars, "-d", str(partial), *map(str, sources)])
        partial.rename(target)
    return target
