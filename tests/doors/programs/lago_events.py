"""Lago's Python client sends events and reads the current usage."""

import json
import os
import sys
import time

from lago_python_client.client import Client
from lago_python_client.models import BatchEvent, Event

client = Client(api_key=os.environ["TOKEN"], api_url=os.environ["ENDPOINT"])

if sys.argv[1] == "write":
    event = Event(
        transaction_id="tr-1",
        external_subscription_id="sub-1",
        code="storage",
        timestamp=int(time.time()),
        properties={"gb": 10, "region": "eu"},
    )
    answer = client.events.create(event)
    assert answer.transaction_id == "tr-1"
    client.events.create(event)  # repeated: it counts once
    client.events.batch_create(
        BatchEvent(
            events=[
                Event(
                    transaction_id=f"tr-{number}",
                    external_subscription_id="sub-1",
                    code="storage",
                    timestamp=int(time.time()),
                    properties={"gb": "0.5", "region": "us"},
                )
                for number in (2, 3)
            ]
        )
    )
else:
    usage = client.customers.current_usage("customer-1", "sub-1")
    print(json.dumps([[one.billable_metric.code, one.units, one.events_count] for one in usage.charges_usage]))
