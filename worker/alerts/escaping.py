"""Escapes text from outside for each channel: it is shown literally, without mentions, links or formatting."""

from __future__ import annotations

import re
from html import escape

ZERO_WIDTH_SPACE = "\u200b"
_SLACK_MARKS = re.compile(r"([*_~`])")
_SCHEME = re.compile(r"(?i)\b(https?|ftp|mailto|javascript|data|file|slack|msteams)(:)")
_DOMAIN = re.compile(r"(?<=[^\W_])\.(?=[^\W\d_]{2})")
_MENTION = re.compile(r"@(?=\w)")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|<>~&-])")
_CEF_HEADER, _CEF_VALUE = re.compile(r"([\\|])"), re.compile(r"([\\=])")


def html(text: str) -> str:
    """Return text for HTML, in elements and in quoted attributes.

    >>> html('<img src=x onerror="x">')
    '&lt;img src=x onerror=&quot;x&quot;&gt;'
    """
    return escape(text, quote=True)


def slack(text: str) -> str:
    """Return text for Slack's mrkdwn: `&`, `<` and `>` as entities, marks and links broken by an invisible character.

    >>> slack("<!channel> & <@U1>")
    '&lt;!channel&gt; &amp; &lt;@\u200bU1&gt;'
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _SLACK_MARKS.sub(rf"{ZERO_WIDTH_SPACE}\1{ZERO_WIDTH_SPACE}", text)
    return unlinked(text)


def teams(text: str) -> str:
    r"""Return text for the Markdown of Adaptive Cards, with every mark escaped; `<at>` mentions nobody.

    >>> teams("[a](b)")
    '\\[a\\]\\(b\\)'
    """
    return unlinked(_MARKDOWN.sub(r"\\\1", text))


def teams_code(text: str) -> str:
    """Return text to be copied out of a card: as `teams`, but names of hosts stay as they are."""
    return unaddressed(_MARKDOWN.sub(r"\\\1", text))


def unlinked(text: str) -> str:
    """Return text in which clients see neither links nor mentions.

    >>> unlinked("http://evil.example @here") == "http\u200b://evil\u200b.example @\u200bhere"
    True
    """
    return _DOMAIN.sub(f"{ZERO_WIDTH_SPACE}.", unaddressed(text))


def unaddressed(text: str) -> str:
    """Return text in which addresses and mentions are broken; the rest stays unchanged, so that it can be copied."""
    return _MENTION.sub(f"@{ZERO_WIDTH_SPACE}", _SCHEME.sub(rf"\1{ZERO_WIDTH_SPACE}\2", text))


def plain(text: str) -> str:
    """Return text unchanged: plain text has no markup."""
    return text


def cef_header(text: str) -> str:
    r"""Return text for a field of a CEF header.

    >>> cef_header("a|b")
    'a\\|b'
    """
    return _CEF_HEADER.sub(r"\\\1", text)


def cef_value(text: str) -> str:
    """Return text for a value of a CEF extension."""
    return _CEF_VALUE.sub(r"\\\1", text).replace("\r", " ").replace("\n", " ")


def mail_header(text: str) -> str:
    """Return text for a header of a mail, which is one line."""
    return " ".join(text.split())
