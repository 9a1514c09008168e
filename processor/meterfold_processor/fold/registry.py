"""What the ids of a Schema Registry mean: asked once for each id, by the Confluent API (`GET /schemas/ids/N`).

A registry never changes what an id means, so an answer is kept for the life of the worker. That an id is unknown, and
that the registry does not answer, is not kept: the partition is held and asks again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError

from meterfold_processor.fold.schemas import EVENT, Recognized
from meterfold_processor.fold.settings import SchemaRegistrySettings
from meterfold_schemas import catalog
from meterfold_schemas.errors import InvalidSettings

_LARGEST: Final = 1 << 20
_PAUSES: Final = (2.0, 5.0, 10.0, 30.0)
"""Seconds between two requests to a registry that does not answer: the worker's other partitions wait meanwhile."""

_NOT_FOUND: Final = 404


class SchemaRegistry:
    """One registry. Not for several threads at once. `clock` in seconds, never stepping back.

    Raises InvalidSettings for a certificate or key file that cannot be read.
    """

    def __init__(self, settings: SchemaRegistrySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = settings.url
        self._clock = clock
        self._known: dict[int, Recognized] = {}
        self._failures = 0
        self._failure = ""
        self._not_before = 0.0
        password = settings.password.get_secret_value()
        credentials = f"{settings.username}:{password}" if settings.username else None
        timeout = urllib3.Timeout(connect=settings.timeout_seconds, read=settings.timeout_seconds)
        try:
            self._http = urllib3.PoolManager(
                headers={
                    "Accept": "application/vnd.schemaregistry.v1+json, application/json",
                    **urllib3.make_headers(basic_auth=credentials),
                },
                timeout=timeout,
                retries=False,
                ssl_context=_tls(settings),
            )
        except (OSError, ValueError) as error:
            raise InvalidSettings(f"schema_registry: the TLS files cannot be used: {error}") from None

    def look_up(self, number: int) -> Recognized:
        """The schema of an id, None if it is not one of ours, is unknown, or the registry does not answer; `why` says
        which."""
        if number in self._known:
            return self._known[number]
        if self._clock() < self._not_before:
            return Recognized(None, self._failure)
        try:
            response = self._http.request("GET", f"{self._url}/schemas/ids/{number}", preload_content=False)
            try:
                status, body = response.status, response.read(_LARGEST + 1, decode_content=True)
            finally:
                response.release_conn()
        except (HTTPError, LocationParseError, OSError) as error:
            return self._failed(f"does not answer: {error}")
        if status == _NOT_FOUND:
            return Recognized(None, f"the Schema Registry {self._url} has no schema with id {number}")
        if status != 200:
            return self._failed(f"answers with HTTP status {status}")
        try:
            answer = json.loads(body)
            kind, text = answer.get("schemaType", "AVRO"), answer["schema"]
        except (ValueError, LookupError, AttributeError, TypeError):
            return self._failed("answers with something that is not a schema: check the path of the URL")
        self._failures = 0
        found = self._known[number] = self._recognized(number, kind, text)
        return found

    def _recognized(self, number: int, kind: Any, text: Any) -> Recognized:
        where = f"schema {number} of the Schema Registry {self._url}"
        if kind != "AVRO":
            return Recognized(None, f"{where} is of type {kind}, not AVRO")
        try:
            schema = catalog.same_as(EVENT, json.loads(text))
        except (ValueError, TypeError, RecursionError):
            schema = None
        if schema is None:
            return Recognized(None, f"{where} is no version of {EVENT}")
        return Recognized(schema, where)

    def _failed(self, why: str) -> Recognized:
        self._failure = f"the Schema Registry {self._url} {why}"
        self._not_before = self._clock() + _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._failures += 1
        return Recognized(None, self._failure)


def _tls(settings: SchemaRegistrySettings) -> Any:
    if not settings.url.startswith("https:"):
        return None
    context = urllib3.util.create_urllib3_context()
    if settings.ca_file:
        context.load_verify_locations(settings.ca_file)
    else:
        context.load_default_certs()
    if settings.certificate_file:
        context.load_cert_chain(settings.certificate_file, settings.key_file or None)
    return context
