"""Lago's agent SDK sends the tokens of one call."""

import json
import os
import sys

from lago_agent_sdk import CanonicalUsage, LagoSDK
from lago_python_client.client import Client

if sys.argv[1] == "write":
    sdk = LagoSDK(api_key=os.environ["TOKEN"], api_url=os.environ["ENDPOINT"] + "/api/v1")
    sdk.emit(
        CanonicalUsage(model="gpt-4o", provider="openai", api="chat", input=120, output=30),
        subscription="sub-2",
        event_id="call-1",
    )
    sdk.flush()
    sdk.shutdown()
else:
    client = Client(api_key=os.environ["TOKEN"], api_url=os.environ["ENDPOINT"])
    usage = client.customers.current_usage("customer-1", "sub-2")
    print(json.dumps(sorted([one.billable_metric.code, one.units] for one in usage.charges_usage)))
