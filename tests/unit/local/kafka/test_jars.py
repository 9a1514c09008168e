"""The lock file and the installation of Kafka's jars: what is not the locked jar, byte for byte, never runs."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from meterfold_local.errors import StackError, Tampered
from meterfold_local.kafka import jars
from meterfold_local.kafka.lock import LOCK_FILE, JarLock, LockedJar, load_lock

CONTENT = {"a": b"first jar", "b": b"second jar", "c": b"third jar"}
LOCK = JarLock(
    "9.9.9",
    tuple(LockedJar("org.example", name, "1.0", hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items()),
)


class Source:
    """Serves CONTENT as a download; `damage` may replace what comes, or raise."""

    def __init__(self, damage: Callable[[str, int], bytes | None] = lambda name, attempt: None) -> None:
        self.damage = damage
        self.fetched: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, jar: LockedJar, folder: Path) -> Path:
        with self._lock:
            self.fetched.append(jar.artifact)
            attempt = self.fetched.count(jar.artifact)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / jar.filename
        path.write_bytes(self.damage(jar.artifact, attempt) or CONTENT[jar.artifact])
        return path


def no_network(jar: LockedJar, folder: Path) -> Path:
    raise AssertionError(f"{jar.coordinate} was asked for")


def test_the_committed_lock_pins_every_jar() -> None:
    lock = load_lock()
    assert (lock.name, lock.version) == ("kafka", "4.4.0")
    assert len({jar.filename for jar in lock.jars}) == len(lock.jars) >= 44
    names = {jar.artifact for jar in lock.jars}
    assert {"kafka_2.13", "kafka-clients", "kafka-server", "log4j-core", "log4j-slf4j-impl"} <= names
    assert {jar.version for jar in lock.jars if jar.group == "org.apache.kafka"} == {"4.4.0"}


def test_no_registry_is_named() -> None:
    for path in (*LOCK_FILE.parent.glob("*.py"), LOCK_FILE):
        assert "http" not in path.read_text(), path


@pytest.mark.parametrize(
    "text",
    [
        "",
        'name = "a"\nversion = "1"',
        'name = "a"\n[[jar]]\ncoordinate = "a:b:1"\nsha256 = "' + "0" * 64 + '"',
        'version = "1"\n[[jar]]\ncoordinate = "a:b:1"\nsha256 = "' + "0" * 64 + '"',
        'name = "a"\nversion = "1"\n[[jar]]\ncoordinate = "a:b:1"\nsha256 = "12"',
        'name = "a"\nversion = "1"\n[[jar]]\ncoordinate = "a:b"\nsha256 = "' + "0" * 64 + '"',
        'name = "a"\nversion = "1"\n[[jar]]\ncoordinate = "a:../b:1"\nsha256 = "' + "0" * 64 + '"',
        "[[jar]]\nnot toml",
    ],
)
def test_a_lock_that_does_not_pin_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kafka.lock.toml"
    path.write_text(text)
    with pytest.raises(StackError, match="reinstall meterfold"):
        load_lock(path)


def test_installed_once_then_offline(tmp_path: Path) -> None:
    source, seen = Source(), []
    folder = jars.install(LOCK, tmp_path, source, lambda done, of: seen.append((done, of)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"{name}-1.0.jar": data for name, data in CONTENT.items()
    }
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert jars.install(LOCK, tmp_path, no_network) == folder
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, "kafka.lock"]


def test_a_download_that_breaks_off_is_fetched_again(tmp_path: Path) -> None:
    def broken_twice(name: str, attempt: int) -> bytes | None:
        if name == "b" and attempt == 1:
            raise ConnectionError("reset")
        return CONTENT[name][:3] if name == "b" and attempt == 2 else None

    source = Source(broken_twice)
    folder = jars.install(LOCK, tmp_path, source)
    assert source.fetched.count("b") == 3
    assert (folder / "b-1.0.jar").read_bytes() == CONTENT["b"]


def test_a_tampered_download_is_refused(tmp_path: Path) -> None:
    source = Source(lambda name, attempt: b"evil" if name == "c" else None)
    with pytest.raises(Tampered, match=r"org\.example:c:1\.0"):
        jars.install(LOCK, tmp_path, source)
    assert not (tmp_path / f"kafka-9.9.9-{LOCK.fingerprint}").exists()
    assert not list(tmp_path.rglob("c-1.0.jar"))


def test_an_interrupted_installation_goes_on_where_it_was(tmp_path: Path) -> None:
    def unplugged(name: str, attempt: int) -> bytes | None:
        if name == "c":
            raise ConnectionError("no route")
        return None

    with pytest.raises(StackError, match="network once, or METERFOLD_KAFKA_HOME"):
        jars.install(LOCK, tmp_path, Source(unplugged))
    # What was killed while it wrote is half a file under the final name.
    (tmp_path / f"kafka-9.9.9-{LOCK.fingerprint}.partial" / "c-1.0.jar").write_bytes(b"th")
    source = Source()
    jars.install(LOCK, tmp_path, source)
    assert source.fetched == ["c"]


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=10)
    source, folders = Source(), []

    def run() -> None:
        both.wait()
        folders.append(jars.install(LOCK, tmp_path, source))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(folders) == 2
    assert folders[0] == folders[1]
    assert sorted(source.fetched) == ["a", "b", "c"]


@pytest.mark.parametrize("harm", ["changed", "missing", "added"])
def test_a_cache_that_was_changed_is_refused(tmp_path: Path, harm: str) -> None:
    folder = jars.install(LOCK, tmp_path, Source())
    if harm == "changed":
        (folder / "a-1.0.jar").write_bytes(b"first jar ")
    elif harm == "missing":
        (folder / "a-1.0.jar").unlink()
    else:
        (folder / "a-2.0.jar").write_bytes(b"would run as well: the class path is the whole folder")
    with pytest.raises(Tampered, match=r"a-[12]\.0\.jar"):
        jars.install(LOCK, tmp_path, no_network)


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jars.cache_folder() == tmp_path / "meterfold"
    for unusable in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert jars.cache_folder() == Path.home() / ".cache" / "meterfold"


def test_an_installation_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERFOLD_KAFKA_HOME", str(tmp_path))
    with pytest.raises(StackError, match="METERFOLD_KAFKA_HOME"):
        jars.kafka_classpath()
    (tmp_path / "libs").mkdir()
    for name in ("zstd.jar", "kafka_2.13-4.4.0.jar", "README"):
        (tmp_path / "libs" / name).touch()
    libraries = tmp_path.resolve() / "libs"
    assert jars.kafka_classpath() == f"{libraries / 'kafka_2.13-4.4.0.jar'}{os.pathsep}{libraries / 'zstd.jar'}"


def test_another_program_has_a_folder_and_a_lock_of_its_own(tmp_path: Path) -> None:
    other = JarLock(LOCK.version, LOCK.jars, "flink")
    assert jars.install(other, tmp_path, Source()).name == f"flink-9.9.9-{LOCK.fingerprint}"
    jars.install(LOCK, tmp_path, Source())
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".lock"} == {"flink.lock", "kafka.lock"}

    def unplugged(name: str, attempt: int) -> bytes | None:
        raise ConnectionError("no route")

    with pytest.raises(StackError, match=r"flink needs the network once$"):
        jars.install(JarLock("1", LOCK.jars, "flink"), tmp_path, Source(unplugged))
