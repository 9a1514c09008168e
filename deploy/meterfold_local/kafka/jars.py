"""Jars on disk: fetched once through jgo, verified against the lock file, offline from then on.

The folder with the jars appears in the cache by one rename, under a lock, so two stacks that start at once or a
download that breaks off never leave half an installation behind. Everything in the cache is hashed again before it
runs (the broker's 43 MB take about a tenth of a second): a changed jar is refused, never quietly replaced.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from meterfold_local.errors import StackError, Tampered
from meterfold_local.kafka.lock import JarLock, LockedJar, load_lock, matches

ATTEMPTS = 3
"""A download that broke off or came damaged is fetched again this often in all."""

Fetch = Callable[[LockedJar, Path], Path]
"""Downloads one jar somewhere below the given folder and returns its path; raises on any failure."""

Progress = Callable[[int, int], None]
"""Called with (jars present, jars in all) while the installation runs."""


def cache_folder() -> Path:
    """The user's cache folder for Meterfold: `$XDG_CACHE_HOME/meterfold`, else `~/.cache/meterfold`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path there is to be ignored.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "meterfold"


def kafka_classpath(progress: Progress | None = None) -> str:
    """The class path of the broker: `METERFOLD_KAFKA_HOME`'s libraries if that is set, else the locked jars."""
    home = os.environ.get("METERFOLD_KAFKA_HOME")
    if not home:
        return classpath(install(progress=progress))
    libraries = Path(home).expanduser() / "libs"
    if not any(libraries.glob("kafka_*.jar")):
        raise StackError(
            f"METERFOLD_KAFKA_HOME={home}: no libs/kafka_*.jar there; point it at an unpacked Apache Kafka or unset it"
        )
    return classpath(libraries.resolve())


def install(
    lock: JarLock | None = None,
    cache: Path | None = None,
    fetch: Fetch | None = None,
    progress: Progress | None = None,
) -> Path:
    """The folder with exactly the locked jars, installed first if it is not there.

    Raises Tampered for a jar whose bytes are not the locked ones and StackError when a download fails.
    """
    lock = lock or load_lock()
    cache = cache or cache_folder()
    folder = cache / lock.folder
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with _exclusive(cache / f"{lock.name}.lock"):
            if not folder.is_dir():  # another process may have installed it while this one waited
                _download_all(lock, folder, fetch or fetch_with_jgo, progress)
    _verify(lock, folder)
    return folder


def classpath(folder: Path) -> str:
    """All jars of a folder, in the order of their names."""
    # Spelt out and sorted: `folder/*` would come in the order of the directory, which no AOT cache could rely on.
    return os.pathsep.join(str(path) for path in sorted(folder.glob("*.jar")))


def fetch_with_jgo(jar: LockedJar, folder: Path) -> Path:
    """Download one jar with jgo's plain Python resolver into a Maven repository below `folder`.

    jgo's own default repository and the mirrors of jgo's settings file are asked; the lock file decides what is taken.
    """
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise StackError('the local stack needs its extra: pip install "meterfold[local]"') from error
    context = MavenContext(resolver=PythonResolver(), repo_cache=folder, timeout=60)
    context.remote_repos.update(GlobalSettings.load().repositories)
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    if artifact.cached_path is not None:
        # jgo takes any existing file for a whole one, also the rest of a download that broke off.
        artifact.cached_path.unlink(missing_ok=True)
    path: Path = artifact.resolve()
    return path


def _download_all(lock: JarLock, folder: Path, fetch: Fetch, progress: Progress | None) -> None:
    """Fill `<folder>.partial` and rename it. Jars left there whole by an interrupted run are kept."""
    staging = folder.with_name(f"{folder.name}.partial")
    staging.mkdir(exist_ok=True)
    downloads = staging.with_name(f"{staging.name}.downloads")
    needed = f"{lock.name} needs the network once"
    if lock.name == "kafka":
        needed = "the local stack needs the network once, or METERFOLD_KAFKA_HOME with an unpacked Apache Kafka"

    def obtain(jar: LockedJar) -> None:
        if not matches(jar, staging / jar.filename):
            _obtain(jar, fetch, downloads, staging / jar.filename, needed)

    pool = ThreadPoolExecutor(max_workers=4)
    try:
        for done, _ in enumerate(pool.map(obtain, lock.jars), start=1):
            if progress is not None:
                progress(done, len(lock.jars))
    finally:
        # After Ctrl-C or a failure only the jars on their way are waited for.
        pool.shutdown(cancel_futures=True)
    shutil.rmtree(downloads, ignore_errors=True)
    staging.rename(folder)


def _obtain(jar: LockedJar, fetch: Fetch, downloads: Path, target: Path, needed: str) -> None:
    problem: StackError | None = None
    for _ in range(ATTEMPTS):
        try:
            path = fetch(jar, downloads)
        except StackError:
            raise
        except Exception as error:  # jgo raises RuntimeError, requests' and urllib3's errors, OSError
            problem = StackError(f"{jar.coordinate} can't be downloaded ({type(error).__name__}: {error}); {needed}")
            problem.__cause__ = error
            continue
        if matches(jar, path):
            path.replace(target)
            return
        path.unlink()
        problem = Tampered(
            f"{jar.coordinate}: the downloaded file is not the one in the lock file (SHA-256 differs); it was "
            "removed. Check the network's proxy or mirror, then try again"
        )
    assert problem is not None
    raise problem


def _verify(lock: JarLock, folder: Path) -> None:
    expected = {jar.filename for jar in lock.jars}
    # The class path is the whole folder: one jar more would run as well.
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in expected)
    broken = sorted(jar.filename for jar in lock.jars if not matches(jar, folder / jar.filename))
    if strangers or broken:
        raise Tampered(
            f"{folder}: {', '.join(broken + strangers)} not as in the lock file (SHA-256); "
            "find out why, then delete that folder: it is fetched again"
        )


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold an advisory lock; the kernel lets go of it when the holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
