"""Signatures as other verifiers see them, and secrets that show nowhere."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.settings import load_settings
from meterfold_service.notify import signing
from meterfold_service.notify.settings import NotifySettings
from support.receivers import OTHER_SECRET, SECRET

BODY = b'{"type":"threshold.exceeded"}'


def test_the_example_of_the_specification() -> None:
    """Standard Webhooks, "Signature scheme": computed by its reference implementations for these values."""
    secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1_614_265_330, UTC)
    found = dict(signing.headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}'))
    assert found == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-7))])
def test_a_time_of_any_zone_is_the_same_instant(zone: timezone) -> None:
    endpoint = signing.endpoint_secrets([SecretStr(SECRET)], "https://a.example/hook")
    found = dict(signing.headers(endpoint, "id-1", datetime.now(zone), BODY))
    Webhook(endpoint[0].get_secret_value()).verify(BODY, found)


def test_every_secret_signs_while_one_is_rotated() -> None:
    url = "https://a.example/hook"
    new, old = (signing.endpoint_secrets([SecretStr(secret)], url)[0] for secret in (OTHER_SECRET, SECRET))
    both = signing.endpoint_secrets([SecretStr(OTHER_SECRET), SecretStr(SECRET)], url)
    assert both == (new, old)
    found = dict(signing.headers(both, "id-1", datetime.now(UTC), BODY))
    for secret in (new, old):
        Webhook(secret.get_secret_value()).verify(BODY, found)
    found["webhook-signature"] = found["webhook-signature"].split(" ")[0]
    with pytest.raises(WebhookVerificationError):
        Webhook(old.get_secret_value()).verify(BODY, found)


def test_no_endpoint_can_sign_for_another_one() -> None:
    first, second = (
        signing.endpoint_secrets([SecretStr(SECRET)], url)[0] for url in ("https://a.example/", "https://b.example/")
    )
    found = dict(signing.headers([first], "id-1", datetime.now(UTC), BODY))
    with pytest.raises(WebhookVerificationError):
        Webhook(second.get_secret_value()).verify(BODY, found)


def test_new_secrets_are_long_and_different() -> None:
    first, second = signing.new_secret(), signing.new_secret()
    assert first != second
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32
    assert NotifySettings(webhook_secrets=(first,)).webhook_secrets[0].get_secret_value() == first


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="timezone-aware"):
        signing.headers([SecretStr(SECRET)], "id", datetime(2026, 1, 1), BODY)  # noqa: DTZ001


SECRETS = {
    "METERFOLD_NOTIFY_WEBHOOK_SECRETS": f"{SECRET},{OTHER_SECRET}",
    "METERFOLD_NOTIFY_SMTP_PASSWORD": "s3cret-smtp",
    "METERFOLD_NOTIFY_CHAT_URLS": "slack://T0KEN1/B0KEN2/C0KEN3",
}


def test_secrets_do_not_show_in_repr() -> None:
    settings = load_settings(NotifySettings, "notify", environ=SECRETS)
    for text in (repr(settings), str(settings), repr(settings.chat_urls), str(settings.model_dump())):
        for secret in (SECRET, OTHER_SECRET, "s3cret-smtp", "T0KEN1"):
            assert secret not in text
    assert settings.smtp_password.get_secret_value() == "s3cret-smtp"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("webhook_secrets", "whsec_c2hvcnQ=", "24 to 64"),
        ("webhook_secrets", "plain-text-secret-of-enough-length", "whsec_"),
        ("chat_urls", "exec://rm%20T0KEN", "exec is not one of chat_schemes"),
        ("chat_urls", "T0KEN", "not one of chat_schemes"),
        ("operator_emails", "ops", "operator_emails"),
        ("operator_emails", "ops@example.com\nBcc: x@example.com", "operator_emails"),
        ("allowed_networks", "10.0.0.0/33", "allowed_networks"),
        ("webhook_timeout_seconds", "0", "webhook_timeout_seconds"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it_and_hides_its_value(name: str, value: str, says: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(NotifySettings, "notify", environ={f"METERFOLD_NOTIFY_{name.upper()}": value})
    text = str(caught.value)
    assert says in text
    assert "\n" not in text
    assert not any(secret in text for secret in ("c2hvcnQ=", "plain-text", "T0KEN", "rm%20"))
