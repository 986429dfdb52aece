"""Every built-in mapping on payloads as their systems document them; own mappings, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.decoding import Decoder, Ignored, Rejected
from schemas.decoding.mapping import BadMappingError
from schemas.event import SessionEvent
from schemas.mappings import builtin, read_mapping

FIXTURES = Path(__file__).parents[2] / "mappings"
NOW = 1_800_000_000_000
CASES = [
    pytest.param(path.stem, case, id=f"{path.stem}: {case['name']}")
    for path in sorted(FIXTURES.glob("*.yaml"))
    for case in yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
]


def decoded(case: dict[str, Any], **options: Any) -> SessionEvent | Ignored | Rejected:
    decoder = Decoder(tenant_id=case.get("tenant", ""), **options)
    return decoder.decode(json.dumps(case["record"], default=str).encode(), NOW)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_documented_payload(name: str, case: dict[str, Any]) -> None:
    result = decoded(case, mappings=builtin().values())
    assert result == decoded(case, mapping=builtin()[name]), "recognised or chosen, it is read alike"
    if "ignored" in case:
        assert result == Ignored(case["ignored"])
    elif "rejected" in case:
        assert isinstance(result, Rejected)
        assert result.reason.value == case["rejected"]
    else:
        assert isinstance(result, SessionEvent), result
        said = {
            key: list(value) if isinstance(value := getattr(result, key), tuple) else value for key in case["expect"]
        }
        assert said == case["expect"]


def test_every_mapping_has_fixtures_and_a_page() -> None:
    names = set(builtin())
    assert {path.stem for path in FIXTURES.glob("*.yaml")} == names
    pages = {path.stem for path in (Path(__file__).parents[3] / "docs" / "integrations").glob("*.md")}
    assert names <= pages


@pytest.mark.parametrize("name", sorted(builtin()))
def test_a_mapping_says_what_it_cannot_know(name: str) -> None:
    document = builtin()[name].document
    assert document.source.startswith("https://")
    assert document.unknown
    assert {"user_id", "uid", "ip"} <= set(document.fields)


OWN = """
name: gate
title: Gate's sign-ins
source: https://gate.example/docs
fits: gate_version
only: outcome == 'ok'
kind: {from: action, table: {in: created, out: deleted}}
time: at
fields: {uid: sid, tenant_id: "'acme'", user_id: who, ip: peer, user_agent: agent, last_used_at: at}
"""


def test_a_mapping_of_one_s_own() -> None:
    record = {
        "gate_version": 2,
        "outcome": "ok",
        "action": "in",
        "at": 1793700000,
        "sid": 7,
        "who": "ada",
        "peer": "203.0.113.7",
    }
    result = decoded({"record": record}, mapping=read_mapping(OWN))
    assert isinstance(result, SessionEvent)
    assert (result.shape, result.kind, result.session_uid, result.user_agent) == ("gate", "created", "7", "")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("fits: gate_version", "fits: gate_version ||"), ("fields: {", "fields: {nickname: x, "),
        ("name: gate", "name: Gate!"), ("title: Gate's sign-ins", ""), ("kind: {from", "kind: {form"),
        (OWN, "[1, 2"), (OWN, "- 1"),
    ],
)  # fmt: skip
def test_a_mapping_that_is_none(wrong: str, told: str) -> None:
    with pytest.raises(BadMappingError):
        read_mapping(OWN.replace(wrong, told))


def test_an_expression_that_fails_on_a_record_is_unknown() -> None:
    record = {"gate_version": 2, "outcome": "ok", "who": {"a": 1}, "peer": ["x"], "at": {"b": 2}, "action": ["in"]}
    assert isinstance(decoded({"record": record}, mapping=read_mapping(OWN)), Rejected)


def test_native_records_never_go_through_a_mapping() -> None:
    native = {"tenant_id": "t", "user_id": "u", "ip": "203.0.113.7", "user_agent": "x", "type": "LOGIN", "realmId": "r",
              "time": 1, "details": {}, "object": "session", "auth_method": "x", "jti": "j"}  # fmt: skip
    result = decoded({"record": native}, mappings=builtin().values())
    assert isinstance(result, SessionEvent)
    assert result.shape == "snapshot"
