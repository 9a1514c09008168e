"""A span for each threshold event, from its production to the end of its transaction. The event carries it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from meterfold_processor.checker import operations as ops
from meterfold_processor.kafka.clients import Outgoing
from meterfold_processor.tracing import OpenSpan, Spans
from meterfold_schemas.topics import Topics
from meterfold_schemas.traces import PARENT, STATE, TraceContext

__all__ = ["EventSpans"]


class EventSpans:
    """Performs the operations of a step by `perform`."""

    def __init__(self, spans: Spans, topics: Topics, perform: Callable[[ops.Operation], Any]) -> None:
        self._spans = spans
        self._perform = perform
        self._topics = frozenset(
            {topics.threshold_approaching, topics.threshold_exceeded, topics.threshold_cleared},
        )
        self._open: list[OpenSpan] = []

    def perform(self, operation: ops.Operation) -> Any:
        if isinstance(operation, ops.Begin):
            self._end("the step was given up")  # nothing is open, unless a step ended between two operations
        elif isinstance(operation, ops.Produce):
            operation = ops.Produce(tuple(map(self._traced, operation.messages)))
        try:
            answer = self._perform(operation)
        except BaseException as error:
            self._end(str(error) or type(error).__name__)
            raise
        if isinstance(operation, ops.CommitTransaction):
            self._end(None)
        return answer

    def _traced(self, message: Outgoing) -> Outgoing:
        if message.topic not in self._topics:
            return message
        attributes = {"messaging.system": "kafka", "messaging.destination.name": message.topic}
        span = self._spans.start(f"judge {message.topic}", "PRODUCER", TraceContext.read(message.headers), attributes)
        if span is None:
            return message
        self._open.append(span)
        if (context := span.context) is None:
            return message
        others = tuple(header for header in message.headers if header[0] not in (PARENT, STATE))
        return replace(message, headers=others + context.headers)

    def _end(self, error: str | None) -> None:
        for span in self._open:
            span.end(error)
        self._open = []
