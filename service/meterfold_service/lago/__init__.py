"""The part of Lago's API that meters: events and the current usage of a subscription. Nothing here knows HTTP."""
