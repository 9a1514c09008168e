"""Which of ClickHouse's failures are retried, and what the others say."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from urllib3.exceptions import ReadTimeoutError

from meterfold_schemas.errors import Fatal, Retryable
from meterfold_sink.errors import code_of, mapped, translated


def server_error(code: int, text: str = "something") -> DatabaseError:
    message = f"Received ClickHouse exception, code: {code}, server response: Code: {code}. DB::Exception: {text}"
    return DatabaseError(f"{message} (version 26.9.2.1 (official build)) (for url http://host:8123)", code=code)


@pytest.mark.parametrize("code", [159, 202, 209, 210, 236, 241, 242, 243, 252, 285, 286, 319, 999, 49, 12345])
def test_passing_trouble_is_retried(code: int) -> None:
    error = translated(server_error(code), "inserting into usage_records")
    assert type(error) is Retryable
    assert "inserting into usage_records" in str(error)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (16, "meterfold migrate"),
        (47, "meterfold migrate"),
        (60, "meterfold migrate"),
        (81, "meterfold migrate"),
        (115, "please report it"),
        (164, "right to write"),
        (193, "username and password"),
        (497, "rights"),
        (516, "username and password"),
    ],
)
def test_what_trying_again_cannot_change_stops(code: int, advice: str) -> None:
    error = translated(server_error(code), "reading")
    assert type(error) is Fatal
    assert advice in str(error)


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("Error HTTPConnectionPool: Connection refused executing HTTP request attempt 1"),
        DatabaseError("HTTP driver received HTTP status 502, server response: Bad Gateway"),
        DatabaseError("HTTP driver received HTTP status 503"),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError("timed out"),
        ReadTimeoutError(None, None, "Read timed out."),  # type: ignore[arg-type]
    ],
)
def test_an_unreachable_server_is_retried(error: Exception) -> None:
    with pytest.raises(Retryable, match="could not be reached"), mapped("reading"):
        raise error


def test_a_url_that_is_no_clickhouse_stops() -> None:
    error = translated(DatabaseError("HTTP driver received HTTP status 404, server response: Not Found"), "connecting")
    assert isinstance(error, Fatal)
    assert "check it" in str(error)


def test_the_message_is_the_servers_own_words_on_one_line() -> None:
    error = translated(server_error(60, "Unknown table\n  'x'. (UNKNOWN_TABLE)"), "reading `SELECT 1`")
    assert str(error).startswith(
        "ClickHouse refused reading `SELECT 1`: Code: 60. Unknown table 'x'. (UNKNOWN_TABLE) - what to do: run"
    )


def test_a_long_message_is_cut() -> None:
    assert len(str(translated(server_error(241, "x" * 10_000), "reading"))) < 800


def test_the_code_stays_readable() -> None:
    with pytest.raises(Fatal) as caught, mapped("reading"):
        raise server_error(60)
    assert code_of(caught.value) == 60
    assert code_of(Fatal("of our own")) is None


def test_our_own_errors_and_defects_pass_through() -> None:
    with pytest.raises(Fatal, match="ours"), mapped("reading"):
        raise Fatal("ours")
    with pytest.raises(ZeroDivisionError), mapped("reading"):
        raise ZeroDivisionError
