"""Checks what a statement does, in the normal form that the engine's own parser writes.

That form (`formatQuerySingleLine`) has no comments, keywords in capitals, and one way of quoting names and texts. It is
split into tokens from left to right, in linear time.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from worker.embedded.access import ENGINES, FORMATS, TABLE_FUNCTIONS, Role

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

T = TypeVar("T")
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|\w+|\S", re.DOTALL)
_READS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "EXPLAIN", "EXISTS"})
_WRITES = _READS | {
    "INSERT",
    "CREATE",
    "DROP",
    "ALTER",
    "TRUNCATE",
    "RENAME",
    "EXCHANGE",
    "OPTIMIZE",
    "CHECK",
    "DELETE",
}
_KINDS = {Role.READER: _READS, Role.WRITER: _WRITES}
_HIDES = re.compile(
    r"""'(?:[^'\\]|\\.|\\\Z)*(?:'|\Z)|`(?:[^`\\]|\\.|\\\Z)*(?:`|\Z)|"(?:[^"\\]|\\.|\\\Z)*(?:"|\Z)"""
    r"""|(--|/\*|[#$\u2018\u2019\u201c\u201d]|;(?!\s*\Z))|.""",
    re.DOTALL,
)
"""Finds, outside of quotes, the end of a statement before the end of the text, and what could hide one. Linear: a quote
that is not closed reaches to the end."""
_FILES = frozenset({"OUTFILE", "INFILE"})
_ALWAYS_REFUSED = frozenset({"file", "disk"})
"""`file` is both a function and a table function; `disk` in a table's settings names any path or bucket."""


class Statement(NamedTuple):
    """One statement in normal form.

    Attributes:
        tokens: its tokens, in order.
        kind: its first keyword.
        format: the format it names, `""` for none.
    """

    tokens: list[str]
    kind: str
    format: str

    @property
    def answers(self) -> bool:
        """Whether it returns rows."""
        return self.kind in _READS

    @property
    def takes_data(self) -> bool:
        """Whether rows follow the statement."""
        return self.kind == "INSERT" and bool(self.format) and "SELECT" not in self.tokens


def parse(normal: str) -> Statement:
    """Parse a statement in normal form.

    >>> parse("SELECT 1 FORMAT CSV").format
    'CSV'
    """
    tokens = _TOKEN.findall(normal)
    kind = next((token for token in tokens if token != "("), "")  # noqa: S105  a token of SQL
    return Statement(tokens, kind, next(iter(reversed(list(_formats(tokens)))), ""))


def refusal(statement: Statement, role: Role, outside: Collection[str]) -> str:
    """Return why a role may not run a statement, `""` if it may.

    Args:
        statement: the statement.
        role: the role that runs it.
        outside: functions, in lower case, that reach beyond the store.
    """
    if statement.kind not in _KINDS[role]:
        return f"{statement.kind or 'nothing'} is not allowed for a {role}"
    if role is Role.READER and any(_settings(statement.tokens)):
        # The engine refuses settings at the top of a statement, but does not check those of a subquery.
        return "a reader gives settings with the request, not in the statement"
    if _FILES & set(statement.tokens) or ("PARALLEL", "WITH") in pairwise(statement.tokens):
        return "INTO OUTFILE, FROM INFILE and PARALLEL WITH are not served"
    for name in _formats(statement.tokens):
        if name not in FORMATS:
            return f"format {name} is not served"
    for name in _called(statement.tokens):
        if name.lower() in _ALWAYS_REFUSED or name.lower() in outside:
            return f"function {name} is not served"
    return next((f"engine {name} is not served" for name in _engines(statement.tokens) if not _is_served(name)), "")


def is_one(sql: str) -> bool:
    """Return whether a text with rows in it is one statement: `formatQuery` stops where the rows begin."""
    return not any(found[1] for found in _HIDES.finditer(sql))


def from_file(normal: str, path: str) -> str:
    """Return an `INSERT … FORMAT …` in the engine's spelling that reads its rows from a file, given as a literal.

    >>> from_file("INSERT INTO t (a) SETTINGS max_threads = 1 FORMAT CSV", "'/rows'")
    "INSERT INTO t (a) FROM INFILE '/rows' SETTINGS max_threads = 1 FORMAT CSV"
    """
    found = list(_TOKEN.finditer(normal))
    settings = (start for start, _, equals in _triples(found) if (start[0], equals[0]) == ("SETTINGS", "="))
    at = next(settings, found[-2]).start()
    return f"{normal[:at]}FROM INFILE {path} {normal[at:].rstrip()}"


def outside(table_functions: Collection[str], others: Collection[str]) -> frozenset[str]:
    """Return the functions that reach beyond the store, in lower case.

    Args:
        table_functions: all table functions of the engine.
        others: functions of other kinds that call services.
    """
    return frozenset(map(str.lower, table_functions)) - TABLE_FUNCTIONS | frozenset(map(str.lower, others))


def _is_served(engine: str) -> bool:
    return engine in ENGINES or engine.endswith("MergeTree")


def _formats(tokens: list[str]) -> Iterator[str]:
    return (after for token, after in pairwise(tokens) if token == "FORMAT" and after.isidentifier())  # noqa: S105


def _called(tokens: list[str]) -> Iterator[str]:
    return (name.strip('`"') for name, after in pairwise(tokens) if after == "(")


def _engines(tokens: list[str]) -> Iterator[str]:
    return (name.strip('`"') for engine, equals, name in _triples(tokens) if (engine, equals) == ("ENGINE", "="))


def _settings(tokens: list[str]) -> Iterator[str]:
    return (name for settings, name, equals in _triples(tokens) if (settings, equals) == ("SETTINGS", "="))


def _triples(tokens: list[T]) -> Iterator[tuple[T, T, T]]:
    return zip(tokens, tokens[1:], tokens[2:], strict=False)
