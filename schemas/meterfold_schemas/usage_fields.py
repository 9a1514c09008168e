"""The fields of a usage event, as the newest Avro schema of `usage.recorded` declares them.

The encoder, the fold's decoder, the table of records, the import and the queries take the fields from here. A new
version of the schema may add optional text; it needs the schema's file, a migration for its column, and the two places
where people write the field by name: UsageRecorded (usage.py) and the parameters of the SDK's `record`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Literal

from meterfold_schemas.errors import Fatal
from meterfold_schemas.keys import SUBJECT

__all__ = ["FIELDS", "IDENTITY", "NAMES", "OPTIONAL", "SCHEMA", "TEXTS", "UsageField"]

SCHEMA: Final = "usage_recorded"

FieldRule = Literal["text", "metric_key", "metadata", "quantity", "timestamp"]

#: Fields with a rule that their Avro type does not show.
_NAMED_RULES: Final[dict[str, FieldRule]] = {"metric_key": "metric_key", "metadata": "metadata"}
_LOGICAL_RULES: Final[dict[str, FieldRule]] = {"decimal": "quantity", "timestamp-micros": "timestamp"}


@dataclass(frozen=True, slots=True)
class UsageField:
    """One field. `rule` names the check of usage_rules; `doc` is the schema's sentence about it."""

    name: str
    rule: FieldRule
    optional: bool
    doc: str

    @property
    def may_be_empty(self) -> bool:
        """Whether the empty text is a value. An event without an organization has an empty org_id."""
        return self.optional or self.name == "org_id"


def _field(declared: dict[str, Any]) -> UsageField:
    name, kind = declared["name"], declared["type"]
    optional = isinstance(kind, list)
    match kind:
        case "string" | ["null", "string"]:
            rule = _NAMED_RULES.get(name, "text")
        case {"logicalType": str(logical)} if logical in _LOGICAL_RULES:
            rule = _LOGICAL_RULES[logical]
        case _:
            raise Fatal(f"{SCHEMA}: no rule for the field {name} of type {kind}; add one to usage_fields.py")
    return UsageField(name, rule, optional, declared["doc"])


def _newest() -> dict[str, Any]:
    """The definition alone: reading the whole catalog takes fifty times as long."""
    folder = files("meterfold_schemas") / "avro"
    version = 1
    while (folder / f"{SCHEMA}.v{version + 1}.avsc").is_file():
        version += 1
    definition: dict[str, Any] = json.loads((folder / f"{SCHEMA}.v{version}.avsc").read_text(encoding="utf-8"))
    return definition


#: Every field, in the order of the schema.
FIELDS: Final = tuple(_field(declared) for declared in _newest()["fields"])
NAMES: Final = tuple(field.name for field in FIELDS)
#: The fields that an event may leave out, in the order of the schema.
OPTIONAL: Final = tuple(field.name for field in FIELDS if field.optional)
#: The texts of limited length: all but the metadata.
TEXTS: Final = tuple(field for field in FIELDS if field.rule in ("text", "metric_key"))
#: What makes two events the same one.
IDENTITY: Final = (*SUBJECT, "id")
