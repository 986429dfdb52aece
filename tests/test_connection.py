"""How Kafka is reached: what aiokafka is given, and a real broker that asks for TLS and a password."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from brokers import ApacheKafka, missing
from pydantic import SecretStr, ValidationError

from worker.stream.connection import KafkaSettings, aiokafka_options
from worker.stream.topics import TopicSettings, check, create, specs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "correct horse"  # noqa: S105  a broker of these tests only
SECURED = f"""
listeners=SASL_SSL://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}}
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  username="admin" password="admin" user_admin="admin" user_alice="{PASSWORD}";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PKCS12
ssl.keystore.location=KEYSTORE
ssl.keystore.password={PASSWORD}
ssl.truststore.type=PEM
ssl.truststore.location=CERTIFICATE
"""
USERS = tuple(
    argument
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
    for argument in ("--add-scram", f'{mechanism}=[name="alice",password="{PASSWORD}"]')
)


def keytool(*arguments: str) -> None:
    path = shutil.which("keytool")
    assert path is not None
    subprocess.run([path, *arguments, "-storepass", PASSWORD], check=True, capture_output=True)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    if reason := missing():
        assert not os.environ.get("CI_REQUIRE_KAFKA"), reason
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("secured")
    store, certificate = directory / "broker.p12", directory / "broker.pem"
    key = ("-keyalg", "EC", "-groupname", "secp256r1", "-dname", "CN=broker", "-ext", "SAN=ip:127.0.0.1")
    keytool("-genkeypair", "-alias", "broker", *key, "-keystore", str(store), "-storetype", "PKCS12")
    keytool("-exportcert", "-rfc", "-alias", "broker", "-keystore", str(store), "-file", str(certificate))
    more = SECURED.replace("KEYSTORE", str(store)).replace("CERTIFICATE", str(certificate))
    with ApacheKafka(directory / "kafka", more, USERS) as broker:
        yield KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers,
            security_protocol="SASL_SSL",
            sasl_username="alice",
            sasl_password=SecretStr(PASSWORD),
            ssl_cafile=certificate,
            request_timeout_ms=5_000,
        )


@pytest.mark.kafka
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_secured_broker_is_reached_by_every_kind_of_client(secured: KafkaSettings, mechanism: Any) -> None:
    options = aiokafka_options(secured.model_copy(update={"sasl_mechanism": mechanism}))
    wanted = specs(TopicSettings(), "group")
    tp = TopicPartition(wanted[0].name, 0)

    async def round_trip() -> bytes | None:
        await create(options, wanted)
        assert await check(options, wanted) == []
        async with AIOKafkaProducer(**options) as producer:
            sent = await producer.send_and_wait(tp.topic, mechanism.encode(), partition=0)
        async with AIOKafkaConsumer(**options) as consumer:
            consumer.assign([tp])
            consumer.seek(tp, sent.offset)
            record = await asyncio.wait_for(consumer.getone(), 10)
        value: bytes | None = record.value
        return value

    assert asyncio.run(round_trip()) == mechanism.encode()


@pytest.mark.kafka
@pytest.mark.parametrize(
    "wrong", [{"sasl_password": SecretStr("wrong")}, {"ssl_cafile": None}, {"security_protocol": "PLAINTEXT"}]
)
def test_a_secured_broker_refuses_who_is_wrong(secured: KafkaSettings, wrong: dict[str, Any]) -> None:
    options = aiokafka_options(secured.model_copy(update={**wrong, "request_timeout_ms": 2_000}))
    with pytest.raises(KafkaError) as refused:
        asyncio.run(check(options, specs(TopicSettings(), "group")))
    assert PASSWORD not in str(refused.value)


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
    with pytest.raises(OSError, match="No such file"):
        aiokafka_options(KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "none.pem"))


def test_secrets_do_not_show() -> None:
    settings = KafkaSettings(
        security_protocol="SASL_SSL",
        sasl_username="u",
        sasl_password=SecretStr("hush-1"),
        ssl_password=SecretStr("hush-2"),
    )
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "hush" not in shown
