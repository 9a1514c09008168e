"""Run by test_new_event_field.py on packages whose UsageRecorded has the optional field `region` in its second version.

One event of the first version and one of the second go through the encoder, the fold and ClickHouse. Standard input
holds the settings of ClickHouse as JSON.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, cast

import numpy as np
from fastavro import schemaless_writer

from meterfold.events import EventDetails, optional_values
from meterfold.recorder import Recorder
from meterfold.subjects import Resolvers
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.planning import make_plan
from meterfold_cli.importing.resolving import resolve
from meterfold_processor.fold import validate
from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.messages import Consumed
from meterfold_processor.fold.partition import PartitionFold
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.schemas import judged_by
from meterfold_processor.fold.store import History, Progress
from meterfold_schemas import catalog
from meterfold_schemas.periods import MICROS_PER_SECOND, micros
from meterfold_schemas.quantities import to_avro_bytes
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_encoder import UsageEncoder
from meterfold_schemas.usage_fields import NAMES, OPTIONAL
from meterfold_sink.client import connect
from meterfold_sink.comments import COMMENTS
from meterfold_sink.migrate import migrate
from meterfold_sink.rules import FoldRules
from meterfold_sink.usage_records import usage_records
from meterfold_sink.usage_states import Of
from meterfold_sink.writers import Writer

NOW = datetime.now(UTC).replace(microsecond=0)
SUBJECT = ("acme", "api.calls", "user", "ada")
RULES = FoldRules(cluster_id="cluster", topic_id="topic", partition_count=1)


def main() -> None:
    assert OPTIONAL == ("source", "resource_type", "resource_id", "metadata", "region"), OPTIONAL
    values = [of_the_first_version("old"), of_the_second_version("new", "eu")]
    decoded = decode(consumed(values), judged_by({}))
    assert decoded.frame.select("id", "region").rows() == [("old", None), ("new", "eu")]
    assert UsageRecorded.from_bytes(values[0]).region is None  # type: ignore[attr-defined]
    refuses_what_is_too_long()
    imports_it()
    records_it(values[1])
    records = folded(decoded.frame, values)
    with connect(ClickHouseSettings.model_validate_json(sys.stdin.read()), create_database=True) as client:
        migrate(client, RULES)
        Writer(client).insert("usage_records", records)
        org_id, metric_key, subject_type, subject_id = SUBJECT
        minute = 60 * MICROS_PER_SECOND
        of = Of(metric_key, org_id, (subject_type, subject_id))
        page = usage_records(client, RULES, of, micros(NOW) - minute, micros(NOW) + minute)
        read = {row["id"]: row["region"] for row in page.rows}
        assert read == {"old": None, "new": "eu"}, read
        (row,) = client.rows(
            "SELECT comment FROM system.columns WHERE database = currentDatabase() AND table = 'usage_records' "
            "AND name = 'region'"
        )
        assert row["comment"] == COMMENTS["usage_records"].columns["region"] == "where the usage happened"


def of_the_first_version(event_id: str) -> bytes:
    """As an application with an older SDK sends it."""
    schema = catalog.all_versions("usage_recorded")[0]
    org_id, metric_key, subject_type, subject_id = SUBJECT
    record: dict[str, Any] = {
        **dict.fromkeys(schema.fields),
        "id": event_id,
        "org_id": org_id,
        "metric_key": metric_key,
        "subject_type": subject_type,
        "subject_id": subject_id,
        "quantity": to_avro_bytes(10**9),
        "timestamp": micros(NOW),
    }
    out = BytesIO()
    out.write(schema.header)
    schemaless_writer(out, schema.raw, record)
    return out.getvalue()


def of_the_second_version(event_id: str, region: str) -> bytes:
    encoder = UsageEncoder()
    value = encoder.value(event_id, encoder.subject(*SUBJECT), 1, micros(NOW), None, None, None, None, region)
    made = UsageRecorded.of(
        {
            **dict(zip(("org_id", "metric_key", "subject_type", "subject_id"), SUBJECT, strict=True)),
            "id": event_id,
            "quantity": 1,
            "timestamp": NOW,
            "region": region,
        }
    )
    assert made.to_bytes() == value
    assert value.startswith(catalog.latest("usage_recorded").header)
    assert encoder.event_id_of(value) == event_id
    return value


def consumed(values: list[bytes]) -> Consumed:
    numbers = np.arange(len(values), dtype=np.int64)
    encoder = UsageEncoder()
    key = encoder.subject(*SUBJECT).key
    return Consumed(0 * numbers, numbers, 0 * numbers + micros(NOW), [key] * len(values), values)


def folded(frame: Any, values: list[bytes]) -> Any:
    fold = PartitionFold(
        Progress(0, 0, 0, 0, 0, 0, None),
        cast(History, None),  # nothing is stored yet
        Rules.of(RULES),
        clock=lambda: micros(NOW),
        check_partition_count=lambda: None,
        stored=False,
    )
    done = fold.fold(frame, values, 1)
    assert done is not None
    assert done.records.num_rows == 2, done.rejected.to_pylist()
    return done.records


def refuses_what_is_too_long() -> None:
    value = of_the_second_version("x", "é" * 256)
    frame = decode(consumed([value]), judged_by({})).frame
    assert validate.invalid(frame).to_list() == [None]
    frame = frame.with_columns(region=frame["region"] + "é")
    (detail,) = validate.invalid(frame)
    assert detail == f"region '{'é' * 80}...' has 514 bytes; at most 512 are allowed"


def imports_it() -> None:
    columns = [name for name in NAMES if name not in ("resource_type", "resource_id", "metadata", "source")]
    plan = make_plan(columns, resolve(columns, Options({}, {}, (), ignore_others=False)), {})
    assert plan.event([f"the {name}" for name in columns])["region"] == "the region"


def records_it(expected: bytes) -> None:
    """By the parameters of `record`, and as a row of `record_batch`."""
    recorder = Recorder("acme", Resolvers(), horizon_seconds=None, future_tolerance_seconds=None)
    details = optional_values(EventDetails(region="eu"))  # type: ignore[typeddict-unknown-key]
    encoded = recorder.encode("api.calls", ("user", "ada"), 1, "new", NOW, None, details)
    assert encoded[2] == expected
    row = {"metric_key": "api.calls", "subject": ("user", "ada"), "id": "new", "timestamp": NOW, "region": "eu"}
    assert [value for _, _, value in recorder.batch([row])] == [expected]


if __name__ == "__main__":
    main()
