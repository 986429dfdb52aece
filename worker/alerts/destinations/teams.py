"""Messages for Microsoft Teams webhooks (created with Workflows), as Adaptive Cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.alerts.destinations.base import as_json
from worker.alerts.escaping import teams, teams_code
from worker.alerts.message import commands
from worker.alerts.rendering import render

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.alerts.alert import Digest
    from worker.alerts.message import AlertMessage, Change

LARGEST = 27_000
"""Maximum size of a message, in bytes; Teams accepts 28 KB."""
VERSION = "1.4"
COLORS = {"critical": "Attention", "high": "Attention", "medium": "Warning"}
Element = dict[str, Any]


def payload(message: AlertMessage, template: str | None = None) -> Element:
    """Return the JSON of a message, shortened if it exceeds the limit."""
    body = list(_body(message)) if template is None else [_text(render("teams", "", message, template).text[:8_000])]
    actions = [{"type": "Action.OpenUrl", "title": link.label, "url": link.url} for link in message.links]
    while len(as_json(card := _card(body, actions))) > LARGEST and len(body) > 2:
        body.pop()
    return card


def digest_payload(digest: Digest) -> Element:
    """Return the JSON of a digest."""
    lines = [_text(f"{teams(each.heading)}: {teams(each.title)}") for each in digest.messages]
    more = [_text(digest.more)] if digest.more else []
    actions = [{"type": "Action.OpenUrl", "title": "All of them in Grafana", "url": digest.link}] if digest.link else []
    return _card([_text(digest.heading, size="Large", weight="Bolder"), *lines, *more], actions)


def _card(body: list[Element], actions: list[Element]) -> Element:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": VERSION,
        "body": body,
        **({"actions": actions} if actions else {}),
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _body(message: AlertMessage) -> Iterable[Element]:
    color = "Good" if message.is_resolved else COLORS.get(message.severity, "Default")
    yield _text(teams(f"{message.heading}, risk {message.risk_score} of 100"), color=color, weight="Bolder")
    yield _text(teams(message.title), size="Large", weight="Bolder")
    if message.facts:
        yield {"type": "FactSet", "facts": [{"title": label, "value": teams(value)} for label, value in message.facts]}
    if message.steps:
        steps = [f"{number}. {teams(step)}" for number, step in enumerate(message.steps, 1)]
        yield _group("What to do", [_text(step) for step in steps])
    if message.changes:
        yield _group("What changed", [each for change in message.changes for each in _change(change)])
    if message.findings:
        yield _group("What was found", [_text(f"- {teams(each)}") for each in message.findings])
    for note in message.notes:
        yield _text(teams(note), isSubtle=True)
    for question, command in commands(message):
        yield _text(f"{question} {teams_code(command)}", fontType="Monospace", size="Small")
    yield _text(teams(f"Incident {message.id}"), isSubtle=True, size="Small")


def _change(change: Change) -> Iterable[Element]:
    yield _text(f"{teams(change.time)}: {teams(change.text)}")
    if change.before or change.after:
        facts = [("Before", change.before), ("After", change.after)]
        yield {
            "type": "FactSet",
            "facts": [{"title": label, "value": teams(value or "unknown")} for label, value in facts],
        }


def _group(title: str, items: list[Element]) -> Element:
    return {"type": "Container", "spacing": "Medium", "items": [_text(title, weight="Bolder"), *items]}


def _text(text: str, **more: object) -> Element:
    return {"type": "TextBlock", "text": text, "wrap": True, **more}
