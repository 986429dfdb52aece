"""How Kafka is reached: what aiokafka is given, and a real broker that asks for TLS and a password."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import SecretStr, ValidationError

from tests.support.secured import PASSWORD
from worker.cli import run
from worker.settings import KafkaSettings, TopicSettings
from worker.stream.connection import TlsFileError, aiokafka_options
from worker.stream.topics import check, create, specs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.secured import Secured


async def round_trip(settings: KafkaSettings) -> bytes | None:
    """Make and check the topics, produce and consume, as the worker and the commands do."""
    options, wanted = aiokafka_options(settings), specs(TopicSettings(), "group")
    tp = TopicPartition(wanted[0].name, 0)
    await create(options, wanted)
    assert await check(options, wanted) == []
    async with AIOKafkaProducer(**options) as producer:
        sent = await producer.send_and_wait(tp.topic, settings.sasl_mechanism.encode(), partition=0)
    async with AIOKafkaConsumer(**options) as consumer:
        consumer.assign([tp])
        consumer.seek(tp, sent.offset)
        record = await asyncio.wait_for(consumer.getone(), 10)
    value: bytes | None = record.value
    return value


@pytest.mark.kafka
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_password_opens_to_every_kind_of_client(secured: Secured, mechanism: Any) -> None:
    settings = secured.passwords.model_copy(update={"sasl_mechanism": mechanism})
    assert asyncio.run(round_trip(settings)) == mechanism.encode()


@pytest.mark.kafka
def test_a_certificate_opens_to_every_kind_of_client(secured: Secured) -> None:
    assert asyncio.run(round_trip(secured.certificates))


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("door", "wrong", "why"),
    [
        ("passwords", {"sasl_password": SecretStr("wrong")}, "uthentication failed"),
        ("passwords", {"sasl_mechanism": "PLAIN", "sasl_password": SecretStr("wrong")}, "uthentication failed"),
        ("passwords", {"ssl_cafile": None}, "certificate was rejected: unable to get local issuer certificate"),
        (
            "passwords",
            {"ssl_cafile": "strange"},
            "certificate was rejected: unable to get local issuer certificate",
        ),
        ("passwords", {"security_protocol": "PLAINTEXT"}, ""),
        ("misnamed", {}, "certificate was rejected: IP address mismatch"),
        ("certificates", {"ssl_certfile": None, "ssl_keyfile": None}, "TLS failed"),
        ("certificates", {"ssl_cafile": "strange"}, "certificate was rejected: unable to get local issuer"),
    ],
)
def test_who_is_wrong_is_refused_with_the_reason(
    secured: Secured, door: str, wrong: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    if wrong.get("ssl_cafile") == "strange":
        wrong = {"ssl_cafile": secured.strange_ca}
    settings = getattr(secured, door).model_copy(update={**wrong, "request_timeout_ms": 3_000})
    monkeypatch.chdir(tmp_path)
    for name, value in settings.model_dump(exclude_none=True).items():
        shown = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        monkeypatch.setenv(f"SESSIONWATCH_KAFKA__{name.upper()}", shown)
    for command in (["topics", "check"], ["doctor"]):
        assert run(command) == 3, command
        out, err = capsys.readouterr()
        assert why in out + err
        assert "Traceback" not in err
        assert PASSWORD not in out + err


def test_plain_text_needs_no_more_than_an_address() -> None:
    assert aiokafka_options(KafkaSettings(bootstrap_servers="a:1,b:2")) == {
        "bootstrap_servers": "a:1,b:2",
        "client_id": "sessionwatch",
        "request_timeout_ms": 40_000,
        "security_protocol": "PLAINTEXT",
    }


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("given", [{}, {"sasl_username": "u"}, {"sasl_password": "p"}])
def test_sasl_without_user_or_password_is_refused(protocol: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="SASL needs"):
        KafkaSettings(security_protocol=protocol, **given)


def test_tls_checks_certificates_and_names_unless_told_otherwise() -> None:
    context = aiokafka_options(KafkaSettings(security_protocol="SSL"))["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    loose = KafkaSettings(security_protocol="SSL", ssl_check_hostname=False)
    context = aiokafka_options(loose)["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_a_missing_certificate_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate", "utf-8")
    for name, said in (("none.pem", "no such file"), ("text.pem", "no certificate or key that can be used")):
        with pytest.raises(TlsFileError, match=f"{name}: {said}.*; check kafka.ssl_cafile"):
            aiokafka_options(KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / name))


def test_secrets_do_not_show() -> None:
    settings = KafkaSettings(
        security_protocol="SASL_SSL",
        sasl_username="u",
        sasl_password=SecretStr("hush-1"),
        ssl_password=SecretStr("hush-2"),
    )
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "hush" not in shown
