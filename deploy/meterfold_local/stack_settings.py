"""`meterfold.toml`, which a running stack keeps in its data folder. METERFOLD_CONFIG names it to applications."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from meterfold_local.private_files import write_private
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings

HEADER = """\
# Written by `meterfold up` for the stack that runs here, and removed when it stops.
# It holds passwords: keep it readable for yourself only.
"""


def write_settings(
    path: Path,
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    sdk: Mapping[str, int] | None = None,
    http: Mapping[str, str | int] | None = None,
) -> None:
    """Write the sections with mode 0600; `sdk` has the entries of [sdk], `http` those of [http]."""
    lines = [
        HEADER,
        "[kafka]",
        f"bootstrap_servers = {quote(kafka.bootstrap_servers)}",
        f"topic_prefix = {quote(kafka.topic_prefix)}",
        "",
        "[kafka.librdkafka]",
        *(f"{quote(name)} = {quote(value)}" for name, value in kafka.librdkafka.items()),
        "",
        "[clickhouse]",
        f"url = {quote(clickhouse.url)}",
        f"database = {quote(clickhouse.database)}",
        f"username = {quote(clickhouse.username)}",
        f"password = {quote(clickhouse.password.get_secret_value())}",
    ]
    if sdk:
        lines += ["", "[sdk]", *(f"{name} = {value}" for name, value in sdk.items())]
    if http:
        lines += ["", "[http]", *(f"{name} = {quote(v) if isinstance(v, str) else v}" for name, v in http.items())]
    write_private(path, "\n".join(lines) + "\n")


def quote(text: str) -> str:
    """A TOML basic string."""
    out = []
    for character in text:
        if character in '"\\':
            out.append(f"\\{character}")
        elif character < " " or character == "\x7f":
            out.append(f"\\u{ord(character):04x}")
        else:
            out.append(character)
    return '"' + "".join(out) + '"'
