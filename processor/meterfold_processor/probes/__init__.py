"""The health and metrics of one worker over HTTP: /healthz, /readyz and /metrics.

For the orchestrator and the monitoring of a process. A whole installation is looked at from outside by `meterfold
status` (meterfold_service.status), which needs no worker.
"""
