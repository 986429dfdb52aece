"""Everything that may come in, and what becomes of it."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.decoding import MAX_DEPTH, Ignored, Rejected, decode
from schemas.event import EventKind, SessionEvent, Shape
from schemas.session import AuthSession, canonical_ip, milliseconds

NOW = 1_772_440_900_000
SKEW = 60_000
LEAST = {"tenant_id": "acme", "user_id": "u", "user_agent": "curl/8.9", "ip": "203.0.113.7"}
WHOLE: dict[str, Any] = {
    **LEAST,
    "uid": "8c1f",
    "created_at": "2026-03-02T08:00:00Z",
    "updated_at": "2026-03-02T08:40:00Z",
    "last_used_at": "2026-03-02T08:41:07.250Z",
    "is_deleted": False,
    "meta_data": {"b": 1, "a": [2, {"c": None}]},
    "workspace_id": "ws",
    "aud": "web",
    "scopes": ["write", "read", "read"],
    "amr": ["OTP", "pwd"],
    "max_age_minutes": 60,
    "location": "Lyon, FR",
    "session_type": "User",
}


def taken(value: Any, record_time: int = NOW, **limits: int) -> SessionEvent:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    result = decode(raw, record_time=record_time, **limits)
    assert isinstance(result, SessionEvent), result
    return result


def refused(value: Any, **limits: int) -> tuple[str, str]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    result = decode(raw, record_time=NOW, **limits)
    assert isinstance(result, Rejected), result
    assert result.message
    return result.reason.value, result.field


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_all_properties_of_a_session() -> None:
    assert set(WHOLE) == set(AuthSession.__annotations__)
    assert len(WHOLE) == 17
    event = taken(WHOLE)
    assert event == SessionEvent(
        tenant_id="acme", user_id="u", session_uid="8c1f", uid_derived=False, kind=EventKind.REFRESHED,
        shape=Shape.SNAPSHOT, event_time=ms("2026-03-02T08:41:07.250"), activity_time=ms("2026-03-02T08:41:07.250"),
        created_at=ms("2026-03-02T08:00:00"), updated_at=ms("2026-03-02T08:40:00"),
        last_used_at=ms("2026-03-02T08:41:07.250"), future_by=0, is_deleted=False, max_age_minutes=60.0,
        ip="203.0.113.7", user_agent="curl/8.9", location="Lyon, FR", scopes=("read", "write"), amr=("otp", "pwd"),
        aud="web", workspace_id="ws", session_type="user", meta_data='{"a":[2,{"c":null}],"b":1}',
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(WHOLE) - set(LEAST)))
def test_an_optional_property_that_is_null_counts_as_omitted(name: str) -> None:
    without = {key: value for key, value in WHOLE.items() if key != name}
    assert taken({**WHOLE, name: None}) == taken(without)


@pytest.mark.parametrize("name", sorted(LEAST))
def test_a_required_property_must_be_there(name: str) -> None:
    assert refused({key: value for key, value in WHOLE.items() if key != name}) == ("missing-field", name)


@pytest.mark.parametrize("name", ["tenant_id", "user_id"])
def test_who_it_is_must_be_known(name: str) -> None:
    assert refused({**WHOLE, name: None}) == ("missing-field", name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("uid", 7.5), ("user_id", {}), ("user_id", ["u"]), ("tenant_id", True), ("workspace_id", {}), ("aud", [{}]),
        ("ip", 3405803783), ("session_type", 1), ("is_deleted", "perhaps"), ("is_deleted", 2), ("meta_data", "text"),
        ("meta_data", [1]), ("scopes", 1), ("scopes", {"read": 1}), ("scopes", ["read", 1]), ("scopes", [["read"]]),
        ("amr", {}), ("amr", [1]), ("max_age_minutes", "an hour"), ("max_age_minutes", True),
        ("created_at", []), ("updated_at", {}), ("last_used_at", [1]),
    ],
)  # fmt: skip
def test_a_wrong_type_is_told_with_its_field(name: str, value: Any) -> None:
    reason, field = refused({**WHOLE, name: value})
    assert reason == "wrong-type"
    assert field.split(".")[0] == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user_id", ""), ("user_id", "   "), ("tenant_id", ""), ("user_id", "u" * 257), ("tenant_id", "t" * 257),
        ("ip", "not an address"), ("ip", "256.1.1.1"), ("ip", "1.2.3"), ("ip", "01.2.3.4"), ("ip", "1" * 129),
        ("max_age_minutes", -1), ("max_age_minutes", 1e9), ("created_at", "yesterday"),
        ("last_used_at", "2026-13-01T00:00:00Z"), ("updated_at", "2026-03-02T25:00:00Z"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_field(name: str, value: Any) -> None:
    reason, field = refused({**WHOLE, name: value})
    assert reason == "invalid-value"
    assert field.split(".")[0] == name


@pytest.mark.parametrize("stamp", ["1969-12-31T23:59:59Z", "1989-12-31T23:59:59Z", -5, "2100-01-01T00:00:00Z", 1e300])
@pytest.mark.parametrize("name", ["created_at", "updated_at", "last_used_at"])
def test_times_no_session_can_have_are_rejected(name: str, stamp: Any) -> None:
    assert refused({**WHOLE, name: stamp}) == ("out-of-range", name)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "invalid-json"), (b"{", "invalid-json"), (b'{"a" 1}', "invalid-json"), (b"{'a': 1}", "invalid-json"),
        (b"\xff\xfe", "invalid-utf8"), (b'{"user_id": "\xc3("}', "invalid-utf8"), (b"\xef\xbb\xbf{}", "missing-field"),
        (b"[]", "not-an-object"), (b"7", "not-an-object"), (b'"text"', "not-an-object"), (b"true", "not-an-object"),
        (b"[" * 100_000, "too-deep"), (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too-deep"),
        (b"NaN", "invalid-json"), (b'{"specversion": "0.3"}', "unknown-envelope"),
    ],
)  # fmt: skip
def test_what_is_no_session_at_all(value: bytes, reason: str) -> None:
    assert refused(value)[0] == reason


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_rejected(number: str) -> None:
    raw = json.dumps(WHOLE).replace('"max_age_minutes": 60', f'"max_age_minutes": {number}').encode()
    assert refused(raw)[0] in {"invalid-json", "invalid-value", "wrong-type"}


def test_a_value_that_is_too_long_is_rejected_unread() -> None:
    assert refused(b"\xff" * (5 << 20)) == ("too-large", "")
    assert refused(b"{}" + b" " * 100, max_bytes=101) == ("too-large", "")


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b'{"user_id": "a", %s, "user_id": "b"}', "user_id"),
        (b'{"user_id":"a",%s,"\\u0075ser_id":"b"}', "user_id"),
        (b'{"user_id"\t:"a",%s,"user_id"\n:"b"}', "user_id"),
        (b'{"user_id":"u",%s,"meta_data":{"k":1,"k":2}}', "k"),
        (b'{"user_id":"u",%s,"meta_data":{"deep":[{"k":1,"k":1}]}}', "k"),
        (b'{"user_id":"u",%s,"unheard_of":1,"unheard_of":1}', "unheard_of"),
    ],
)
def test_a_key_that_stands_twice_is_rejected(raw: bytes, key: str) -> None:
    rest = b'"tenant_id":"acme","user_agent":"curl","ip":"203.0.113.7"'
    assert refused(raw % rest) == ("duplicate-key", key)


def test_looking_for_a_doubled_key_takes_time_in_proportion() -> None:
    """What fuzzing found: the last of 100,000 keys doubled kept the worker busy for minutes."""
    keys = b",".join(b'"k%d":0' % number for number in range(80_000, -1, -1))
    begun = time.process_time()
    assert refused(json.dumps(LEAST).encode()[:-1] + b',"meta_data":{' + keys + b',"k0":1}}') == ("duplicate-key", "k0")
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("name", ["meta_data", "unknown"])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("depth", [MAX_DEPTH - 2, MAX_DEPTH - 1, 300, 600, 1000, 50_000])
def test_nesting_is_bounded(name: str, opening: str, closing: str, depth: int) -> None:
    """What fuzzing found: from 250 levels on `decode` raised."""
    nested = '{"n":' + opening * depth + "0" + closing * depth + "}"
    raw = f'{json.dumps(LEAST)[:-1]},"{name}":{nested}}}'.encode()
    for spelling in (raw, raw.replace(b'"n":', b'"n" :')):
        if depth == MAX_DEPTH - 2:
            taken(spelling)
        else:
            assert refused(spelling) == ("too-deep", "")


def test_an_envelope_in_base64_hides_nothing() -> None:
    for inside, reason in ((b'{"ip":1,"ip":2}', "duplicate-key"), (b"[" * 300 + b"]" * 300, "too-deep")):
        packed = base64.b64encode(inside).decode()
        assert refused({"specversion": "1.0", "data_base64": packed}) == (reason, "data_base64")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_no_json_in_meta_data_either(number: str) -> None:
    """What fuzzing found: it was taken, as null, unless the record was decoded slowly."""
    raw = f'{json.dumps(LEAST)[:-1]},"meta_data":{{"n":{number}}}}}'.encode()
    for spelling in (raw, raw.replace(b'"n":', b'"n" :')):
        assert refused(spelling) == ("invalid-json", "")
    assert taken({**LEAST, "meta_data": {"n": number}}).meta_data == f'{{"n":"{number}"}}'


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "1" * 300])
def test_a_number_too_long_for_integers_is_floating_point_however_it_is_spelled(number: str) -> None:
    """What fuzzing found: `decode` raised."""
    raw = f'{json.dumps(LEAST)[:-1]},"meta_data":{{"n":{number}}}}}'.encode()
    for spelling in (raw, raw.replace(b'"n":', b'"n" :')):
        assert json.loads(taken(spelling).meta_data or "")["n"] == float(number)


def test_text_that_looks_like_keys_is_none() -> None:
    event = taken({**WHOLE, "user_agent": 'a ":" b', "meta_data": {'x":': 'y":"z'}})
    assert event.user_agent == 'a ":" b'


def test_nul_characters_are_rejected_in_ids_and_a_backslash_before_u0000_is_none() -> None:
    for name in ("uid", "user_id", "tenant_id"):
        assert refused({**WHOLE, name: "a\0b"}) == ("invalid-value", name)
    assert taken({**WHOLE, "aud": "\\u0000"}).aud == "\\u0000"


def test_unknown_properties_are_ignored() -> None:
    assert taken({**WHOLE, "unheard_of": {"a": 1}}) == taken(WHOLE)


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2026-03-02T08:41:07Z", "2026-03-02T08:41:07"),
        ("2026-03-02T08:41:07", "2026-03-02T08:41:07"),
        ("2026-03-02 08:41:07.250", "2026-03-02T08:41:07.250"),
        ("2026-03-02T08:41:07.250499Z", "2026-03-02T08:41:07.250"),
        ("2026-03-02T09:41:07+01:00", "2026-03-02T08:41:07"),
        ("2026-03-02T03:11:07-05:30", "2026-03-02T08:41:07"),
        ("2026-03-02", "2026-03-02T00:00:00"),
        (1_772_440_867, "2026-03-02T08:41:07"),
        (1_772_440_867.25, "2026-03-02T08:41:07.250"),
        (1_772_440_867_250, "2026-03-02T08:41:07.250"),
        (1_772_440_867_250_000, "2026-03-02T08:41:07.250"),
        (1_772_440_867_250_000_000, "2026-03-02T08:41:07.250"),
        ("1772440867", "2026-03-02T08:41:07"),
        ("1772440867250", "2026-03-02T08:41:07.250"),
    ],
)
def test_timestamps(stamp: str | float, expected: str) -> None:
    assert milliseconds(stamp) == ms(expected)
    assert taken({**LEAST, "last_used_at": stamp}).last_used_at == ms(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%25eth0", "fe80::1"),
    ],
)
def test_addresses_are_canonical(text: str, expected: str) -> None:
    assert canonical_ip(text) == expected
    assert taken({**LEAST, "ip": text}).ip == expected


@given(st.ip_addresses())
def test_every_address_is_read_and_canonical_once(address: Any) -> None:
    once = canonical_ip(str(address))
    assert canonical_ip(once) == once


def test_scopes_may_be_one_text() -> None:
    assert taken({**LEAST, "scopes": "write  read write"}).scopes == ("read", "write")
    assert taken({**LEAST, "scopes": ""}).scopes == ()
    assert taken({**LEAST, "amr": []}).amr == ()
    assert taken(LEAST).amr is None


# Times


def test_the_newest_time_orders_and_the_last_use_is_activity() -> None:
    event = taken({**WHOLE, "updated_at": "2026-03-02T08:41:30Z"})
    assert (event.event_time, event.activity_time) == (ms("2026-03-02T08:41:30"), ms("2026-03-02T08:41:07.250"))
    assert event.kind is EventKind.CHANGED
    event = taken({**LEAST, "created_at": "2026-03-02T08:00:00Z"})
    assert (event.kind, event.event_time, event.activity_time) == (
        EventKind.CREATED,
        event.created_at,
        event.created_at,
    )


def test_without_any_time_the_record_s_counts() -> None:
    event = taken(LEAST)
    assert (event.event_time, event.activity_time) == (NOW, None)


@pytest.mark.parametrize(("ahead", "future_by"), [(0, 0), (SKEW, 0), (SKEW + 1, SKEW + 1), (10**10, 10**10)])
def test_a_time_ahead_is_clamped_to_the_record_s(ahead: int, future_by: int) -> None:
    event = taken({**LEAST, "last_used_at": NOW + ahead})
    assert event.future_by == future_by
    assert event.event_time == event.activity_time == (NOW if future_by else NOW + ahead)


def test_a_deletion_is_no_activity_of_its_own_and_tells_the_last_use() -> None:
    event = taken({**WHOLE, "is_deleted": True})
    assert (event.kind, event.is_deleted, event.activity_time) == (EventKind.DELETED, True, event.last_used_at)
    event = taken({**LEAST, "created_at": NOW - 1000, "updated_at": NOW, "is_deleted": True})
    assert (event.kind, event.event_time, event.activity_time) == (EventKind.DELETED, NOW, None)


# Ids


def test_a_missing_uid_is_derived_from_what_identifies_the_session() -> None:
    bare = {key: value for key, value in WHOLE.items() if key != "uid"}
    event = taken(bare)
    assert event.uid_derived
    assert event.session_uid == taken({**bare, "uid": ""}).session_uid == taken(bare).session_uid
    for name in ("tenant_id", "user_id", "aud", "user_agent"):
        assert taken({**bare, name: "other"}).session_uid != event.session_uid, name
    assert taken({**bare, "created_at": "2026-03-01T08:00:00Z"}).session_uid != event.session_uid
    assert taken({**bare, "ip": "198.51.100.1", "location": "Oslo", "scopes": []}).session_uid == event.session_uid


# Envelopes


def cloudevent(**changes: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/auth", "type": "session.refreshed", "data": WHOLE, **changes}


def test_a_cloudevent() -> None:
    event = taken(cloudevent(time="2026-03-02T08:50:00Z"))
    assert event.shape is Shape.CLOUDEVENTS
    assert (event.session_uid, event.event_time) == ("8c1f", ms("2026-03-02T08:41:07.250"))
    packed = base64.b64encode(json.dumps(WHOLE).encode()).decode()
    assert taken(cloudevent(data=None, data_base64=packed)) == taken(cloudevent())


@pytest.mark.parametrize("kind", ["session.deleted", "com.example.revoked", "ended"])
def test_a_cloudevent_s_type_may_tell_of_the_end(kind: str) -> None:
    event = taken(cloudevent(type=kind, time="2026-03-02T08:41:30Z"))
    assert event.kind is EventKind.DELETED
    assert event.event_time == ms("2026-03-02T08:41:30")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"specversion": "0.3"}, ("unknown-envelope", "specversion")),
        ({"data": None}, ("missing-field", "data")),
        ({"data": "text"}, ("missing-field", "data")),
        ({"data": None, "data_base64": "***"}, ("invalid-value", "data_base64")),
        ({"data": {"op": "x", "after": WHOLE}}, ("unknown-envelope", "data.op")),
        ({"time": "then"}, ("invalid-value", "time")),
        ({"time": []}, ("wrong-type", "time")),
        ({"data": {**WHOLE, "ip": "x"}}, ("invalid-value", "data.ip")),
        ({"data": {**WHOLE, "user_id": []}}, ("wrong-type", "data.user_id")),
    ],
)
def test_a_cloudevent_that_is_none(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert refused(cloudevent(**changes)) == expected


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("operation", "kind"),
    [("c", EventKind.CREATED), ("r", EventKind.REFRESHED), ("u", EventKind.REFRESHED), ("d", EventKind.DELETED)],
)
def test_a_debezium_change(operation: str, kind: EventKind, wrapped: bool) -> None:  # noqa: FBT001  pytest's way
    change = {"op": operation, "ts_ms": NOW, "before": WHOLE, "after": None if operation == "d" else WHOLE}
    event = taken({"schema": None, "payload": change} if wrapped else change)
    assert (event.shape, event.kind, event.session_uid) == (Shape.DEBEZIUM, kind, "8c1f")


@pytest.mark.parametrize("operation", ["t", "m"])
def test_truncates_and_messages_are_ignored(operation: str) -> None:
    assert decode(json.dumps({"op": operation}).encode(), record_time=NOW) == Ignored(f"debezium-{operation}")


@pytest.mark.parametrize(("value", "reason"), [(None, "tombstone"), (b"null", "null"), (b" null ", "null")])
def test_what_says_nothing_is_ignored(value: bytes | None, reason: str) -> None:
    assert decode(value, record_time=NOW) == Ignored(reason)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"op": "x", "after": WHOLE}, ("unknown-envelope", "op")),
        ({"op": "u", "after": None, "before": WHOLE}, ("missing-field", "after")),
        ({"op": "d", "before": "row", "after": None}, ("missing-field", "before")),
        ({"op": "c", "after": {**WHOLE, "amr": 1}}, ("wrong-type", "after.amr")),
        ({"op": "d", "before": {"uid": "8c1f", "user_id": None}}, ("missing-field", "before")),
        ({"op": "d", "before": None, "after": None}, ("missing-field", "before")),
        ({"uid": "8c1f", "__op": "d", "__deleted": "true"}, ("missing-field", "")),
    ],
)
def test_a_change_that_is_none(change: dict[str, Any], expected: tuple[str, str]) -> None:
    assert refused(change) == expected


# Properties

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
SESSIONS = st.fixed_dictionaries(
    {name: JSON | st.just(value) for name, value in LEAST.items()},
    optional={name: JSON | st.just(WHOLE[name]) for name in sorted(set(WHOLE) - set(LEAST))},
)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_taken_ignored_or_rejected(value: bytes) -> None:
    assert isinstance(decode(value, record_time=NOW), SessionEvent | Ignored | Rejected)


@given(SESSIONS)
def test_any_session_is_taken_or_rejected_with_a_field(session: dict[str, Any]) -> None:
    result = decode(json.dumps(session).encode(), record_time=NOW)
    if isinstance(result, Rejected):
        assert result.reason.value == "invalid-json" or result.field.split(".")[0] in {*WHOLE, ""}
    else:
        assert isinstance(result, SessionEvent)
        assert result.event_time <= NOW + SKEW


@given(st.sampled_from(sorted(WHOLE)), st.sampled_from(["", "x" * 5_000, 7, [], {}, None, True]))
def test_a_rejection_never_repeats_the_input(name: str, wrong: Any) -> None:
    marker = "s3cr3t-marker"
    for value in (wrong, marker, [marker], {marker: marker}, marker * 200):
        session = {**WHOLE, "user_agent": marker, "location": marker, name: value}
        for document in (session, {"specversion": "1.0", "time": marker, "data": session},
                         {"op": marker, "ts_ms": marker, "after": session}):  # fmt: skip
            result = decode(json.dumps(document).encode(), record_time=NOW)
            assert not isinstance(result, Rejected) or marker not in result.message


@given(st.permutations(sorted(WHOLE)), st.sampled_from([None, 1, 4]), st.booleans())
def test_order_of_keys_and_white_space_do_not_matter(names: list[str], indent: int | None, ascii_only: bool) -> None:  # noqa: FBT001
    session = {name: WHOLE[name] for name in names}
    raw = json.dumps(session, indent=indent, ensure_ascii=ascii_only).encode()
    assert taken(raw) == taken(WHOLE)
