"""Syslog: RFC 5424 over TLS (RFC 5425), TCP (RFC 6587, octet counting) or UDP (RFC 5426), as CEF, JSON or text."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from worker.alerts.alert import Digest  # noqa: TC001  the port's signature
from worker.alerts.destinations.base import NOTHING
from worker.alerts.escaping import cef_header, cef_value
from worker.alerts.guard import AddressGuard
from worker.alerts.http import connect, tls_context
from worker.alerts.outcome import Outcome, Result

if TYPE_CHECKING:
    from worker.alerts.alert import Alert
    from worker.alerts.config import Syslog

LARGEST_DATAGRAM = 8_192
PRIORITY = (6, 5, 4, 3, 2)
"""Syslog severity by our severity: informational, notice, warning, error, critical."""
CEF_SEVERITY = (1, 3, 5, 8, 10)
CLOSE_SECONDS = 1.0


class SyslogSender:
    """Sends each message over its own connection. A receiver that closes it without a reset has read the message."""

    def __init__(self, config: Syslog, host_name: str) -> None:
        self._config = config
        self._host = host_name
        self._guard = AddressGuard(allow_private=config.allow_private, networks=config.allowed_networks)

    async def send(self, alert: Alert) -> Result:
        """Send one message."""
        line = syslog_line(alert, self._config, self._host)
        try:
            async with asyncio.timeout(self._config.timeout_s):
                await (self._datagram(line) if self._config.transport == "udp" else self._stream(line))
        except TimeoutError:
            return Result(Outcome.UNAVAILABLE, error=f"no connection within {self._config.timeout_s:g} s")
        except (OSError, ValueError) as error:
            return Result(Outcome.UNAVAILABLE, error=f"no connection: {getattr(error, 'strerror', None) or error}")
        return Result(Outcome.DELIVERED)

    async def send_digest(self, digest: Digest) -> Result:
        """Not called: machines get no digests."""
        del digest
        return NOTHING

    async def close(self) -> None:
        """Do nothing: the connection is closed after each message."""

    async def _datagram(self, line: bytes) -> None:
        opened = await connect(self._config.host, self._config.port, self._guard, socket.SOCK_DGRAM)
        try:
            await asyncio.get_running_loop().sock_sendall(opened, line[:LARGEST_DATAGRAM])
        finally:
            opened.close()

    async def _stream(self, line: bytes) -> None:
        config = self._config
        opened = await connect(config.host, config.port, self._guard)
        tls = tls_context(config.ca_cert) if config.transport == "tls" else None
        name = config.host if tls else None
        try:
            reader, writer = await asyncio.open_connection(sock=opened, ssl=tls, server_hostname=name)
        except BaseException:
            opened.close()
            raise
        try:
            writer.write(b"%d %b" % (len(line), line))
            await writer.drain()
            await _closed_by_peer(reader, writer)
        finally:
            writer.close()


async def _closed_by_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close our side and wait a moment for the receiver. If it resets the connection, the message is sent again.

    Raises:
        OSError: the connection was reset.
    """
    if writer.can_write_eof():
        writer.write_eof()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await reader.read(1)
    except TimeoutError:
        pass


def syslog_line(alert: Alert, config: Syslog, host_name: str) -> bytes:
    """Return the RFC 5424 message of an alert."""
    incident = alert.incident
    priority = config.facility * 8 + PRIORITY[incident.severity]
    moment = datetime.fromtimestamp(incident.detected_at / 1000, UTC).isoformat(timespec="milliseconds")
    content = {"cef": cef, "json": _json, "text": _text}[config.format](alert)
    data = f'[sessionwatch@32473 incident="{incident.uid}" revision="{incident.revision}"]'
    head = f"<{priority}>1 {moment.replace('+00:00', 'Z')} {host_name} sessionwatch - incident {data} "
    return f"{head}{content}".encode("utf-8", "replace")


def cef(alert: Alert) -> str:
    """Return an alert in ArcSight's Common Event Format."""
    incident, message = alert.incident, alert.message
    header = ("sessionwatch", "sessionwatch", "1", incident.leading, message.heading)
    extension = {
        "rt": str(incident.detected_at),
        "start": str(incident.started_at),
        "end": str(incident.last_event_at),
        "externalId": incident.uid,
        "cat": incident.state.value,
        "cnt": str(incident.finding_count),
        "suser": message.user_id,
        "src": next((each.ip for each in reversed(incident.sightings) if each.ip), ""),
        "msg": message.title,
        "cs1Label": "tenant", "cs1": message.tenant_id,
        "cs2Label": "detections", "cs2": ",".join(incident.detections),
        "cs3Label": "message", "cs3": message.id,
        "cn1Label": "risk", "cn1": str(incident.risk_score),
    }  # fmt: skip
    head = "|".join(["CEF:0", *(cef_header(each) for each in header), str(CEF_SEVERITY[incident.severity])])
    return f"{head}|{' '.join(f'{name}={cef_value(value)}' for name, value in extension.items() if value)}"


def _json(alert: Alert) -> str:
    return alert.document.decode("utf-8", "replace")


def _text(alert: Alert) -> str:
    return f"{alert.message.heading}: {alert.message.title}"
