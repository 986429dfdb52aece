"""E-mail over SMTP, as plain text and HTML."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING

import aiosmtplib

from worker.alerts.escaping import html, mail_header
from worker.alerts.guard import AddressGuard
from worker.alerts.http import connect, tls_context
from worker.alerts.outcome import Outcome, Result
from worker.alerts.rendering import render

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.alerts.alert import Alert, Digest
    from worker.alerts.config import Email

logging.getLogger("aiosmtplib").setLevel(logging.WARNING)
DOMAIN = "sessionwatch.invalid"
LONGEST_SUBJECT = 200


class EmailSender:
    """Sends each mail over its own connection."""

    def __init__(self, config: Email, clock: Callable[[], int], template: str | None) -> None:
        self._config = config
        self._clock = clock
        self._template = template
        self._guard = AddressGuard(allow_private=config.allow_private, networks=config.allowed_networks)

    async def send(self, alert: Alert) -> Result:
        """Send one mail to all recipients."""
        return await self._attempt(self._addressed(mail(alert, self._template), alert.now))

    async def send_digest(self, digest: Digest) -> Result:
        """Send a digest to all recipients."""
        return await self._attempt(self._addressed(digest_mail(digest), self._clock()))

    async def close(self) -> None:
        """Do nothing: the connection is closed after each mail."""

    def _addressed(self, made: EmailMessage, now: int) -> EmailMessage:
        made["From"], made["To"] = self._config.sender, ", ".join(self._config.to)
        made["Date"] = format_datetime(datetime.fromtimestamp(now / 1000, UTC))
        return made

    async def _attempt(self, made: EmailMessage) -> Result:
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return await self._transmit(made)
        except TimeoutError:
            return Result(Outcome.UNAVAILABLE, error=f"no answer within {self._config.timeout_s:g} s")
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _refused(max(each.code for each in error.recipients), "all recipients were refused")
        except aiosmtplib.SMTPAuthenticationError as error:
            return Result(Outcome.UNAVAILABLE, error.code, "the server did not accept the user and password")
        except aiosmtplib.SMTPResponseException as error:
            return _refused(error.code, "the server refused the mail")
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return Result(Outcome.UNAVAILABLE, error=f"no connection: {getattr(error, 'strerror', None) or error}")

    async def _transmit(self, made: EmailMessage) -> Result:
        config = self._config
        opened = await connect(config.host, config.port, self._guard)
        password = config.password.get_secret_value() if config.password else None
        client = aiosmtplib.SMTP(
            hostname=config.host,
            port=None,
            sock=opened,
            use_tls=config.tls == "tls",
            start_tls=config.tls == "starttls",
            tls_context=tls_context(config.ca_cert) if config.tls != "none" else None,
            username=config.username,
            password=password,
            timeout=config.timeout_s,
        )
        try:
            async with client:
                refused, _ = await client.send_message(made)
        finally:
            opened.close()
        note = f"{len(refused)} of {len(config.to)} recipients were refused" if refused else ""
        return Result(Outcome.DELIVERED, 250, note)


def mail(alert: Alert, template: str | None = None) -> EmailMessage:
    """Return the mail of an alert, without sender and recipients. Mails about one incident form a thread."""
    message = alert.message
    subject = f"[{message.severity}] {'Resolved: ' if message.is_resolved else ''}{message.title}"
    made = _mail(subject, alert.id)
    made["In-Reply-To"] = made["References"] = f"<{message.incident_uid}@{DOMAIN}>"
    made.set_content(render("text", "mail.txt.j2", message).text)
    made.add_alternative(render("html", "mail.html.j2", message, template).text, subtype="html")
    return made


def digest_mail(digest: Digest) -> EmailMessage:
    """Return the mail of a digest, without sender and recipients."""
    made = _mail(digest.heading, digest.id)
    lines = [f"{each.heading}: {each.title}" for each in digest.messages]
    made.set_content(
        "\n".join(filter(None, [digest.heading, "", *(f"- {each}" for each in lines), digest.more, digest.link]))
    )
    items = "".join(f"<li>{html(each)}</li>" for each in lines)
    link = f'<p><a href="{html(digest.link)}">All of them in Grafana</a></p>' if digest.link else ""
    made.add_alternative(
        f'<!doctype html><html lang="en"><head><meta name="color-scheme" content="light dark"></head>'
        f"<body><h1>{html(digest.heading)}</h1><ul>{items}</ul><p>{html(digest.more)}</p>{link}</body></html>",
        subtype="html",
    )
    return made


def _mail(subject: str, uid: str) -> EmailMessage:
    made = EmailMessage()
    made["Subject"] = mail_header(subject)[:LONGEST_SUBJECT]
    made["Message-ID"] = f"<{uid}@{DOMAIN}>"
    made["Auto-Submitted"] = "auto-generated"
    return made


def _refused(code: int, what: str) -> Result:
    """Return the result of an SMTP reply: 4xx is temporary, 5xx a rejection of this mail."""
    outcome = Outcome.REFUSED if code >= 500 else Outcome.UNAVAILABLE
    return Result(outcome, code, f"{what} (SMTP {code})")
