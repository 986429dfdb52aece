"""Messages as text, by sandboxed templates. Rendering never fails: what cannot be rendered becomes plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson
from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from worker.alerts import escaping
from worker.alerts.message import commands

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.alerts.message import AlertMessage, Change

LONGEST = 100_000
"""Most characters of a rendered text."""
_ESCAPES: dict[str, Callable[[str], str]] = {
    "html": escaping.html, "slack": escaping.slack, "teams": escaping.teams, "text": escaping.plain,
}  # fmt: skip


class Rendered(NamedTuple):
    """A text, and why it was not rendered by the template (empty: it was)."""

    text: str
    failed: str = ""


def _environment(channel: str) -> ImmutableSandboxedEnvironment:
    escape = _ESCAPES[channel]

    def finalize(value: object) -> object:
        return value if isinstance(value, Markup) else Markup(escape(str(value)))  # noqa: S704  it is escaped

    environment = ImmutableSandboxedEnvironment(
        loader=PackageLoader("worker.alerts", "templates"),
        undefined=StrictUndefined,
        autoescape=False,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.globals.clear()
    # What is filled in is escaped for the channel in any case: these would escape it for HTML instead.
    environment.filters |= dict.fromkeys(("e", "escape", "forceescape"), str)
    environment.filters["tojson"] = lambda value: orjson.dumps(value, default=str).decode()
    return environment


_ENVIRONMENTS = {channel: _environment(channel) for channel in _ESCAPES}


def render(channel: str, name: str, message: AlertMessage, own: str | None = None) -> Rendered:
    """Render a message with a template of this package or with another one; return plain text when that fails.

    Args:
        channel: `html`, `slack`, `teams` or `text`; values are escaped for it.
        name: name of the template in this package.
        message: the message.
        own: source of a template to use instead.
    """
    environment = _ENVIRONMENTS[channel]
    try:
        template = environment.from_string(own) if own is not None else environment.get_template(name)
        return Rendered(template.render(m=message)[:LONGEST])
    except Exception as error:  # noqa: BLE001  a template may raise anything, and the message must go out
        return Rendered(_fallback(channel, message, type(error).__name__), type(error).__name__)


def _fallback(channel: str, message: AlertMessage, error: str) -> str:
    text = f"The template of this destination failed ({error}); this is the plain text.\n\n{plain_text(message)}"
    if channel == "html":
        return f"<pre>{escaping.html(text)}</pre>"
    return "\n".join(_ESCAPES[channel](line) for line in text.splitlines())


def plain_text(message: AlertMessage) -> str:
    """Return a message as plain text, without any template."""
    return "\n".join(_lines(message))


def _lines(message: AlertMessage) -> list[str]:
    lines = [f"{message.heading}: {message.title}", ""]
    lines += [f"{label}: {value}" for label, value in message.facts]
    lines += ["", "What changed:", *(f"- {change_text(each)}" for each in message.changes)] if message.changes else []
    lines += ["", "What was found:", *(f"- {each}" for each in message.findings)] if message.findings else []
    lines += ["", "What to do:", *(f"{n}. {step}" for n, step in enumerate(message.steps, 1))] if message.steps else []
    lines += ["", *message.notes] if message.notes else []
    lines += ["", *(f"{link.label}: {link.url}" for link in message.links)] if message.links else []
    lines += ["", *(f"{question} {command}" for question, command in commands(message))]
    return [*lines, f"Events: {message.sql}", f"Incident {message.id}"]


def change_text(change: Change) -> str:
    """Return what changed at one moment, as one line."""
    before, after = change.before or "unknown", change.after or "unknown"
    sides = f" [before: {before}; after: {after}]" if change.before or change.after else ""
    return f"{change.time}: {change.text}{sides}"
