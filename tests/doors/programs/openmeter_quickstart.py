"""The quickstart of OpenMeter's Python client, with another endpoint and token, and then what else a meter answers."""

import datetime
import json
import os
import sys
import uuid

from openmeter import Client
from openmeter.models import Event, MeterCreate, MeterQueryRequest, MeterQueryResult

client = Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])

if sys.argv[1] == "write":
    client.meters.create(
        MeterCreate(
            slug="tokens_total",
            name="Tokens",
            event_type="prompt",
            aggregation="SUM",
            value_property="$.tokens",
            group_by={"model": "$.model", "type": "$.type"},
        )
    )
    client.meters.create(MeterCreate(slug="prompts", event_type="prompt", aggregation="COUNT"))
    client.meters.create(
        MeterCreate(slug="models", event_type="prompt", aggregation="UNIQUE_COUNT", value_property="$.model")
    )
    client.meters.create(MeterCreate(slug="unused", event_type="nothing", aggregation="COUNT"))
    # Create an Event instance (following CloudEvents specification)
    event = Event(
        id=str(uuid.uuid4()),
        source="my-app",
        specversion="1.0",
        type="prompt",
        subject="customer-1",
        time=datetime.datetime.now(datetime.UTC),
        data={
            "tokens": 100,
            "model": "gpt-4o",
            "type": "input",
        },
    )
    # Ingest the event
    client.events.ingest_event(event)
    client.events.ingest_event(event)  # repeated: it counts once
    more = [
        {**event, "id": str(uuid.uuid4()), "data": {"tokens": "0.25", "model": "o1"}},
        {**event, "id": str(uuid.uuid4()), "subject": "customer-2", "data": {"tokens": "many", "model": "o1"}},
    ]
    client.events.ingest_events(more)
    client.meters.delete("unused")
else:
    # Query total values
    r: MeterQueryResult = client.meters.query_json(meter_id_or_slug="tokens_total")
    now = datetime.datetime.now(datetime.UTC)
    day = {"from_parameter": now.replace(hour=0, minute=0, second=0, microsecond=0), "window_size": "DAY"}
    windows = client.meters.query_json("tokens_total", group_by=["model"], subject=["customer-1"], **day)
    minutes = client.meters.query_json(
        "tokens_total", from_parameter=now - datetime.timedelta(hours=2), window_size="MINUTE"
    )
    posted = client.meters.query(
        "tokens_total", MeterQueryRequest(group_by=["subject"], filter_group_by={"model": ["gpt-4o"]})
    )
    listed = list(client.events.list())
    print(
        json.dumps(
            {
                "total": r.data[0].value,
                "windows": sorted((row.group_by["model"], row.subject, row.value) for row in windows.data),
                "minutes": sum(row.value for row in minutes.data),
                "posted": [(row.subject, row.value) for row in posted.data],
                "prompts": client.meters.query_json("prompts").data[0].value,
                "models": client.meters.query_json("models").data[0].value,
                "meters": [meter.slug for meter in client.meters.list()],
                "meter": client.meters.get("tokens_total").value_property,
                "subjects": sorted(client.meters.list_subjects("prompts")),
                "known": sorted(subject.key for subject in client.subjects.list()),
                "events": len(listed),
                "problems": [one.validation_error for one in listed if one.validation_error],
                "data": sorted(str(one.event.data["tokens"]) for one in listed),
            }
        )
    )
