"""Where settings come from: keyword arguments, METERFOLD_* variables, a TOML file. The first one wins.

An argument or METERFOLD_CONFIG names the file. Only the command line also looks for one in its working directory: an
application must not depend on the directory that it is started in. Nothing is read at import.

A variable that sets nothing is a warning, once per process: anything may have put it into the environment. Kubernetes
does so for every Service of a namespace (service_links.py); those are ignored silently. An unknown name in a file is an
error, since only Meterfold reads the file.
"""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.service_links import is_service_link

__all__ = ["LOCAL_KAFKA", "PREFIX", "SECTIONS", "Sources", "suggestion"]

PREFIX: Final = "METERFOLD_"
#: Tables a file may have, and the first words a variable may have after METERFOLD_.
SECTIONS: Final = (
    "kafka", "clickhouse", "schema_registry", "sdk", "fold", "checker", "notify", "http", "health", "backup", "local",
)  # fmt: skip
_CANDIDATES: Final = ("meterfold.toml", ".meterfold/meterfold.toml")
LOCAL_KAFKA: Final = frozenset({"KAFKA_HOME", "KAFKA_JVM_OPTIONS"})
"""Variables of the brokers that `meterfold up` starts: no properties of librdkafka."""
# Variables that belong to no section.
_SINGLE: Final = frozenset({"CONFIG", "BOOTSTRAP_SERVERS", "TOPIC_PREFIX"}) | LOCAL_KAFKA
# First words that tests and tools of this repository use for themselves.
_FREE: Final = ("TEST_", "BENCH_", "DEMO_")

_logger = logging.getLogger("meterfold.settings")
_warned: set[str] = set()


@dataclass(frozen=True, slots=True, repr=False)
class Sources:
    """The variables and the file of one process. `file` is empty if there is none; it can contain secrets."""

    variables: Mapping[str, str]
    file: Mapping[str, Any]
    path: Path | None

    @classmethod
    def read(
        cls,
        *,
        environ: Mapping[str, str] | None = None,
        config: Path | str | None = None,
        folder: Path | None = None,
    ) -> Sources:
        """Read the file `config`, else METERFOLD_CONFIG, else `folder`/meterfold.toml or the one that a local stack
        writes to `folder`/.meterfold, if a folder is given. Raises InvalidSettings for a file that is missing, or has
        unknown names.
        """
        environ = os.environ if environ is None else environ
        variables = {
            name[len(PREFIX) :]: value
            for name, value in environ.items()
            if name.startswith(PREFIX) and not is_service_link(name[len(PREFIX) :], value)
        }
        _check_variables(variables)
        named = "the argument `config` (--config on a command line)" if config else f"{PREFIX}CONFIG"
        path = _find(config or variables.get("CONFIG"), named, folder)
        return cls(variables, _parse(path) if path else {}, path)

    def table(self, section: str) -> dict[str, Any]:
        """One table of the file; empty if it is missing."""
        table = self.file.get(section, {})
        if not isinstance(table, dict):
            raise InvalidSettings(f"{self.path}: [{section}] must be a table")
        return table

    def words(self, section: str, fields: Iterable[str]) -> dict[str, str]:
        """The variables METERFOLD_<SECTION>_<FIELD>. An unknown field is a warning with a suggestion."""
        start = section.upper() + "_"
        known = list(fields)
        found = {name[len(start) :].lower(): value for name, value in self.variables.items() if name.startswith(start)}
        for name in found:
            if name not in known:
                _warn_unknown(start + name.upper(), [PREFIX + start + field.upper() for field in known])
        return {name: value for name, value in found.items() if name in known}


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean ...?`, or the known names."""
    choices = sorted(known)
    close = get_close_matches(name, choices, n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else f" Known are: {', '.join(choices)}."


def _check_variables(variables: Iterable[str]) -> None:
    starts = tuple(section.upper() + "_" for section in SECTIONS) + _FREE
    for name in variables:
        if name not in _SINGLE and not name.startswith(starts):
            known = [PREFIX + single for single in _SINGLE] + [f"{PREFIX}{section.upper()}_..." for section in SECTIONS]
            _warn_unknown(name, known)


def _warn_unknown(name: str, known: Iterable[str]) -> None:
    if name not in _warned:
        _warned.add(name)
        _logger.warning("the variable %s%s sets nothing.%s", PREFIX, name, suggestion(PREFIX + name, known))


def _find(named: Path | str | None, by: str, folder: Path | None) -> Path | None:
    if named:
        path = Path(named)
        if not path.is_file():
            raise InvalidSettings(f"the settings file {path} does not exist; correct {by}, or create the file")
        return path
    if folder is None:
        return None
    return next((folder / candidate for candidate in _CANDIDATES if (folder / candidate).is_file()), None)


def _parse(path: Path) -> dict[str, Any]:
    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise InvalidSettings(f"{path} cannot be read: {error.strerror}") from None
    for section in parsed:
        if section not in SECTIONS:
            raise InvalidSettings(f"{path}: unknown table [{section}].{suggestion(section, SECTIONS)}")
    return parsed
