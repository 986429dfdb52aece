"""Any service that Apprise supports; needs the extra `apprise`."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from worker.alerts.outcome import Outcome, Result
from worker.alerts.rendering import plain_text, render

if TYPE_CHECKING:
    from worker.alerts.alert import Alert, Digest
    from worker.alerts.config import Apprise


class AppriseSender:
    """Notifies through one Apprise URL. Apprise opens its own connections, which may also go to private addresses.

    Raises:
        ModuleNotFoundError: the extra is not installed.
        ValueError: Apprise does not support the URL.
    """

    def __init__(self, config: Apprise, template: str | None) -> None:
        from apprise import Apprise as Library  # noqa: PLC0415  an optional extra

        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        self._library = Library()
        self._timeout = config.timeout_s
        self._template = template
        if not self._library.add(config.url.get_secret_value()):
            raise ValueError("url: Apprise knows no such service")

    async def send(self, alert: Alert) -> Result:
        """Send one alert."""
        message = alert.message
        text = plain_text(message) if self._template is None else render("text", "", message, self._template).text
        kind = "success" if message.is_resolved else "failure" if message.severity == "critical" else "warning"
        return await self._notify(f"{message.heading}: {message.title}", text, kind)

    async def send_digest(self, digest: Digest) -> Result:
        """Send a digest."""
        lines = [f"{each.heading}: {each.title}" for each in digest.messages]
        return await self._notify(digest.heading, "\n".join([*lines, digest.more, digest.link]).strip(), "warning")

    async def close(self) -> None:
        """Do nothing: Apprise keeps no connection open."""

    async def _notify(self, title: str, body: str, kind: str) -> Result:
        try:
            async with asyncio.timeout(self._timeout):
                done = await self._library.async_notify(
                    body=body, title=title[:200], notify_type=kind, body_format="text"
                )
        except TimeoutError:
            return Result(Outcome.UNAVAILABLE, error=f"no answer within {self._timeout:g} s")
        except Exception as error:  # noqa: BLE001  a hundred services raise what they like; their words may hold secrets
            return Result(Outcome.UNAVAILABLE, error=f"Apprise failed: {type(error).__name__}")
        return Result(Outcome.DELIVERED) if done else Result(Outcome.UNAVAILABLE, error="the service did not take it")
