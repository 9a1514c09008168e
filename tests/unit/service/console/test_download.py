"""Downloads of the console are exports of the API: their number and slow clients are bounded alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from starlette.requests import ClientDisconnect

from meterfold_service.exports.results import Format
from meterfold_service.http import streams
from unit.service.console.desk import Service, application, client, metering, sign_in

PATH = "/usage/download"


class Stream:
    """An export of a few batches, each of which is a chunk."""

    schema = pa.schema([("id", pa.string())])
    expected = 200_000

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for number in range(4):
            ids = [f"=cmd({number})"] * 50_000
            yield pa.RecordBatch.from_pydict({"id": ids}, schema=self.schema)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.fixture
def service() -> Service:
    made = Service(metering())
    made.metering.usage.stream = lambda *args, **values: made.metering.usage.opened.append(Stream()) or opened(made)
    made.metering.usage.opened = []
    return made


def opened(service: Service) -> Stream:
    found: Stream = service.metering.usage.opened[-1]
    return found


def test_a_download_is_a_file_in_the_format_that_was_asked_for(service: Service) -> None:
    with client(application(service)) as browser:
        sign_in(browser)
        for kind in ("csv", "jsonl", "parquet"):
            answer = browser.get(PATH, params={"format": kind, "what": "records"})
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == Format(kind).media_type
            assert answer.headers["content-disposition"] == f'attachment; filename="records.{kind}"'
            assert opened(service).closed
            assert not service.exports.locked()
        csv = browser.get(PATH, params={"what": "records"}).text
        assert csv.count("'=cmd(") == 200_000, "a spreadsheet must not run it"
        assert browser.get(PATH, params={"format": "arrow"}).status_code == 422


def test_downloads_count_towards_the_limit_of_exports(service: Service) -> None:
    with client(application(service)) as browser:
        sign_in(browser)
        asyncio.run(service.exports.acquire())
        refused = browser.get(PATH)
        assert (refused.status_code, refused.headers["refresh"]) == (503, "3")
        assert "which is the limit ([http] exports)" in refused.text
        service.exports.release()
        assert browser.get(PATH).status_code == 200


def test_a_client_that_takes_nothing_is_given_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SLOW_SECONDS", 0.05)
    app = application(service)
    with client(app) as browser:
        sign_in(browser)
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    taken: list[Any] = []

    async def take(message: Any) -> None:
        taken.append(message)
        if message.get("body"):
            await asyncio.sleep(3600)

    async def never() -> Any:
        await asyncio.sleep(3600)

    headers = [(b"host", b"127.0.0.1:8888"), (b"cookie", cookies.encode())]
    scope = {
        "type": "http",
        "method": "GET",
        "path": PATH,
        "query_string": b"what=records",
        "headers": headers,
        "scheme": "http",
        "server": ("127.0.0.1", 8888),
        "asgi": {"spec_version": "2.4", "version": "3.0"},
        "http_version": "1.1",
    }
    with pytest.raises(ClientDisconnect):
        asyncio.run(app(scope, never, take))
    assert [message["type"] for message in taken] == ["http.response.start", "http.response.body"]
    assert taken[0]["status"] == 200
    assert opened(service).closed, "the connection to ClickHouse is free again"
    assert not service.exports.locked()
