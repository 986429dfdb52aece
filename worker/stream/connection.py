"""Connection options of aiokafka clients, and why a broker refuses a connection."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from worker.settings import KafkaSettings

ALERT_SECONDS = 1.0
PROBE_SECONDS = 5.0
"""Bound of each probe of a broker that cannot be reached."""
TLS_RECORDS = (b"\x15", b"\x16")
"""First bytes of an alert and of a handshake."""
NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING", "UNKNOWN_PROTOCOL")
SPEAKS_TLS = "it speaks TLS, and kafka.security_protocol is {protocol}: set {wanted}"
CLOSED = "it closed the connection during the TLS handshake; if it does not speak TLS, set {wanted}"
SPEAKS_PLAIN = "it does not speak TLS, and kafka.security_protocol is {protocol}: set {wanted}"


class TlsFileError(Exception):
    """A certificate or key file cannot be used; the message says which, why, and which setting names it."""


def aiokafka_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the keyword arguments every aiokafka client takes.

    Raises:
        TlsFileError: a certificate or key file cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.client_id,
        "request_timeout_ms": settings.request_timeout_ms,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL") and settings.sasl_password:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return options


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    with _naming("kafka.ssl_cafile", settings.ssl_cafile):
        context = ssl.create_default_context(cafile=settings.ssl_cafile and str(settings.ssl_cafile))
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_certfile:
        password = settings.ssl_password.get_secret_value() if settings.ssl_password else ""
        with _naming("kafka.ssl_certfile, kafka.ssl_keyfile and kafka.ssl_password", settings.ssl_certfile):
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, lambda: password)
    return context


@contextmanager
def _naming(setting: str, path: Path | None) -> Iterator[None]:
    """Give an error of OpenSSL the settings that name the file."""
    try:
        yield
    except ssl.SSLError as error:
        why = (error.reason or "it cannot be read").replace("_", " ").lower()
        raise TlsFileError(f"{path}: no certificate or key that can be used ({why}); check {setting}") from error
    except OSError as error:
        raise TlsFileError(f"{path}: {os.strerror(error.errno or 0).lower()}; check {setting}") from error


@asynccontextmanager
async def explained(options: Mapping[str, Any]) -> AsyncIterator[None]:
    """Give a connection error the reason of each broker, and what to do; aiokafka says only that none can be reached.

    Args:
        options: from `aiokafka_options`.

    Raises:
        KafkaConnectionError: one was raised in the context.
    """
    try:
        yield
    except KafkaConnectionError as error:
        why = await refusals(options)
        raise KafkaConnectionError(f"cannot reach Kafka: {why}; check kafka.bootstrap_servers") from error


async def refusals(options: Mapping[str, Any]) -> str:
    """Return, for each bootstrap broker, why it cannot be reached.

    Args:
        options: from `aiokafka_options`.
    """
    given = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    hosts = collect_hosts(options["bootstrap_servers"], randomize=False)
    return "; ".join([f"{host}:{port}: {await _refusal(host, port, given)}" for host, port, _ in hosts])


async def _refusal(host: str, port: int, options: Mapping[str, Any]) -> str:
    protocol = options.get("security_protocol", "PLAINTEXT")
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            if context := options.get("ssl_context"):
                await _shake_hands(host, port, context)
            elif await _speaks_tls(host, port):
                return SPEAKS_TLS.format(protocol=protocol, wanted=protocol.replace("PLAINTEXT", "SSL"))
            connection = await create_conn(host, port, **options)
    except ssl.SSLError as error:
        return _tls_words(error, protocol)
    except (OSError, KafkaError) as error:
        tls = isinstance(error, ConnectionError) and "ssl_context" in options and not error.errno
        return CLOSED.format(wanted=protocol.replace("SSL", "PLAINTEXT")) if tls else _words(error)
    connection.close()
    return "it answers, but returned no cluster metadata"


def _tls_words(error: ssl.SSLError, protocol: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was rejected: {error.verify_message}"
    if error.reason in NOT_TLS:
        return SPEAKS_PLAIN.format(protocol=protocol, wanted=protocol.replace("SSL", "PLAINTEXT"))
    return f"TLS failed: {str(error.reason or error).replace('_', ' ').lower()}"


def _words(error: Exception) -> str:
    """Return the text of a connection error, without the addresses and codes that Python adds."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno:
        return (os.strerror(error.errno) if error.errno > 0 else str(error.strerror)).lower()
    return str(error).removeprefix(f"{type(error).__name__}: ") or "it closed the connection"


async def _speaks_tls(host: str, port: int) -> bool:
    """Return whether a port answers the start of a TLS handshake with a TLS record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="broker")
    with suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(outgoing.read())
        async with asyncio.timeout(ALERT_SECONDS):
            return (await reader.read(1)) in TLS_RECORDS
    except (TimeoutError, OSError):
        return False
    finally:
        writer.close()


async def _shake_hands(host: str, port: int, context: ssl.SSLContext) -> None:
    """Open a connection and wait for the alert with which TLS 1.3 refuses a client certificate after the handshake.

    Raises:
        OSError: the connection cannot be opened, or an alert came.
    """
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        async with asyncio.timeout(ALERT_SECONDS):
            await reader.read(1)
    except TimeoutError:
        pass
    finally:
        writer.close()
