"""`make test-alerts`: every alert rule of deploy/prometheus is fired once by a real fault."""
