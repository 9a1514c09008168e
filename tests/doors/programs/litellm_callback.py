"""LiteLLM's callback `openmeter` meters a completion whose answer is mocked."""

import json
import os
import sys
import time

import litellm

os.environ["OPENMETER_API_ENDPOINT"] = os.environ["ENDPOINT"]
os.environ["OPENMETER_API_KEY"] = os.environ["TOKEN"]

from openmeter import Client
from openmeter.models import MeterCreate

client = Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"])
if sys.argv[1] == "write":
    for slug, value in (("llm_tokens", "$.total_tokens"), ("llm_cost", "$.cost")):
        client.meters.create(
            MeterCreate(
                slug=slug,
                event_type="litellm_tokens",
                aggregation="SUM",
                value_property=value,
                group_by={"model": "$.model"},
            )
        )
    litellm.callbacks = ["openmeter"]
    litellm.completion(
        model="gpt-4o",
        messages=[{"role": "user", "content": "Hello"}],
        mock_response="Hello, world",
        user="customer-9",
    )
    # The callback runs in a thread of LiteLLM.
    until = time.monotonic() + 60
    while not list(client.events.list(subject="customer-9")):
        assert time.monotonic() < until, "the callback has sent nothing"
        time.sleep(0.2)
else:
    found = client.meters.query_json("llm_tokens", group_by=["subject", "model"])
    print(json.dumps([[row.subject, row.group_by["model"], row.value > 0] for row in found.data]))
