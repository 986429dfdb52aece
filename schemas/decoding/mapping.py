"""Declarative mappings of other identity systems' records to sessions: one document for each system.

The document gives a JMESPath expression for each property of a session. The expressions are compiled once, when the
mapping is created. The built-in mappings are the files of `schemas/mappings/`; `docs/input.md` describes the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jmespath
from jmespath import functions
from jmespath.exceptions import JMESPathError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from schemas.decoding.results import Envelope, Ignored, Opened, Rejected, RejectReason, joined
from schemas.event import EventKind, Shape
from schemas.session import AuthSession, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping as Table

    from jmespath.parser import ParsedResult

    from schemas.decoding.results import Opening

PROPERTIES = tuple(AuthSession.__annotations__)
LONGEST_EXPRESSION = 2_000


class BadMappingError(ValueError):
    """A mapping's document is invalid; the message says where and why."""


class _Functions(functions.Functions):
    """Functions for session records, besides JMESPath's own. All of them accept null."""

    @functions.signature({"types": ["string", "number", "null"]}, {"types": ["string", "number", "null"]})
    def _func_minutes_between(self, first: Any, last: Any) -> float | None:
        """Return the minutes from one time to another; None when either is unknown or the second is not later."""
        begin, end = _time(first), _time(last)
        return (end - begin) / 60_000 if begin and end and end > begin else None

    @functions.signature({"types": ["array", "null"]})
    def _func_listed(self, parts: list[Any] | None) -> str | None:
        """Return the known parts, separated by commas; None when none is known."""
        known = [str(part).strip() for part in parts or () if part not in (None, "")]
        return ", ".join(known) or None

    @functions.signature({"types": ["number", "string", "null"]}, {"types": ["number", "string", "null"]})
    def _func_coordinates(self, latitude: Any, longitude: Any) -> str | None:
        """Return coordinates as text; None when either is unknown."""
        return None if latitude in (None, "") or longitude in (None, "") else f"{latitude},{longitude}"

    @functions.signature({"types": ["string", "null"]})
    def _func_lower(self, text: str | None) -> str | None:
        """Return a text in lower case."""
        return None if text is None else text.lower()

    @functions.signature({"types": ["string", "number", "null"]})
    def _func_is_past(self, stamp: Any) -> bool:
        """Return whether a time is set: some systems mark an end only by its time."""
        return bool(_time(stamp))


def _time(stamp: Any) -> int:
    try:
        return 0 if stamp is None else milliseconds(stamp)
    except (TypeError, ValueError, OverflowError):
        return 0


_OPTIONS = jmespath.Options(custom_functions=_Functions())


class _Looked(BaseModel):
    """A value looked up in a table."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    source: Annotated[str, Field(alias="from")]
    table: dict[str, Any]
    otherwise: Any = None


Expression = Annotated[str, Field(max_length=LONGEST_EXPRESSION)]


class MappingDocument(BaseModel):
    """The document of a mapping.

    Attributes:
        name: lower-case word; the `shape` of events that the mapping reads.
        title: the system and its kind of record.
        source: URL of the documentation of the records.
        fits: true for records of this system; evaluated when no mapping is chosen by setting.
        only: true for records about a session; others are ignored. Absent: all records are.
        body: the part of the record that is the event, if something surrounds it. A list of one item counts as the
            item.
        fields: property of a session -> expression, or a table to look up its value in.
        meta_data: name -> expression, for values that are kept in `meta_data`.
        kind: `created`, `refreshed`, `changed` or `deleted`; null: derived from the times.
        time: when the event happened.
        unknown: property -> why the system's records do not contain it.
    """

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    title: str
    source: str
    fits: Expression
    only: Expression | None = None
    body: Expression | None = None
    fields: dict[str, Expression | _Looked]
    meta_data: dict[str, Expression] = {}
    kind: Expression | _Looked | None = None
    time: Expression | None = None
    unknown: dict[str, str] = {}

    @field_validator("fields", "unknown")
    @classmethod
    def _of_the_schema(cls, named: dict[str, Any]) -> dict[str, Any]:
        if wrong := sorted(set(named) - set(PROPERTIES)):
            raise ValueError(f"not a property of a session: {', '.join(wrong)}")
        return named


class _Value(NamedTuple):
    expression: ParsedResult
    table: Table[str, Any] | None
    otherwise: Any

    def of(self, record: Any) -> Any:
        found = _search(self.expression, record)
        if self.table is None:
            return found
        return self.table.get(str(found), self.otherwise) if found is not None else self.otherwise


class Mapping:
    """A compiled mapping.

    Args:
        document: the parsed document.

    Raises:
        BadMappingError: the document is invalid.
    """

    def __init__(self, document: Any) -> None:
        try:
            self.document = MappingDocument.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise BadMappingError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        self.name = self.document.name
        self._fits = _compiled("fits", self.document.fits)
        self._only = _optional("only", self.document.only)
        self._body = _optional("body", self.document.body)
        self._time = _optional("time", self.document.time)
        self._kind = None if self.document.kind is None else _value("kind", self.document.kind)
        self._fields = {name: _value(f"fields.{name}", each) for name, each in self.document.fields.items()}
        kept = self.document.meta_data.items()
        self._meta_data = {name: _compiled(f"meta_data.{name}", each) for name, each in kept}

    def fits(self, record: dict[str, Any]) -> bool:
        """Return whether a record is one of this system, by the expression `fits`."""
        return bool(_search(self._fits, record))

    def apply(self, opened: Opened) -> Opening:
        """Return the session in a record of this system."""
        record: Any = opened.body if self._body is None else _search(self._body, opened.body)
        if isinstance(record, list):
            if len(record) > 1:
                path = joined(opened.envelope.path, self.name)
                return Rejected(RejectReason.INVALID_VALUE, path, "contains several events; send one event a record")
            record = record[0] if record else None
        if not isinstance(record, dict) or not (self._only is None or _search(self._only, record)):
            return Ignored(f"{self.name}-other")
        body = {name: value for name, each in self._fields.items() if (value := each.of(record)) is not None}
        kept = {name: value for name, each in self._meta_data.items() if (value := _search(each, record)) is not None}
        if kept:
            body["meta_data"] = {**kept, **(body.get("meta_data") or {})}
        return Opened(self._envelope(opened.envelope, record), body)

    def _envelope(self, outer: Envelope, record: dict[str, Any]) -> Envelope:
        said = None if self._kind is None else self._kind.of(record)
        kind = next((each for each in EventKind if each == said), None)
        time = None if self._time is None else _time(_search(self._time, record)) or None
        if outer.kind is EventKind.DELETED:
            kind = outer.kind
        shape = self.name if outer.shape == Shape.SNAPSHOT else outer.shape
        return Envelope(shape, time or outer.time, joined(outer.path, self.name), kind or outer.kind, is_lenient=True)


def _search(expression: ParsedResult, record: Any) -> Any:
    """Evaluate an expression; None if it fails on this record."""
    try:
        return expression.search(record, options=_OPTIONS)
    except (JMESPathError, TypeError, ValueError, AttributeError):
        return None


def _optional(where: str, text: str | None) -> ParsedResult | None:
    return None if text is None else _compiled(where, text)


def _compiled(where: str, text: str) -> ParsedResult:
    try:
        return jmespath.compile(text)
    except JMESPathError as error:
        raise BadMappingError(f"{where}: not a JMESPath expression: {str(error).splitlines()[0]}") from None


def _value(where: str, given: str | _Looked) -> _Value:
    if isinstance(given, str):
        return _Value(_compiled(where, given), None, None)
    return _Value(_compiled(where, given.source), given.table, given.otherwise)
