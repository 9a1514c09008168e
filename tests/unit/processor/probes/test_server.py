"""The HTTP server of the probes, on loopback: answers, refusals, and clients that behave badly."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from meterfold_cli import main
from meterfold_processor.backoff import Troubles
from meterfold_processor.fold.status import FoldStatus
from meterfold_processor.kafka.membership import MembershipState
from meterfold_processor.probes.fold import FoldSubject
from meterfold_processor.probes.server import MOST_REQUESTS, serving
from meterfold_processor.probes.settings import HealthSettings
from meterfold_processor.probes.verdict import Observation
from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.settings import load_settings
from support import eventually

pytestmark = pytest.mark.loopback


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def probe(url: str) -> tuple[int, dict[str, Any]]:
    status, kind, body = ask(url)
    assert kind == "application/json"
    return status, json.loads(body)


@pytest.fixture
def status() -> FoldStatus:
    """A worker that is well, whose clock is far in the future: its statistics never grow old."""
    made = FoldStatus(partitions=[0], positions={0: 7})
    made.membership.seen = MembershipState(float("inf"), True, True, "coordinator up, member steady", {0: 7})
    return made


@pytest.fixture
def url(status: FoldStatus) -> Iterator[str]:
    with serving(HealthSettings(stall_seconds=1), FoldSubject(status)) as at:
        assert at is not None
        assert at.startswith("http://127.0.0.1:")
        yield at


def test_a_worker_that_is_well(url: str) -> None:
    partition = {"partition": 0, "next_offset": 7, "log_end": 7, "lag": 0, "still_seconds": 0.0, "held": None}
    well = {"ok": True, "worker": "fold", "problems": [], "errors": {}, "partitions": [partition], "rejections": []}
    assert probe(url + "/healthz") == (200, well)
    assert probe(url + "/readyz?verbose") == (200, well)


def test_the_worker_is_looked_at_though_nobody_asks(status: FoldStatus) -> None:
    class Counted(FoldSubject):
        looks = 0

        def observe(self) -> Observation:
            self.looks += 1
            return super().observe()

    subject = Counted(status)
    with serving(HealthSettings(), subject):
        eventually(lambda: subject.looks >= 3, 20, "movement is looked for")


def test_standstill_is_noticed_and_ends_by_itself(url: str, status: FoldStatus) -> None:
    status.membership.seen = MembershipState(float("inf"), True, True, "", {0: 9})
    code, body = eventually(lambda: (found := probe(url + "/healthz"))[0] == 503 and found, 20)
    assert (code, body["ok"]) == (503, False)
    (problem,) = body["problems"]
    assert re.fullmatch(r"partition 0 has made no progress for \d+ s: next offset 7, log end 9", problem)
    assert body["partitions"][0]["lag"] == 2
    assert probe(url + "/readyz")[0] == 503
    status.positions = {0: 9}
    eventually(lambda: probe(url + "/healthz")[0] == 200, 20)
    assert probe(url + "/readyz")[0] == 200


def test_a_failing_store_makes_it_unready_only(url: str, status: FoldStatus) -> None:
    status.errors = Troubles(flush="ClickHouse could not be reached")
    code, body = probe(url + "/readyz")
    assert (code, body["problems"]) == (503, ["flush is failing and being retried: ClickHouse could not be reached"])
    assert probe(url + "/healthz")[0] == 200
    status.errors = Troubles()
    assert probe(url + "/readyz")[0] == 200


def test_metrics_in_both_formats(url: str, status: FoldStatus) -> None:
    status.counted = 12
    code, kind, body = ask(url + "/metrics")
    assert (code, kind.split(";")[0]) == (200, "text/plain")
    assert "\nmeterfold_fold_counted_events_total 12.0\n" in body
    assert "# TYPE meterfold_fold_counted_events_total counter" in body
    code, kind, body = ask(url + "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_other_paths_and_methods(url: str) -> None:
    assert ask(url + "/")[0] == 404
    assert ask(url + "/")[2] == "/healthz /readyz /metrics\n"
    assert ask(url + "/healthz/../../etc/passwd")[0] == 404
    assert ask(url + "/healthz", "HEAD")[::2] == (200, "")
    assert ask(url + "/healthz", "POST")[0] == 501


def test_clients_that_say_nothing_do_not_keep_others_away(url: str) -> None:
    port = int(url.rsplit(":", 1)[1])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_REQUESTS - 1)]
    try:
        assert probe(url + "/healthz")[0] == 200
        silent += [socket.create_connection(("127.0.0.1", port)) for _ in range(2 * MOST_REQUESTS)]
        eventually(lambda: _answers(url), 20, "the silent ones are turned away or given up")
    finally:
        for one in silent:
            one.close()


def test_what_is_no_http_does_no_harm(url: str) -> None:
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as rude:
        rude.sendall(b"\x00\xff\x16\x03 nonsense\r\n\r\n")
        rude.shutdown(socket.SHUT_WR)
    assert probe(url + "/healthz")[0] == 200


def test_nobody_listens_afterwards_and_workers_side_by_side_do_not_collide() -> None:
    with (
        serving(HealthSettings(), FoldSubject(FoldStatus())) as one,
        serving(HealthSettings(), FoldSubject(FoldStatus())) as two,
    ):
        assert one is not None
        assert two is not None
        assert one != two
        assert probe(one + "/readyz")[0] == probe(two + "/readyz")[0] == 503
    with pytest.raises(OSError):
        urllib.request.urlopen(one + "/healthz", timeout=30)


def test_off() -> None:
    with serving(HealthSettings(address="off"), FoldSubject(FoldStatus())) as at:
        assert at is None


def test_a_port_that_is_taken_is_named() -> None:
    with serving(HealthSettings(), FoldSubject(FoldStatus())) as one:
        assert one is not None
        taken = HealthSettings(address=one.removeprefix("http://"))
        with (
            pytest.raises(InvalidSettings, match=r"cannot listen on 127\.0\.0\.1 port \d+: Address already in use"),
            serving(taken, FoldSubject(FoldStatus())),
        ):
            pass


@pytest.mark.parametrize("address", ["192.0.2.1:9400", "no-such-host.invalid:9400"])
def test_an_address_that_is_not_ours_is_refused(address: str) -> None:
    with (
        pytest.raises(InvalidSettings, match=r"health\.address: cannot listen on"),
        serving(HealthSettings(address=address), FoldSubject(FoldStatus())),
    ):
        pass


@pytest.mark.parametrize(
    "address", ["", "9400", ":9400", "localhost", "localhost:", "localhost:x", "localhost:99999", "a@b:1", "h:1/x"]
)
def test_nonsense_is_refused_when_settings_are_read(address: str) -> None:
    with pytest.raises(InvalidSettings, match=r"health\.address\): .*HOST:PORT"):
        load_settings(HealthSettings, "health", environ={"METERFOLD_HEALTH_ADDRESS": address})


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("10.0.0.1:9400", ("10.0.0.1", 9400)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:80", ("localhost", 80)),
        ("off", None),
    ],
)
def test_addresses(address: str, place: tuple[str, int] | None) -> None:
    assert HealthSettings(address=address).place == place


@pytest.mark.parametrize("command", ["fold", "check"])
def test_a_worker_says_in_one_line_what_is_wrong_with_its_address(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("METERFOLD_HEALTH_ADDRESS", f"127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("METERFOLD_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        monkeypatch.setenv("METERFOLD_CLICKHOUSE_URL", "http://127.0.0.1:1")
        assert main.run([command]) == 2
    said = capsys.readouterr().err
    assert "Address already in use" in said
    assert "Traceback" not in said
    monkeypatch.setenv("METERFOLD_HEALTH_ADDRESS", "everywhere")
    assert main.run([command]) == 2
    assert 'health.address): give HOST:PORT such as "0.0.0.0:9400"' in capsys.readouterr().err


def _answers(url: str) -> bool:
    try:
        return probe(url + "/healthz")[0] == 200
    except OSError as error:
        raise AssertionError(str(error)) from error
