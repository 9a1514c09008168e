"""The configuration of the engine: its folders, its defaults, and the access control that keeps it in its folder.

Access control is ClickHouse's own. The one user of the engine holds the grants below and nothing else: no source (FILE,
URL, S3, REMOTE, ...), no table or database engine that reads anything but its own folder, no dictionaries (one with an
EXECUTABLE source runs a command), no functions, no named collections, no introspection. Backups go to the one disk that
allows them, a folder below the data folder. Settings that name a file or an address can't be changed. Programs for
Executable tables are searched in a folder that does not exist. Two ways to a file need no grant in chDB: INTO OUTFILE
and FROM INFILE, which execute.py refuses, and the function file(), which engine.py replaces.

The user must be called `default`: chDB's sessions authenticate as that. Clients are authenticated by auth.py.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from xml.sax.saxutils import escape

ENGINE_FOLDER = "engine"
SPOOL_FOLDER = "spool"
CONFIG_FOLDER = "etc"
BACKUP_FOLDER = "backups"

PRIVILEGES = (
    "CHECK, SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE, "
    "CREATE ARBITRARY TEMPORARY TABLE, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, KILL QUERY, dictGet, SYSTEM MERGES, "
    "SYSTEM TTL MERGES, SYSTEM FLUSH, BACKUP"
)

TABLE_ENGINES = (
    *(
        f"{variant}MergeTree"
        for variant in (
            "",
            "Aggregating",
            "Coalescing",
            "Collapsing",
            "Graphite",
            "Replacing",
            "Summing",
            "VersionedCollapsing",
        )
    ),
    *("Buffer", "GenerateRandom", "Join", "Log", "Memory", "Merge", "Null", "Set", "StripeLog", "TinyLog"),
    *("MaterializedView", "View"),
)
DATABASE_ENGINES = ("Atomic", "Memory")

FIXED_SETTINGS = (
    "allow_experimental_eval_table_function",
    "allow_introspection_functions",
    "dialect",
    "format_avro_schema_registry_url",
    "format_schema",
    "format_schema_source",
    "format_template_resultset",
    "format_template_row",
    "output_format_schema",
    "merge_tree_disk",
    "merge_tree_storage_policy",
    "merge_tree_table_disk",
)
"""Settings that name a file, an address or another language; a client can't change them."""

DEFAULTS = {
    # An acknowledged insert is in a part, not in a buffer.
    "async_insert": "0",
    # Back-filled usage opens a partition per month; 100 would refuse 9 years of daily windows.
    "max_partitions_per_insert_block": "1000",
    # clickhouse-local takes `foo` as `SELECT foo`; a server reports a syntax error.
    "implicit_select": "0",
    "allow_introspection_functions": "0",
}
"""What a server for Meterfold has otherwise than chDB."""


def prepare(data: Path) -> None:
    """Make the folders below `data` and write the engine's configuration. Safe to repeat; the engine must not run."""
    for name in (ENGINE_FOLDER, SPOOL_FOLDER, CONFIG_FOLDER, BACKUP_FOLDER):
        (data / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    for left_behind in (data / SPOOL_FOLDER).iterdir():
        left_behind.unlink()
    _create_default_database(data / ENGINE_FOLDER)
    (data / CONFIG_FOLDER / "config.xml").write_text(_config(data / BACKUP_FOLDER), encoding="utf-8")
    (data / CONFIG_FOLDER / "users.xml").write_text(_users(), encoding="utf-8")


def connection_string() -> str:
    """What chDB is opened with; relative to the data folder, which is the working directory, so that no character of
    its path can be taken for a parameter."""
    return f"{ENGINE_FOLDER}?config-file={CONFIG_FOLDER}/config.xml"


def _create_default_database(engine: Path) -> None:
    # Otherwise chDB makes `default` an overlay of an Atomic database and every file of the machine, and asks for READ
    # ON FILE whenever a table is not found. An empty `default_database` turns that off; sessions still start in
    # `default`, so it must exist before the engine looks: this is the file that CREATE DATABASE writes.
    metadata = engine / "metadata"
    definition = metadata / "default.sql"
    if definition.exists():
        return
    metadata.mkdir(exist_ok=True)
    unfinished = metadata / "default.sql.tmp"
    unfinished.write_text(f"ATTACH DATABASE _ UUID '{uuid.uuid4()}'\nENGINE = Atomic\n", encoding="utf-8")
    unfinished.replace(definition)


def _config(backups: Path) -> str:
    return f"""<clickhouse>
    <logger><level>none</level></logger>
    <default_database></default_database>
    <database>default</database>
    <users_config>{CONFIG_FOLDER}/users.xml</users_config>
    <user_scripts_path>{CONFIG_FOLDER}/no-scripts/</user_scripts_path>
    <storage_configuration>
        <disks>
            <backups><type>local</type><path>{escape(str(backups))}/</path></backups>
        </disks>
    </storage_configuration>
    <backups><allowed_disk>backups</allowed_disk></backups>
    <access_control_improvements>
        <table_engines_require_grant>true</table_engines_require_grant>
        <enable_read_write_grants>true</enable_read_write_grants>
        <on_cluster_queries_require_cluster_grant>true</on_cluster_queries_require_cluster_grant>
    </access_control_improvements>
</clickhouse>
"""


def _users() -> str:
    grants = [
        f"GRANT {PRIVILEGES} ON *.*",
        "GRANT READ, WRITE ON DISK",
        *(f"GRANT TABLE ENGINE ON {name}" for name in (*TABLE_ENGINES, *DATABASE_ENGINES)),
    ]
    defaults = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in DEFAULTS.items())
    constraints = "".join(f"<{name}><readonly/></{name}>" for name in FIXED_SETTINGS)
    queries = "\n".join(f"                <query>{escape(grant)}</query>" for grant in grants)
    return f"""<clickhouse>
    <profiles>
        <default>
            {defaults}
            <constraints>{constraints}</constraints>
        </default>
    </profiles>
    <quotas><default/></quotas>
    <users>
        <default>
            <password></password>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants>
{queries}
            </grants>
        </default>
    </users>
</clickhouse>
"""
