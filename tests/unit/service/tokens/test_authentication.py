"""Who a token is: from memory for a moment, under every key of the settings, and nothing about an unknown one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pydantic import SecretStr

from meterfold_schemas.errors import Retryable
from meterfold_service.access.errors import InvalidToken
from meterfold_service.http.settings import HttpSettings
from meterfold_service.tokens.authentication import FRESH_SECONDS, STALE_SECONDS, Authentication
from meterfold_service.tokens.operations import Tokens
from meterfold_service.tokens.secrets import TokenText, digest
from meterfold_sink.api_tokens import StoredToken
from meterfold_sink.pool import ClientPool

NOW = datetime(2026, 11, 29, tzinfo=UTC)
OLD, NEW = "o" * 32, "n" * 32


class Stored(Tokens):
    """Tokens whose rows are here; it counts how often one is looked up."""

    def __init__(self, key: str) -> None:
        settings = HttpSettings(token_key=SecretStr(key))
        super().__init__(cast("ClientPool", None), lambda: settings.token_keys, lambda: NOW)
        self.rows: dict[str, StoredToken] = {}
        self.looked = 0
        self.away = False

    def find(self, token_id: str) -> StoredToken | None:
        self.looked += 1
        if self.away:
            raise Retryable("away")
        return self.rows.get(token_id)

    def add(self, key: str, **more: Any) -> TokenText:
        text = TokenText.new()
        values: dict[str, Any] = {"id": text.id, "version": 1, "name": "t", "scopes": ("read",), "org_id": "acme"}
        values |= {"subject_type": None, "subject_id": None, "created_at": NOW, "expires_at": None, "revoked_at": None}
        self.rows[text.id] = StoredToken(**{**values, "digest": digest(text.secret, SecretStr(key)), **more})
        return text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(tokens: Tokens, clock: Clock) -> Authentication:
    return Authentication(tokens, lambda: NOW, clock)


def test_a_token_of_an_earlier_key_stays_valid_while_the_key_is_named() -> None:
    both, only_new = Stored(f"{NEW},{OLD}"), Stored(NEW)
    for tokens in (both, only_new):
        clock = Clock()
        authentication = made(tokens, clock)
        assert authentication.principal(tokens.add(NEW).text).org_id == "acme"
    assert made(both, Clock()).principal(both.add(OLD).text).name == "t"
    with pytest.raises(InvalidToken):
        made(only_new, Clock()).principal(only_new.add(OLD).text)
    with pytest.raises(ValueError, match="32 or more"):
        HttpSettings(token_key=SecretStr(f"{NEW},short"))
    assert NEW not in repr(HttpSettings(token_key=SecretStr(NEW)))


def test_a_token_is_remembered_for_a_moment_and_longer_while_clickhouse_is_away() -> None:
    tokens, clock = Stored(NEW), Clock()
    authentication = made(tokens, clock)
    text = tokens.add(NEW).text
    assert authentication.remembered(text) is None
    authentication.principal(text)
    assert authentication.remembered(text) == authentication.principal(text)
    assert tokens.looked == 1
    clock.now = FRESH_SECONDS
    assert authentication.remembered(text) is None
    tokens.away = True
    assert authentication.principal(text).name == "t"
    clock.now = STALE_SECONDS + 1
    with pytest.raises(Retryable):
        authentication.principal(text)


def test_a_secret_is_checked_each_time_and_what_is_unknown_is_not_remembered() -> None:
    tokens = Stored(NEW)
    authentication = made(tokens, Clock())
    good = tokens.add(NEW)
    authentication.principal(good.text)
    forged = TokenText(good.id, TokenText.new().secret).text
    for ask in (authentication.remembered, authentication.principal):
        with pytest.raises(InvalidToken):
            ask(forged)
        with pytest.raises(InvalidToken):
            ask("secret")
    unknown = TokenText.new().text
    for _ in range(2):
        with pytest.raises(InvalidToken):
            authentication.principal(unknown)
    assert tokens.looked == 3
    expired = tokens.add(NEW, expires_at=NOW).text
    revoked = tokens.add(NEW, revoked_at=NOW - timedelta(days=1)).text
    for text in (expired, revoked):
        with pytest.raises(InvalidToken):
            authentication.principal(text)
