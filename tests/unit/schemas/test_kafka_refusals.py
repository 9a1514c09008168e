"""The errors that a retry cannot mend are named as the Kafka client names them, and used by all who look at them."""

from __future__ import annotations

from confluent_kafka import KafkaError

from meterfold.trouble import Trouble
from meterfold_processor.kafka.errors import Heard
from meterfold_schemas.kafka_refusals import REFUSALS
from meterfold_schemas.settings import KafkaSettings


def test_every_name_is_one_of_the_client() -> None:
    assert {name: KafkaError(getattr(KafkaError, name)).name() for name in REFUSALS} == {
        name: name for name in REFUSALS
    }


def test_the_sdk_and_the_admin_client_hear_the_same_refusals() -> None:
    for name in (*sorted(REFUSALS), "_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE"):
        error = KafkaError(getattr(KafkaError, name), f"refused: {name}")
        heard, trouble = Heard(KafkaSettings(bootstrap_servers="k:1")), Trouble()
        heard(error)
        trouble.heard(error)
        assert (heard.refusal is error) is (name in REFUSALS), name
        trouble.heard(KafkaError(KafkaError._TRANSPORT, "connection refused"))
        # What refuses the client is not replaced by what follows it.
        assert (trouble.current == f"refused: {name}") is (name in REFUSALS), name


def test_the_first_refusal_is_kept() -> None:
    heard = Heard(KafkaSettings(bootstrap_servers="k:1"))
    first = KafkaError(KafkaError._SSL, "no certificate")
    heard(first)
    heard(KafkaError(KafkaError._AUTHENTICATION, "later"))
    assert heard.refusal is first
