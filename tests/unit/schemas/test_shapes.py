"""What databases, connectors, identity systems and clients really send, class by class, with the report it comes from.

The cases of the field are examples; each class here has others of its kind, and what must not be mistaken for it.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from schemas.decoding import Decoder, Ignored, Rejected
from schemas.decoding.cloudevents import kind_of
from schemas.event import EventKind, SessionEvent

NOW = 1_793_700_000_000
PLAIN: dict[str, Any] = {
    "uid": "s1", "tenant_id": "acme", "user_id": "u1", "ip": "203.0.113.7", "user_agent": "curl/8.9",
    "created_at": "2026-11-03T08:00:00Z", "last_used_at": "2026-11-03T08:30:00Z",
}  # fmt: skip
BARE = {name: PLAIN[name] for name in ("uid", "tenant_id", "user_id", "ip", "user_agent")}
PLACEHOLDER = "__debezium_unavailable_value"


def decode(value: Any, headers: tuple[tuple[str, bytes], ...] = (), **options: Any) -> Any:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode("utf-8", "surrogatepass")
    return Decoder(**options).decode(raw, NOW, headers)


def taken(value: Any, **options: Any) -> SessionEvent:
    event = decode(value, **options)
    assert isinstance(event, SessionEvent), event
    return event


# Unwrapped changes: debezium/debezium#4863, ExtractNewRecordState


@pytest.mark.parametrize(
    "marks",
    [{"__op": "d", "__deleted": "true"}, {"__deleted": "true"}, {"__deleted": True}, {"__op": "d"}, {"__deleted": 1}],
)
def test_an_unwrapped_row_that_was_deleted(marks: dict[str, Any]) -> None:
    event = taken({**PLAIN, **marks, "__ts_ms": NOW - 1000})
    assert (event.kind, event.event_time) == (EventKind.DELETED, NOW - 1000)
    assert event.activity_time == event.last_used_at


@pytest.mark.parametrize(
    "marks", [{"__op": "u", "__deleted": "false"}, {"__op": "r", "__deleted": False}, {"__op": "c"}]
)
def test_an_unwrapped_row_that_was_not(marks: dict[str, Any]) -> None:
    assert not taken({**PLAIN, **marks}).is_deleted


# Words of a type: cloudevents/spec#340, openid/sharedsignals, ecosystems of web hooks


def cloud(kind: str, data: Any = None, **changes: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/a", "type": kind, "time": "2026-11-03T08:40:00Z",
            "data": PLAIN if data is None else data, **changes}  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        "session.revoked", "com.example.session.revoked.v1", "com.example.SessionRevoked", "sessionRevoked",
        "SESSION_REVOKED",
        "https://schemas.openid.net/secevent/caep/event-type/session-revoked", "com.qlik.user-session.end",
        "session/deleted/v2",
        "user.logged_out", "UserLoggedOut", "auth.signout", "session.terminated.2026-01-01", "session_removed",
        "session.invalidated",
        "io.example.session.expired",
    ],
)  # fmt: skip
def test_a_type_that_tells_of_an_end(kind: str) -> None:
    assert taken(cloud(kind)).kind is EventKind.DELETED


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("com.example.session.created.v1", EventKind.CREATED), ("SessionStarted", EventKind.CREATED),
        ("com.qlik.user-session.begin", EventKind.CREATED), ("user.login", EventKind.CREATED),
        ("session.refreshed", EventKind.REFRESHED), ("token-presented", EventKind.REFRESHED),
        ("session.end-user.updated", None), ("session.not-revoked", None), ("sending", None),
        ("session.weekend", None), ("", None),
    ],
)  # fmt: skip
def test_a_type_that_tells_of_something_else_or_nothing(kind: str, expected: EventKind | None) -> None:
    event = taken(cloud(kind, BARE))
    assert event.kind is (expected or EventKind.CREATED)


def test_an_operator_s_own_words_for_an_end() -> None:
    assert taken(cloud("session.gekündigt.abgemeldet"), end_words=["abgemeldet"]).is_deleted
    assert not taken(cloud("session.abgemeldet")).is_deleted


@pytest.mark.parametrize("kind", ["session.created", "session.refreshed"])
def test_the_envelope_s_time_is_activity(kind: str) -> None:
    event = taken(cloud(kind, BARE, time="2026-11-03t08:40:00.5z"))
    assert event.activity_time == event.event_time == 1_793_695_200_500
    assert taken(cloud("session.revoked", BARE)).activity_time is None


def test_a_refresh_with_its_creation_alone_is_dated_by_its_envelope() -> None:
    event = taken(cloud("session.refreshed", {**BARE, "created_at": "2026-11-03T08:00:00Z"}))
    assert event.activity_time == event.event_time == 1_793_695_200_000


def test_binary_mode_has_its_envelope_in_headers() -> None:
    headers = (("ce_specversion", b"1.0"), ("ce_type", b"session.revoked"), ("ce_time", b"2026-11-03T08:40:00Z"),
               ("content-type", b"application/json"))  # fmt: skip
    event = taken(PLAIN, headers=headers)
    assert (event.shape, event.kind, event.event_time) == ("cloudevents", EventKind.DELETED, 1_793_695_200_000)
    assert taken(PLAIN, headers=(("traceparent", b"00-1"),)).shape == "snapshot"
    refused = decode(PLAIN, headers=(("ce_specversion", b"0.3"),))
    assert (refused.reason.value, refused.field) == ("unknown-envelope", "headers.ce_specversion")


def test_data_as_text_and_a_change_as_data() -> None:
    assert taken(cloud("session.refreshed", json.dumps(PLAIN))).session_uid == "s1"
    packed = base64.b64encode(json.dumps(PLAIN).encode()).decode()
    assert taken({**cloud("session.revoked"), "data": None, "data_base64": packed}).is_deleted
    change = {"before": None, "after": PLAIN, "op": "c", "ts_ms": NOW}
    assert taken(cloud("io.debezium.connector.postgresql.DataChangeEvent", change)).shape == "debezium"


# Column types: debezium/debezium#1262, airbyte#21695, kafka-connect-jdbc#574


def change(operation: str, row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"before": None, "after": row, "op": operation, "ts_ms": NOW, "source": {"connector": "mysql"}, **changes}


@pytest.mark.parametrize(
    ("column", "value", "attribute", "expected"),
    [
        ("meta_data", '{"device": "laptop"}', "meta_data", '{"device":"laptop"}'), ("meta_data", "", "meta_data", None),
        ("meta_data", [], "meta_data", "{}"), ("is_deleted", 1, "is_deleted", True), ("is_deleted", 0,
        "is_deleted", False),
        ("is_deleted", "t", "is_deleted", True), ("is_deleted", "false", "is_deleted", False), ("user_id", 17,
        "user_id", "17"),
        ("tenant_id", 3, "tenant_id", "3"), ("uid", 9_007_199_254_740_993, "session_uid", "9007199254740993"),
        ("max_age_minutes", "60", "max_age_minutes", 60.0), ("max_age_minutes", "60.50", "max_age_minutes", 60.5),
        ("max_age_minutes", "", "max_age_minutes", None), ("workspace_id", 4, "workspace_id", "4"), ("aud", 5,
        "aud", "5"),
        ("last_used_at", 1_793_694_600_000_000, "last_used_at", 1_793_694_600_000),
        ("last_used_at", "1793694600.25", "last_used_at", 1_793_694_600_250),
        ("amr", '["pwd", "otp"]', "amr", ("otp", "pwd")), ("amr", "{pwd,otp}", "amr", ("otp", "pwd")),
        ("amr", [{"method": "totp", "timestamp": 1}], "amr", ("totp",)), ("ip", "203.0.113.7/32", "ip", "203.0.113.7"),
    ],
)  # fmt: skip
def test_a_column_as_connectors_write_it(column: str, value: Any, attribute: str, expected: Any) -> None:
    row = {**PLAIN, column: value}
    for record in (row, change("u", row), {"schema": {"type": "struct"}, "payload": row}, {**row, "__op": "u"}):
        assert getattr(taken(record), attribute) == expected


@pytest.mark.parametrize(
    ("column", "value"),
    [("user_id", 1.5), ("is_deleted", 7), ("max_age_minutes", "soon"), ("user_id", True), ("meta_data", "x")],
)
def test_a_column_whose_meaning_is_not_certain(column: str, value: Any) -> None:
    refused = decode(change("u", {**PLAIN, column: value}))
    assert isinstance(refused, Rejected)
    assert refused.field == f"after.{column}"


# Truncation, messages and empty changes: debezium/debezium#3948, #601, #1126


@pytest.mark.parametrize("operation", ["t", "m"])
@pytest.mark.parametrize("extra", [{}, {"before": None, "after": None}, {"source": {}, "message": {"prefix": "x"}}])
def test_what_says_nothing_of_a_session(operation: str, extra: dict[str, Any]) -> None:
    for record in ({"op": operation, **extra}, {"schema": None, "payload": {"op": operation, **extra}}):
        assert decode(record) == Ignored(f"debezium-{operation}")
    assert decode({"schema": None, "payload": None}) == Ignored("tombstone")


# Values that are not sent: debezium/debezium#5069


@pytest.mark.parametrize(
    ("column", "value"),
    [("scopes", [PLACEHOLDER]), ("aud", PLACEHOLDER), ("meta_data", PLACEHOLDER),
    ("meta_data", {PLACEHOLDER: PLACEHOLDER}),
     ("amr", PLACEHOLDER), ("location", PLACEHOLDER), ("max_age_minutes", PLACEHOLDER), ("session_type", PLACEHOLDER)],
)  # fmt: skip
def test_a_value_that_was_not_sent_is_unknown(column: str, value: Any) -> None:
    for record in (change("u", {**PLAIN, column: value}), {**PLAIN, column: value}):
        assert getattr(taken(record), column) is None
        assert not taken(record).repaired


def test_the_placeholder_can_be_another() -> None:
    assert taken({**PLAIN, "aud": "N/A!"}, placeholder="N/A!").aud is None
    assert taken({**PLAIN, "aud": "N/A!"}).aud == "N/A!"
    assert taken(change("u", {**PLAIN, "aud": "N/A!"}), placeholder="N/A!").aud is None


def test_extended_json_in_a_row_of_mongodb_is_read_by_its_values() -> None:
    wrapped = {
        **PLAIN,
        "uid": {"$oid": "507f1f77bcf86cd799439011"},
        "last_used_at": {"$date": {"$numberLong": str(NOW)}},
        "created_at": {"$date": "2026-11-03T09:46:40Z"},
        "max_age_minutes": {"$numberInt": "60"},
    }
    event = taken({"op": "u", "before": None, "after": json.dumps(wrapped), "ts_ms": NOW})
    assert (event.session_uid, event.last_used_at, event.max_age_minutes) == ("507f1f77bcf86cd799439011", NOW, 60)
    assert (event.created_at, event.repaired) == (1_793_699_200_000, ())


def test_a_payload_may_be_text() -> None:
    assert taken({"schema": {"type": "string"}, "payload": json.dumps(PLAIN)}) == taken(PLAIN)
    assert decode({"schema": None, "payload": "{"}).field == "payload"


@pytest.mark.parametrize("name", ["scopes", "amr"])
@pytest.mark.parametrize("placeholder", [PLACEHOLDER, "N/A!"])
def test_the_placeholder_among_other_words_is_none_of_them(name: str, placeholder: str) -> None:
    assert getattr(taken({**PLAIN, name: [None, placeholder, None]}, placeholder=placeholder), name) is None
    for words in (["read", placeholder], f"read {placeholder}", ["read", f"{placeholder}\x07"], ["read", PLACEHOLDER]):
        assert getattr(taken({**PLAIN, name: words}, placeholder=placeholder), name) == ("read",), words


def test_a_deletion_that_holds_the_key_alone_says_what_to_do() -> None:
    filled = {
        "tenant_id": "",
        "user_id": "",
        "created_at": "1970-01-01T00:00:00.000000Z",
        "meta_data": "{}",
        "is_deleted": False,
    }
    for row in (
        {"uid": "s1"},
        {"uid": "s1", **filled},
        {"uid": "s1", "tenant_id": None, "user_id": None, "ip": None},
        None,
    ):
        refused = decode({"before": row, "after": None, "op": "d", "ts_ms": NOW})
        assert "REPLICA IDENTITY FULL" in refused.message
        assert refused.field == "before"
    keyed = {"before": {"uid": "s1", "tenant_id": "acme", "user_id": "u1"}, "after": None, "op": "d", "ts_ms": NOW}
    assert taken(keyed).is_deleted, "a key of all three says it all"


# Scopes: jupyterhub/oauthenticator#820, debezium/debezium#120


@pytest.mark.parametrize(
    "scopes",
    ["read write", "write, read", "write,read", "{read,write}", '{"read","write"}', '["write","read"]',
    ["read write"], " read\twrite ",
     ["write", "read", "read", None], "read;write"],
)  # fmt: skip
def test_scopes_however_they_are_written(scopes: Any) -> None:
    assert taken({**PLAIN, "scopes": scopes}).scopes == ("read", "write")


def test_scopes_keep_what_belongs_to_a_scope() -> None:
    words = ["https://www.example.com/auth/mail.read", "repo:status", "api://1-2/.default"]
    for spelled in (" ".join(words), ",".join(words), "{" + ",".join(words) + "}"):
        assert taken({**PLAIN, "scopes": spelled}).scopes == tuple(sorted(words))


def test_too_many_scopes_are_cut_and_the_short_ones_stay() -> None:
    event = taken({**PLAIN, "scopes": ["admin", *(f"{number:0200}" for number in range(1_024))]})
    assert "admin" in (event.scopes or ())
    assert sum(map(len, event.scopes or ())) <= 8_192
    assert event.repaired == ("scopes",)


# Deletions: better-auth#4782, home-assistant#108712


@pytest.mark.parametrize(
    "said",
    [{"ip": "unknown"}, {"ip": "", "user_agent": ""}, {"ip": None, "user_agent": None}, {"ip": "-"}, {"ip": "0.0.0.0"}],
)
def test_a_deletion_needs_neither_address_nor_agent(said: dict[str, Any]) -> None:
    event = taken({**PLAIN, **said, "is_deleted": True})
    assert (event.kind, event.ip, event.repaired) == (EventKind.DELETED, "", ())
    assert taken({name: PLAIN[name] for name in ("uid", "tenant_id", "user_id")} | {"is_deleted": True}).is_deleted


# Zero times: docker/hub-tool#170, go-webauthn#670


@pytest.mark.parametrize(
    "zero",
    ["0001-01-01T00:00:00Z", "0001-01-01 00:00:00+00", "0000-00-00 00:00:00", 0, "0", 0.0, "1970-01-01T00:00:00Z",
    "", "infinity", "-infinity",
     "1899-12-30T00:00:00", "1601-01-01T00:00:00Z", "1753-01-01",
     "1900-01-01T00:00:00Z", -62_135_596_800, -62_135_596_800_000, "null"],
)  # fmt: skip
def test_a_zero_time_is_unset(zero: Any) -> None:
    event = taken({**PLAIN, "updated_at": zero})
    assert (event.updated_at, event.repaired) == (None, ())
    assert event.event_time == taken(PLAIN).event_time


@pytest.mark.parametrize("time", ["1970-01-02T00:00:00Z", "1950-06-01T00:00:00Z", 86_400, "9999-12-31T00:00:00Z"])
def test_a_time_that_is_merely_wrong_is_rejected(time: Any) -> None:
    refused = decode({**PLAIN, "updated_at": time})
    assert (refused.reason.value, refused.field) == ("out-of-range", "updated_at")


# Addresses: ngx_http_geoip2_module#78; RFC 6052, 8215, 3056


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64:ff9b::c612:640a", "198.18.100.10"), ("64:ff9b::198.18.100.10", "198.18.100.10"),
        ("[64:ff9b::c612:640a]:443", "198.18.100.10"),
        ("64:ff9b:1::c612:640a", "198.18.100.10"), ("2002:c612:640a::1", "198.18.100.10"), ("::ffff:c612:640a",
        "198.18.100.10"),
        ("64:ff9c::c612:640a", "64:ff9c::c612:640a"), ("2003:c612:640a::1", "2003:c612:640a::1"),
        ("2001:db8::1/128", "2001:db8::1"),
        ("198.18.100.10, 10.0.0.1", "198.18.100.10"),
    ],
)  # fmt: skip
def test_an_address_within_an_address(text: str, expected: str) -> None:
    assert taken({**PLAIN, "ip": text}).ip == expected


@pytest.mark.parametrize("ip", [None, "", "unknown", "-", "null", "_hidden", "0.0.0.0", "::"])
def test_an_address_nobody_knows_is_unknown_and_told(ip: Any) -> None:
    event = taken({**PLAIN, "ip": ip})
    assert (event.ip, event.repaired) == ("", ("ip",))


# Times: JSON-Schema-Test-Suite#481; RFC 3339


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-03t08:30:00z", 1_793_694_600_000), ("2026-11-03 08:30:00 UTC", 1_793_694_600_000),
        ("2026-11-03 08:30:00.25 +0000 UTC", 1_793_694_600_250), ("2026-11-03 09:30:00+01", 1_793_694_600_000),
        ("2026-11-03T08:30:00.123456789Z", 1_793_694_600_123), ("2026-06-30T23:59:60Z", 1_782_864_000_000),
        ("2026-11-03T08:30:00-00:00", 1_793_694_600_000), ("2026-11-03 08:30:00 +0000 UTC m=+0.01", 1_793_694_600_000),
        ("2026-11-03T08:30:00 GMT", 1_793_694_600_000), ("1.7936946e9", 1_793_694_600_000),
    ],
)  # fmt: skip
def test_a_time_as_languages_and_databases_write_it(text: str, expected: int) -> None:
    event = taken({**BARE, "last_used_at": text})
    assert event.last_used_at == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [("created_at", {"$date": "2026-11-03T08:30:00Z"}), ("scopes", [["read"], {"name": "write"}]), ("ip",
    "198.18.100.999"), ("amr", [1]),
     ("last_used_at", "next week")],
)  # fmt: skip
def test_a_path_names_the_field_and_nothing_of_a_library(field: str, value: Any) -> None:
    # A number behind it is the item of a list.
    assert decode({**PLAIN, field: value}).field.removesuffix(".0") == field
    assert decode(change("u", {**PLAIN, field: value})).field.removesuffix(".0") == f"after.{field}"


# Frames: jqlang/jq#45, schema-registry#2994, Apicurio, AWS Glue


@pytest.mark.parametrize(
    "frame",
    [
        b"\xef\xbb\xbf",
        b"\0\0\0\0\x07",
        b"\0\0\0\0{",
        b"\0" + b"\0" * 7 + b"\x07",
        b"\x03\0" + b"\x11" * 16,
        b"\0\0\0\0\x07\xef\xbb\xbf",
    ],
)
def test_what_stands_before_a_record(frame: bytes) -> None:
    assert taken(frame + json.dumps(PLAIN).encode()) == taken(PLAIN)
    assert taken(json.dumps(json.dumps(PLAIN)).encode()) == taken(PLAIN), "JSON as text"


# What a client controls: a decision of the mission


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("user_agent", "x" * 10_000, "x" * 4_096), ("location", "A" * 9_000, "A" * 4_096), ("user_agent",
        "cu\0rl\0", "curl"),
        ("user_agent", "a\tb\r\nc", "a b c"), ("user_agent", "a\x1b[2Jb\x9b", "a[2Jb"), ("user_agent", "\ud83dx",
        "\ufffdx"),
        ("user_agent", ["curl/8", "x"], "curl/8"), ("user_agent", 7, "7"), ("user_agent", {"a": 1}, '{"a":1}'),
        ("user_agent", None, ""),
        ("location", ["Paris, FR"], "Paris, FR"), ("location", {"city": "Paris"}, '{"city":"Paris"}'), ("aud",
        "a\0", "a"),
        ("session_type", "us\0er", "user"), ("meta_data", {"a\0": "b\0"}, '{"a":"b"}'),
        ("meta_data", {"a": "b" * 70_000}, None),
        ("uid", "t" * 4_000, "h-"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_repaired_and_told(field: str, value: Any, expected: Any) -> None:
    event = taken({**PLAIN, field: value})
    found = getattr(event, {"uid": "session_uid"}.get(field, field))
    assert found == expected or (field == "uid" and found.startswith(expected))
    assert event.repaired == (field,)


@pytest.mark.parametrize("bad", [b"\xff\xfe", b"\xc3(", b"\xed\xa0\x80", b"\x80"])
def test_invalid_utf_8_in_what_a_client_sends(bad: bytes) -> None:
    raw = json.dumps(PLAIN).encode()
    event = taken(raw.replace(b"curl", b"cu" + bad + b"rl"))
    assert event.repaired == ("user_agent",)
    assert "\ufffd" in event.user_agent
    refused = decode(raw.replace(b'"u1"', b'"u' + bad + b'1"'))
    assert (refused.reason.value, refused.field) == ("invalid-utf8", "user_id")


def test_raw_control_characters_within_texts() -> None:
    raw = json.dumps(PLAIN).encode().replace(b"curl", b"cu\x00\nrl")
    assert (taken(raw).user_agent, taken(raw).repaired) == ("cu rl/8.9", ("user_agent",))


def test_text_of_people_is_left_alone() -> None:
    said = {"location": "Zürich, CH", "user_agent": "Mühle/1.0 (日本語; 👩‍💻)"}
    for spelled in (json.dumps({**PLAIN, **said}), json.dumps({**PLAIN, **said}, ensure_ascii=False)):
        event = taken(spelled.encode())
        assert (event.location, event.user_agent, event.repaired) == (*said.values(), ())


@pytest.mark.parametrize(
    "kind", ["session.logout.failed", "SessionRevocationFailed", "user.login_failed", "session.revocation.requested"]
)
def test_a_type_that_tells_of_a_deed_that_failed(kind: str) -> None:
    assert kind_of(kind) is None


@pytest.mark.parametrize("first", ["x", "unknown", "", "_hidden", "999.1.1.1"])
def test_what_a_client_puts_before_its_address_hides_nothing(first: str) -> None:
    event = taken({**PLAIN, "ip": f"{first}, 95.24.10.20"})
    assert (event.ip, event.repaired) == ("95.24.10.20", ("ip",))
