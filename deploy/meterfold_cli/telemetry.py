"""Where the spans of a worker go: as the standard variables OTEL_... say, if the OpenTelemetry SDK is installed.

Tracing never stops a worker: what is wrong with it is a warning in the log.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from meterfold_processor.tracing import Spans

__all__ = ["worker_spans"]

_LOG = logging.getLogger("meterfold.tracing")

_PROTOCOLS: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOL: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def worker_spans(worker: str, environ: Mapping[str, str] = os.environ) -> Spans:
    """The spans of `meterfold fold`, `check` or `notify`: none without an exporter in the environment, or a provider
    that `opentelemetry-instrument` has set."""
    from meterfold_processor.tracing import NO_SPANS, Spans

    exporters = _exporters(environ)
    try:
        from opentelemetry import trace
    except ImportError:
        if exporters:
            _LOG.warning("OTEL_... variables are set, but opentelemetry-sdk is not installed: no spans are exported")
        return NO_SPANS
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return NO_SPANS
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        if not exporters:
            return NO_SPANS
        try:
            trace.set_tracer_provider(_provider(worker, exporters, environ))
        except Exception as error:  # of any exporter; counting goes on
            _LOG.warning("no spans are exported: %s", error)
            return NO_SPANS
    return Spans(trace.get_tracer("meterfold"))


def _exporters(environ: Mapping[str, str]) -> list[str]:
    """Names of exporters. The specification's default is otlp; here it needs an address, so that nothing is sent to
    localhost unasked."""
    named = environ.get("OTEL_TRACES_EXPORTER", "")
    if not named and any(environ.get(name) for name in _ENDPOINTS):
        named = "otlp"
    return [name for part in named.split(",") if (name := part.strip()) and name != "none"]


def _provider(worker: str, exporters: list[str], environ: Mapping[str, str]) -> Any:
    """Sampler, limits, batches and resource are the SDK's own, by its variables."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise LookupError("opentelemetry-sdk is not installed") from None
    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": f"meterfold-{worker}"}))
    for exporter in _made(exporters, environ):
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _made(names: list[str], environ: Mapping[str, str]) -> Iterator[Any]:
    from importlib.metadata import entry_points

    for name in names:
        if name == "otlp":
            protocol = next(filter(None, map(environ.get, _PROTOCOL)), "grpc")
            name = _PROTOCOLS.get(protocol, protocol)
        found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
        if not found:
            raise LookupError(f"the exporter {name} is not installed (pip install opentelemetry-exporter-...)")
        yield found[0].load()()
