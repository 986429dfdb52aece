from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.finding import Activity, Attack, Finding, Severity, Status
from schemas.jsonschema import documents
from schemas.policy import TenantPolicy
from schemas.session import AuthSession
from tools.docs import JSON_SCHEMAS, schema_files
from worker.detections.registry import detections

PYTHON = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list,
          "null": type(None)}  # fmt: skip


def problems(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Check what our own schema of findings uses of JSON Schema: type, const, enum, properties, required, items."""
    kinds = schema.get("type", [])
    names = [kinds] if isinstance(kinds, str) else kinds
    wrong_type = names and not any(_is(value, name) for name in names)
    found = [f"{path}: {value!r} is no {kinds}"] if wrong_type else []
    if "const" in schema and value != schema["const"]:
        found.append(f"{path}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r} is none of {schema['enum']}")
    if isinstance(value, dict):
        found += [f"{path}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, inner in schema.get("properties", {}).items():
            found += problems(value[name], inner, f"{path}.{name}") if name in value else []
    if isinstance(value, list):
        found += [each for item in value for each in problems(item, schema.get("items", {}), f"{path}[]")]
    return found


def _is(value: Any, name: str) -> bool:
    return isinstance(value, PYTHON[name]) and (name == "boolean" or not isinstance(value, bool))


def finding(**changes: Any) -> Finding:
    about = detections()["ip-change"]
    values: dict[str, Any] = {
        "uid": "f" * 32, "activity": Activity.CREATE, "status": Status.NEW, "detection": about.id, "title": about.title,
        "description": about.description, "severity": Severity.HIGH, "risk_score": 73, "attacks": about.attacks,
        "runbook": about.runbook, "tenant_id": "acme", "user_id": "u", "session_uid": "s", "subject": "as64500",
        "summary": "moved", "bucket_time": 1, "event_time": 2, "last_event_time": 3, "detected_at": 4, "count": 1,
        "revision": 7, "suppressed_by": (), "shadow": False, "evidence": b'{"observed": {}}', "source": ("t", 1, 2),
    }  # fmt: skip
    return Finding(**{**values, **changes})


def test_the_files_are_current() -> None:
    assert {path: path.read_bytes() for path in JSON_SCHEMAS.glob("*.json")} == schema_files()


@pytest.mark.parametrize("name", documents())
def test_a_schema_is_complete(name: str) -> None:
    schema = documents()[name]
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["$id"].endswith(name)
    assert schema["title"]
    text = json.dumps(schema)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/$defs/')[1:]}:
        assert reference in schema["$defs"]


def test_the_session_s_schema_names_all_properties_and_describes_them() -> None:
    schema = documents()["auth-session.schema.json"]
    assert set(schema["properties"]) == set(AuthSession.__annotations__)
    assert sorted(schema["required"]) == ["ip", "tenant_id", "user_agent", "user_id"]
    assert all(each.get("description") for each in schema["properties"].values())


def test_the_policy_s_schema_describes_all_its_fields() -> None:
    schema = documents()["tenant-policy.schema.json"]
    assert set(schema["properties"]) == set(TenantPolicy.model_fields)
    assert schema["additionalProperties"] is False
    assert all(each.get("description") for each in schema["properties"].values())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activity": Activity.UPDATE, "status": Status.UPDATED, "count": 3},
        {"activity": Activity.CLOSE, "status": Status.CLOSED},
        {"status": Status.SUPPRESSED, "suppressed_by": ("allowed-network",)},
        {"user_id": "", "session_uid": "", "severity": Severity.CRITICAL, "shadow": True},
    ],
)
def test_findings_fit_their_schema(changes: dict[str, Any]) -> None:
    message = json.loads(finding(**changes).message())
    assert not problems(message, documents()["finding.schema.json"])
    assert set(message) <= set(documents()["finding.schema.json"]["properties"])


def test_a_finding_that_does_not_fit_is_seen() -> None:
    message = json.loads(finding().message())
    del message["finding_info"]["uid"]
    message["class_uid"], message["count"] = 2005, True
    assert len(problems(message, documents()["finding.schema.json"])) == 3


@pytest.mark.parametrize(
    ("changes", "alert", "status_id", "type_uid"),
    [
        ({}, True, 1, 200401),
        ({"severity": Severity.LOW}, False, 1, 200401),
        ({"status": Status.SUPPRESSED, "suppressed_by": ("x",)}, False, 3, 200401),
        ({"shadow": True}, False, 1, 200401),
        ({"activity": Activity.CLOSE, "status": Status.CLOSED}, False, 4, 200403),
        ({"activity": Activity.UPDATE, "status": Status.UPDATED}, True, 2, 200402),
    ],
)
def test_what_a_message_says(changes: dict[str, Any], alert: bool, status_id: int, type_uid: int) -> None:  # noqa: FBT001  pytest's way
    message = json.loads(finding(**changes).message())
    assert (message["is_alert"], message["type_uid"]) == (alert, type_uid)
    assert message["status_id"] == status_id
    assert message["severity_id"] == int(changes.get("severity", Severity.HIGH)) + 1
    assert message["finding_info"]["analytic"]["uid"] == "ip-change"
    assert message["metadata"]["tenant_uid"] == "acme"
    assert message["status"] == {1: "New", 2: "In Progress", 3: "Suppressed", 4: "Resolved"}[status_id]


def test_techniques_and_those_below_them_stand_where_ocsf_wants_them() -> None:
    attacks = [each.ocsf() for each in (Attack("T1078", "Valid Accounts"), Attack("T1550.004", "Use: Cookie"))]
    assert attacks[0]["technique"] == {"uid": "T1078", "name": "Valid Accounts"}
    assert "sub_technique" not in attacks[0]
    assert attacks[1]["technique"] == {"uid": "T1550", "name": "Use"}
    assert attacks[1]["sub_technique"] == {"uid": "T1550.004", "name": "Cookie"}


def test_a_finding_about_a_network_names_no_actor() -> None:
    assert "actor" not in finding(user_id="", session_uid="").ocsf()
    assert finding().ocsf()["actor"]["user"]["uid"]
