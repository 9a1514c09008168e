"""The last layer: what the kernel refuses this process, whatever the engine would do.

Landlock (Linux 5.13 and later; nothing to install, no privileges) takes away for good, from this process and all its
threads: reading files other than Python's, the system's libraries, time zones and the data folder; writing outside of
the data folder; running any program; opening TCP connections. Where the kernel has no Landlock the other layers stand
alone (see guard.py), and the log says so.

Constants from linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVS = 38

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_TRUNCATE = 1 << 14
_CONNECT_TCP = 1 << 1

# The number of file system rights that each version of the interface knows.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_RIGHTS_NOW = 16

_READABLE = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo"),
    *("/etc/localtime", "/etc/timezone", "/etc/ld.so.cache", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf"),
    *("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"),
    # Memory limits, processors: the engine sizes its pools and caches by them.
    *("/proc", "/sys/fs/cgroup", "/sys/devices/system", "/sys/kernel/mm"),
)


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def enter(data: Path) -> str:
    """Close the sandbox around this process; says in one line what that came to. Before any other thread is started:
    the kernel restricts the calling thread and those that it starts."""
    if sys.platform != "linux":
        return "no sandbox: this system has no Landlock"
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if version < 1:
        return f"no sandbox: Landlock is not available ({os.strerror(ctypes.get_errno())})"
    rights = (1 << _RIGHTS.get(version, _RIGHTS_NOW)) - 1
    attributes = _RulesetAttr(rights, _CONNECT_TCP if version >= 4 else 0)
    # Before version 4 the structure ends after its first field.
    size = ctypes.sizeof(attributes) if version >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return f"no sandbox: Landlock refused its rules ({os.strerror(ctypes.get_errno())})"
    try:
        _allow(libc, ruleset, [str(data)], rights & ~_EXECUTE)
        _allow(libc, ruleset, (*_READABLE, *_python_paths()), _READ_FILE | _READ_DIR)
        _allow(libc, ruleset, ("/dev/null",), (_READ_FILE | _WRITE_FILE | _TRUNCATE) & rights)
        if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)):
            return f"no sandbox: Landlock could not be entered ({os.strerror(ctypes.get_errno())})"
    finally:
        os.close(ruleset)
    network = ", no outgoing TCP" if version >= 4 else ""
    return f"sandboxed by Landlock (version {version}): no files outside of {data}, no programs{network}"


def _python_paths() -> list[str]:
    """Python, what is installed for it, and this package with what it imports; not the whole search path, whose first
    entry is the folder that the process was started in."""
    packages = [Path(__file__).parents[1]]
    if (schemas := sys.modules.get("meterfold_schemas")) is not None and schemas.__file__:
        packages.append(Path(schemas.__file__).parent)
    installed = [entry for entry in sys.path if "site-packages" in entry or "dist-packages" in entry]
    return [*installed, sys.prefix, sys.base_prefix, sys.exec_prefix, *map(str, packages)]


def _allow(libc: ctypes.CDLL, ruleset: int, paths: Iterable[str], rights: int) -> None:
    for path in dict.fromkeys(paths):
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            # Rights that only a folder can have are refused for a file.
            allowed = rights if Path(path).is_dir() else rights & (_WRITE_FILE | _READ_FILE | _TRUNCATE)
            rule = _PathBeneathAttr(allowed, descriptor)
            libc.syscall(_ADD_RULE, ruleset, ctypes.c_uint32(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
        finally:
            os.close(descriptor)
