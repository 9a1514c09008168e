"""Apicurio Registry on loopback, from Maven, on the Java runtime of the local stack. As a program: install it."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.maven import MavenContext, PythonResolver

from meterfold_local.kafka.jars import cache_folder
from meterfold_local.kafka.java import java_binary, java_environment

VERSION = "3.3.3"
SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
START_SECONDS = 120


def install() -> Path:
    """The folder of the application, fetched (159 MB) and unpacked first if it is not there."""
    folder = cache_folder() / f"apicurio-{VERSION}"
    if folder.is_dir():
        return folder
    staging = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    context = MavenContext(resolver=PythonResolver(), repo_cache=staging / "maven", timeout=60)
    context.remote_repos.update(GlobalSettings.load().repositories)
    project = context.project("io.apicurio", "apicurio-registry-app").at_version(VERSION)
    archive = Path(project.artifact(classifier="all", packaging="tar.gz").resolve())
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{archive.name} has the SHA-256 {found}, not {SHA256}: it is not the pinned release")
    with tarfile.open(archive) as packed:
        packed.extractall(staging / "app", filter="data")
    (staging / "app").rename(folder)
    shutil.rmtree(staging)
    return folder


@contextmanager
def running(log: Path) -> Iterator[str]:
    """The URL of its Confluent API. Its data is in memory."""
    port, management = free_port(), free_port()
    command = [
        str(java_binary()),
        "-Xmx384m",
        "-Dquarkus.http.host=127.0.0.1",
        f"-Dquarkus.http.port={port}",
        "-Dquarkus.management.host=127.0.0.1",
        f"-Dquarkus.management.port={management}",
        "-jar",
        "quarkus-run.jar",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=install(), env=java_environment(), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
            wait_for(f"{url}/subjects", process)
            yield url
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Apicurio Registry does not answer at {url}: {error}") from error
            time.sleep(0.2)
        else:
            return


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    install()
