"""Messages for Slack incoming webhooks, in Block Kit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.text import truncate
from worker.alerts.escaping import slack, unaddressed
from worker.alerts.message import commands
from worker.alerts.rendering import change_text, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.alerts.alert import Digest
    from worker.alerts.message import AlertMessage, Link

SECTION, FIELD, HEADER, BUTTON_URL = 3_000, 2_000, 150, 3_000
"""Maximum number of characters that Block Kit allows in a section, a field of it, a header and a button's URL."""
LOOKS_LIKE_BACKTICK = "\u02cb"
"""Replaces a backtick, which would end the code. A quotation mark would end a quoted argument of a shell command."""
MARKS = {"critical": ":red_circle:", "high": ":large_orange_circle:", "medium": ":large_yellow_circle:"}


def payload(message: AlertMessage, template: str | None = None) -> dict[str, Any]:
    """Return the JSON of a message."""
    blocks = list(_blocks(message)) if template is None else _own(message, template)
    return _envelope(f"{slack(message.heading)}: {slack(message.title)}", blocks)


def digest_payload(digest: Digest) -> dict[str, Any]:
    """Return the JSON of a digest."""
    lines = [f"• {MARKS.get(each.severity, '')} {slack(each.heading)}: {slack(each.title)}" for each in digest.messages]
    blocks = [_header(digest.heading), _section("\n".join([*lines, digest.more]).strip())]
    if digest.link:
        blocks.append(_section(f"<{digest.link}|All of them in Grafana>"))
    return _envelope(slack(digest.heading), blocks)


def _envelope(text: str, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"text": truncate(text, SECTION), "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def _own(message: AlertMessage, template: str) -> list[dict[str, Any]]:
    text = render("slack", "", message, template).text
    return [_section(text[start : start + SECTION]) for start in range(0, min(len(text), 10 * SECTION), SECTION)]


def _blocks(message: AlertMessage) -> Iterable[dict[str, Any]]:
    mark = ":white_check_mark:" if message.is_resolved else MARKS.get(message.severity, ":white_circle:")
    yield _header(message.heading)
    yield _section(f"{mark} *{slack(message.title)}*")
    if message.facts:
        yield {"type": "section", "fields": [_field(label, value) for label, value in message.facts[:10]]}
    if message.changes:
        yield _list("What changed", [change_text(each) for each in message.changes])
    if message.findings:
        yield _list("What was found", message.findings)
    if message.steps:
        yield _list("What to do", [f"{number}. {step}" for number, step in enumerate(message.steps, 1)], bullet="")
    if message.notes:
        yield _context(" ".join(map(slack, message.notes)))
    if buttons := [_button(link) for link in message.links if len(link.url) <= BUTTON_URL]:
        yield {"type": "actions", "elements": buttons}
    asked = [f"{question} `{_code(command)}`" for question, command in commands(message)]
    yield _context("\n".join([*asked, f"Incident {slack(message.id)}"]))


def _header(text: str) -> dict[str, Any]:
    return {"type": "header", "text": {"type": "plain_text", "text": truncate(text, HEADER), "emoji": False}}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": truncate(text, SECTION), "verbatim": True}}


def _list(title: str, texts: Sequence[str], bullet: str = "• ") -> dict[str, Any]:
    return _section("\n".join([f"*{title}*", *(f"{bullet}{slack(text)}" for text in texts)]))


def _field(label: str, value: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": truncate(f"*{label}*\n{slack(value)}", FIELD), "verbatim": True}


def _context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": truncate(text, FIELD), "verbatim": True}]}


def _button(link: Link) -> dict[str, Any]:
    return {"type": "button", "text": {"type": "plain_text", "text": link.label}, "url": link.url}


def _code(text: str) -> str:
    """Return text for use between backticks. It is changed as little as possible, so that people can copy it."""
    text = unaddressed(text).replace("`", LOOKS_LIKE_BACKTICK)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
