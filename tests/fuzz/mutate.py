"""Mutations of records: of their JSON, node by node, and of their bytes. A seed gives the same ones again."""

from __future__ import annotations

import base64
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from worker.simulator import Simulator, profile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

START = 1_790_000_000_000
NAMES = (
    "uid", "created_at", "updated_at", "is_deleted", "meta_data", "user_id", "tenant_id", "workspace_id", "aud",
    "scopes", "amr", "last_used_at", "max_age_minutes", "user_agent", "ip", "location", "session_type",
    "op", "before", "after", "payload", "ts_ms", "specversion", "data", "data_base64", "type", "time", "source",
)  # fmt: skip
AWKWARD: tuple[Any, ...] = (
    None, True, False, 0, -1, 0.1, 1e308, -1e-308, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**400, float("nan"),
    float("inf"), "", " ", "\0", "\ud800", "\u202e", "𝕏" * 300, "İ" * 200, "x" * 5000, "1" * 100, "²", "१२३", "-1",
    "1e5", "9999-12-31T23:59:60Z", "0001-01-01T00:00:00+23:59", "2026-03-02T08:00:00.123456789Z", "2026-W10-1",
    "now", "253402300800", "::ffff:1.2.3.4", "fe80::1%eth0", "[::1]:80", "1.2.3.4:99999", "01.2.3.4", "1.2.3", "0x7f.1",
    "::", "255.255.255.255", "1.2.3.4\0", "u/1", "%2F", "{}", "[]", {}, [], [[]], {"": {}}, [None] * 70, ["x"] * 1100,
    {"a" * 300: 1}, "c", "d", "r", "t", "m", "1.0", "session.revoked", "90,180", "NaN, NaN", "91.0, 181.0",
    "__debezium_unavailable_value", ["__debezium_unavailable_value"], "{a,b}", '["a"]', "a, b", "0000-00-00",
    "infinity",
    "Chrome 141.0.0 / Windows 10.0.0", "64:ff9b::1.2.3.4", "2002:102:304::", "1.2.3.4, 5.6.7.8", "unknown", "-", [{}],
    "2026-03-02t08:41:60z", "2026-03-02 08:41:07.25 +0000 UTC", '{"a": "b"}', "true", "USER_SESSION_DELETED",
    "SessionRevoked",
    "Paris, FR, extra, parts, here", "(" * 500, "Mozilla/5.0 (" + "a;" * 1500 + ")", "Chrome/" + "9" * 400,
)  # fmt: skip
SNIPPETS = (
    b'"', b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b"null", b"\xff", b"\xed\xa0\x80", b"\0",
    b"\xef\xbb\xbf", b"\0\0\0\0\1", b"\x03\0", b"1e999", b"-", b"/**/", b'"ip":', b'"user_id":"u",', b"[" * 300,
    b'{"a":' * 200, b" " * 64,
)  # fmt: skip


def seeds(count: int = 400, seed: int = 11) -> list[bytes]:
    """Return records of the simulator in every shape, and envelopes it does not make."""
    config = profile("demo", seed=seed, start_ms=START, users=40, rate=200.0, warmup_days=0.0)
    records = [event.value for event in islice(Simulator(config).events(), count)]
    plain = next(each for each in map(_read, records) if isinstance(each, dict) and "ip" in each)
    shaped = [json.dumps(each, default=str).encode() for each in [*_envelopes(plain), *_rows(plain), *_mapped()]]
    return [*records, *shaped, *_framed(json.dumps(plain).encode())]


def _mapped() -> list[dict[str, Any]]:
    """Return the documented payloads of other identity systems."""
    files = sorted((Path(__file__).parents[1] / "mappings").glob("*.yaml"))
    return [case["record"] for file in files for case in yaml.load(file.read_text("utf-8"), yaml.CSafeLoader)]


def _rows(plain: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a session as databases and connectors write it."""
    row = {**plain, "is_deleted": 0, "scopes": "{read,write}", "amr": '["pwd"]', "meta_data": '{"a": 1}',
           "max_age_minutes": "60", "last_used_at": START * 1000, "user_id": 17}  # fmt: skip
    return [
        row, {**row, "__op": "d", "__deleted": "true", "__ts_ms": START}, {"schema": {}, "payload": row},
        {**plain, "aud": "__debezium_unavailable_value", "scopes": ["__debezium_unavailable_value"]},
        {"op": "u", "before": None, "after": json.dumps(row), "ts_us": START * 1000},
    ]  # fmt: skip


def _framed(plain: bytes) -> list[bytes]:
    """Return a record behind a byte order mark and behind the frames of schema registries."""
    frames = (b"\xef\xbb\xbf", b"\0\0\0\0\x07", b"\0" + b"\0" * 7 + b"\x07", b"\x03\0" + b"\x11" * 16)
    return [*(frame + plain for frame in frames), json.dumps(plain.decode()).encode()]


def _read(record: bytes) -> Any:
    try:
        return json.loads(record)
    except ValueError:
        return None


def _envelopes(plain: dict[str, Any]) -> list[dict[str, Any]]:
    packed = base64.b64encode(json.dumps(plain).encode()).decode()
    change = {"op": "u", "ts_ms": START, "before": plain, "after": plain}
    cloud = {
        "specversion": "1.0",
        "id": "1",
        "source": "/a",
        "type": "session.refreshed",
        "time": "2026-09-21T14:13:20Z",
    }
    return [
        {**cloud, "data": plain}, {**cloud, "data_base64": packed}, change, {"schema": {}, "payload": change},
        {**change, "op": "d", "after": None}, {**change, "op": "c", "before": None}, {"op": "t"},
        {**plain, "meta_data": {"deep": {"er": [{"and": ["deeper", {"still": 1}]}]}}},
    ]  # fmt: skip


def mutated(rng: Random, known: Sequence[bytes]) -> bytes:
    """Return a record with one to four mutations."""
    record = rng.choice(known)
    document = _read(record)
    if document is not None and rng.random() < 0.8:
        for _ in range(rng.randint(1, 4)):
            document = _altered(rng, document)
        record = _written(rng, document)
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 4)):
            record = rng.choice(_BYTES)(rng, record, known)
    return record


def _altered(rng: Random, node: Any) -> Any:
    """Change one node somewhere below."""
    if isinstance(node, dict) and node:
        return _altered_object(rng, node)
    if isinstance(node, list) and node and rng.random() < 0.7:
        place = rng.randrange(len(node))
        return [*node[:place], _altered(rng, node[place]), *node[place + 1 :]]
    return _replaced(rng, node)


def _altered_object(rng: Random, node: dict[str, Any]) -> Any:
    name, chance = rng.choice(list(node)), rng.random()
    if chance < 0.1:
        return {key: value for key, value in node.items() if key != name}
    if chance < 0.2:
        return {**node, rng.choice(NAMES): rng.choice(AWKWARD)}
    if chance < 0.25:
        return {rng.choice(NAMES) if key == name else key: value for key, value in node.items()}
    if chance < 0.28:
        return {**node, rng.choice(NAMES): node}
    return {**node, name: _altered(rng, node[name])}


def _replaced(rng: Random, node: Any) -> Any:
    chance = rng.random()
    if isinstance(node, str) and node and chance < 0.4:
        place = rng.randrange(len(node))
        return node[:place] + rng.choice(("", "\0", "é", ":", ".", "/", "9", " ", "\ud800")) + node[place + 1 :]
    if isinstance(node, int | float) and chance < 0.5:
        return rng.choice((-node, node * 1000, node * 0.001 if abs(node) < 1 << 60 else 0.5, node + 1, str(node)))
    return rng.choice(AWKWARD)


def _written(rng: Random, document: Any) -> bytes:
    chance = rng.random()
    indent = 1 if chance < 0.1 else None
    text = json.dumps(document, ensure_ascii=chance < 0.5, indent=indent)
    return text.encode("utf-8", "surrogatepass")


def _cut(rng: Random, record: bytes, _known: Sequence[bytes]) -> bytes:
    return record[: rng.randrange(len(record) + 1)]


def _flipped(rng: Random, record: bytes, _known: Sequence[bytes]) -> bytes:
    place = rng.randrange(len(record) + 1)
    return record[:place] + bytes((rng.randrange(256),)) + record[place + 1 :]


def _inserted(rng: Random, record: bytes, _known: Sequence[bytes]) -> bytes:
    place = rng.randrange(len(record) + 1)
    return record[:place] + rng.choice(SNIPPETS) + record[place:]


def _doubled(rng: Random, record: bytes, _known: Sequence[bytes]) -> bytes:
    first, last = sorted((rng.randrange(len(record) + 1), rng.randrange(len(record) + 1)))
    return record[:last] + record[first:last] * rng.randint(1, 3) + record[last:]


def _spliced(rng: Random, record: bytes, known: Sequence[bytes]) -> bytes:
    other = rng.choice(known)
    return record[: rng.randrange(len(record) + 1)] + other[rng.randrange(len(other) + 1) :]


_BYTES: tuple[Callable[[Random, bytes, Sequence[bytes]], bytes], ...] = (_cut, _flipped, _inserted, _doubled, _spliced)
