"""Kafka and the store behind TLS: a broker that asks for a password or a certificate, and a listener before HTTP."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest
from pydantic import SecretStr

from tests.support.brokers import ApacheKafka, free_port, missing
from tests.support.certificates import certificates
from worker.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.store_fixtures import Store

PASSWORD = "correct horse"  # noqa: S105  a broker of these tests only
# One broker, four listeners: users with passwords, certificates of clients, a name that is not the host's, plain text.
SECURED = """
listeners=SASL_SSL://127.0.0.1:{port},MUTUAL://127.0.0.1:MUTUAL_PORT,OTHER://127.0.0.1:OTHER_PORT,\
CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=SASL_SSL:SASL_SSL,MUTUAL:SSL,OTHER:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  username="admin" password="admin" user_admin="admin" user_alice="PASSWORD";
listener.name.other.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_alice="PASSWORD";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.other.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.other.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=DIRECTORY/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=DIRECTORY/ca.pem
listener.name.mutual.ssl.client.auth=required
listener.name.other.ssl.keystore.type=PEM
listener.name.other.ssl.keystore.location=DIRECTORY/other.pem
"""
USERS = tuple(
    argument
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
    for argument in ("--add-scram", f'{mechanism}=[name="alice",password="{PASSWORD}"]')
)


class Secured(NamedTuple):
    """A broker that asks for TLS, and what opens its doors."""

    passwords: KafkaSettings
    certificates: KafkaSettings
    misnamed: KafkaSettings
    strange_ca: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if reason := missing():
        assert not os.environ.get("CI_REQUIRE_KAFKA"), reason
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("secured")
    certificates(directory)
    mutual, other = free_port(), free_port()
    more = SECURED.replace("MUTUAL_PORT", str(mutual)).replace("OTHER_PORT", str(other))
    more = more.replace("DIRECTORY", str(directory)).replace("PASSWORD", PASSWORD)
    with ApacheKafka(directory / "kafka", more, USERS) as broker:
        passwords = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers,
            security_protocol="SASL_SSL",
            sasl_username="alice",
            sasl_password=SecretStr(PASSWORD),
            ssl_cafile=directory / "ca.pem",
            request_timeout_ms=5_000,
        )
        by_certificate = KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{mutual}",
            security_protocol="SSL",
            ssl_cafile=directory / "ca.pem",
            ssl_certfile=directory / "client.pem",
            ssl_keyfile=directory / "client.key",
            request_timeout_ms=5_000,
        )
        misnamed = passwords.model_copy(update={"bootstrap_servers": f"127.0.0.1:{other}"})
        yield Secured(passwords, by_certificate, misnamed, directory / "strange-ca.pem")


class TlsListener:
    """Takes TLS connections on loopback and hands what they carry to a port."""

    def __init__(self, context: ssl.SSLContext, port: int, token: str) -> None:
        self._context = context
        self._target = port
        self._key = f"X-ClickHouse-Key: {token}\r\n".encode()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with suppress(OSError), closing(raw):
            inside = self._context.wrap_socket(raw, server_side=True)
            with closing(inside), closing(socket.create_connection(("127.0.0.1", self._target))) as outside:
                back = threading.Thread(target=_pump, args=(outside, inside), daemon=True)
                back.start()
                _pump(inside, outside, self._key)
                back.join()


def _pump(source: socket.socket, sink: socket.socket, key: bytes = b"") -> None:
    """Pass on what comes. Who shows a certificate sends no password: the one behind asks for a token instead."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data.replace(b"X-ClickHouse-SSL-Certificate-Auth: on\r\n", key) if key else data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def listener(pems: Path, store: Store, server: str = "broker", *, mutual: bool = False) -> TlsListener:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pems / f"{server}.pem")
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(pems / "ca.pem")
    return TlsListener(context, store.address.port, store.address.writer)
