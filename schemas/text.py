"""Helpers for text from outside: make it safe for a terminal, truncate it."""

from __future__ import annotations


def truncate(text: str, most: int) -> str:
    """Return at most `most` characters of a text; a truncated text ends with an ellipsis.

    >>> truncate("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def printable(text: str) -> str:
    r"""Return one line of text that cannot control a terminal. Ids and addresses in it may come from an attacker.

    >>> printable("eve\x1b[2J")
    'eve?[2J'
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def printable_lines(text: str) -> str:
    r"""Return text that cannot control a terminal; line feeds and tabs are kept.

    >>> printable_lines("a\tb\x1b[2J\n")
    'a\tb?[2J\n'
    """
    return "".join(each if each in "\n\t" or each.isprintable() else "?" for each in text)


def printable_json(text: str) -> str:
    r"""Return equivalent JSON text that cannot control a terminal: characters that are not printable are escaped.

    >>> printable_json('{"user":"eve\x9b\u202e"}')
    '{"user":"eve\\u009b\\u202e"}'
    """
    return "".join(each if each in "\n\t" or each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2]):04x}" for at in range(0, len(units), 2))
