"""`map`: what a mapping reads from records: each property of a session, or why it is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from schemas.decoding import Ignored, Rejected
from schemas.decoding.mapping import PROPERTIES
from schemas.mappings import builtin
from schemas.text import truncate
from worker.apps.build import build_decoder, find_mapping, wall_clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from schemas.decoding import Decoder
    from schemas.decoding.mapping import Mapping as InputMapping
    from schemas.event import SessionEvent
    from worker.settings import Settings

MOST_SHOWN = 200
"""Characters of a value that are shown."""
_ATTRIBUTES = {"uid": "session_uid"}


class Property(NamedTuple):
    """A property of a session: its value as text, `""` when it is unknown, and a note on it."""

    name: str
    value: str
    note: str


class Checked(NamedTuple):
    """The result of decoding one record.

    Attributes:
        result: `created`, `refreshed`, `changed`, `deleted`, `ignored` or `rejected`.
        shape: the envelope, or the name of the mapping.
        reason: why it was ignored or rejected. `field`: the invalid field.
        event_time, activity_time: milliseconds; None when there is no event, or the event is not an activity.
    """

    number: int
    result: str
    shape: str = ""
    reason: str = ""
    field: str = ""
    event_time: int | None = None
    activity_time: int | None = None
    properties: tuple[Property, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of a record."""
        return {**self._asdict(), "properties": [each._asdict() for each in self.properties]}


def documents(text: bytes) -> Iterator[bytes]:
    """Yield the records of a file: JSON lines, or one document, whose items are the records if it is an array."""
    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError:
        yield from (line.strip() for line in text.splitlines() if line.strip())
        return
    for each in whole if isinstance(whole, list) else [whole]:
        yield orjson.dumps(each)


def check_document(settings: Settings, document: bytes, mapping: str | None, tenant: str | None) -> list[Checked]:
    """Decode the records of a file as the worker would; return the result of each.

    Args:
        settings: of the input.
        document: the file.
        mapping: name of a built-in mapping, or path of another, in place of the settings'.
        tenant: tenant of sessions whose source names none, in place of the settings'.

    Raises:
        BadMappingError: the mapping does not exist or cannot be used.
    """
    given = {name: value for name, value in {"mapping": mapping, "tenant_id": tenant}.items() if value is not None}
    settings = settings.model_copy(update={"input": settings.input.model_copy(update=given)})
    known = dict(builtin())
    if settings.input.mapping not in ("auto", "none", *known):
        own = find_mapping(settings.input.mapping)
        known[own.name] = own
    return list(check(documents(document), build_decoder(settings), known, wall_clock()))


def check(records: Iterable[bytes], decoder: Decoder, known: Mapping[str, InputMapping], now: int) -> Iterator[Checked]:
    """Decode records as the worker would, and yield the result of each.

    Args:
        records: values of records.
        decoder: of the input.
        known: mappings by name, for their notes on unknown properties.
        now: the time of records without one, milliseconds.
    """
    for number, record in enumerate(records, 1):
        result = decoder.decode(record, now)
        if isinstance(result, Ignored):
            yield Checked(number, "ignored", reason=result.reason)
        elif isinstance(result, Rejected):
            yield Checked(number, "rejected", reason=f"{result.reason}: {result.message}", field=result.field)
        else:
            notes = known[result.shape].document.unknown if result.shape in known else {}
            found = tuple(_property(result, name, notes) for name in PROPERTIES)
            times = result.event_time, result.activity_time
            yield Checked(number, result.kind.value, result.shape, "", "", *times, found)


def _property(event: SessionEvent, name: str, notes: Mapping[str, str]) -> Property:
    value = getattr(event, _ATTRIBUTES.get(name, name))
    if name == "uid" and event.uid_derived:
        return Property(name, event.session_uid, "derived: the record has none")
    if name in event.repaired:
        return Property(name, _shown(value), "repaired")
    if value in (None, "", ()):
        return Property(name, "", notes.get(name, "missing"))
    return Property(name, _shown(value), "")


def _shown(value: Any) -> str:
    text = " ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
    if isinstance(value, bool):
        text = "true" if value else "false"
    return truncate(text, MOST_SHOWN)
