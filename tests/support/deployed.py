"""Files that start our processes: which variables they set, and whether our settings know them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from meterfold.settings import SdkSettings
from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.fold.settings import FoldSettings
from meterfold_processor.probes.settings import HealthSettings
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings, Settings, load_settings
from meterfold_service.backups.settings import BackupSettings
from meterfold_service.http.settings import HttpSettings
from meterfold_service.notify.settings import NotifySettings
from support.paths import ROOT

__all__ = ["COMPOSE", "check_environment", "compose", "interpolated", "known_variables"]

COMPOSE: Final = ROOT / "deploy" / "compose"
_SECTIONS: Final[dict[str, type[Settings]]] = {
    "sdk": SdkSettings,
    "fold": FoldSettings,
    "checker": CheckerSettings,
    "notify": NotifySettings,
    "http": HttpSettings,
    "health": HealthSettings,
    "backup": BackupSettings,
}
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::?([?-])([^}]*))?\}")


@cache
def known_variables() -> frozenset[str]:
    """Every variable that sets something, without those of librdkafka."""
    fields: dict[str, Any] = {"clickhouse": ClickHouseSettings, **_SECTIONS}
    return frozenset(
        {"METERFOLD_CONFIG", "METERFOLD_BOOTSTRAP_SERVERS", "METERFOLD_TOPIC_PREFIX"}
        | {f"METERFOLD_{section}_{field}".upper() for section, model in fields.items() for field in model.model_fields}
    )


def check_environment(environment: Mapping[str, str]) -> None:
    """AssertionError for a METERFOLD_ variable that sets nothing; InvalidSettings for a value that is refused."""
    ours = {name: value for name, value in environment.items() if name.startswith("METERFOLD_")}
    unknown = {name for name in ours if name not in known_variables() and not name.startswith("METERFOLD_KAFKA_")}
    assert not unknown, f"these variables set nothing: {sorted(unknown)}"
    KafkaSettings.load(environ=ours)
    ClickHouseSettings.load(environ=ours)
    for section, model in _SECTIONS.items():
        load_settings(model, section, environ=ours)


def compose(*names: str) -> dict[str, Any]:
    """One or more Compose files, merged as Compose does it: maps by key, everything else is replaced or appended."""
    merged: dict[str, Any] = {}
    for name in names:
        loaded = yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))
        merged = _merged(merged, loaded)
    return merged


def interpolated(value: str, variables: Mapping[str, str]) -> str:
    """`${NAME:?message}` and `${NAME:-default}`; KeyError for a required variable that is missing."""

    def replace(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        if kind == "-":
            return variables.get(name, default)
        return variables[name]

    return _VARIABLE.sub(replace, value)


def variables_of(path: Path) -> set[str]:
    """The names that a Compose file takes from its .env."""
    return {name for name, _, _ in _VARIABLE.findall(path.read_text(encoding="utf-8"))}


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        elif isinstance(value, list) and isinstance(result.get(key), list) and key in ("ports", "volumes"):
            result[key] = [*result[key], *value]
        else:
            result[key] = value
    return result
