"""Connection options of aiokafka clients, and why a broker refuses a connection."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.settings import KafkaSettings

ALERT_SECONDS = 1.0


def aiokafka_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the keyword arguments every aiokafka client takes.

    Raises:
        OSError: a certificate or key file cannot be read.
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
    context = ssl.create_default_context(cafile=settings.ssl_cafile and str(settings.ssl_cafile))
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_certfile:
        password = settings.ssl_password.get_secret_value() if settings.ssl_password else None
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password)
    return context


async def refusals(options: Mapping[str, Any]) -> str:
    """Return, for each bootstrap broker, why it cannot be reached; aiokafka says only that none can.

    Args:
        options: from `aiokafka_options`.
    """
    given = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    hosts = collect_hosts(options["bootstrap_servers"], randomize=False)
    return "; ".join([f"{host}:{port}: {await _refusal(host, port, given)}" for host, port, _ in hosts])


async def _refusal(host: str, port: int, options: Mapping[str, Any]) -> str:
    try:
        if context := options.get("ssl_context"):
            await _shake_hands(host, port, context)
        connection = await create_conn(host, port, **options)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate was rejected: {error.verify_message}"
    except (OSError, KafkaError, TimeoutError) as error:
        return str(error) or type(error).__name__
    connection.close()
    return "it answers, but returned no cluster metadata"


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
