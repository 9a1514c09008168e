"""Where spans of a worker go, by the standard variables. Each case is a process: the tracer provider is global."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import logging, sys
from opentelemetry import trace
logging.basicConfig(stream=sys.stderr, format="%(message)s")
{before}
from meterfold_cli.telemetry import worker_spans
spans = worker_spans("fold")
span = spans.start("process usage.recorded", "CONSUMER", None, {{}})
print("spans" if spans.enabled else "none", flush=True)
if span is not None:
    span.end()
"""
INSTRUMENTED = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
"""
MISSING = "sys.modules['opentelemetry.sdk.trace'] = None"
ABSENT = "sys.modules['opentelemetry'] = None"


def run(before: str = "", **variables: str) -> tuple[str, str]:
    """What is printed, and what is logged."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | variables
    code = CODE.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "variables",
    [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}],
)
def test_nothing_is_exported_unasked(variables: dict[str, str]) -> None:
    assert run(**variables) == ("none\n", "")


def test_the_exporter_that_is_named_gets_the_spans() -> None:
    out, log = run(OTEL_TRACES_EXPORTER="console")
    assert out.startswith("spans\n")
    assert '"name": "process usage.recorded"' in out
    assert '"service.name": "meterfold-fold"' in out
    assert log == ""
    for variables in ({"OTEL_SERVICE_NAME": "bill"}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=bill"}):
        assert '"service.name": "bill"' in run(OTEL_TRACES_EXPORTER="console", **variables)[0]


def test_the_sampler_is_the_sdk_s_own() -> None:
    out, _ = run(OTEL_TRACES_EXPORTER="console", OTEL_TRACES_SAMPLER="always_off")
    assert out == "spans\n"


def test_a_provider_that_is_set_already_is_used() -> None:
    out, _ = run(INSTRUMENTED)
    assert '"name": "process usage.recorded"' in out


@pytest.mark.parametrize(
    ("before", "variables", "expected"),
    [
        ("", {"OTEL_TRACES_EXPORTER": "zipkin_json"}, "the exporter zipkin_json is not installed"),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, "the exporter otlp_proto_grpc is not installed"),
        (MISSING, {"OTEL_TRACES_EXPORTER": "console"}, "opentelemetry-sdk is not installed"),
        (ABSENT, {"OTEL_TRACES_EXPORTER": "console"}, "opentelemetry-sdk is not installed"),
    ],
)
def test_what_is_missing_is_one_line_in_the_log_and_the_worker_runs(
    before: str, variables: dict[str, str], expected: str
) -> None:
    out, log = run(before, **variables)
    assert out == "none\n"
    assert len(log.splitlines()) == 1
    assert expected in log


def test_without_opentelemetry_nothing_is_said() -> None:
    assert run(ABSENT) == ("none\n", "")
